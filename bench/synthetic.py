"""Synthetic telemetry, straight into DuckDB: for budgets over a million requests, without a million requests.

    python bench/synthetic.py DATA/telemetry.duckdb --requests 1000000 --routes 10 --days 7

Deterministic: every value is a hash of the row's number. Routes `route-0` … in prod; odd ones return JSON for a schema,
every third one retrieves documents; 2 % of attempts fail, 1 % of requests fail, 1.5 % are served by a fallback, 1 %
wait for a limit.
"""

import argparse
import sys
import time
from pathlib import Path

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import backfill, entries, marks, rollups

PARTS = ("prompt", "system", "model", "params", "tools", "schema", "index", "policy")

MACROS = (
    "CREATE OR REPLACE TEMP MACRO u(i, k) AS hash(i * 64 + k) / 18446744073709551616.0",
    "CREATE OR REPLACE TEMP MACRO word(i, k) AS lpad(lower(to_hex(hash(i * 64 + k))), 16, '0')",
    """CREATE OR REPLACE TEMP MACRO hex(i, k, n) AS
    left(word(i, k) || word(i, k + 1) || word(i, k + 2) || word(i, k + 3), n)""",
    "CREATE OR REPLACE TEMP MACRO ms_hex(us) AS lpad(lower(to_hex(us // 1000)), 12, '0')",
    """CREATE OR REPLACE TEMP MACRO uuid(us, i) AS left(ms_hex(us), 8) || '-' || right(ms_hex(us), 4) || '-7' ||
    hex(i, 1, 3) || '-8' || hex(i, 2, 3) || '-' || hex(i, 3, 12)
    """,
)

_RAW = """
CREATE OR REPLACE TEMP TABLE raw AS
SELECT i, first_us + (i * span_us // requests) AS us, (hash(i * 64) % routes)::INTEGER AS r,
  u(i, 5) < 0.01 AS failed, u(i, 6) < 0.015 AS fell, u(i, 7) < 0.03 AS retried, u(i, 8) AS canary_draw,
  exp(6.5 + 0.6 * sqrt(-2 * ln(u(i, 9) + 1e-12)) * cos(6.2831853 * u(i, 10))) AS ms,
  (200 + 1500 * u(i, 11))::BIGINT AS input, (20 + 400 * u(i, 12))::BIGINT AS output, u(i, 13) AS valid_draw
FROM (SELECT unnest(range(?::BIGINT)) AS i, ?::BIGINT AS first_us, ?::BIGINT AS span_us, ?::BIGINT AS requests,
  ?::INTEGER AS routes)"""

