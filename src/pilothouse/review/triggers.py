"""When to look at a route anew (V1–V6): what fired, which items are due for it, and what counts as looked at again.

A trigger re-opens items. One that is re-opened is judged on what was measured after the trigger alone; where that says
nothing yet it is STALE. A review that somebody signed closes everything that fired before it.
"""

import datetime
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pilothouse.domain.trigger_facts import Novelty, ServedDay, TriggerFacts, VoiceDay
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N

DAY_US = 86_400_000_000
LOOKBACK_US = 90 * DAY_US
WORKING_DAYS = 5  # in which a route has to be looked at again
SHIFT = 0.20  # V1: the share of a day's requests that another model than the usual one answered
USUAL_DAYS = 7  # that say which model is the usual one
STEPS = (1.0, 2.0)  # V2: 95th percentile of requests per trace, from at most → to above
LONG_US = DAY_US  # V4: an alert that fires for so long is drift
VOICES_Z = 4.0  # V4: robust z of a day's share of escalations, or of complaints
VOICES_DAYS = (7, 28)  # days before it that say what is usual: at least, at most
NEW_SEGMENT = 0.01  # V5: of the requests that name their segment
UNSEEN = 7.0  # V5: an old segment of this share would have been seen before, but with probability e⁻⁷ ≈ 0.1 %
DRIFTS = {"T7.1": ("T7.",), "T9.6": ("T7.",), "T9.1": ("T6.", "T9.")}  # V4: alert about → category
REOPENS: dict[str, tuple[str, ...]] = {
    "V1": ("T1.3", "T3.", "T4.", "T6.", "T7.1", "T9.1", "T10.2", "CQ.1"),
    "V2": ("T1.5", "T1.6", "T2.2", "T5.", "T6.3", "T7.4", "T8.2", "T10.3"),
    "V3": ("T4.", "T1.0", "CR.3"),
    "V4": ("I1", "I2", "I3"),
    "V5": ("T3.1", "T3.4", "T7.6", "T8.5", "T10.3", "CQ.3"),
    "V6": ("T2.5", "T8."),
}
UPGRADES = ("V2", "V5")  # G4: what ends the lighter profile
_EVENTS = {
    "model": "V1", "provider": "V1", "tools": "V2", "retrieval": "V2", "schema": "V3", "tier": "V5",
    "log": "V6", "retention": "V6", "access": "V6",
}  # fmt: skip
_SEEN = {
    "tools": ("V2", "a tool call"),
    "retrieval": ("V2", "a retrieval"),
    "schema": ("V3", "an output with a schema"),
}


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger that fired: when, why in one clause with its numbers, what it re-opens (ids, or their beginnings)."""

    id: str
    ts_us: int
    reason: str
    reopens: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """`V1: served model a → b for 34 % of the requests of 2026-11-20`."""
        return f"{self.id}: {self.reason}"

    @property
    def due_us(self) -> int:
        """When five working days (UTC) are over: the end of the fifth after the one on which it fired."""
        day = datetime.datetime.fromtimestamp(self.ts_us / 1e6, datetime.UTC).date()
        left = WORKING_DAYS
        while left:
            day += datetime.timedelta(days=1)
            left -= day.weekday() < 5
        end = datetime.datetime.combine(day + datetime.timedelta(days=1), datetime.time(), datetime.UTC)
        return int(end.timestamp()) * 1_000_000

    def names(self, item: str) -> bool:
        """Whether it re-opens the item."""
        return any(item == one or (one.endswith(".") and item.startswith(one)) for one in self.reopens)


def fired(facts: TriggerFacts) -> tuple[Fired, ...]:
    """Everything that fired since `facts.since_us`, oldest first."""
    found = [
        *(
            _fired(_EVENTS[event.what], event.ts_us, f"{event.reason}, {words.date(event.ts_us)}")
            for event in facts.events
        ),
        *_served(facts.seen.served),
        *_first(facts.seen),
        *_steps(facts.seen),
        *_voices(facts.seen.voices),
        *_alerts(facts),
        *_segments(facts.seen),
    ]
    return tuple(sorted(found, key=lambda one: (one.ts_us, one.id)))


def open_of(evidence: Evidence) -> tuple[Fired, ...]:
    """What fired since the last signature."""
    facts = evidence.triggers
    if facts is None:
        return ()
    since = facts.signed.ts_us if facts.signed is not None else 0
    return tuple(one for one in fired(facts) if one.ts_us > since)


def newest_for(item: str, found: Iterable[Fired]) -> Fired | None:
    """The last trigger that re-opened an item."""
    return max((one for one in found if one.names(item)), key=lambda one: one.ts_us, default=None)


def upgraded(found: Iterable[Fired]) -> Fired | None:
    """The first trigger that ends the lighter profile."""
    return next((one for one in found if one.id in UPGRADES), None)


def _fired(ident: str, ts_us: int, reason: str, reopens: tuple[str, ...] = ()) -> Fired:
    return Fired(id=ident, ts_us=ts_us, reason=reason, reopens=(*REOPENS[ident], *reopens))


def _served(days: Iterable[ServedDay]) -> Iterator[Fired]:
    """V1 from traffic: a day on which more than a fifth came from another model than the one that was usual."""
    by_day: dict[int, dict[str, ServedDay]] = {}
    for one in days:
        by_day.setdefault(one.day_us, {})[one.model] = one
    told: set[tuple[str, str]] = set()
    for day, uses in sorted(by_day.items()):
        usual = _usual(by_day, day)
        n = sum(use.requests for use in uses.values())
        others = [use for model, use in uses.items() if model != usual and (usual, model) not in told]
        share = sum(use.requests for use in others) / n
        if usual and n >= MIN_N and share > SHIFT:
            told |= {(usual, use.model) for use in others}
            named = max(others, key=lambda use: use.requests).model
            reason = f"served model {usual} → {named} for {words.share(share)} of the requests of {words.date(day)}"
            yield _fired("V1", min(use.first_us for use in others), reason)


def _usual(by_day: Mapping[int, Mapping[str, ServedDay]], day: int) -> str:
    """The model of most requests in the days before; empty where these are too few to say."""
    counts: Counter[str] = Counter()
    for earlier, uses in by_day.items():
        if day - USUAL_DAYS * DAY_US <= earlier < day:
            counts.update({model: use.requests for model, use in uses.items()})
    return counts.most_common(1)[0][0] if counts.total() >= MIN_N else ""


def _first(seen: Novelty) -> Iterator[Fired]:
    """V2, V3 from traffic: something that the route did not have when it had requests already."""
    for one in seen.first:
        if one.before >= MIN_N:
            ident, what = _SEEN[one.what]
            reason = f"{what} for the first time, {words.date(one.first_us)}, after {one.before:,} requests without"
            yield _fired(ident, one.first_us, reason)


def _steps(seen: Novelty) -> Iterator[Fired]:
    """V2: traces that were single requests have become chains of them."""
    single = 0
    for day in seen.steps:
        if day.traces >= MIN_N and single >= MIN_N and day.p95 > STEPS[1]:
            reason = f"p95 of requests per trace ≤ {STEPS[0]:g} → {day.p95:g}, {words.date(day.day_us)}"
            yield _fired("V2", day.day_us, reason)
            return
        single += day.traces if day.p95 <= STEPS[0] else 0


def _voices(days: tuple[VoiceDay, ...]) -> Iterator[Fired]:
    """V4: a day with far more escalations, or bad words of users, than usual."""
    for name in ("escalated", "complained"):
        rates = [(day, getattr(day, name) / day.requests) for day in days if day.requests >= MIN_N]
        loud = False
        for at, (day, rate) in enumerate(rates):
            usual = [before for _, before in rates[max(0, at - VOICES_DAYS[1]) : at]]
            z = _robust_z(rate, usual, day.requests) if len(usual) >= VOICES_DAYS[0] else 0.0
            if z > VOICES_Z and not loud:
                middle = words.share(statistics.median(usual))
                reason = f"{words.share(rate)} {name} against {middle}, z = {z:.1f}, {words.date(day.day_us)}"
                yield _fired("V4", day.day_us, reason, ("T3.",))
            loud = z > VOICES_Z


def _robust_z(rate: float, usual: list[float], n: int) -> float:
    """(x − median) / (1.4826 · MAD + ε); ε: 5 % of the median, or what chance alone does to `n` requests."""
    middle = statistics.median(usual)
    spread = 1.4826 * statistics.median(abs(one - middle) for one in usual)
    noise = math.sqrt(max(middle, 1 / n) / n)
    return (rate - middle) / (spread + max(0.05 * middle, noise))


def _alerts(facts: TriggerFacts) -> Iterator[Fired]:
    """V4: an alert about cost or latency that fires for a day."""
    for alert in facts.alerts or ():
        at = alert.since_us + LONG_US
        if alert.item in DRIFTS and (alert.until_us or facts.now_us) >= at:
            reason = f"“{alert.rule}” ({alert.item}) fires for more than 24 h, since {words.date(alert.since_us)}"
            yield _fired("V4", at, reason, DRIFTS[alert.item])


def _segments(seen: Novelty) -> Iterator[Fired]:
    """V5: a segment that was not there when it would have been seen."""
    for one in seen.segments:
        share = one.requests / one.since if one.since >= MIN_N else 0.0
        if share > NEW_SEGMENT and one.before * share >= UNSEEN:
            reason = (
                f"new segment “{one.segment}”, {words.share(share)} of the traffic since {words.date(one.first_us)}"
            )
            yield _fired("V5", one.first_us, reason)
