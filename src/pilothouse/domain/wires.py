"""The wires: the only ways in which rooms touch. `server/` hands them over."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from pilothouse.domain.alert import Action, ActionResult
from pilothouse.domain.change import Change
from pilothouse.domain.evaluation import Verdict
from pilothouse.domain.principal import Principal
from pilothouse.domain.record import EventRecord, LossRecord, MetricRecord, Record, ScoreRecord, SpanRecord, Tokens
from pilothouse.domain.table import Live, Table

JournalLine = Record | SpanRecord | EventRecord | MetricRecord | ScoreRecord | LossRecord


class Redacted(msgspec.Struct):
    """Text that may be written, and what was found in it: class → count."""

    text: str
    classes: dict[str, int]
    secrets: int = 0


class Sighting(msgspec.Struct, frozen=True):
    """Characters `start` to `end` of a text are of this class; `secret`: a credential rather than personal data."""

    kind: str
    start: int
    end: int
    secret: bool = False


class Detect(Protocol):
    """What redaction would find in a text, in order, none overlapping. Raises PilothouseError: there is no verdict."""

    classes: frozenset[str]  # every class that it knows

    def __call__(self, text: str) -> Sequence[Sighting]: ...


class GenerateRequest(msgspec.Struct, kw_only=True):
    """A request for an eval, a replay or a canary's shadow: `live` is the release to run, whatever the table says.

    `canary` and `labels` are noted in its record."""

    route: str
    env: str
    live: Live
    body: dict[str, Any]  # an OpenAI chat/completions body
    app: str = ""
    tier: str = "standard"
    source: str = "eval"
    canary: bool = False
    labels: dict[str, str] = {}


class GenerateReply(msgspec.Struct, kw_only=True):
    """What came back. `text` is the message's content; `error` is a stable code, empty on success."""

    request_id: str
    text: str
    error: str = ""
    duration_ms: float = 0.0
    cost_usd: float | None = None
    outcome: str = ""


class MetricQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A question to the metric catalogue. Empty strings mean any; times in µs since 1970."""

    metric: str
    route: str = ""
    env: str = ""
    model: str = ""
    release: int | None = None
    canary: bool | None = None
    since_us: int = 0
    until_us: int = 0  # 0: now
    by: tuple[str, ...] = ()  # route, env, model, release, error_type, outcome, provider
    bucket_s: int = 0  # > 0: one point per bucket


class MetricPoint(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: `value` None means no data, never zero. `low`, `high`: 95 % interval where there is one."""

    value: float | None
    n: int
    labels: dict[str, str] = {}
    ts_us: int = 0
    low: float | None = None
    high: float | None = None


TableReader = Callable[[], Table]
Sink = Callable[[JournalLine], None]
Redact = Callable[[str], Redacted]  # raises: the caller then keeps metadata only
Authenticate = Callable[[str | None, Table], Principal]  # the Authorization header; raises Unauthorized
SecretReader = Callable[[str], str]  # a reference such as env://NAME; raises ConfigError
PriceSpan = Callable[[str, str, Tokens, int], float | None]  # provider, model, tokens, µs since 1970 → USD
Metrics = Callable[[MetricQuery], list[MetricPoint]]
Act = Callable[[Action, str, str, str], ActionResult]  # action, route, env, reason
Generate = Callable[[GenerateRequest], Awaitable[GenerateReply]]
VerdictReader = Callable[[str, int], Verdict | None]  # route, release
Changes = Callable[[Change], None]
