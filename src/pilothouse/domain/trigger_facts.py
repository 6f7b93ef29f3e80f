"""What the rooms know of events after which a route has to be looked at anew (V1–V6): no thresholds here.

Times in µs since 1970, shares 0 … 1. Everything is of one route in one environment since `since_us`.
"""

from typing import Literal

import msgspec

from pilothouse.domain.table import env_option

What = Literal["model", "provider", "tools", "retrieval", "schema", "log", "retention", "access", "tier"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the change log, in words: `release 12: model openai/a → openai/b`."""

    ts_us: int
    what: What
    reason: str


class FirstSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Something that traffic had for the first time, and how many requests the route had before without it."""

    what: Literal["tools", "retrieval", "schema"]
    first_us: int
    before: int


class ServedDay(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one UTC day that a provider's model answered, without fallbacks and answers from a cache."""

    day_us: int  # when it begins: midnight, or right after a signature of that day for what came after it
    model: str  # `provider/model` as the provider reported it
    requests: int
    first_us: int


class StepsDay(msgspec.Struct, frozen=True, kw_only=True):
    """Requests per trace on one UTC day (likewise cut at a signature), by when the trace began."""

    day_us: int
    traces: int
    p95: float


class SegmentSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that came later than others: its requests, all that name one since it came, and those before."""

    segment: str
    first_us: int
    requests: int
    since: int
    before: int


class VoiceDay(msgspec.Struct, frozen=True, kw_only=True):
    """One UTC day's requests (likewise cut), how many were escalated, how many users said that the answer was bad."""

    day_us: int
    requests: int
    escalated: int
    complained: int


class Novelty(msgspec.Struct, frozen=True, kw_only=True):
    """What telemetry saw. Days are in order."""

    requests: int = 0
    segmented: int = 0  # of them: those that name their segment
    first: tuple[FirstSeen, ...] = ()
    served: tuple[ServedDay, ...] = ()
    steps: tuple[StepsDay, ...] = ()
    segments: tuple[SegmentSeen, ...] = ()
    voices: tuple[VoiceDay, ...] = ()


class LongAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert about a checklist item that fires, or fired until `until_us`; None: it still does."""

    item: str
    rule: str
    since_us: int
    until_us: int | None = None


def signing(route: str, env: str) -> str:
    """The command that signs a route's review, and so closes what is open."""
    return f"pilothouse review {route}{env_option(env)} --sign --reason …"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """The last review of the route that somebody put their name to, and when what they saw was measured."""

    ts_us: int
    by: str
    reason: str


class Reopened(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger whose items wait to be measured anew, or signed: when it fired last, and in a sentence. `due`: how many
    items, until when."""

    id: str
    ts_us: int
    sentence: str
    due: str = ""


class TriggerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything together. `alerts` None: the rules were not read; `watched`: checklist ids that a rule watches."""

    since_us: int
    now_us: int
    events: tuple[Event, ...] = ()
    seen: Novelty = Novelty()
    alerts: tuple[LongAlert, ...] | None = None
    watched: tuple[str, ...] = ()
    signed: Signature | None = None
