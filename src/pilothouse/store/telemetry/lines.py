"""Journal lines as DuckDB reads them: per kind, the JSON's columns, how they become rows, and where these go.

A batch of lines of one kind is staged in a temporary table first, outside any transaction, so that a line that cannot
be read is found before anything is written. The rows then move into their tables inside the load's transaction.
"""

from typing import Final

from pilothouse.store.telemetry.files import quoted

KINDS: Final = ("request", "span", "event", "metric", "score", "loss")

_TOKENS = """STRUCT(input_uncached BIGINT, cache_read BIGINT, cache_write BIGINT, output_text BIGINT,
  reasoning BIGINT, estimated BOOLEAN)"""
_PAYLOAD = "STRUCT(request VARCHAR, response VARCHAR, upstream VARCHAR)"
_PARTS = ("prompt", "system", "model", "params", "tools", "schema", "index", "policy")

_COLUMNS: dict[str, dict[str, str]] = {
    "request": {
        **dict.fromkeys(
            (
                *("id", "trace_id", "span_id", "parent_span_id", "source", "env", "route", "app", "tier", "manifest"),
                *("worker", "key_id", "session", "user", "segment", "requested_model", "provider", "asked_model"),
                *("served_model", "fingerprint", "outcome", "error_type", "error_message", "cost_source", "log_mode"),
                *("upstream_hash", "upstream_redacted_hash", "preview_in", "preview_out"),
                *("api", "cache", "stream_end", "priority", "way"),
            ),
            "VARCHAR",
        ),
        "ts_us": "BIGINT",
        "release": "INTEGER",
        "inline": "BOOLEAN",
        "canary": "BOOLEAN",
        "stream": "BOOLEAN",
        "table_revision": "BIGINT",
        "status": "INTEGER",
        "delayed": "BOOLEAN",
        "duration_ms": "DOUBLE",
        "queued_ms": "DOUBLE",
        "saved_usd": "DOUBLE",
        "ttft_ms": "DOUBLE",
        "cost_usd": "DOUBLE",
        "parts": "STRUCT(" + ", ".join(f'"{part}" VARCHAR' for part in _PARTS) + ")",
        "stages": "STRUCT(queue DOUBLE, preprocessing DOUBLE, model DOUBLE, postprocessing DOUBLE)",
        "tokens": _TOKENS,
        "validation": """STRUCT(first_ok BOOLEAN, ok BOOLEAN, repairs VARCHAR[], retried INTEGER, error VARCHAR,
            missing VARCHAR[], mismatched VARCHAR[], delivered_invalid BOOLEAN, stages VARCHAR[],
            coerced VARCHAR[], unlisted VARCHAR[])""",
        "limits": 'STRUCT("name" VARCHAR, what VARCHAR, "by" VARCHAR, shadow BOOLEAN)[]',
        "guards": 'STRUCT("use" VARCHAR, "at" VARCHAR, "action" VARCHAR, found VARCHAR)[]',
        "redaction": "STRUCT(status VARCHAR, reason VARCHAR, secrets INTEGER)",
        "attempts": f"""STRUCT(n INTEGER, kind VARCHAR, provider VARCHAR, model VARCHAR, offset_ms DOUBLE,
            duration_ms DOUBLE, ttft_ms DOUBLE, status INTEGER, error_type VARCHAR, served_model VARCHAR,
            fingerprint VARCHAR, response_id VARCHAR, finish_reason VARCHAR, tokens {_TOKENS}, cost_usd DOUBLE,
            delivered BOOLEAN, retry_after_s DOUBLE, backoff_ms DOUBLE, ratelimit_limit BIGINT,
            ratelimit_remaining BIGINT, cancelled BOOLEAN, trimmed INTEGER)[]""",
        "payload": _PAYLOAD,
        "labels": "MAP(VARCHAR, VARCHAR)",
        "flags": "MAP(VARCHAR, VARCHAR)",
    },
    "span": {
        **dict.fromkeys(
            (
                *("trace_id", "span_id", "parent_span_id", "name", "operation", "stage", "env", "app", "route"),
                *("session", "user", "provider", "request_model", "response_model", "response_id", "status"),
                *("error_type", "index_name", "index_version", "preview_in", "preview_out"),
                *("finish_reason", "span_kind", "dialect", "release", "log_mode"),
            ),
            "VARCHAR",
        ),
        "ts_us": "BIGINT",
        "duration_ms": "DOUBLE",
        "ttft_ms": "DOUBLE",
        "cost_usd": "DOUBLE",
        "reported_cost_usd": "DOUBLE",
        "tokens": _TOKENS,
        "events": "STRUCT(name VARCHAR, offset_ms DOUBLE, attributes MAP(VARCHAR, VARCHAR))[]",
        "documents": "STRUCT(id VARCHAR, score DOUBLE, age_s DOUBLE)[]",
        "attributes": "MAP(VARCHAR, VARCHAR)",
        "redaction": "STRUCT(status VARCHAR, secrets INTEGER)",
        "payload": _PAYLOAD,
    },
    "event": {
        **dict.fromkeys(("trace_id", "span_id", "name", "env", "app", "body"), "VARCHAR"),
        "ts_us": "BIGINT",
        "attributes": "MAP(VARCHAR, VARCHAR)",
        "redaction": "STRUCT(status VARCHAR, secrets INTEGER)",
    },
    "metric": {
        **dict.fromkeys(("name", "unit", "type", "temporality", "env", "app"), "VARCHAR"),
        "ts_us": "BIGINT",
        "start_us": "BIGINT",
        "value": "DOUBLE",
        "count": "BIGINT",
        "bounds": "DOUBLE[]",
        "counts": "BIGINT[]",
        "attributes": "MAP(VARCHAR, VARCHAR)",
    },
    "score": {
        **dict.fromkeys(
            ("id", "request_id", "trace_id", "span_id", "route", "env", "name", "label", "comment", "source"), "VARCHAR"
        ),
        "ts_us": "BIGINT",
        "value": "DOUBLE",
    },
    "loss": {"ts_us": "BIGINT", "worker": "VARCHAR", "what": "VARCHAR", "count": "BIGINT", "reason": "VARCHAR"},
}

