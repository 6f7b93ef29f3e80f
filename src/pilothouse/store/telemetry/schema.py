"""Tables of the telemetry store. Times are UTC TIMESTAMPs, durations ms, money USD; NULL means unknown. Texts that are
bulky and read a few at a time say their compression; left to itself DuckDB takes what filters faster and packs less.

requests, attempts, spans, span_events,
app_metrics, scores, losses                 one row per journal line (attempts: one per upstream call)
repeats                                     lines that said what is stored already, and were left out: one row a load
payloads                                    bodies apart, read only when opened; those not yet in files
payload_files                               the Parquet files that hold all others, `<store's folder>/payloads/<file>`
removals                                    what retention took away; `told`: it stands in the audit trail
rollup_minute                               counts per minute and (route, env, release, canary, model, outcome, error);
                                            several rows per key until compacted, so readers always sum
rollup_hour                                 the same by the hour, for long windows
rollup_call_minute, rollup_call_hour        counts of calls of models, of the gateway's requests and of apps' own spans
entries                                     a row for each line of the traces list, with what it may be asked for by
marks                                       which entries have which words and attributes
load_positions                              how far each journal segment is loaded, written in the load's transaction
"""

SCHEMA_VERSION = 6

REQUESTS = """
CREATE TABLE IF NOT EXISTS requests (
  id VARCHAR, ts TIMESTAMP, trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR, source VARCHAR,
  env VARCHAR, route VARCHAR, app VARCHAR, tier VARCHAR, release INTEGER, inline BOOLEAN, canary BOOLEAN,
  manifest VARCHAR, part_prompt VARCHAR, part_system VARCHAR, part_model VARCHAR, part_params VARCHAR,
  part_tools VARCHAR, part_schema VARCHAR, part_index VARCHAR, part_policy VARCHAR, table_revision BIGINT,
  worker VARCHAR, key_id VARCHAR, session VARCHAR, "user" VARCHAR, segment VARCHAR, stream BOOLEAN,
  requested_model VARCHAR, provider VARCHAR, served_model VARCHAR, fingerprint VARCHAR,
  outcome VARCHAR, status INTEGER, error_type VARCHAR, error_message VARCHAR,
  attempt_count INTEGER, retries INTEGER, fallback_used BOOLEAN,
  stage_queue DOUBLE, stage_preprocessing DOUBLE, stage_model DOUBLE, stage_postprocessing DOUBLE,
  duration_ms DOUBLE, ttft_ms DOUBLE,
  input_uncached BIGINT, cache_read BIGINT, cache_write BIGINT, output_text BIGINT, reasoning BIGINT,
  tokens_estimated BOOLEAN, cost_usd DOUBLE, cost_source VARCHAR,
  structured BOOLEAN, valid_first BOOLEAN, valid BOOLEAN, repairs VARCHAR[], validation_retries INTEGER,
  validation_error VARCHAR, missing_fields VARCHAR[], mismatched_fields VARCHAR[], delivered_invalid BOOLEAN,
  redaction_status VARCHAR, redaction_reason VARCHAR, redaction_secrets INTEGER, log_mode VARCHAR,
  upstream_hash VARCHAR, upstream_redacted_hash VARCHAR,
  preview_in VARCHAR USING COMPRESSION zstd, preview_out VARCHAR USING COMPRESSION zstd,
  labels MAP(VARCHAR, VARCHAR), api VARCHAR, cache VARCHAR, saved_usd DOUBLE, stream_end VARCHAR,
  limit_hits VARCHAR[], guard_hits VARCHAR[], queued_ms DOUBLE, priority VARCHAR, delayed BOOLEAN,
  validation_stages VARCHAR[], coerced_fields VARCHAR[], way VARCHAR, unlisted_fields VARCHAR[],
  own_trace_id VARCHAR, flags MAP(VARCHAR, VARCHAR), asked_model VARCHAR
)"""
# limit_hits: `name:what`, `name:what:shadow`; guard_hits: `use:at:action:found`
# own_trace_id: of a request that was alone in its trace and was put into its client's: the trace that it had before