_REQUESTS = f"""
INSERT INTO requests BY NAME
SELECT uuid(us, i) AS id, make_timestamp(us) AS ts, hex(i, 20, 32) AS trace_id, hex(i, 24, 16) AS span_id,
  CASE WHEN r % 3 = 0 THEN hex(i, 40, 16) ELSE '' END AS parent_span_id, 'edge' AS source, 'prod' AS env,
  'route-' || r AS route, 'app' AS app, 'standard' AS tier, 3 + (canary_draw < 0.05)::INTEGER AS release,
  false AS inline, canary_draw < 0.05 AS canary, sha256('manifest' || r || (canary_draw < 0.05)) AS manifest,
  {", ".join(f"sha256('{part}' || r) AS part_{part}" for part in PARTS)},
  7 AS table_revision, 'edge-' || i % 2 AS worker, 'key' || lpad((i % 37)::VARCHAR, 5, '0') AS key_id,
  hex(i // 5, 28, 16) AS session, '' AS "user",
  ['eu', 'us', 'asia', ''][1 + i % 4] AS segment, i % 4 = 0 AS stream, 'route-' || r AS requested_model,
  CASE WHEN fell THEN 'backup' ELSE 'openai' END AS provider,
  CASE WHEN fell THEN 'small-2' ELSE 'mini-2026-08-07' END AS served_model,
  'fp_' || (i * 3 // (?::BIGINT)) AS fingerprint,
  CASE WHEN failed THEN 'failed' WHEN fell THEN 'fallback' ELSE 'success' END AS outcome,
  CASE WHEN failed THEN 502 ELSE 200 END AS status,
  CASE WHEN failed THEN CASE i % 3 WHEN 0 THEN 'timeout' WHEN 1 THEN 'server_error' ELSE 'rate_limit' END
    ELSE '' END AS error_type, '' AS error_message,
  1 + (retried OR failed)::INTEGER + fell::INTEGER AS attempt_count, (retried OR failed)::INTEGER AS retries,
  fell AS fallback_used, 0.05 AS stage_queue, 0.4 AS stage_preprocessing, ms AS stage_model,
  0.2 AS stage_postprocessing,
  ms + 0.8 AS duration_ms, CASE WHEN i % 4 = 0 THEN ms * 0.3 END AS ttft_ms,
  CASE WHEN NOT failed THEN input END AS input_uncached, CASE WHEN NOT failed THEN 0 END AS cache_read,
  CASE WHEN NOT failed THEN 0 END AS cache_write, CASE WHEN NOT failed THEN output END AS output_text,
  CASE WHEN NOT failed THEN 0 END AS reasoning, CASE WHEN NOT failed THEN i % 200 = 0 END AS tokens_estimated,
  CASE WHEN NOT failed THEN input * 2.5e-7 + output * 2e-6 END AS cost_usd, 'genai-prices' AS cost_source,
  r % 2 = 1 AND NOT failed AS structured,
  CASE WHEN r % 2 = 1 AND NOT failed THEN valid_draw > 0.02 END AS valid_first,
  CASE WHEN r % 2 = 1 AND NOT failed THEN valid_draw > 0.004 END AS valid,
  CASE WHEN r % 2 = 1 AND NOT failed AND valid_draw <= 0.02 THEN ['trailing_comma'] ELSE [] END AS repairs,
  CASE WHEN r % 2 = 1 AND NOT failed THEN 0 END AS validation_retries, '' AS validation_error,
  CASE WHEN r % 2 = 1 AND valid_draw <= 0.002 THEN ['/answer'] ELSE [] END AS missing_fields,
  CASE WHEN r % 2 = 1 AND valid_draw BETWEEN 0.002 AND 0.004 THEN ['/severity'] ELSE [] END AS mismatched_fields,
  CASE WHEN r % 2 = 1 AND NOT failed THEN false END AS delivered_invalid,
  CASE WHEN u(i, 14) < 0.02 THEN 'redacted' ELSE 'clean' END AS redaction_status, '' AS redaction_reason,
  0 AS redaction_secrets, 'redacted' AS log_mode, hex(i, 32, 64) AS upstream_hash, '' AS upstream_redacted_hash,
  'Question number ' || i AS preview_in, 'Answer number ' || i AS preview_out, MAP {{}} AS labels, 'chat' AS api,
  CASE WHEN r % 4 = 0 THEN 'miss' ELSE '' END AS cache, CASE WHEN i % 4 = 0 THEN 'complete' ELSE '' END AS stream_end,
  CASE WHEN i % 500 = 0 THEN ['slots:concurrency'] ELSE [] END AS limit_hits,
  CASE WHEN i % 700 = 0 THEN ['pii:output:mask:email'] ELSE [] END AS guard_hits,
  CASE WHEN u(i, 21) < 0.01 THEN 2000 * u(i, 22) ELSE 0 END AS queued_ms, '' AS priority, false AS delayed,
  CASE WHEN fell THEN 'model' ELSE '' END AS way,
  CASE WHEN r % 2 = 1 AND valid_draw BETWEEN 0.002 AND 0.004 THEN ['/severity'] ELSE [] END AS unlisted_fields,
  CASE WHEN r % 2 = 1 AND valid_draw BETWEEN 0.004 AND 0.006 THEN ['/n'] ELSE [] END AS coerced_fields
FROM raw"""

_ATTEMPTS = """
INSERT INTO attempts BY NAME
SELECT request_id, ts, 'edge' AS source, route, env, release, canary, n,
  CASE WHEN n = 1 THEN 'primary' WHEN n = total AND fell THEN 'fallback' ELSE 'retry' END AS kind,
  CASE WHEN n = total AND fell THEN 'backup' ELSE 'openai' END AS provider,
  CASE WHEN n = total AND fell THEN 'small-2' ELSE 'mini-2026-08-07' END AS model,
  (n - 1) * 100.0 AS offset_ms, duration_ms, ttft_ms,
  CASE WHEN bad THEN [0, 503, 429][1 + i % 3] ELSE 200 END::INTEGER AS status,
  CASE WHEN bad THEN ['timeout', 'server_error', 'rate_limit'][1 + i % 3] ELSE '' END AS error_type,
  CASE WHEN n = total AND fell THEN 'small-2' ELSE 'mini-2026-08-07' END AS served_model, fingerprint,
  '' AS response_id, 'stop' AS finish_reason, CASE WHEN NOT bad THEN input_uncached END AS input_uncached,
  CASE WHEN NOT bad THEN 0 END AS cache_read, CASE WHEN NOT bad THEN 0 END AS cache_write,
  CASE WHEN NOT bad THEN output_text END AS output_text, CASE WHEN NOT bad THEN 0 END AS reasoning,
  CASE WHEN NOT bad THEN tokens_estimated END AS tokens_estimated, CASE WHEN NOT bad THEN cost_usd END AS cost_usd,
  NOT bad AND n = total AS delivered, NULL::DOUBLE AS retry_after_s,
  CASE WHEN n > 1 THEN 250.0 ELSE 0 END AS backoff_ms,
  1000 AS ratelimit_limit, (300 + hash(i) % 700)::BIGINT AS ratelimit_remaining
FROM (SELECT *, n < total OR outcome = 'failed' AS bad FROM (
  SELECT q.id AS request_id, q.*, raw.i, raw.fell, q.attempt_count AS total, unnest(range(1, q.attempt_count + 1)) AS n
  FROM requests q JOIN raw ON q.id = uuid(raw.us, raw.i)))"""

