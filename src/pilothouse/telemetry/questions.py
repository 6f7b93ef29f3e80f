"""The review's questions to the telemetry store: each one group-by over the window, all routes at once.

Parameters are named: $since and $until bound the window, $base is 28 days before it, $prior as long before it as it
lasts, all in µs. `review_traces` is a temporary table of the traces that have spans, with the routes whose requests
they hold; `review_requests` has these requests, so that only one question looks through all requests for them.
`review_scores` has the scores of window and baseline with what their requests say.
"""

# ruff: noqa: S608  # every fragment is a constant of this module; values are parameters

from pilothouse.domain.errors import INVALID_OUTPUT_CODES
from pilothouse.store.telemetry import dialect
from pilothouse.telemetry import rollups

SEMANTIC_HIT = "semantic_hit"  # a score: whether an answer from the cache by meaning fits its question
REVENUE_SCORE = "revenue"  # a score: what a request brought, in USD
NO_QUALITY = (SEMANTIC_HIT, REVENUE_SCORE)  # scores that do not say how good an answer is
PARTS = ("prompt", "system", "model", "params", "tools", "schema", "index", "policy")
BURN_SECONDS = (300, 1800, 3600, 21_600, 259_200)
_INVALID = ", ".join(f"'{code}'" for code in INVALID_OUTPUT_CODES)
_REFUSALS = "'limit_exceeded', 'budget_exceeded', 'queue_full', 'queue_timeout'"
_WINDOW = "source = 'edge' AND ts >= make_timestamp($since) AND ts < make_timestamp($until)"
_PRIOR = "source = 'edge' AND ts >= make_timestamp($prior) AND ts < make_timestamp($since)"
_QUANTILES = "[0.5, 0.95, 0.99]"
_STAGED = """(coalesce(stage_queue, 0) + coalesce(stage_preprocessing, 0) + coalesce(stage_model, 0)
    + coalesce(stage_postprocessing, 0))"""

REQUESTS = f"""
SELECT route, env, count(*) AS requests, epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us,
  count(*) FILTER (id <> '' AND trace_id <> '') AS identified,
  count(*) FILTER (NOT tokens_estimated) AS with_usage, count(input_uncached) AS with_tokens,
  count(*) FILTER (redaction_status = 'skipped' AND redaction_reason = '') AS skipped_without_reason,
  count(*) FILTER (redaction_secrets > 0) AS requests_with_secrets,
  count(*) FILTER (redaction_secrets > 0 AND redaction_status NOT IN ('redacted', 'blocked')) AS secrets_unredacted,
  coalesce(sum(redaction_secrets), 0)::BIGINT AS secrets_found,
  count(*) FILTER (structured) AS structured, count(*) FILTER (valid_first) AS valid_first,
  count(*) FILTER (valid) AS valid, count(*) FILTER (valid AND len(repairs) > 0) AS repaired,
  count(*) FILTER (validation_retries > 0) AS schema_retried,
  count(*) FILTER (structured AND (len(repairs) > 0 OR validation_retries > 0)) AS mended,
  count(*) FILTER (len(coerced_fields) > 0) AS coerced,
  coalesce(sum(cost_usd) FILTER (structured), 0) AS structured_cost,
  count(*) FILTER (delivered_invalid) AS delivered_invalid,
  sum(attempt_count)::BIGINT AS attempts_declared, count(*) FILTER (retries > 0) AS retried,
  count(*) FILTER (retries > 0 AND outcome = 'success') AS retried_recovered,
  count(*) FILTER (attempt_count > 0) AS reached_provider,
  count(*) FILTER (fallback_used AND outcome NOT IN ('failed', 'refused')) AS fallbacks,
  count(*) FILTER (outcome IN ('degraded', 'escalated')) AS degraded,
  avg(cost_usd) FILTER (fallback_used AND outcome NOT IN ('failed', 'refused')) AS fallback_cost_mean,
  avg(cost_usd) FILTER (outcome = 'success' AND NOT fallback_used) AS primary_cost_mean,
  count(cost_usd) AS priced, count(*) FILTER (cost_usd IS NULL AND input_uncached IS NOT NULL) AS unpriced,
  coalesce(sum(cost_usd), 0) AS spend, avg(cost_usd) AS cost_mean,
  quantile_cont(cost_usd, {_QUANTILES}) AS cost_quantiles,
  coalesce(sum(cost_usd) FILTER (key_id = ''), 0) AS unowned,
  coalesce(sum(cost_usd) FILTER (segment <> ''), 0) AS segmented,
  count(*) FILTER (queued_ms > 0) AS waited, coalesce(sum(queued_ms), 0) AS wait_ms,
  count(*) FILTER (queued_ms > 0 AND error_type IN ({_REFUSALS})) AS waited_in_vain,
  count(*) FILTER (error_type IN ({_REFUSALS})) AS limited,
  count(*) FILTER (delayed) AS delayed, count(*) FILTER (delayed AND outcome = 'failed') AS delayed_failed,
  count(*) FILTER (cache IN ('miss', 'hit', 'semantic')) AS cache_asked,
  count(*) FILTER (cache IN ('hit', 'semantic')) AS cache_hits, count(*) FILTER (cache = 'semantic') AS cache_semantic,
  sum(saved_usd) AS saved,
  coalesce(sum(input_uncached + cache_read + cache_write), 0)::BIGINT AS input_tokens,
  coalesce(sum(cache_read), 0)::BIGINT AS cached_tokens,
  count(cost_usd) FILTER (outcome = 'success') AS priced_success,
  count(*) FILTER ({_STAGED} >= 0.8 * duration_ms) AS accounted,
  quantile_cont(greatest(0, duration_ms - {_STAGED}), 0.5) AS unaccounted_ms
FROM requests WHERE {_WINDOW} GROUP BY route, env"""