_IDENTITY = {"request": "id", "span": "span_id", "event": "name", "metric": "name", "score": "name", "loss": "what"}


def _digest(*columns: str) -> str:
    """SQL of a number that rows share which say the same in these columns. It is stored, so it must not change."""
    texts = ", ".join(f"coalesce({column}::VARCHAR, '')" for column in columns)
    return f"md5_number_lower(concat_ws(chr(31), {texts})) AS digest"


_FLAT_TOKENS = """tokens.input_uncached AS input_uncached, tokens.cache_read AS cache_read,
  tokens.cache_write AS cache_write, tokens.output_text AS output_text, tokens.reasoning AS reasoning"""

_SELECT: dict[str, str] = {
    "request": f"""* EXCLUDE (ts_us, parts, stages, tokens, validation, redaction, limits, guards),
  make_timestamp(ts_us) AS ts, NULL::VARCHAR AS own_trace_id,
  {", ".join(f'parts."{part}" AS part_{part}' for part in _PARTS)},
  stages.queue AS stage_queue, stages.preprocessing AS stage_preprocessing, stages.model AS stage_model,
  stages.postprocessing AS stage_postprocessing,
  {_FLAT_TOKENS}, tokens.estimated AS tokens_estimated,
  validation IS NOT NULL AS structured, validation.first_ok AS valid_first, validation.ok AS valid,
  validation.repairs AS repairs, validation.retried AS validation_retries, validation.error AS validation_error,
  validation.missing AS missing_fields, validation.mismatched AS mismatched_fields,
  validation.delivered_invalid AS delivered_invalid, validation.stages AS validation_stages,
  validation.coerced AS coerced_fields, validation.unlisted AS unlisted_fields,
  list_transform(limits, lambda l: l.name || ':' || l.what || CASE WHEN l.shadow THEN ':shadow' ELSE '' END)
    AS limit_hits,
  list_transform(guards, lambda g: concat_ws(':', g."use", g."at", g."action", g.found)) AS guard_hits,
  redaction.status AS redaction_status, redaction.reason AS redaction_reason,
  redaction.secrets AS redaction_secrets,
  len(attempts) AS attempt_count, len(list_filter(attempts, lambda a: a.kind = 'retry')) AS retries,
  len(list_filter(attempts, lambda a: a.kind = 'fallback')) > 0
    OR outcome IN ('fallback', 'degraded', 'escalated') AS fallback_used""",
    "span": f"""* EXCLUDE (ts_us, tokens, redaction), make_timestamp(ts_us) AS ts, {_FLAT_TOKENS},
  NULL::VARCHAR AS request_id, NULL::VARCHAR AS counted_by,
  redaction.status AS redaction_status, redaction.secrets AS redaction_secrets""",
    "event": f"""* EXCLUDE (ts_us, redaction), make_timestamp(ts_us) AS ts,
  redaction.status AS redaction_status, redaction.secrets AS redaction_secrets,
  {_digest("trace_id", "span_id", "name", "env", "app", "body", "attributes")}""",
    "metric": f"""* EXCLUDE (ts_us), make_timestamp(ts_us) AS ts,
  {_digest(*(name for name in _COLUMNS["metric"] if name != "ts_us"))}""",
    "score": "* EXCLUDE (ts_us), make_timestamp(ts_us) AS ts",
    "loss": "* EXCLUDE (ts_us), make_timestamp(ts_us) AS ts",
}

