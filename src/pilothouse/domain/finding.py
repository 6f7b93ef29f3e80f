"""A line of the checklist and its result now."""

from typing import Any, Literal

import msgspec

from pilothouse.domain.trigger_facts import Reopened

Status = Literal["PASS", "WARN", "FAIL", "NO_DATA", "STALE", "WAIVED", "N/A"]
Grade = Literal["M", "C", "D", "A"]  # measured, config-verified, drill, attested
STATUS_ORDER: dict[str, int] = {
    "FAIL": 0,
    "WARN": 1,
    "NO_DATA": 2,
    "STALE": 3,
    "WAIVED": 4,
    "PASS": 5,
    "N/A": 6,
}


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A numeric threshold: WARN beyond `warn`, FAIL beyond `fail`; `worse` is the side that is bad.

    A value that equals the limit has not crossed it. Shares and changes are fractions, durations ms.
    """

    warn: float | None = None
    fail: float | None = None
    worse: Literal["above", "below"] = "above"
    unit: Literal["share", "change", "count", "ms", "ratio"] = "share"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A checklist line as CHECKLIST defines it. `lite`: kept in the lighter profile.

    `limit` is the main threshold as a number, where the item is measured: a route's `checks` may override it.
    """

    id: str
    title: str
    layer: str  # "1 Versioning" … "10 Rollback", "Before every release", "Governance" …
    lite: bool = False
    grade: Grade = "M"
    cadence: str = "K"
    warn: str = ""  # the threshold as people read it
    fail: str = ""
    fallback: str = ""  # executable action id, or prose
    unit: str = ""
    fix: str = ""
    evidence: str = ""  # a URL pattern on the control port, with {route} and {env}
    limit: Limit | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an item for a route. `value` is text for people; `number` is the same for machines."""

    id: str
    title: str
    layer: str
    status: Status
    value: str
    number: float | None = None
    n: int | None = None
    threshold: str = ""
    owner: str = ""
    fallback: str = ""
    evidence: str = ""  # a URL path on the control port, or a file of the app
    fix: str = ""
    measured_at: str = ""  # ISO 8601, UTC
    grade: Grade = "M"
    detail: str = ""  # a second line: worst task, since which release
    interval: tuple[float, float] | None = None  # 95 %, of the share that `value` tells


class RouteReview(msgspec.Struct, frozen=True, kw_only=True):
    """Readiness of one route in one environment. Scores are 0 … 1, None where nothing applies."""

    route: str
    env: str
    release: int | None
    tier: str
    owner: str
    backup: str
    window: str
    requests: int
    ready: bool
    floor: float
    observe: float | None
    evaluate: float | None
    roll_back: float | None
    security_fails: int
    findings: list[Finding]
    counts: dict[str, int]
    reopened: tuple[Reopened, ...] = ()  # triggers whose items wait


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """The one-page review: every route, worst first, with what it was computed from. `hosts`: the one whose telemetry
    it rests on, then those that have their own; empty where there is one host."""

    measured_at: str
    window: str
    ready: bool
    routes: list[RouteReview]
    took_ms: float = 0.0
    hosts: tuple[str, ...] = ()
    data: dict[str, Any] = {}