OUTCOMES = f"""
SELECT route, env, outcome, error_type, redaction_status, count(*) AS n FROM requests WHERE {_WINDOW} GROUP BY ALL"""

MANIFESTS = f"""
SELECT route, env, manifest, release, inline, canary, count(*) AS n,
  epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us,
  {", ".join(f"max(part_{part}) AS {part}" for part in PARTS)},
  {", ".join(f"count(*) FILTER (coalesce(part_{part}, '') = '') AS missing_{part}" for part in PARTS)}
FROM requests WHERE {_WINDOW} GROUP BY route, env, manifest, release, inline, canary
ORDER BY n DESC, inline, release DESC, manifest"""

MODELS = """
SELECT * FROM (SELECT route, env, provider, model, served_model, fingerprint, kind = 'fallback' AS fallback,
  count(*) FILTER (ts >= make_timestamp($since) AND ts < make_timestamp($until)) AS n,
  epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us
FROM attempts WHERE source = 'edge' AND delivered GROUP BY ALL)
WHERE n > 0 ORDER BY n DESC"""

LATENCY = f"""
SELECT route, env, {rollups.REQUEST_MODEL} AS model, count(*) AS n,
  quantile_cont(duration_ms, {_QUANTILES}) AS duration,
  count(ttft_ms) AS ttft_n, quantile_cont(ttft_ms, {_QUANTILES}) AS ttft
FROM requests WHERE {_WINDOW} GROUP BY ALL ORDER BY n DESC"""

