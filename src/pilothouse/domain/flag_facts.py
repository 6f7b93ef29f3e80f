"""What can be said of a flag that nobody looks after: pure, from its declaration, its state and its evaluations."""

import datetime
from collections.abc import Mapping
from typing import Literal

import msgspec

from pilothouse.domain.flag import Flag, FlagEntry

DAY_US = 86_400_000_000
STALE_DAYS = 60
EXERCISED_DAYS = 90
Trouble = Literal["stale", "unused", "off path not exercised", "expired", "unowned"]


class FlagUse(msgspec.Struct, frozen=True, kw_only=True):
    """Evaluations of one variant of a flag in one environment."""

    flag: str
    env: str
    variant: str
    n: int
    last_us: int


class FlagTrouble(msgspec.Struct, frozen=True):
    """What is wrong, and the numbers behind it."""

    what: Trouble
    detail: str


class FlagFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A flag in one environment, measured now. Times in µs since 1970; None: never."""

    key: str
    env: str
    kind: str
    owner: str = ""
    enabled: bool = True
    route: str = ""  # that it switches, or whose release it selects
    first_us: int = 0
    changed_us: int = 0
    evaluations: int = 0  # of the last 90 days
    last_us: int | None = None
    off_us: int | None = None  # when the off path was last taken
    troubles: tuple[FlagTrouble, ...] = ()


def facts_of(
    flag: Flag, entry: FlagEntry, env: str, seen: tuple[int, int], uses: Mapping[str, FlagUse], now_us: int
) -> FlagFacts:
    """The facts. `seen`: when the flag was first seen, and when it last changed. `uses`: by variant, of 90 days."""
    first_us, changed_us = seen
    about = flag.flow or flag.selects
    last = max((use.last_us for use in uses.values()), default=None)
    off = uses[flag.off].last_us if flag.flow is not None and flag.off in uses else None
    made = FlagFacts(
        key=flag.key,
        env=env,
        kind=flag.kind,
        owner=flag.owner,
        enabled=entry.enabled,
        route=about.route if about is not None else "",
        first_us=first_us,
        changed_us=changed_us,
        evaluations=sum(use.n for use in uses.values()),
        last_us=last,
        off_us=off,
    )
    return msgspec.structs.replace(made, troubles=tuple(_troubles(flag, entry, made, now_us)))


def _troubles(flag: Flag, entry: FlagEntry, facts: FlagFacts, now_us: int) -> list[FlagTrouble]:
    found = []
    age, idle = (now_us - facts.first_us) // DAY_US, (now_us - facts.changed_us) // DAY_US
    if not flag.permanent and idle > STALE_DAYS:
        whole = " and everybody gets the same" if settled(entry) else ""
        found.append(FlagTrouble("stale", f"unchanged for {idle} days{whole}"))
    if flag.expires and datetime.date.fromisoformat(flag.expires) < _day(now_us):
        found.append(FlagTrouble("expired", f"it was to be gone by {flag.expires}"))
    if not flag.owner:
        found.append(FlagTrouble("unowned", "nobody answers for it"))
    if flag.flow is not None:
        if facts.off_us is None:
            found.append(FlagTrouble("off path not exercised", f"not in the last {EXERCISED_DAYS} days"))
    elif facts.last_us is None and age >= EXERCISED_DAYS:
        found.append(FlagTrouble("unused", f"nothing has read it for {EXERCISED_DAYS} days"))
    return found


def settled(entry: FlagEntry) -> bool:
    """Whether everybody gets the same, so that the flag decides nothing any more."""
    if not entry.enabled:
        return True
    shares = [one for one in entry.rollout if one.share > 0.0]
    return not entry.rules and (not shares or (len(shares) == 1 and shares[0].share >= 1.0))


def _day(now_us: int) -> datetime.date:
    return datetime.datetime.fromtimestamp(now_us / 1e6, datetime.UTC).date()
