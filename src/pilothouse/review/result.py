"""From what was measured to a finding: levels, shares with their bounds, and the row that people read."""

import math
from collections.abc import Callable
from urllib.parse import quote

import msgspec

from pilothouse.domain.finding import STATUS_ORDER, Finding, Grade, Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.catalogue.entry import TRACES
from pilothouse.review.evidence import Evidence
from pilothouse.stats.proportions import wilson, z

MIN_N = 30  # fewer observations than this are no data
CONFIDENCE = 0.95
MORE_TRAFFIC = f"send it at least {MIN_N} requests, with `model: {{route}}`"


class Outcome(msgspec.Struct, frozen=True):
    """What a check says. `number` is what was compared with the threshold, `value` the same for people."""

    status: Status
    value: str
    number: float | None = None
    n: int | None = None
    detail: str = ""
    grade: Grade | None = None  # where the evidence is of another kind than the item's usual one
    measured_us: int | None = None  # where the evidence is older than now
    fix: str = ""  # where what helps is not the item's usual fix
    interval: tuple[float, float] | None = None  # 95 %, of a share that is told with its interval


Check = Callable[[Evidence, Item], Outcome]


def no_data(why: str, n: int | None = None, detail: str = "", fix: str = "") -> Outcome:
    """Nothing can be said, and why."""
    return Outcome("NO_DATA", why, None, n, detail, fix=fix)


def not_applicable(reason: str) -> Outcome:
    """The item does not concern this route, and why."""
    return Outcome("N/A", reason)


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A share as judged. `bound` is its Wilson 95 % bound on the unfavourable side, which is what decides."""

    status: Status
    rate: float
    bound: float
    detail: str = ""

    @property
    def at_most(self) -> str:
        """`2.1 % (≤ 8.4 %)`: of a share that is better the lower it is."""
        return f"{words.share(self.rate)} (≤ {words.share(self.bound)})"


def level(value: float, limit: Limit) -> Status:
    """PASS, WARN or FAIL of a number that is known exactly. On the limit is not beyond it."""
    sign = 1.0 if limit.worse == "above" else -1.0
    if limit.fail is not None and sign * value > sign * limit.fail:
        return "FAIL"
    if limit.warn is not None and sign * value > sign * limit.warn:
        return "WARN"
    return "PASS"


def sampled(counted: int, n: int, limit: Limit) -> Judged:
    """Judge the share `counted` of `n` by its Wilson bound on the unfavourable side.

    Where nothing bad was seen at all, but so few observations cannot rule out a failing share, the answer is NO_DATA
    and not FAIL: nothing speaks against the route, and nothing yet for it.
    """
    low, high = wilson(counted, n, CONFIDENCE)
    bound = low if limit.worse == "below" else high
    rate = counted / n if n else 0.0
    status = level(bound, limit)
    bad = n - counted if limit.worse == "below" else counted
    if n < MIN_N:
        return Judged(status="NO_DATA", rate=rate, bound=bound, detail=f"n < {MIN_N}")
    if bad == 0 and status != "PASS":
        needed = enough(limit)
        more = f"nothing bad seen; {needed:,} in all would show it" if needed else ""
        return Judged(status="NO_DATA" if status == "FAIL" else status, rate=rate, bound=bound, detail=more)
    return Judged(status=status, rate=rate, bound=bound)


def enough(limit: Limit) -> int:
    """The least number of observations with which a spotless sample passes; 0 where no number is enough."""
    target = limit.warn if limit.warn is not None else limit.fail
    tolerated = target if target is None or limit.worse == "above" else 1.0 - target
    if tolerated is None or tolerated <= 0.0:
        return 0
    q = z(CONFIDENCE) ** 2  # a spotless sample's bound is q / (n + q) away from spotless
    return max(MIN_N, math.ceil(q * (1.0 - tolerated) / tolerated))


def limit_of(item: Item) -> Limit:
    """The item's main threshold; one without numbers where it has none."""
    return item.limit or Limit()


def worst(*statuses: Status) -> Status:
    """The worst of several results of one item; N/A only where nothing else is there."""
    return min(statuses, key=lambda status: STATUS_ORDER[status])


def finding(evidence: Evidence, item: Item, outcome: Outcome) -> Finding:
    """The row that people read: what was measured, beside its threshold, owner, fallback, evidence and fix."""
    names = {"route": evidence.route, "env": evidence.env}
    return Finding(
        id=item.id,
        title=item.title,
        layer=item.layer,
        status=outcome.status,
        value=outcome.value,
        number=outcome.number,
        n=outcome.n,
        threshold=_threshold(item, outcome.status),
        owner=evidence.person(evidence.config.owner),
        fallback=_fallback(evidence, item),
        evidence=item.evidence.format(**{name: quote(text, safe="") for name, text in names.items()}),
        fix=_fix(item, outcome).format(**names),
        measured_at=words.iso(outcome.measured_us or evidence.now_us),
        grade=outcome.grade or item.grade,
        detail=outcome.detail,
        interval=outcome.interval,
    )


def _fix(item: Item, outcome: Outcome) -> str:
    if outcome.status in ("PASS", "N/A"):
        return ""
    if outcome.fix:
        return outcome.fix
    thin = outcome.status == "NO_DATA" and outcome.n is not None and outcome.n < MIN_N
    return MORE_TRAFFIC if thin and item.evidence.startswith(TRACES) else item.fix


def with_override(item: Item, evidence: Evidence) -> Item:
    """The item with the thresholds and the fallback that the route's `checks` set for it."""
    override = evidence.override(item.id)
    if override is None:
        return item
    limit = item.limit or Limit()
    warn = limit.warn if override.warn is None else override.warn
    fail = limit.fail if override.fail is None else override.fail
    new = msgspec.structs.replace(limit, warn=warn, fail=fail)
    return msgspec.structs.replace(
        item,
        limit=new,
        warn=item.warn if override.warn is None else _reworded(item.warn, override.warn, new),
        fail=item.fail if override.fail is None else _reworded(item.fail, override.fail, new),
        fallback=override.fallback or item.fallback,
    )


def _reworded(text: str, value: float, limit: Limit) -> str:
    _, comma, others = text.partition(", ")  # the first clause is the one with the number that was overridden
    return words.limit(value, limit) + comma + others


def _threshold(item: Item, status: Status) -> str:
    parts = {"WARN": item.warn, "FAIL": item.fail}
    if parts.get(status):
        return f"{status.lower()} {parts[status]}"
    return "; ".join(f"{name.lower()} {text}" for name, text in parts.items() if text)


def _fallback(evidence: Evidence, item: Item) -> str:
    armed = sorted({a.kind for r in evidence.rules if r.item == item.id for a in r.actions if a.kind != "notify"})
    return f"{', '.join(armed)} (armed)" if armed else item.fallback