# An answered attempt is one that brought a model's output, whether it was used or not.
PROVIDERS = f"""
SELECT route, env, provider, sum(n)::BIGINT AS attempts, sum(limited)::BIGINT AS rate_limited,
  sum(timeouts)::BIGINT AS timeouts, min(headroom) AS headroom, sum(reported)::BIGINT AS reported,
  sum(answered)::BIGINT AS answered, sum(undelivered) AS undelivered, sum(invalid_cost) AS invalid_cost,
  arg_max([n, limited], limited / n) FILTER (n >= 30) AS worst_hour
FROM (
  SELECT route, env, provider, epoch_us(ts) // 3600000000 AS hour, count(*) AS n,
    count(*) FILTER (status = 429) AS limited, count(*) FILTER (error_type LIKE 'timeout%') AS timeouts,
    min(ratelimit_remaining / nullif(ratelimit_limit, 0)) AS headroom,
    count(*) FILTER (status BETWEEN 200 AND 299 AND NOT tokens_estimated) AS reported,
    count(*) FILTER (status BETWEEN 200 AND 299 AND error_type IN ('', {_INVALID})) AS answered,
    sum(cost_usd) FILTER (NOT delivered) AS undelivered,
    sum(cost_usd) FILTER (error_type IN ({_INVALID})) AS invalid_cost
  FROM attempts WHERE {_WINDOW} GROUP BY ALL)
GROUP BY route, env, provider ORDER BY attempts DESC"""

PROVIDER_ERRORS = f"""
SELECT route, env, provider, error_type, count(*) AS n FROM attempts
WHERE {_WINDOW} AND error_type <> '' GROUP BY ALL ORDER BY count(*) DESC"""

FIELDS = f"""
SELECT route, env, what, field, count(*) AS n FROM (
  SELECT route, env, 'missing' AS what, unnest(list_distinct(missing_fields)) AS field FROM requests
  WHERE {_WINDOW} AND len(missing_fields) > 0
  UNION ALL SELECT route, env, 'mismatched', unnest(list_distinct(mismatched_fields)) FROM requests
  WHERE {_WINDOW} AND len(mismatched_fields) > 0
  UNION ALL SELECT route, env, 'unlisted', unnest(list_distinct(unlisted_fields)) FROM requests
  WHERE {_WINDOW} AND len(unlisted_fields) > 0
  UNION ALL SELECT route, env, 'error', validation_error FROM requests
  WHERE {_WINDOW} AND structured AND NOT valid AND validation_error <> '')
GROUP BY ALL ORDER BY n DESC"""

UNLISTED_BEFORE = """
SELECT DISTINCT route, env, unnest(unlisted_fields) AS field FROM requests
WHERE source = 'edge' AND ts >= make_timestamp($base) AND ts < make_timestamp($since) AND len(unlisted_fields) > 0"""

KINDS = f"""
SELECT route, env, kind, count(*) AS n, count(*) FILTER (cancelled) AS cancelled FROM attempts
WHERE {_WINDOW} GROUP BY ALL ORDER BY count(*) DESC"""

WAYS = """
SELECT route, env, way, count(*) FILTER (ts >= make_timestamp($since)) AS n, epoch_us(max(ts)) AS last_us
FROM requests WHERE source = 'edge' AND way <> '' AND outcome NOT IN ('failed', 'refused')
  AND ts >= make_timestamp($until - 90 * 86400000000) AND ts < make_timestamp($until)
GROUP BY ALL ORDER BY n DESC"""

LIMIT_HITS = f"""
SELECT route, env, hit, count(*) AS n FROM (
  SELECT route, env, unnest(list_distinct(limit_hits)) AS hit FROM requests WHERE {_WINDOW} AND len(limit_hits) > 0)
GROUP BY ALL ORDER BY n DESC"""

# How many wait at once: each adds one when it comes, and takes it off when its wait is over.
QUEUE = f"""
WITH waiting AS (
  SELECT route, env, epoch_us(ts)::DOUBLE AS came, queued_ms FROM requests WHERE {_WINDOW} AND queued_ms > 0),
steps AS (
  SELECT route, env, came AS moment, 1 AS step FROM waiting
  UNION ALL SELECT route, env, came + queued_ms * 1000, -1 FROM waiting),
depths AS (
  SELECT route, env, sum(step) OVER (PARTITION BY route, env ORDER BY moment, step ROWS UNBOUNDED PRECEDING) AS depth
  FROM steps)
SELECT d.route, d.env, max(depth)::BIGINT AS peak, any_value(p95) AS p95 FROM depths d
JOIN (SELECT route, env, quantile_cont(queued_ms, 0.95) AS p95 FROM waiting GROUP BY ALL) w USING (route, env)
GROUP BY d.route, d.env"""