_SPANS = """
INSERT INTO spans BY NAME
SELECT trace_id, hex(i, k, 16) AS span_id, CASE WHEN part = 0 THEN '' ELSE hex(i, 40, 16) END AS parent_span_id,
  make_timestamp(us + CASE part WHEN 0 THEN -60000 WHEN 1 THEN -55000 ELSE -50000 END) AS ts,
  CASE part WHEN 0 THEN 70.0 + ms ELSE 4.0 + 40.0 * (part - 1) END AS duration_ms,
  ['invoke_workflow answer', 'embed', 'retrieval docs'][part + 1] AS name,
  ['invoke_workflow', 'embeddings', 'retrieval'][part + 1] AS operation,
  ['', 'preprocessing', 'retrieval'][part + 1] AS stage,
  'prod' AS env, 'app' AS app, '' AS route, '' AS session, '' AS "user", '' AS provider, '' AS request_model,
  '' AS response_model, '' AS response_id, 'ok' AS status, '' AS error_type,
  CASE WHEN part = 2 THEN CASE WHEN u(i, 15) < 0.02 THEN [] ELSE
    [{'id': 'doc-' || (i % 500), 'score': 0.4 + 0.6 * u(i, 16), 'age_s': 86400 * u(i, 17)}] END END AS documents,
  CASE WHEN part = 2 THEN 'docs' ELSE '' END AS index_name, CASE WHEN part = 2 THEN 'v3' ELSE '' END AS index_version,
  MAP {} AS attributes, 'clean' AS redaction_status, 0 AS redaction_secrets, '' AS preview_in, '' AS preview_out
FROM (SELECT raw.*, hex(i, 20, 32) AS trace_id, part, 40 + part AS k FROM raw, (SELECT unnest([0, 1, 2]) AS part)
  WHERE r % 3 = 0 AND u(i, 18) < ?::DOUBLE)"""

_SCORES = """
INSERT INTO scores BY NAME
SELECT 'score-' || i AS id, make_timestamp(us + 5000000) AS ts, uuid(us, i) AS request_id, '' AS trace_id,
  'route-' || r AS route, 'prod' AS env, 'thumbs' AS name, (u(i, 19) > 0.15)::DOUBLE AS value, '' AS label,
  '' AS comment, 'feedback' AS source
FROM raw WHERE u(i, 20) < 0.01"""

_PAYLOADS = """
INSERT INTO payloads
SELECT uuid(us, i), make_timestamp(us), '{"messages":[{"role":"user","content":"Question number ' || i || '"}]}',
  'Answer number ' || i, '' FROM raw WHERE i % ?::BIGINT = 0"""


def generate(
    store: TelemetryStore,
    *,
    requests: int = 1_000_000,
    routes: int = 10,
    until_us: int,
    days: float = 7,
    spans_share: float = 0.2,
    payload_every: int = 100,
) -> None:
    """Fill an empty store with `requests` requests evenly over the `days` before `until_us`, and what hangs on them."""
    span_us = int(days * 86_400e6)
    with store.writer() as write:
        write.execute("SET memory_limit = '3GB'")  # all of it at once, as no load is
        for macro in MACROS:
            write.execute(macro)
        write.execute(_RAW, [requests, until_us - span_us, span_us, requests, routes])
        with store.transaction():
            write.execute(_REQUESTS, [requests])
            write.execute(_ATTEMPTS)
            write.execute(_SPANS, [spans_share])
            write.execute(_SCORES)
            write.execute(_PAYLOADS, [payload_every])
            rollups.add(write, "requests")
            rollups.add_spans(write, "spans")
            entries.add(store, write, {"request": "requests", "span": "spans"})
            known = [backfill.COUNTED, backfill.MARKED, str(marks.VERSION)]
            write.execute("INSERT OR REPLACE INTO meta VALUES (?, '1'), (?, ?)", known)
        write.execute("DROP TABLE raw")
    while marks.seal(store):
        pass
    rollups.compact(store, 0, until_us + 1)
    store.checkpoint()


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--routes", type=int, default=10)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--until-us", type=int, default=time.time_ns() // 1_000)
    asked = parser.parse_args()
    began = time.perf_counter()
    store = TelemetryStore(asked.store)
    generate(store, requests=asked.requests, routes=asked.routes, until_us=asked.until_us, days=asked.days)
    store.close()
    print(f"{asked.requests:,} requests on {asked.routes} routes in {time.perf_counter() - began:.1f} s: {asked.store}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