ATTEMPTS = """
CREATE TABLE IF NOT EXISTS attempts (
  request_id VARCHAR, ts TIMESTAMP, source VARCHAR, route VARCHAR, env VARCHAR, release INTEGER, canary BOOLEAN,
  n INTEGER, kind VARCHAR, provider VARCHAR, model VARCHAR, offset_ms DOUBLE, duration_ms DOUBLE, ttft_ms DOUBLE,
  status INTEGER, error_type VARCHAR, served_model VARCHAR, fingerprint VARCHAR, response_id VARCHAR,
  finish_reason VARCHAR, input_uncached BIGINT, cache_read BIGINT, cache_write BIGINT, output_text BIGINT,
  reasoning BIGINT, tokens_estimated BOOLEAN, cost_usd DOUBLE, delivered BOOLEAN, retry_after_s DOUBLE,
  backoff_ms DOUBLE, ratelimit_limit BIGINT, ratelimit_remaining BIGINT,
  cancelled BOOLEAN, trimmed INTEGER
)"""

SPANS = """
CREATE TABLE IF NOT EXISTS spans (
  trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR, ts TIMESTAMP, duration_ms DOUBLE, name VARCHAR,
  operation VARCHAR, stage VARCHAR, env VARCHAR, app VARCHAR, route VARCHAR, session VARCHAR, "user" VARCHAR,
  provider VARCHAR, request_model VARCHAR, response_model VARCHAR, response_id VARCHAR, status VARCHAR,
  error_type VARCHAR, input_uncached BIGINT, cache_read BIGINT, cache_write BIGINT, output_text BIGINT,
  reasoning BIGINT, documents STRUCT(id VARCHAR, score DOUBLE, age_s DOUBLE)[], index_name VARCHAR,
  index_version VARCHAR, attributes MAP(VARCHAR, VARCHAR), redaction_status VARCHAR, redaction_secrets INTEGER,
  preview_in VARCHAR USING COMPRESSION zstd, preview_out VARCHAR USING COMPRESSION zstd,
  finish_reason VARCHAR, span_kind VARCHAR, dialect VARCHAR,
  release VARCHAR, ttft_ms DOUBLE, cost_usd DOUBLE, reported_cost_usd DOUBLE,
  events STRUCT(name VARCHAR, offset_ms DOUBLE, attributes MAP(VARCHAR, VARCHAR))[], request_id VARCHAR,
  counted_by VARCHAR, log_mode VARCHAR
)"""
# request_id: the gateway's request that this span is the client's side of
# counted_by: the request's id, or `trace_id/span_id` of the span, that the same call is counted by; where it says
# nothing the span counts itself. Whoever sums over spans leaves the others out

SPAN_EVENTS = """
CREATE TABLE IF NOT EXISTS span_events (
  ts TIMESTAMP, trace_id VARCHAR, span_id VARCHAR, name VARCHAR, env VARCHAR, app VARCHAR, body VARCHAR,
  attributes MAP(VARCHAR, VARCHAR), redaction_status VARCHAR, redaction_secrets INTEGER, digest UBIGINT
)"""  # digest, here and below: of all that is said but the time; with that it tells a repeated row

APP_METRICS = """
CREATE TABLE IF NOT EXISTS app_metrics (
  ts TIMESTAMP, start_us BIGINT, name VARCHAR, unit VARCHAR, type VARCHAR, temporality VARCHAR, env VARCHAR,
  app VARCHAR, value DOUBLE, count BIGINT, bounds DOUBLE[], counts BIGINT[], attributes MAP(VARCHAR, VARCHAR),
  digest UBIGINT
)"""

SCORES = """
CREATE TABLE IF NOT EXISTS scores (
  id VARCHAR, ts TIMESTAMP, request_id VARCHAR, trace_id VARCHAR, route VARCHAR, env VARCHAR, name VARCHAR,
  value DOUBLE, label VARCHAR, comment VARCHAR, source VARCHAR, span_id VARCHAR
)"""