BUSY = f"""
SELECT route, env, max(busy) AS busy, max(n) AS arrivals FROM (
  SELECT route, env, epoch_us(ts) // 3600000000 AS hour, count(*) AS n,
    sum(duration_ms - coalesce(queued_ms, 0)) / 3600000 AS busy
  FROM requests WHERE {_WINDOW} GROUP BY ALL)
GROUP BY route, env"""

KEYS = f"""
SELECT route, env, key_id, count(*) AS n, coalesce(sum(cost_usd), 0) AS cost FROM requests
WHERE {_WINDOW} AND key_id <> '' GROUP BY route, env, key_id
QUALIFY row_number() OVER (PARTITION BY route, env ORDER BY cost DESC, key_id) <= 10 ORDER BY cost DESC"""

SEGMENTS = f"""
SELECT route, env, segment, count(*) AS n, coalesce(sum(cost_usd), 0) AS cost,
  count(*) FILTER (outcome = 'success') AS success
FROM requests WHERE {_WINDOW} GROUP BY route, env, segment
QUALIFY row_number() OVER (PARTITION BY route, env ORDER BY cost DESC, segment) <= 10 ORDER BY cost DESC"""

CONTEXTS = f"""
SELECT route, env, provider, model, count(*) AS n, avg(tokens) AS mean, quantile_cont(tokens, 0.95) AS p95
FROM (SELECT *, input_uncached + cache_read + cache_write AS tokens FROM attempts WHERE {_WINDOW} AND delivered)
WHERE tokens IS NOT NULL GROUP BY route, env, provider, model ORDER BY count(*) DESC"""

CACHE_BEFORE = """
SELECT route, env, count(*) FILTER (cache IN ('miss', 'hit', 'semantic')) AS asked,
  count(*) FILTER (cache IN ('hit', 'semantic')) AS hits,
  coalesce(sum(input_uncached + cache_read + cache_write), 0)::BIGINT AS input_tokens,
  coalesce(sum(cache_read), 0)::BIGINT AS cached_tokens
FROM requests WHERE source = 'edge' AND ts >= make_timestamp($base) AND ts < make_timestamp($since)
GROUP BY route, env"""

# A score that names no route is of its request's.
REVIEW_SCORES = """
CREATE OR REPLACE TEMP TABLE review_scores AS
SELECT coalesce(nullif(s.route, ''), q.route, '') AS route, coalesce(nullif(s.env, ''), q.env, '') AS env, s.name,
  s.value, s.request_id, s.ts >= make_timestamp($since) AS recent, q.fallback_used, q.outcome, q.cache, q.segment,
  q.cost_usd, q.ts >= make_timestamp($since) AS of_window
FROM scores s LEFT JOIN (
  SELECT id, ts, route, env, fallback_used, outcome, cache, segment, cost_usd FROM requests
  WHERE source = 'edge' AND ts >= make_timestamp($base) AND ts < make_timestamp($until)
    AND id IN (SELECT request_id FROM scores WHERE ts >= make_timestamp($base) AND ts < make_timestamp($until))) q
  ON q.id = s.request_id
WHERE s.ts >= make_timestamp($base) AND s.ts < make_timestamp($until)"""

SCORES = """
SELECT route, env, name, avg(value) AS mean, count(*) AS n,
  avg(value) FILTER (of_window AND fallback_used) AS fallback_mean,
  count(*) FILTER (of_window AND fallback_used) AS fallback_n,
  avg(value) FILTER (of_window AND NOT fallback_used) AS primary_mean,
  count(*) FILTER (of_window AND NOT fallback_used) AS primary_n
FROM review_scores WHERE recent GROUP BY ALL"""

