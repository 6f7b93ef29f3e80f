"""`canary:` of a route: how fast a new release goes out, what may get worse by how much, and with which error rates."""

from collections.abc import Callable
from typing import Any

import msgspec

from pilothouse.config.quantities import number, seconds, share, usd
from pilothouse.config.section import Section, flag, text, whole

STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)


class Margins(msgspec.Struct, frozen=True, kw_only=True):
    """How much worse a canary may be. Rates in points of a share, `latency`, `cost` and `tokens` as a share of the
    stable release's, `means` in the score's own unit. None: not watched."""

    failed: float = 0.02
    refused: float = 0.05
    invalid: float = 0.02
    guarded: float = 0.02
    slow: float = 0.05  # requests over `slo`
    score: float = 0.05  # of a score of 0 and 1 that has no margin of its own
    latency: float | None = 0.25
    cost: float | None = 0.25
    tokens: float | None = None
    scores: dict[str, float] = {}  # by name: scores of 0 and 1, where 1 is good
    means: dict[str, float] = {}  # by name: numeric scores, where more is better


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded inputs asked again, for a canary that gets little traffic."""

    per_minute: float
    spend_usd: float


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """The stage before the first share: requests are asked of the candidate too, whose answers nobody gets."""

    share: float = 1.0  # of the stable release's requests
    requests: int = 50  # compared before the first share
    spend_usd: float = 1.0
    judge: str = ""  # a route that says which of two answers is better; empty: none


class CanaryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When to act. Shares are 0 … 1. `alpha`: the probability that a canary that is no worse than half of its margins
    is aborted, over all guardrails and looks together. `alpha_promote`: that one which is worse than a margin is
    promoted. `auto`: step and promote too; else only abort."""

    margins: Margins = Margins()
    slo_ms: float | None = None
    floor: float = 0.01  # the stable rate that is assumed at least
    alpha: float = 0.01
    alpha_promote: float = 0.05
    min_requests: int = 20  # at a share, before the next
    min_seconds: float = 600.0  # likewise
    max_seconds: float = 7 * 86_400.0  # since the start; then a person decides
    steps: tuple[float, ...] = STEPS
    auto: bool = False
    baseline_window_s: float = 86_400.0  # of stable traffic before the canary's start
    baseline_min: int = 30  # stable requests under which a stable release that never failed counts as `floor`
    replay: Feed | None = None
    shadow: Shadow | None = None


def read_canary(route: Section) -> CanaryPolicy:
    """The section; raises ConfigError with file and line."""
    section = route.section("canary")
    base = CanaryPolicy()
    if section is None:
        return base
    policy = CanaryPolicy(
        margins=_margins(section, base.margins),
        slo_ms=section.maybe("slo", lambda value: seconds(value) * 1_000.0),
        alpha=section.take("alpha", _between(share, 0.5), base.alpha),
        alpha_promote=section.take("alpha_promote", _between(share, 0.5), base.alpha_promote),
        min_requests=section.take("min_requests", whole, base.min_requests),
        min_seconds=section.take("min_time", seconds, base.min_seconds),
        max_seconds=section.take("max_time", seconds, base.max_seconds),
        steps=section.take("steps", _steps, base.steps),
        auto=section.take("auto", flag, base.auto),
        baseline_window_s=section.take("baseline", seconds, base.baseline_window_s),
        replay=_feed(section),
        shadow=_shadow(section),
    )
    section.close()
    return policy


def _margins(canary: Section, base: Margins) -> Margins:
    section = canary.section("margins")
    if section is None:
        return base
    margins = Margins(
        failed=section.take("failed", _margin, base.failed),
        refused=section.take("refused", _margin, base.refused),
        invalid=section.take("invalid", _margin, base.invalid),
        guarded=section.take("guarded", _margin, base.guarded),
        slow=section.take("slow", _margin, base.slow),
        score=section.take("score", _margin, base.score),
        latency=section.take("latency", _or_off(_positive(share)), base.latency),
        cost=section.take("cost", _or_off(_positive(share)), base.cost),
        tokens=section.take("tokens", _or_off(_positive(share)), base.tokens),
        scores=section.take("scores", _by_name(_margin), base.scores),
        means=section.take("means", _by_name(_positive(number)), base.means),
    )
    section.close()
    if both := sorted(margins.scores.keys() & margins.means.keys()):
        raise section.error(f"{both[0]!r} stands in `scores` and in `means`", section.node("means"))
    return margins


def _feed(canary: Section) -> Feed | None:
    section = canary.section("replay")
    if section is None:
        return None
    feed = Feed(
        per_minute=section.take("per_minute", _positive(number), 6.0),
        spend_usd=section.need("spend", usd),
    )
    section.close()
    return feed


def _shadow(canary: Section) -> Shadow | None:
    section = canary.section("shadow")
    if section is None:
        return None
    base = Shadow()
    shadow = Shadow(
        share=section.take("share", _between(share, 1.0), base.share),
        requests=section.take("requests", whole, base.requests),
        spend_usd=section.need("spend", usd),
        judge=section.take("judge", text, base.judge),
    )
    section.close()
    return shadow


def _positive(convert: Callable[[Any], float]) -> Callable[[Any], float]:
    def checked(value: Any) -> float:
        found = convert(value)
        if found <= 0:
            raise ValueError(f"{value!r} is not more than 0")
        return found

    return checked


def _between(convert: Callable[[Any], float], most: float) -> Callable[[Any], float]:
    def checked(value: Any) -> float:
        found = _positive(convert)(value)
        if found > most:
            raise ValueError(f"{value!r} is more than {most:g}")
        return found

    return checked


_margin = _between(share, 0.9)


def _or_off(convert: Callable[[Any], float]) -> Callable[[Any], float | None]:
    return lambda value: None if value is False or value == "off" else convert(value)


def _by_name(convert: Callable[[Any], float]) -> Callable[[Any], dict[str, float]]:
    def each(value: Any) -> dict[str, float]:
        if not isinstance(value, dict):
            raise TypeError("must hold names and margins")
        return {text(name): convert(one) for name, one in value.items()}

    return each


def _steps(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise TypeError(f"{value!r} is not a list of shares such as [1 %, 10 %, 100 %]")
    found = tuple(_between(share, 1.0)(one) for one in value)
    if list(found) != sorted(set(found)):
        raise ValueError("the shares must rise")
    return found
