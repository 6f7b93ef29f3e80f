"""Millions of spans, straight into DuckDB: for the questions of a big store, without sending it.

    python -m bench.span_store DATA/telemetry.duckdb --spans 5000000 --days 8

Deterministic: every value is a hash of the row's number. Traces have ten spans each: an agent, a step before, an
embedding, a retrieval, three calls of models, two tools, a step after. Words are drawn by Zipf's law; 3 % of traces
fail; of the attributes some are everywhere, some rare, some of one span alone. Besides them, requests of the gateway
by `bench.synthetic`, a part with spans of their own.
"""

import argparse
import sys
import time
from pathlib import Path

from bench import synthetic
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import entries, marks, rollups

PER_TRACE = 10
SLICE = 25_000  # traces at once
TEXTS = 50_000

_TEXTS = """
CREATE OR REPLACE TEMP TABLE texts AS
SELECT n, left(array_to_string(
  list_transform(range(28), lambda k: spelt(exp(8.98 * u(n * 64 + k, 1))::BIGINT)), ' '), 180) AS text
FROM range(?::BIGINT) t(n)"""
_SPELT = """CREATE OR REPLACE TEMP MACRO spelt(rank) AS
left(translate(hash(rank)::VARCHAR, '0123456789', 'etaoinshrd'), 3 + (hash(rank) % 6)::INTEGER)"""

_TRACES = """
CREATE OR REPLACE TEMP TABLE traces AS
SELECT i, first_us + (i * span_us // traces) AS us, hex(i, 30, 32) AS trace_id, (hash(i * 64 + 40) % 8)::INTEGER AS r,
  u(i, 41) < 0.03 AS failed, (800 + 4000 * u(i, 42) * u(i, 43))::BIGINT AS ms,
  'session-' || hash(i * 64 + 44) % 60000 AS session, 'user-' || hash(i * 64 + 45) % 9000 AS "user",
  ['gpt-4o-mini', 'gpt-4o', 'claude-sonnet-4', 'gemini-2.5-flash', 'gpt-4.1', 'mistral-small'][
    1 + (6 * u(i, 46) * u(i, 46))::INTEGER % 6] AS model,
  ['openai', 'openai', 'anthropic', 'google', 'openai', 'mistral'][1 + (6 * u(i, 46) * u(i, 46))::INTEGER % 6]
    AS provider,
  a.text AS question, b.text AS answer
FROM (SELECT unnest(range(?::BIGINT, ?::BIGINT)) AS i, ?::BIGINT AS first_us, ?::BIGINT AS span_us, ?::BIGINT AS traces)
JOIN texts a ON a.n = hash(i * 64 + 47) % {texts} JOIN texts b ON b.n = hash(i * 64 + 48) % {texts}
ORDER BY i"""

_NAMES = """['invoke_agent ' || agent, 'guard', 'embeddings text-embedding-3', 'retrieval kb', 'chat ' || model,
  'execute_tool ' || tool, 'chat ' || model, 'execute_tool ' || other, 'chat ' || model, 'format'][k + 1]"""
_OPERATIONS = """['invoke_agent', '', 'embeddings', 'retrieval', 'chat', 'execute_tool', 'chat', 'execute_tool', 'chat',
  ''][k + 1]"""
_STAGES = """['', 'preprocessing', 'retrieval', 'retrieval', 'model', 'tool', 'model', 'tool', 'model',
  'postprocessing'][k + 1]"""