REPEATS = """
CREATE TABLE IF NOT EXISTS repeats (ts TIMESTAMP, what VARCHAR, count BIGINT)"""

LOSSES = """
CREATE TABLE IF NOT EXISTS losses (ts TIMESTAMP, worker VARCHAR, what VARCHAR, count BIGINT, reason VARCHAR)"""

PAYLOADS = """
CREATE TABLE IF NOT EXISTS payloads (
  owner VARCHAR, ts TIMESTAMP, request VARCHAR USING COMPRESSION zstd, response VARCHAR USING COMPRESSION zstd,
  upstream VARCHAR USING COMPRESSION zstd
)"""  # owner: a request's id, or `trace_id/span_id` of a span

PAYLOAD_FILES = """
CREATE TABLE IF NOT EXISTS payload_files (
  file VARCHAR PRIMARY KEY, day DATE, route VARCHAR, since TIMESTAMP, until TIMESTAMP, count BIGINT, bytes BIGINT
)"""  # since, until: the first and the last time in the file

REMOVALS = """
CREATE TABLE IF NOT EXISTS removals (
  ts TIMESTAMP, what VARCHAR, day DATE, route VARCHAR, count BIGINT, bytes BIGINT, reason VARCHAR, told BOOLEAN
)"""

ROLLUP_MINUTE = """
CREATE TABLE IF NOT EXISTS rollup_minute (
  minute TIMESTAMP, source VARCHAR, route VARCHAR, env VARCHAR, release INTEGER, canary BOOLEAN, provider VARCHAR,
  model VARCHAR, outcome VARCHAR, error_type VARCHAR,
  requests BIGINT, attempts BIGINT, retried BIGINT, fallbacks BIGINT, structured BIGINT, valid_first BIGINT,
  valid BIGINT, with_tokens BIGINT, input_tokens BIGINT, output_tokens BIGINT, cost_usd DOUBLE, priced BIGINT,
  duration_sum DOUBLE, duration_hist BIGINT[], ttft_hist BIGINT[]
)"""  # histograms: counts per bucket of HISTOGRAM_MS, and one more for what is above the last bound

ROLLUP_HOUR = ROLLUP_MINUTE.replace("rollup_minute", "rollup_hour")  # `minute`: where the hour begins

ROLLUP_CALL_MINUTE = """
CREATE TABLE IF NOT EXISTS rollup_call_minute (
  minute TIMESTAMP, source VARCHAR, app VARCHAR, route VARCHAR, env VARCHAR, release VARCHAR, operation VARCHAR,
  provider VARCHAR, model VARCHAR, status VARCHAR,
  calls BIGINT, with_tokens BIGINT, input_tokens BIGINT, output_tokens BIGINT, priced BIGINT, cost_usd DOUBLE,
  duration_sum DOUBLE, duration_hist BIGINT[], ttft_hist BIGINT[]
)"""  # status: ok or error; a call that turned out to be counted elsewhere is taken back by a row that counts less

ROLLUP_CALL_HOUR = ROLLUP_CALL_MINUTE.replace("rollup_call_minute", "rollup_call_hour")