JUDGED = f"""
SELECT route, env, count(*) FILTER (of_window) AS judged, count(*) FILTER (of_window AND good) AS good,
  count(*) FILTER (NOT of_window) AS judged_before, count(*) FILTER (NOT of_window AND good) AS good_before
FROM (SELECT route, env, request_id, any_value(of_window) AS of_window, avg(value) >= 0.5 AS good FROM review_scores
      WHERE outcome = 'success' AND name NOT IN ({", ".join(f"'{name}'" for name in NO_QUALITY)})
      GROUP BY route, env, request_id)
GROUP BY route, env"""

SEMANTIC = f"""
SELECT route, env, count(*) AS judged, count(*) FILTER (NOT good) AS wrong
FROM (SELECT route, env, request_id, avg(value) >= 0.5 AS good FROM review_scores
      WHERE cache = 'semantic' AND name = '{SEMANTIC_HIT}' GROUP BY route, env, request_id)
GROUP BY route, env"""

REVENUE = f"""
SELECT route, env, segment, sum(revenue) AS revenue, coalesce(sum(cost), 0) AS cost
FROM (SELECT route, env, coalesce(segment, '') AS segment, request_id, sum(value) AS revenue,
        any_value(cost_usd) AS cost
      FROM review_scores WHERE of_window AND name = '{REVENUE_SCORE}' GROUP BY ALL)
GROUP BY ALL"""

BURN = f"""
SELECT route, env, w.seconds, sum(requests)::BIGINT AS total,
  coalesce(sum(requests) FILTER (outcome = 'failed'), 0)::BIGINT AS failed, {dialect.merged("duration_hist")} AS hist
FROM rollup_minute JOIN (SELECT unnest({list(BURN_SECONDS)})::BIGINT AS seconds) w
  ON minute >= make_timestamp($until - w.seconds * 1000000)
WHERE source = 'edge' AND minute < make_timestamp($until)
  AND minute >= make_timestamp($until - {max(BURN_SECONDS) * 1_000_000})
GROUP BY ALL ORDER BY seconds"""

DAYS = f"""
SELECT route, env, epoch_us(minute) // 86400000000 * 86400000000 AS start_us, sum(requests)::BIGINT AS requests,
  coalesce(sum(requests) FILTER (outcome = 'success'), 0)::BIGINT AS success,
  coalesce(sum(requests) FILTER (outcome = 'failed'), 0)::BIGINT AS failed,
  {", ".join(f"sum({name})::BIGINT AS {name}" for name in
    ("fallbacks", "structured", "valid_first", "with_tokens", "input_tokens", "output_tokens", "priced"))},
  sum(cost_usd) AS cost
FROM rollup_minute WHERE source = 'edge' AND minute < make_timestamp($until)
  AND minute >= make_timestamp($until - 35 * 86400000000)
GROUP BY ALL ORDER BY start_us"""  # fmt: skip

# Hours of the week are counted from the epoch, a Thursday: any fixed origin serves to match like with like.
COST_BASELINE = """
WITH hourly AS (
  SELECT route, env, epoch_us(minute) // 3600000000 AS hour, sum(cost_usd) AS cost, sum(priced) AS priced,
    sum(requests) AS requests, sum(priced) FILTER (outcome = 'success') AS priced_success,
    minute < make_timestamp($since) AS before
  FROM rollup_minute WHERE source = 'edge' AND minute >= make_timestamp($base) AND minute < make_timestamp($until)
  GROUP BY ALL),
usual AS (
  SELECT route, env, hour % 168 AS slot, median(cost / priced) AS mean FROM hourly
  WHERE before AND priced > 0 GROUP BY ALL),
expected AS (
  SELECT h.route, h.env, sum(u.mean * h.priced) / sum(h.priced) AS mean FROM hourly h
  JOIN usual u ON u.route = h.route AND u.env = h.env AND u.slot = h.hour % 168
  WHERE NOT h.before AND h.priced > 0 GROUP BY ALL)
SELECT h.route, h.env, any_value(e.mean) AS mean, sum(h.requests)::BIGINT AS requests,
  sum(h.cost) / nullif(sum(h.priced_success), 0) AS per_success
FROM hourly h LEFT JOIN expected e ON e.route = h.route AND e.env = h.env WHERE h.before GROUP BY h.route, h.env"""