_SPANS = f"""
CREATE OR REPLACE TEMP TABLE coming AS
SELECT trace_id, hex(i, 50 + k, 16) AS span_id, CASE WHEN k = 0 THEN '' ELSE hex(i, 50, 16) END AS parent_span_id,
  make_timestamp(us + k * ms * 90) AS ts,
  CASE WHEN k = 0 THEN ms ELSE ms * 0.09 * (0.5 + u(i, 60 + k)) END AS duration_ms,
  {_NAMES} AS name, {_OPERATIONS} AS operation, {_STAGES} AS stage, CASE WHEN i % 20 = 0 THEN 'staging' ELSE 'prod' END
    AS env, 'app-' || r % 3 AS app, 'flow-' || r AS route, session, "user",
  CASE WHEN called THEN provider WHEN k = 2 THEN 'openai' ELSE '' END AS provider,
  CASE WHEN called THEN model WHEN k = 2 THEN 'text-embedding-3' ELSE '' END AS request_model,
  CASE WHEN called THEN model || '-2026-07' WHEN k = 2 THEN 'text-embedding-3' ELSE '' END AS response_model,
  CASE WHEN called THEN 'chatcmpl-' || word(i, 80 + k) ELSE '' END AS response_id,
  CASE WHEN failed AND k IN (0, 8) THEN 'error' ELSE 'ok' END AS status,
  CASE WHEN failed AND k = 8 THEN ['timeout', 'rate_limit', 'server_error', 'content_filter'][1 + i % 4] ELSE '' END
    AS error_type,
  CASE WHEN called OR k = 2 THEN (100 + 1500 * u(i, 90 + k))::BIGINT END AS input_uncached,
  CASE WHEN called OR k = 2 THEN CASE WHEN i % 3 = 0 THEN 512 ELSE 0 END END::BIGINT AS cache_read,
  CASE WHEN called OR k = 2 THEN 0 END::BIGINT AS cache_write,
  CASE WHEN called THEN (20 + 400 * u(i, 100 + k))::BIGINT WHEN k = 2 THEN 0 END AS output_text,
  CASE WHEN called OR k = 2 THEN 0 END::BIGINT AS reasoning,
  CASE WHEN k = 3 THEN [{{'id': 'doc-' || (i % 5000), 'score': 0.4 + 0.6 * u(i, 16), 'age_s': 86400 * u(i, 17)}}] END
    AS documents,
  CASE WHEN k = 3 THEN 'kb' ELSE '' END AS index_name, CASE WHEN k = 3 THEN 'v' || i // 100000 ELSE '' END
    AS index_version,
  map_from_entries(list_concat(
    [{{'key': 'service.version', 'value': '1.' || (i // 60000)}}, {{'key': 'otel.scope.name', 'value': 'bench'}},
     {{'key': 'deployment.region', 'value': ['eu', 'us', 'asia'][1 + i % 3]}}],
    CASE WHEN k = 0 THEN [{{'key': 'tenant', 'value': 'tenant-' || hash(i * 64 + 110) % 400}},
      {{'key': 'gen_ai.agent.name', 'value': agent}}] ELSE [] END,
    CASE WHEN called THEN [{{'key': 'gen_ai.request.temperature', 'value': '0.2'}},
      {{'key': 'gen_ai.request.max_tokens', 'value': '512'}}, {{'key': 'server.address', 'value': 'api.example.com'}},
      {{'key': 'server.port', 'value': '443'}}] ELSE [] END,
    CASE WHEN k IN (5, 7) THEN [{{'key': 'gen_ai.tool.name', 'value': CASE WHEN k = 5 THEN tool ELSE other END}},
      {{'key': 'gen_ai.tool.type', 'value': 'function'}},
      {{'key': 'gen_ai.tool.call.id', 'value': 'call_' || word(i, 120 + k)}}] ELSE [] END)) AS attributes,
  'clean' AS redaction_status, 0 AS redaction_secrets,
  CASE WHEN k IN (0, 4) THEN question || ' order ' || i ELSE '' END AS preview_in,
  CASE WHEN k IN (0, 8) THEN answer ELSE '' END AS preview_out,
  CASE WHEN called THEN 'stop' ELSE '' END AS finish_reason, 'internal' AS span_kind, 'genai' AS dialect,
  '1.' || (i // 60000) AS release, CASE WHEN called THEN ms * 0.03 END AS ttft_ms,
  CASE WHEN called THEN 0.0004 * (0.5 + u(i, 130 + k)) * (1 + r) END AS cost_usd, NULL::DOUBLE AS reported_cost_usd,
  '' AS request_id, '' AS counted_by
FROM (SELECT *, k IN (4, 6, 8) AS called, 'agent-' || r % 5 AS agent,
    ['search', 'lookup_order', 'weather', 'send_mail', 'sql'][1 + (i + r) % 5] AS tool,
    CASE WHEN i % 3000 = 7 THEN 'rare_tool' ELSE 'format_answer' END AS other
  FROM traces, (SELECT unnest(range(10)) AS k))
ORDER BY i, k"""


def generate(store: TelemetryStore, *, spans: int, until_us: int, days: float, requests: int = 200_000) -> None:
    """Fill an empty store with `spans` spans of traces evenly over the `days` before `until_us`, and some requests."""
    synthetic.generate(store, requests=requests, until_us=until_us, days=days)
    traces, span_us = spans // PER_TRACE, int(days * 86_400e6)
    with store.writer() as write:
        for macro in synthetic.MACROS:
            write.execute(macro)
        write.execute(_SPELT)
        write.execute(_TEXTS, [TEXTS])
        for begin in range(0, traces, SLICE):
            write.execute(
                _TRACES.format(texts=TEXTS),
                [begin, min(traces, begin + SLICE), until_us - span_us, span_us, traces],
            )
            with store.transaction():
                write.execute(_SPANS)
                write.execute("INSERT INTO spans BY NAME FROM coming")
                rollups.add_spans(write, "coming")
                entries.add(store, write, {"span": "coming"})
                write.execute("DROP TABLE coming")
        write.execute("DROP TABLE traces")
        write.execute("DROP TABLE texts")
    while marks.seal(store):
        pass
    rollups.compact(store, 0, until_us + 1)
    store.checkpoint()


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--spans", type=int, default=5_000_000)
    parser.add_argument("--days", type=float, default=8)
    parser.add_argument("--until-us", type=int, default=time.time_ns() // 1_000)
    asked = parser.parse_args()
    began = time.perf_counter()
    store = TelemetryStore(asked.store)
    generate(store, spans=asked.spans, until_us=asked.until_us, days=asked.days)
    store.close()
    print(f"{asked.spans:,} spans in {time.perf_counter() - began:.1f} s: {asked.store}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