_ATTEMPTS = """INSERT INTO attempts BY NAME
SELECT id AS request_id, ts, source, route, env, release, canary, a.* EXCLUDE (tokens),
  a.tokens.input_uncached AS input_uncached, a.tokens.cache_read AS cache_read, a.tokens.cache_write AS cache_write,
  a.tokens.output_text AS output_text, a.tokens.reasoning AS reasoning, a.tokens.estimated AS tokens_estimated
FROM (SELECT id, ts, source, route, env, release, canary, unnest(attempts) AS a FROM batch_request)"""

# Whose payload one is, of the kinds that have some.
OWNERS: Final = {"request": "id", "span": "trace_id || '/' || span_id"}

INSERTS: dict[str, tuple[str, ...]] = {
    "request": (
        "INSERT INTO requests BY NAME SELECT * EXCLUDE (attempts, payload) FROM batch_request",
        _ATTEMPTS,
    ),
    "span": ("INSERT INTO spans BY NAME SELECT * EXCLUDE (payload) FROM batch_span",),
    "event": ("INSERT INTO span_events BY NAME SELECT * FROM batch_event",),
    "metric": ("INSERT INTO app_metrics BY NAME SELECT * FROM batch_metric",),
    "score": ("INSERT INTO scores BY NAME SELECT * FROM batch_score",),
    "loss": ("INSERT INTO losses BY NAME SELECT * FROM batch_loss",),
}


def batch(kind: str) -> str:
    """The temporary table that holds a batch of this kind."""
    return f"batch_{kind}"


def stage(kind: str, path: str) -> str:
    """SQL that reads the lines of one kind from `path` into `batch(kind)`; fails on a line that is not of the kind."""
    columns = ", ".join(f""""{name}": '{type_}'""" for name, type_ in _COLUMNS[kind].items())
    return f"""CREATE OR REPLACE TEMP TABLE {batch(kind)} AS SELECT {_SELECT[kind]}
FROM read_json({quoted(path)}, format = 'newline_delimited', columns = {{{columns}}})"""  # noqa: S608  # our own names


def payloads(kind: str, condition: str) -> str:
    """SQL that selects the batch's payloads for which the condition holds, as the table `payloads` has them."""
    fields = ", ".join(f"payload.{name} AS {name}" for name in ("request", "response", "upstream"))
    return (
        f"SELECT {OWNERS[kind]} AS owner, ts, {fields} FROM {batch(kind)} "  # noqa: S608  # our own names
        f"WHERE payload IS NOT NULL AND {condition}"
    )


def count(kind: str) -> str:
    """SQL that counts the rows of the batch."""
    return f"SELECT count(*) FROM {batch(kind)}"  # noqa: S608  # our own names


def unusable(kind: str) -> str:
    """SQL that counts rows of the batch without a time or an identity: lines of the right shape that say nothing."""
    return f"SELECT count(*) FROM {batch(kind)} WHERE ts IS NULL OR {_IDENTITY[kind]} IS NULL"  # noqa: S608


def unstage(kind: str) -> str:
    """SQL that lets the batch go."""
    return f"DROP TABLE IF EXISTS {batch(kind)}"
