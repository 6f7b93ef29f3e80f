"""What telemetry knows of a route in a window, for the review to judge: no thresholds here.

Counts are of requests with source `edge` unless said otherwise. None means that nothing is known, never zero.
Checklist ids in brackets say which item a field answers. Shares are left to the reader, who has k and n here and so
can give an interval. Durations in ms, money in USD, times in µs since 1970.
"""

import msgspec


class ManifestUse(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that one manifest produced [T1.1 T1.2 T1.4 T1.5]: resolve `manifest` and `parts` in the registry."""

    manifest: str  # content address; empty where the record has none
    release: int | None  # None: inline, or refused before a release was resolved
    inline: bool
    canary: bool
    requests: int
    parts: dict[str, str]  # part → hash as recorded; a part whose hash is missing in every record is absent
    missing: dict[str, int] = {}  # part → requests whose record has no hash of it; empty when none lacks any
    first_us: int = 0
    last_us: int = 0


class ModelUse(msgspec.Struct, frozen=True, kw_only=True):
    """Delivered attempts by the model asked of the provider and what the provider said it was [T1.3]."""

    provider: str
    model: str  # as sent to the provider
    served_model: str  # as the provider reported; empty where it did not
    fingerprint: str  # empty where the provider reports none
    fallback: bool
    attempts: int
    first_us: int  # first seen, ever (in retained rows): after `since_us` of the window means new
    last_us: int


class IndexUse(msgspec.Struct, frozen=True, kw_only=True):
    """Retrievals by index and version, as spans reported them [T1.6]."""

    name: str
    version: str  # empty: not reported
    retrievals: int
    first_us: int
    last_us: int


class TraceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Identity, accounted time, steps and cost of the route's traces [T2.1 T2.2 T7.1 T7.4].

    A request whose trace has no spans is a trace of its own: its stages account for it.
    """

    identified: int  # requests with a request id and a trace id
    duplicate_ids: int  # requests whose id occurred before
    traces: int
    accounted: int  # of them: staged time covers at least 80 % of the trace
    unaccounted_ms_p50: float | None  # median time that no stage explains, of traces with spans where there are any
    spans: int
    orphan_spans: int  # whose parent is neither a span nor a gateway request of the same trace
    traces_with_spans: int = 0
    workflows: int = 0  # distinct trace ids
    workflow_cost_mean: float | None = None  # per trace id, over those whose every request has a price [T7.1]
    workflow_cost_p95: float | None = None
    workflows_priced: int = 0
    workflow_cost_mean_before: float | None = None  # of the time before the window that is as long as it
    workflow_cost_p95_before: float | None = None
    workflows_priced_before: int = 0
    steps_mean: float | None = None  # requests per trace id [T7.4]
    steps_p95: float | None = None
    documents: int = 0  # that retrievals brought into traces with spans
    documents_repeated: int = 0  # of them: brought before into the same trace


class RedactionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What redaction reported [T2.5 T8.6]. Requests without any report are `requests − sum(by_status)`."""

    by_status: dict[str, int]  # clean, redacted, blocked, skipped
    skipped_without_reason: int
    requests_with_secrets: int  # [T8.6]
    secrets_unredacted: int  # requests with secrets whose text was not redacted before it was written
    secrets_found: int


class SchemaFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Structured output [T4.1–T4.5]. All counts are of requests that had to meet a schema."""

    structured: int
    valid_first: int  # as the model wrote it
    valid: int  # after repair and retry
    repaired: int  # valid only after at least one repair
    retried: int  # asked again at least once because of the schema
    mended: int  # repaired, asked again, or both [T4.2]
    coerced: int  # with a field that was made to fit its type
    delivered_invalid: int
    missing: dict[str, int]  # field (JSON pointer) → requests; the 50 commonest
    mismatched: dict[str, int]
    unlisted: dict[str, int]  # of the mismatched: fields with a value outside their enum [T4.4]
    unlisted_before: frozenset[str]  # fields for which that had happened in the 28 days before the window
    cost: float  # of these requests, all attempts
    errors: dict[str, int]  # the 10 commonest explanations of a final failure
    invalid_attempt_cost: float | None  # cost of attempts thrown away as invalid; None where none is priced


class RetrievalUse(msgspec.Struct, frozen=True, kw_only=True):
    """Retrievals in the route's traces [T5.4]; `baseline_*` from the 28 days before the window."""

    retrievals: int
    no_result: int
    scored: int  # whose first document has a score
    tau: float | None  # 5th percentile of the top score in traces that ended well, over window and baseline
    low_confidence: int  # of `scored`: top score below `tau`; 0 where `tau` is None
    baseline_retrievals: int
    baseline_no_result: int
    top_score_p50: float | None = None
    age_s_p95: float | None = None  # age of the first document at answer time
    versions: list[IndexUse] = []


class ProviderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts at one provider [T6.1 T6.3 T9.2]."""

    provider: str
    attempts: int
    rate_limited: int  # 429
    timeouts: int
    errors: dict[str, int]  # error code → attempts
    worst_hour_attempts: int  # in the hour with the largest share of 429 (of hours with at least 30 attempts)
    worst_hour_rate_limited: int
    headroom_min: float | None  # least remaining/limit that the provider reported; None where it reports none
    usage_reported: int  # answered attempts with the provider's own token counts [T2.3]
    usage_expected: int  # answered attempts


class WayUse(msgspec.Struct, frozen=True):
    """What one way to fall back has served: requests in the window, and when it last did, of 90 days."""

    requests: int
    last_us: int


class RuntimeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Retries, timeouts, fallbacks [T2.4 T6.2 T6.3 T6.4]."""

    attempts: int  # rows in `attempts`
    attempts_declared: int  # sum of what the requests' own records count [T2.4]
    timeouts: int  # attempts [T6.3]
    retried: int  # requests that retried the same model
    retried_recovered: int  # of them: succeeded without fallback
    reached_provider: int  # requests with at least one attempt: the denominator of amplification
    fallbacks: int  # requests that another model or a static answer served
    degraded: int  # outcome degraded or escalated [T6.6]
    fallback_cost_mean: float | None  # per request served by a fallback
    primary_cost_mean: float | None
    fallback_score_mean: float | None  # feedback and scorer means; None without scores
    primary_score_mean: float | None
    fallback_scores: int
    primary_scores: int
    undelivered_cost: float | None  # cost of attempts whose output nobody got
    providers: list[ProviderFacts]
    kinds: dict[str, int]  # primary, retry, fallback, hedge, reask, continue → attempts [T6.2]
    cancelled: int  # attempts that we gave up: hedges that lost, and those whose client left
    ways: dict[str, WayUse]  # model, trim, static, cached, delayed, handoff → what it served [T6.6]


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and what waited for them [T6.5]. Depths by the intervals in which requests waited."""

    waited: int  # requests that waited, whether they were let in or not
    waited_in_vain: int  # of them: refused in the end
    wait_ms_p95: float | None  # of those that waited: how old the 95th of a hundred grew
    depth_mean: float  # requests waiting, over the whole window (Little: Σ waits ÷ its length)
    depth_peak: int  # at once
    refused: int  # by a limit or budget of ours
    hits: dict[str, int]  # `limit:what`, `limit:what:shadow` → requests
    delayed: int  # taken over with a 202 and worked on afterwards
    delayed_failed: int  # of them: never answered; what other queues call dead letters
    busy_peak: float | None  # requests in work at once, on average over the busiest hour; without their waits
    arrivals_peak: int  # requests that came in the busiest hour


class Spender(msgspec.Struct, frozen=True, kw_only=True):
    """A key, user or app with what it spent [T7.3]."""

    id: str
    requests: int
    cost: float


class SegmentUse(msgspec.Struct, frozen=True, kw_only=True):
    """A segment with what it cost and brought [T7.6]. Revenue is what scores named `revenue` say, in USD."""

    segment: str  # empty: the request names none
    requests: int
    cost: float
    success: int
    revenue: float | None = None
    revenue_cost: float = 0.0  # of the requests whose revenue is known


class CostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Money [T7.1 T7.3 T7.6 T7.7]. `priced` requests have a known cost; the others are in no sum."""

    priced: int
    unpriced: int  # with tokens or an answered attempt, but no price
    spend: float
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    baseline_mean: float | None  # the same hours of the week, median over the 4 weeks before, weighted by traffic now
    baseline_requests: int
    per_success: float | None  # spend ÷ priced requests with outcome success
    baseline_per_success: float | None  # of the 28 days before the window
    unowned: float  # spend without a key
    top_keys: list[Spender]  # 10 at most
    p95_before: float | None  # of the time before the window that is as long as it
    priced_before: int
    segmented: float  # spend of requests that name their segment; the tier is the route's
    segments: list[SegmentUse]  # 10 at most, dearest first
    judged: int  # successes with a score [T7.7]
    judged_good: int  # of them: with a mean score of at least one half
    judged_before: int  # in the 28 days before the window
    judged_good_before: int


class CacheFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's cache of answers and the providers' of prompts [T7.5]; `*_before`: the 28 days before the window.

    Requests that were told to go past the cache are in no count.
    """

    asked: int  # requests for which the cache was asked
    hits: int  # answered from it, by meaning too
    semantic: int  # of them: by meaning
    saved: float | None  # USD that the hits cost when they were made
    asked_before: int
    hits_before: int
    input_tokens: int
    cached_tokens: int  # of them: read from the provider's cache
    input_tokens_before: int
    cached_tokens_before: int
    semantic_judged: int  # hits by meaning with a score named `semantic_hit`, in window and baseline
    semantic_false: int  # of them: below one half


class ContextUse(msgspec.Struct, frozen=True, kw_only=True):
    """Input tokens of the delivered attempts at one model [T7.4]."""

    provider: str
    model: str
    n: int
    mean: float
    p95: float


class LatencyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of one model on the route [T9.1]; `ttft_*` only over requests that streamed."""

    model: str
    requests: int
    p50: float | None
    p95: float | None
    p99: float | None
    ttft_n: int
    ttft_p50: float | None
    ttft_p95: float | None
    ttft_p99: float | None


class BurnWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The last `seconds` of the window, for burn rates of any SLO [T9.1 T9.2]; histograms in HISTOGRAM_MS buckets."""

    seconds: int
    total: int
    failed: int
    duration_hist: list[int]


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """One UTC day of the 35 up to the window's end, from minute rollups [T7.2 T7.7 T9.4]; empty days are absent."""

    start_us: int
    requests: int
    success: int
    failed: int
    fallbacks: int
    structured: int
    valid_first: int
    with_tokens: int  # requests of which tokens are known: the denominator of the two sums
    input_tokens: int
    output_tokens: int
    priced: int
    cost: float


class RouteFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that telemetry measured of one route in one environment over [since_us, until_us)."""

    route: str
    env: str
    since_us: int
    until_us: int
    requests: int
    first_us: int | None = None  # of the first and last request in the window
    last_us: int | None = None
    outcomes: dict[str, int]  # outcome → requests; an unknown one under its own name [T2.6]
    failures: int  # outcome failed
    failures_typed: int  # of them: error type given and not `unknown` or `internal` [T2.4]
    errors: dict[str, int]  # error type → failed requests [T9.2]
    with_usage: int  # requests whose tokens the provider counted [T2.3]
    with_tokens: int
    manifests: list[ManifestUse]  # most used first
    models: list[ModelUse]
    traces: TraceFacts
    redaction: RedactionFacts
    schema: SchemaFacts
    retrieval: RetrievalUse | None  # None: no retrieval seen on the route, in window or baseline
    runtime: RuntimeFacts
    queue: QueueFacts
    cost: CostFacts
    cache: CacheFacts
    contexts: list[ContextUse]  # most used first
    latency: list[LatencyFacts]  # most used model first
    burn: list[BurnWindow]  # 5 min, 30 min, 1 h, 6 h, 3 d
    days: list[Day]  # oldest first
    scores: dict[str, tuple[float, int]] = {}  # score name → mean, n


class TelemetryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All routes with traffic in the window, and what concerns the recorder itself."""

    since_us: int
    until_us: int
    routes: list[RouteFacts]
    spend: float  # of all routes, for shares [T7.3]
    losses: dict[str, int]  # what → count: payload, record, span, torn_line
    took_ms: float = 0.0

    def route(self, route: str, env: str) -> RouteFacts | None:
        """The facts of `route` in `env`; None where it had no traffic."""
        return next((r for r in self.routes if r.route == route and r.env == env), None)


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A sampled request with what it takes to render its upstream body again [T1.0]."""

    id: str
    ts_us: int
    route: str
    env: str
    release: int | None
    inline: bool
    manifest: str
    parts: dict[str, str]
    requested_model: str
    payload_request: str | None  # the client's body as stored; None where the log mode keeps none
    payload_upstream: str | None
    upstream_hash: str
    upstream_redacted_hash: str
    log_mode: str
    redaction_status: str
    trace_id: str = ""
    api: str = "chat"  # the one whose request the payload is


class StoredText(msgspec.Struct, frozen=True, kw_only=True):
    """A stored text to be scanned again for what redaction should have taken out [T2.5]."""

    owner: str  # request id, or `trace_id/span_id`
    field: str  # preview_in, preview_out, words, request, response, upstream
    route: str
    env: str
    text: str
    log_mode: str = ""
