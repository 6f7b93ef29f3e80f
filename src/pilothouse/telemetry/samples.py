"""Samples of stored requests and texts, drawn by a hash so that two draws of one moment agree."""

from pilothouse.domain.facts import StoredRequest, StoredText
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import payloads
from pilothouse.telemetry.questions import PARTS


def sample_requests(store: TelemetryStore, route: str, env: str, n: int = 20, since_us: int = 0) -> list[StoredRequest]:
    """`n` requests of the route that reached a provider, with what it takes to render their upstream bodies [T1.0]."""
    rows = store.query(
        f"""WITH drawn AS (
  SELECT * FROM requests WHERE source = 'edge' AND route = ? AND env = ? AND ts >= make_timestamp(?::BIGINT)
    AND attempt_count > 0 ORDER BY hash(id) LIMIT ?)
SELECT id, epoch_us(ts) AS ts_us, route, env, release, inline, manifest, requested_model, upstream_hash,
  upstream_redacted_hash, log_mode, coalesce(redaction_status, '') AS redaction_status, trace_id,
  coalesce(api, 'chat') AS api,
  {", ".join(f"part_{part}" for part in PARTS)}
FROM drawn ORDER BY ts, id""",  # noqa: S608  # our own names
        [route, env, since_us, n],
    )
    bodies = payloads.fetch(store, [row["id"] for row in rows])
    return [
        StoredRequest(
            parts={part: hash_ for part in PARTS if (hash_ := row.pop(f"part_{part}"))},
            payload_request=bodies.get(row["id"], {}).get("request"),
            payload_upstream=bodies.get(row["id"], {}).get("upstream"),
            **row,
        )
        for row in rows
    ]


def stored_texts(store: TelemetryStore, route: str, env: str, n: int = 200, since_us: int = 0) -> list[StoredText]:
    """Texts of `n` stored rows of a route, requests and spans alike, to be scanned again [T2.5]: previews, payloads and
    words, which are names, errors, labels and attributes, one a line. Spans that name no route count where a request
    of their trace does.
    """
    rows = store.query(
        f"""WITH {_OF_ROUTE}, drawn AS (
  SELECT id AS owner, route, env, log_mode, preview_in, preview_out,
    concat_ws(chr(10), requested_model, served_model, segment, error_message, {_lines("labels")}) AS words
  FROM own
  UNION ALL
  SELECT trace_id || '/' || span_id, $route, env, coalesce(log_mode, ''), preview_in, preview_out,
    concat_ws(chr(10), name, request_model, response_model, error_type, {_lines("attributes")},
      array_to_string(list_transform(events, lambda e: concat_ws(chr(10), e.name, {_lines("e.attributes")})), chr(10)))
  FROM theirs)
SELECT owner, route, env, log_mode, preview_in, preview_out, words
FROM drawn ORDER BY hash(owner) LIMIT $n""",  # noqa: S608  # our own names
        {"since": since_us, "n": n, "route": route, "env": env},
    )
    bodies = payloads.fetch(store, [row["owner"] for row in rows])
    return [
        StoredText(
            owner=row["owner"], field=field, route=row["route"], env=row["env"], text=text, log_mode=row["log_mode"]
        )
        for row in rows
        for field in ("preview_in", "preview_out", "words", "request", "response", "upstream")
        if (text := ((row | bodies.get(row["owner"], {})).get(field) or "").strip())
    ]


def stored(store: TelemetryStore, route: str, env: str, since_us: int = 0) -> int:
    """How many rows `stored_texts` draws from."""
    found = store.query(
        f"WITH {_OF_ROUTE} SELECT (SELECT count(*) FROM own) + (SELECT count(*) FROM theirs) AS n",  # noqa: S608
        {"since": since_us, "route": route, "env": env},
    )
    return int(found[0]["n"])


_OF_ROUTE = """own AS (
  SELECT * FROM requests WHERE ts >= make_timestamp($since::BIGINT) AND route = $route AND env = $env),
theirs AS (
  SELECT * FROM spans WHERE ts >= make_timestamp($since::BIGINT) AND env = $env
    AND (route = $route OR coalesce(route, '') = '' AND trace_id IN (SELECT trace_id FROM own)))"""


def _lines(column: str) -> str:
    """SQL: a map's entries as lines `name: value`."""
    return f"array_to_string(list_transform(map_entries({column}), lambda m: m.key || ': ' || m.value), chr(10))"
