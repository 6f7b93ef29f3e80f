"""Limits and budgets as they are written: `requests: 600/min`, `tokens: 200k/min`, `per_day: 20 USD`."""

import re
from typing import Any, get_args

from pilothouse.config.quantities import share, usd
from pilothouse.config.section import Section, flag, one_of, text, whole, words
from pilothouse.domain.limit import Dimension, Limit, Period, Rate, Spend
from pilothouse.domain.table import CounterSettings

DIMENSIONS = get_args(Dimension)
PERIODS: tuple[str, ...] = get_args(Period)
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([kM]?)\s*/\s*(\d+)?\s*(s|sec|min|m|h|hour|d|day)")
_MANY = {"": 1.0, "k": 1e3, "M": 1e6}
_SECONDS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}


def rate(value: object) -> Rate:
    """`600/min`, `200k/min`, `5/s`, `100/10s` → a rate."""
    match = _RATE.fullmatch(str(value).strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{value!r} is not a rate such as 600/min, 200k/min or 5/s")
    return Rate(amount=float(match[1]) * _MANY[match[2]], per_s=float(match[3] or 1) * _SECONDS[match[4]])


def route_limits(policy: Section) -> tuple[Limit, ...]:
    """A route's own `limits:` and `budget:`, counted for the whole route unless `by:` says otherwise."""
    found = []
    limits = policy.section("limits")
    if limits is not None:
        found.append(_limit(limits, "limits"))
    budget = policy.section("budget")
    if budget is not None:
        found.append(_budget(budget))
    return tuple(found)


def app_limits(top: Section) -> tuple[Limit, ...]:
    """The app's `limits:`, a list; each has a name."""
    found: dict[str, Limit] = {}
    for item in top.items("limits"):
        if not isinstance(item, Section):
            raise top.error("each limit holds keys and values, such as `name: free`", item[1])
        limit = _limit(item, item.need("name", text), ("key",))
        if limit.name in found:
            raise item.error(f"the limit {limit.name!r} stands twice", item.node("name"))
        found[limit.name] = limit
    return tuple(found.values())


def counter_settings(top: Section) -> CounterSettings:
    """The app's `counters:`: where limits and budgets are counted."""
    section = top.section("counters")
    base = CounterSettings()
    if section is None:
        return base
    settings = CounterSettings(
        kind=section.take("kind", one_of("shared", "valkey", "local"), base.kind),
        url=section.take("url", _server, base.url),
        on_error=section.take("on_error", one_of("open", "closed"), base.on_error),
    )
    section.close()
    if (settings.kind == "valkey") != bool(settings.url):
        raise section.error("`url` goes with `kind: valkey`", hint="write {kind: valkey, url: env://VALKEY_URL}")
    return settings


def _server(value: Any) -> str:
    url = text(value)
    if not url.startswith(("env://", "file:///")):
        raise ValueError("a server's URL may hold a password: name it by reference, env://NAME or file:///PATH")
    return url


def _limit(section: Section, name: str, by: tuple[Dimension, ...] = ("route",)) -> Limit:
    budget = section.section("budget")
    limit = Limit(
        name=name,
        by=section.take("by", words(*DIMENSIONS), by),
        where=section.take("where", _where, {}),
        requests=section.maybe("requests", rate),
        tokens=section.maybe("tokens", rate),
        concurrency=section.maybe("concurrency", whole),
        spend=_spend(budget) if budget is not None else (),
        soft=_soft(budget) if budget is not None else Limit(name="").soft,
        shadow=section.take("shadow", flag, False),
    )
    if budget is not None:
        budget.close()
    section.close()
    if limit.requests is None and limit.tokens is None and limit.concurrency is None and not limit.spend:
        raise section.error("a limit limits something: requests, tokens, concurrency or budget")
    return limit


def _budget(section: Section) -> Limit:
    limit = Limit(
        name="budget",
        by=section.take("by", words(*DIMENSIONS), ("route",)),
        spend=_spend(section),
        soft=_soft(section),
        shadow=section.take("shadow", flag, False),
    )
    section.close()
    return limit


def _spend(section: Section) -> tuple[Spend, ...]:
    found = []
    for period in PERIODS:
        amount = section.maybe(f"per_{period}", usd)
        if amount is not None:
            found.append(Spend(usd=amount, per=period))  # type: ignore[arg-type]  # from the type's own words
    if not found:
        raise section.error("a budget needs an amount, such as `per_day: 20 USD`")
    return tuple(found)


def _soft(section: Section) -> tuple[float, ...]:
    def shares(value: Any) -> tuple[float, ...]:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is not a list of shares such as [80 %, 95 %]")
        return tuple(sorted(share(item) for item in value))

    return section.take("soft", shares, Limit(name="").soft)


def _where(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("must hold dimensions and their values, such as {segment: free}")
    check = one_of(*DIMENSIONS)
    return {check(key): text(item) for key, item in value.items()}
