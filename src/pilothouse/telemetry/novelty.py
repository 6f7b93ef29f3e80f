"""What a route's traffic had for the first time, and what it is made of day by day: facts for the review's triggers."""

from typing import Any

from pilothouse.domain.trigger_facts import FirstSeen, Novelty, SegmentSeen, ServedDay, StepsDay, VoiceDay
from pilothouse.store.telemetry import TelemetryStore, dialect
from pilothouse.telemetry.entries import IS_TOOL

DAY_S = 86_400
SEGMENTS = 20  # the most used that came later than others


def _day(column: str) -> str:
    """The day of a time, in µs. One on which somebody signed is two: what came after the signature is of a day that
    begins with it. It has two parameters: when that was, and a µs later."""
    day = dialect.micros(dialect.time_bucket(column, DAY_S))
    return f"greatest({day}, CASE WHEN {column} > {dialect.at()} THEN ?::BIGINT ELSE 0 END)"


_OF = f"source = 'edge' AND route = ? AND env = ? AND ts >= {dialect.at()}"
_FIRST = f"""SELECT count(*), count(*) FILTER (segment <> ''), min(epoch_us(ts)) FILTER (structured)
FROM requests WHERE {_OF}"""  # noqa: S608  # our own fragments
_CALLED = f"""SELECT min(epoch_us(ts)) FROM attempts
WHERE {_OF} AND finish_reason IN ('tool_calls', 'tool_use', 'function_call')"""  # noqa: S608  # our own fragments
_SPANS = f"""WITH traced AS (SELECT DISTINCT trace_id FROM requests WHERE {_OF})
SELECT min(epoch_us(t.ts)) FILTER (t.documents IS NOT NULL), min(epoch_us(t.ts)) FILTER ({IS_TOOL})
FROM spans t SEMI JOIN traced USING (trace_id) WHERE t.ts >= {dialect.at()}"""  # noqa: S608  # likewise
_BEFORE = f"SELECT count(*) FROM requests WHERE {_OF} AND ts < {dialect.at()}"  # noqa: S608  # likewise
_SERVED = f"""SELECT {_day("ts")} AS day_us, concat(provider, '/', served_model) AS model, count(*) AS requests,
  min(epoch_us(ts)) AS first_us
FROM requests WHERE {_OF} AND provider <> '' AND served_model <> '' AND NOT coalesce(fallback_used, false)
  AND coalesce(cache, '') NOT IN ('hit', 'semantic', 'stale')
GROUP BY ALL ORDER BY day_us, requests DESC, model"""  # noqa: S608  # likewise
_STEPS = f"""SELECT {_day("begun")} AS day_us, count(*) AS traces, quantile_cont(steps, 0.95) AS p95
FROM (SELECT trace_id, min(ts) AS begun, count(*) AS steps FROM requests WHERE {_OF} AND trace_id <> ''
  GROUP BY trace_id)
GROUP BY ALL ORDER BY day_us"""  # noqa: S608  # likewise
_SEGMENTS = f"""SELECT segment, min(epoch_us(ts)) AS first_us, count(*) AS requests FROM requests
WHERE {_OF} AND segment <> '' GROUP BY segment ORDER BY requests DESC, segment"""  # noqa: S608  # likewise
_NAMED = f"""SELECT count(*) FILTER (ts < {dialect.at()}), count(*) FILTER (ts >= {dialect.at()})
FROM requests WHERE {_OF} AND segment <> ''"""  # noqa: S608  # likewise
_VOICES = f"""SELECT {_day("ts")} AS day_us, count(*) AS requests, count(*) FILTER (outcome = 'escalated') AS escalated,
  count(*) FILTER (id IN (SELECT request_id FROM scores WHERE source = 'feedback' AND value <= 0
    AND ts >= {dialect.at()})) AS complained
FROM requests WHERE {_OF} GROUP BY ALL ORDER BY day_us"""  # noqa: S608  # likewise


def of_route(store: TelemetryStore, route: str, env: str, since_us: int, signed_us: int = 0) -> Novelty:
    """Everything since then, with the day of the last signature in two (0: there is none); raises StoreError."""
    of = [route, env, since_us]
    cut = [signed_us, signed_us + 1]
    requests, segmented, schema_us = store.rows(_FIRST, of)[0]
    if not requests:
        return Novelty()
    retrieval_us, tools_us = store.rows(_SPANS, [*of, since_us])[0]
    called_us = store.rows(_CALLED, of)[0][0]
    tools_us = min((one for one in (tools_us, called_us) if one), default=None)
    first = {"schema": schema_us, "retrieval": retrieval_us, "tools": tools_us}
    return Novelty(
        requests=requests,
        segmented=segmented,
        first=tuple(
            FirstSeen(what=what, first_us=at, before=store.rows(_BEFORE, [*of, at])[0][0])  # type: ignore[arg-type]
            for what, at in first.items()
            if at
        ),
        served=tuple(ServedDay(**row) for row in store.query(_SERVED, [*cut, *of])),
        steps=tuple(StepsDay(**row) for row in store.query(_STEPS, [*cut, *of])),
        segments=_segments(store, of),
        voices=tuple(VoiceDay(**row) for row in store.query(_VOICES, [*cut, since_us, *of])),
    )


def _segments(store: TelemetryStore, of: list[Any]) -> tuple[SegmentSeen, ...]:
    found = store.query(_SEGMENTS, of)
    oldest = min((row["first_us"] for row in found), default=0)
    made = []
    for row in [row for row in found if row["first_us"] > oldest][:SEGMENTS]:
        at = row["first_us"]
        before, since = store.rows(_NAMED, [at, at, *of])[0]
        made.append(SegmentSeen(**row, before=before, since=since))
    return tuple(made)
