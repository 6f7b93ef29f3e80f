"""The record: the one wide event that a request always leaves behind; and the other journal lines."""

from typing import Literal

import msgspec

Outcome = Literal["success", "fallback", "degraded", "escalated", "refused", "failed"]
RedactionStatus = Literal["clean", "redacted", "blocked", "skipped"]
Source = Literal["edge", "eval", "replay", "shadow", "drill"]
AttemptKind = Literal["primary", "retry", "fallback", "hedge", "reask", "continue"]
CacheUse = Literal["", "miss", "hit", "semantic", "stale", "bypass"]
StreamEnd = Literal["", "complete", "error", "restarted", "continued"]
Way = Literal["", "model", "trim", "static", "cached", "delayed", "handoff"]
PREVIEW = 200  # characters


class TokenParts(msgspec.Struct, frozen=True, gc=False):
    """Parts of the buckets that are priced apart."""

    cache_write_1h: int = 0  # of cache_write: kept for an hour rather than five minutes
    input_audio: int = 0  # of input_uncached
    output_audio: int = 0  # of output_text


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Disjoint buckets: input = uncached + cache_read + cache_write; output = text + reasoning."""

    input_uncached: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output_text: int = 0
    reasoning: int = 0
    estimated: bool = False  # counted by us because the provider reported none
    of_which: TokenParts | None = None

    @property
    def input(self) -> int:
        """All input tokens."""
        return self.input_uncached + self.cache_read + self.cache_write

    @property
    def output(self) -> int:
        """All output tokens."""
        return self.output_text + self.reasoning


class Attempt(msgspec.Struct, gc=False):
    """One upstream call. Times in ms; `offset_ms` from the start of the request."""

    n: int
    kind: AttemptKind
    provider: str
    model: str
    offset_ms: float
    duration_ms: float = 0.0
    ttft_ms: float | None = None
    status: int = 0  # HTTP; 0 where no answer came
    error_type: str = ""  # code of the error tree; empty on success
    served_model: str = ""
    fingerprint: str = ""
    response_id: str = ""
    finish_reason: str = ""
    tokens: Tokens | None = None
    cost_usd: float | None = None  # None: unknown, never 0 for an unpriced model
    delivered: bool = False  # its output is what the client got
    retry_after_s: float | None = None
    backoff_ms: float = 0.0  # waited before this attempt
    ratelimit_limit: int | None = None  # x-ratelimit-limit-requests
    ratelimit_remaining: int | None = None
    cancelled: bool = False  # given up by us: a hedge that lost, or a client that left
    trimmed: int = 0  # messages that were left out of its request, by the fallback `trim`


class Validation(msgspec.Struct):
    """What became of an output that must meet a JSON Schema."""

    first_ok: bool
    ok: bool
    repairs: list[str] = []  # names of the edits, in order: `fence`, `prose`, `trailing_comma` …
    retried: int = 0
    error: str = ""  # the first error after repair, explained
    missing: list[str] = []  # required fields that were absent, as JSON pointers
    mismatched: list[str] = []  # fields of the wrong type or outside an enum, as JSON pointers
    unlisted: list[str] = []  # of them: those with a value outside their enum
    delivered_invalid: bool = False
    stages: list[str] = []  # each stage that looked at the output, in order: `exact`, `extract`, `repair`, `coerce` …
    coerced: list[str] = []  # fields made to fit their type, as JSON pointers


class Redaction(msgspec.Struct):
    """What redaction did before anything was written."""

    status: RedactionStatus
    classes: dict[str, int] = {}  # class → number of findings
    reason: str = ""
    secrets: int = 0  # findings of a secret class


class LimitHit(msgspec.Struct):
    """A limit that was reached. `shadow`: the request was let through all the same."""

    name: str
    what: str  # requests, tokens, concurrency, spend
    by: str = ""  # the counter's values, such as `key=a1b2`
    shadow: bool = False


class GuardHit(msgspec.Struct):
    """A guardrail that found something, or failed (`error`)."""

    use: str
    at: Literal["input", "output"]
    action: str  # block, mask, flag, error
    found: str = ""  # what kind of thing, never the thing


class Payload(msgspec.Struct):
    """Bodies as text, redacted as policy says."""

    request: str = ""  # the client's body
    response: str = ""  # the body that the client got, or the assembled message of a stream
    upstream: str = ""  # the upstream body, only where it cannot be rendered again from the rest


class Record(msgspec.Struct, kw_only=True, gc=False):
    """Everything about one client request. Times: `ts_us` since 1970, durations in ms. Money in USD."""

    kind: Literal["request"] = "request"
    id: str
    ts_us: int
    trace_id: str
    span_id: str
    parent_span_id: str = ""
    source: Source = "edge"
    env: str = ""
    route: str = ""
    app: str = ""
    tier: str = ""
    release: int | None = None  # None: an inline manifest (raw provider/model), or refused before resolution
    inline: bool = False
    canary: bool = False
    manifest: str = ""
    parts: dict[str, str] = {}  # the 8 part hashes; empty only where no route was resolved
    table_revision: int = 0
    worker: str = ""
    key_id: str = ""
    session: str = ""  # pseudonymous: a hash, never what the client sent
    user: str = ""  # pseudonymous likewise
    segment: str = ""
    stream: bool = False
    requested_model: str = ""
    provider: str = ""  # who answered; where nobody did, whom the last attempt asked
    asked_model: str = ""  # what that attempt asked for, by the provider's name for it; empty where none was made
    served_model: str = ""  # what the delivered attempt's provider says has answered
    fingerprint: str = ""
    outcome: Outcome = "failed"
    status: int = 0  # HTTP status that the client got; 499 where it left first
    error_type: str = ""
    error_message: str = ""
    attempts: list[Attempt] = []
    stages: dict[str, float] = {}  # stage → ms on the critical path: queue, preprocessing, model, postprocessing
    duration_ms: float = 0.0
    ttft_ms: float | None = None
    tokens: Tokens | None = None  # summed over attempts
    cost_usd: float | None = None  # summed over attempts; None where any attempt with usage has no price
    cost_source: str = ""  # "genai-prices", "config", "" where unknown
    validation: Validation | None = None
    redaction: Redaction | None = None
    log_mode: str = ""
    upstream_hash: str = ""  # SHA-256 of the first upstream body as sent
    upstream_redacted_hash: str = ""  # SHA-256 of it after redaction; empty where redaction changed nothing
    preview_in: str = ""
    preview_out: str = ""
    payload: Payload | None = None
    labels: dict[str, str] = {}  # from OpenAI `metadata`, redacted
    api: str = "chat"  # the API that the client speaks: chat, messages, responses, embeddings, moderations, or a path
    cache: CacheUse = ""  # "": the route has no cache
    saved_usd: float | None = None  # what the cached answer cost when it was made
    stream_end: StreamEnd = ""
    limits: list[LimitHit] = []
    guards: list[GuardHit] = []
    queued_ms: float = 0.0  # waited for a limit
    priority: str = ""
    delayed: bool = False  # answered with 202; this record is of the work done afterwards
    way: Way = ""  # of the fallback that gave the answer; empty where none did
    flags: dict[str, str] = {}  # flag → variant, of those that chose a release or switched the flow off


class Document(msgspec.Struct):
    """A retrieved document, as its span reported it."""

    id: str
    score: float | None = None
    age_s: float | None = None  # age of the source at answer time


class SpanEvent(msgspec.Struct):
    """Something that happened while a span lasted (an exception, a cache hit …)."""

    name: str
    offset_ms: float = 0.0  # since the span's start
    attributes: dict[str, str] = {}


class SpanRecord(msgspec.Struct, kw_only=True):
    """One OTLP span in our own terms.

    `cost_usd` is computed from tokens and prices and only of a leaf that asks a model; `reported_cost_usd` is what the
    instrumentation said. `release`: the app's word for its version, not one of ours.
    """

    kind: Literal["span"] = "span"
    trace_id: str
    span_id: str
    parent_span_id: str = ""
    ts_us: int
    duration_ms: float
    name: str
    operation: str = ""  # gen_ai.operation.name, or what its dialect maps to
    stage: str = ""  # preprocessing, retrieval, model, tool, postprocessing, queue, or empty
    env: str = ""
    app: str = ""
    route: str = ""
    session: str = ""
    user: str = ""
    provider: str = ""
    request_model: str = ""
    response_model: str = ""
    response_id: str = ""
    status: Literal["ok", "error", "unset"] = "unset"
    error_type: str = ""
    finish_reason: str = ""
    span_kind: str = ""  # internal, server, client, producer or consumer
    dialect: str = ""  # whose conventions it follows, by the name of the table that read it
    release: str = ""
    ttft_ms: float | None = None
    tokens: Tokens | None = None
    cost_usd: float | None = None
    reported_cost_usd: float | None = None
    events: list[SpanEvent] = []
    documents: list[Document] | None = None  # None: not a retrieval; empty: retrieval found nothing
    index_name: str = ""
    index_version: str = ""
    attributes: dict[str, str] = {}
    redaction: Redaction | None = None
    log_mode: str = ""  # full: the payload, and nothing else, may hold personal data
    preview_in: str = ""
    preview_out: str = ""
    payload: Payload | None = None


class ScoreRecord(msgspec.Struct, kw_only=True):
    """A judgement of a request, by a person, a scorer or the app's own feedback."""

    kind: Literal["score"] = "score"
    id: str
    ts_us: int
    request_id: str = ""
    trace_id: str = ""
    span_id: str = ""  # of the span that is judged, where it is one
    route: str = ""
    env: str = ""
    name: str
    value: float
    label: str = ""
    comment: str = ""
    source: Literal["feedback", "scorer", "human"] = "feedback"