ENTRIES = """
CREATE TABLE IF NOT EXISTS entries (
  n BIGINT, id VARCHAR, ts TIMESTAMP, trace_id VARCHAR, own_trace_id VARCHAR, root_id VARCHAR, is_trace BOOLEAN,
  listed BOOLEAN, first TIMESTAMP, last TIMESTAMP, source VARCHAR, env VARCHAR, route VARCHAR, app VARCHAR,
  name VARCHAR, release VARCHAR, canary BOOLEAN, outcome VARCHAR, status INTEGER, error_type VARCHAR,
  error_message VARCHAR,
  model VARCHAR, requested_model VARCHAR, session VARCHAR, "user" VARCHAR, attempt_count INTEGER, span_count INTEGER,
  duration_ms DOUBLE, ttft_ms DOUBLE, input_tokens BIGINT, output_tokens BIGINT, cost_usd DOUBLE,
  preview_in VARCHAR, preview_out VARCHAR, api VARCHAR, cache VARCHAR, segment VARCHAR, key_id VARCHAR,
  models VARCHAR, providers VARCHAR, errors VARCHAR, tools VARCHAR, failed BOOLEAN, retry BOOLEAN, fallback BOOLEAN,
  guard BOOLEAN, stream BOOLEAN, documents BOOLEAN, scored BOOLEAN
)"""
# id: of the request, or of the trace; n: a number of its own, a new one whenever the entry is made anew
# first, last: from when to when its rows are; models … tools: names, each between two characters 31

ENTRIES_INDEX = "CREATE INDEX IF NOT EXISTS entries_n ON entries (n)"  # a page's rows lie far apart

MARKS = """
CREATE TABLE IF NOT EXISTS marks (mark UINTEGER, n BIGINT)"""

LOAD_POSITIONS = """
CREATE TABLE IF NOT EXISTS load_positions (
  segment VARCHAR PRIMARY KEY, loaded_bytes BIGINT, lines BIGINT, torn BIGINT, done BOOLEAN, ts TIMESTAMP
)"""

META = "CREATE TABLE IF NOT EXISTS meta (key VARCHAR PRIMARY KEY, value VARCHAR)"

TABLES = (
    REQUESTS,
    ATTEMPTS,
    SPANS,
    SPAN_EVENTS,
    APP_METRICS,
    SCORES,
    LOSSES,
    REPEATS,
    PAYLOADS,
    PAYLOAD_FILES,
    REMOVALS,
    ROLLUP_MINUTE,
    ROLLUP_HOUR,
    ROLLUP_CALL_MINUTE,
    ROLLUP_CALL_HOUR,
    ENTRIES,
    ENTRIES_INDEX,
    MARKS,
    LOAD_POSITIONS,
    META,
)

# Columns that a store of an earlier version lacks: version that brought them → table → columns. NULL in older rows.
ADDED: dict[int, dict[str, tuple[str, ...]]] = {
    2: {
        "requests": (
            *("api VARCHAR", "cache VARCHAR", "saved_usd DOUBLE", "stream_end VARCHAR", "limit_hits VARCHAR[]"),
            *("guard_hits VARCHAR[]", "queued_ms DOUBLE", "priority VARCHAR", "delayed BOOLEAN"),
            *("validation_stages VARCHAR[]", "coerced_fields VARCHAR[]", "way VARCHAR", "unlisted_fields VARCHAR[]"),
        ),
        "attempts": ("cancelled BOOLEAN", "trimmed INTEGER"),
    },
    3: {
        "spans": (
            *("finish_reason VARCHAR", "span_kind VARCHAR", "dialect VARCHAR", "release VARCHAR", "ttft_ms DOUBLE"),
            *("cost_usd DOUBLE", "reported_cost_usd DOUBLE", "request_id VARCHAR"),
            "events STRUCT(name VARCHAR, offset_ms DOUBLE, attributes MAP(VARCHAR, VARCHAR))[]",
        ),
        "scores": ("span_id VARCHAR",),
    },
    4: {
        "requests": ("own_trace_id VARCHAR",),
        "spans": ("counted_by VARCHAR", "log_mode VARCHAR"),
        "span_events": ("digest UBIGINT",),
        "app_metrics": ("digest UBIGINT",),
    },
    5: {"requests": ("flags MAP(VARCHAR, VARCHAR)",)},
    6: {"requests": ("asked_model VARCHAR",)},
}

# Upper bounds in ms: OpenTelemetry's gen_ai.client.operation.duration buckets with three steps in each, so that
# an interpolated percentile is within 10 % of the exact one.
HISTOGRAM_MS: tuple[float, ...] = tuple(round(1.25892541**i, 3) for i in range(53))