# A trace without spans is its gateway request alone: that request's own stages account for it.
ANY_DUPLICATE = f"""
SELECT coalesce(sum(copies - 1), 0)::BIGINT AS n
FROM (SELECT count(*) AS copies FROM requests WHERE {_WINDOW} GROUP BY hash(id))"""

DUPLICATES = f"""
SELECT route, env, count(*) AS n FROM (
  SELECT route, env, row_number() OVER (PARTITION BY hash(id) ORDER BY ts) AS nth FROM requests WHERE {_WINDOW})
WHERE nth > 1 GROUP BY ALL"""

_WORKFLOWS = """
SELECT route, env, count(*) AS traces, count(*) FILTER (priced) AS priced, avg(cost) FILTER (priced) AS cost_mean,
  quantile_cont(cost, 0.95) FILTER (priced) AS cost_p95, avg(steps) AS steps_mean,
  quantile_cont(steps, 0.95) AS steps_p95
FROM (SELECT route, env, hash(trace_id) AS trace, sum(cost_usd) AS cost, count(cost_usd) = count(*) AS priced,
        count(*) AS steps
      FROM requests WHERE {} GROUP BY ALL)
GROUP BY route, env"""
WORKFLOWS = _WORKFLOWS.format(_WINDOW)
WORKFLOWS_BEFORE = _WORKFLOWS.format(_PRIOR)

COST_BEFORE = f"""
SELECT route, env, count(cost_usd) AS priced, quantile_cont(cost_usd, 0.95) AS p95 FROM requests
WHERE {_PRIOR} GROUP BY route, env"""

REVIEW_REQUESTS = f"""
CREATE OR REPLACE TEMP TABLE review_requests AS
SELECT trace_id, span_id, route, env, outcome, ts, duration_ms, {_STAGED} >= 0.8 * duration_ms AS accounted
FROM requests
WHERE source = 'edge' AND ts >= make_timestamp($base) AND ts < make_timestamp($until)
  AND trace_id IN (SELECT trace_id FROM spans WHERE ts >= make_timestamp($base) AND ts < make_timestamp($until))"""

REVIEW_TRACES = """
CREATE OR REPLACE TEMP TABLE review_traces AS
SELECT trace_id, route, env, bool_and(outcome = 'success') AS good, max(ts) >= make_timestamp($since) AS recent
FROM review_requests GROUP BY trace_id, route, env"""

# A trace without spans is its gateway request alone: that request's own stages account for it.
SPANNED = """
SELECT route, env, count(*) AS requests, count(*) FILTER (accounted) AS accounted FROM review_requests
WHERE ts >= make_timestamp($since) GROUP BY route, env"""

# The time that spans with a stage and gateway requests cover, as a union of intervals, of the trace's whole extent.
STAGED = """
WITH traced AS (SELECT DISTINCT trace_id FROM review_traces WHERE recent),
bars AS (
  SELECT trace_id, epoch_us(ts)::DOUBLE AS a, epoch_us(ts) + duration_ms * 1000 AS b, stage <> '' AS staged
  FROM spans SEMI JOIN traced USING (trace_id)
  UNION ALL SELECT trace_id, epoch_us(ts)::DOUBLE, epoch_us(ts) + duration_ms * 1000, true
  FROM review_requests SEMI JOIN traced USING (trace_id)),
covered AS (
  SELECT trace_id, a, b, staged, max(b) FILTER (staged) OVER (
    PARTITION BY trace_id ORDER BY a ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached FROM bars),
trace AS (
  SELECT trace_id, max(b) - min(a) AS whole,
    coalesce(sum(greatest(0, b - greatest(a, coalesce(reached, a)))) FILTER (staged), 0) AS staged
  FROM covered GROUP BY trace_id)
SELECT t.route, t.env, count(*) AS traces, count(*) FILTER (staged >= 0.8 * whole) AS accounted,
  quantile_cont(greatest(0, whole - staged) / 1000, 0.5) AS unaccounted_ms
FROM review_traces t JOIN trace USING (trace_id) WHERE t.recent GROUP BY t.route, t.env"""