class EventRecord(msgspec.Struct, kw_only=True):
    """An OTLP log record of the GenAI conventions that belongs to a span: a message, a choice, an exception."""

    kind: Literal["event"] = "event"
    ts_us: int
    trace_id: str = ""
    span_id: str = ""
    name: str  # gen_ai.user.message, gen_ai.choice …
    env: str = ""
    app: str = ""
    body: str = ""  # text or JSON, redacted
    attributes: dict[str, str] = {}
    redaction: Redaction | None = None


class MetricRecord(msgspec.Struct, kw_only=True):
    """A data point of a metric that an app sent over OTLP. `bounds` and `counts` are a histogram's, else empty.

    Delta and cumulative points are kept as they came; `start_us` is where the point's time begins, 0 where unknown.
    """

    kind: Literal["metric"] = "metric"
    ts_us: int
    start_us: int = 0
    name: str
    unit: str = ""
    type: Literal["gauge", "sum", "histogram"]
    temporality: Literal["", "delta", "cumulative"] = ""
    env: str = ""
    app: str = ""
    value: float | None = None  # of a gauge or sum; the sum of a histogram
    count: int | None = None
    bounds: list[float] = []
    counts: list[int] = []
    attributes: dict[str, str] = {}


class LossRecord(msgspec.Struct, kw_only=True):
    """Something that could not be kept, counted so that it is never silent; `withheld`: that was not to be kept."""

    kind: Literal["loss"] = "loss"
    ts_us: int
    worker: str
    what: Literal["payload", "record", "span", "event", "metric", "torn_line", "withheld"]
    count: int
    reason: str = ""