ORPHANS = """
WITH traced AS (SELECT DISTINCT trace_id FROM review_traces WHERE recent),
own AS (SELECT trace_id, span_id, parent_span_id FROM spans SEMI JOIN traced USING (trace_id)),
lost AS (
  SELECT trace_id, span_id FROM own c WHERE parent_span_id <> ''
    AND NOT EXISTS (SELECT 1 FROM own p WHERE p.trace_id = c.trace_id AND p.span_id = c.parent_span_id)
    AND NOT EXISTS (SELECT 1 FROM review_requests q WHERE q.trace_id = c.trace_id AND q.span_id = c.parent_span_id))
SELECT t.route, t.env, count(*) AS spans, count(lost.span_id) AS orphans
FROM review_traces t JOIN own USING (trace_id) LEFT JOIN lost ON lost.trace_id = own.trace_id
  AND lost.span_id = own.span_id
WHERE t.recent GROUP BY t.route, t.env"""

_RETRIEVALS = """
found AS (
  SELECT t.route, t.env, t.good, s.ts >= make_timestamp($since) AS recent, len(s.documents) = 0 AS empty,
    list_max(list_transform(s.documents, lambda d: d.score)) AS top, s.documents[1].age_s AS age,
    s.index_name, s.index_version, s.ts
  FROM spans s JOIN review_traces t USING (trace_id)
  WHERE s.documents IS NOT NULL AND s.ts >= make_timestamp($base) AND s.ts < make_timestamp($until))"""

RETRIEVALS = f"""
WITH {_RETRIEVALS},
tau AS (SELECT route, env, quantile_cont(top, 0.05) AS tau FROM found WHERE good GROUP BY route, env)
SELECT f.route, f.env, any_value(tau) AS tau, count(*) FILTER (recent) AS retrievals,
  count(*) FILTER (recent AND empty) AS no_result, count(top) FILTER (recent) AS scored,
  count(*) FILTER (recent AND top < tau) AS low_confidence, count(*) FILTER (NOT recent) AS baseline_retrievals,
  count(*) FILTER (NOT recent AND empty) AS baseline_no_result,
  quantile_cont(top, 0.5) FILTER (recent) AS top_score_p50, quantile_cont(age, 0.95) FILTER (recent) AS age_s_p95
FROM found f LEFT JOIN tau USING (route, env) GROUP BY f.route, f.env"""

INDEXES = f"""
WITH {_RETRIEVALS}
SELECT route, env, index_name AS name, index_version AS version, count(*) AS n,
  epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us
FROM found WHERE recent GROUP BY ALL ORDER BY n DESC"""

REPEATS = """
SELECT route, env, sum(n)::BIGINT AS documents, sum(n - kinds)::BIGINT AS repeated FROM (
  SELECT route, env, trace_id, count(*) AS n, count(DISTINCT id) AS kinds FROM (
    SELECT t.route, t.env, trace_id, unnest(s.documents).id AS id
    FROM spans s JOIN review_traces t USING (trace_id)
    WHERE t.recent AND len(s.documents) > 0 AND s.ts >= make_timestamp($since) AND s.ts < make_timestamp($until))
  WHERE id <> '' GROUP BY route, env, trace_id)
GROUP BY route, env"""

LOSSES = """
SELECT what, sum(count)::BIGINT AS n FROM losses
WHERE ts >= make_timestamp($since) AND ts < make_timestamp($until) GROUP BY what"""
