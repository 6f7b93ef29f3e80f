"""The list of traces under a filter: gateway requests, and traces that came over OTLP alone, newest first.

One pass over the time looked at finds the newest matches up to a cap; totals, facets and histograms are of those, and
say so. A trace that came through the gateway is listed by its requests, so nothing is listed twice.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.filter import FIELDS, Query
from pilothouse.telemetry.filter_sql import (
    IS_TOOL,
    MODEL,
    OUTCOME,
    OWN,
    SPAN_COST,
    SPAN_TOKENS,
    SPREAD_US,
    TOOL,
    Condition,
    Window,
    conditions,
)
from pilothouse.telemetry.histograms import BINS, Bin, bin_of, bins

LIMIT_MAX = 500
HITS_MAX = 10_000
FACETS = ("outcome", "route", "env", "error", "model", "release", "app", "api", "cache", "source")
VALUES_MAX = 12
FRESH_MAX = 200

_FACET_REQUEST = {
    "error": "r.error_type", "model": MODEL, "release": "r.release::VARCHAR",
}  # fmt: skip
_FACET_SPAN = {
    "outcome": OUTCOME, "error": "s.error_type", "model": "coalesce(nullif(s.response_model, ''), s.request_model)",
    "api": "NULL", "cache": "NULL", "source": "'otlp'",
}  # fmt: skip
_HIT_REQUEST = ", ".join(f"{_FACET_REQUEST.get(name, f'r.{name}')} AS {name}" for name in FACETS)
_HIT_SPAN = ", ".join(f"{_FACET_SPAN.get(name, f's.{name}')} AS {name}" for name in FACETS)
# A first span, of a trace in which the gateway had no request, and whose call no other trace counts.
_FIRST = """FROM spans s WHERE coalesce(s.parent_span_id, '') = ''
  AND (coalesce(s.counted_by, '') = '' OR starts_with(s.counted_by, s.trace_id))
  AND s.trace_id NOT IN (SELECT q.trace_id FROM requests q WHERE q.trace_id IS NOT NULL AND {time})"""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What to list. `before`: the `next` of the page before. 0: no bound in time."""

    query: Query = Query()
    since_us: int = 0
    until_us: int = 0
    before: str = ""
    limit: int = 50  # 500 at most


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A request, or the first span of a trace that came over OTLP alone (`source` otlp). None: unknown."""

    id: str  # of the request, or of the trace
    ts_us: int
    trace_id: str
    source: str
    env: str
    route: str
    app: str
    name: str  # of the span; of a request its route, or the model where it has none
    release: int | str | None  # one of ours, or the app's own word for its version
    canary: bool
    outcome: str
    status: int
    error_type: str
    model: str
    requested_model: str
    session: str
    user: str
    attempt_count: int
    span_count: int
    duration_ms: float
    ttft_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    preview_in: str
    preview_out: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page. Counts are of the newest 10,000 matches: `capped` says there are more. `next`: empty at the end."""

    rows: list[Row]
    total: int
    capped: bool
    next: str
    facets: dict[str, dict[str, int]] = {}  # facet → value → matches, commonest first
    latency: tuple[Bin, ...] = ()
    cost: tuple[Bin, ...] = ()


def _hits(asked: Asked, more: Condition | None = None) -> tuple[str, list[Any]]:
    """Both arms as one relation with the facets' columns."""
    window = Window(asked.since_us, asked.until_us)
    if any(term.field == "id" and not term.negated for term in asked.query.terms):
        window = Window()  # an id is looked for wherever it may be
    request, span = conditions(asked.query, window)
    first = window.of("q.ts", SPREAD_US)
    after = more or Condition()
    sql = f"""SELECT * FROM (
SELECT false AS is_span, r.id AS id, r.trace_id AS trace_id, r.ts AS ts, {_HIT_REQUEST},
  r.duration_ms AS latency, r.cost_usd AS cost
FROM requests r WHERE {request.sql}
UNION ALL
SELECT true, s.trace_id, s.trace_id, s.ts, {_HIT_SPAN}, s.duration_ms, coalesce(s.cost_usd, s.reported_cost_usd)
{_FIRST.format(time=first.sql)} AND {span.sql}
) WHERE {after.sql}"""  # noqa: S608  # own fragments, values are bound
    return sql, [*request.params, *first.params, *span.params, *after.params]


def find(store: TelemetryStore, asked: Asked) -> Found:
    """A page of the list, with facets and histograms on the first; BadRequest for a limit or cursor that cannot be."""
    if not 1 <= asked.limit <= LIMIT_MAX:
        raise BadRequest(f"a page has 1 to {LIMIT_MAX} rows", where="limit", hint=f"got {asked.limit}")
    if asked.before:
        sql, params = _hits(asked, _cursor(asked.before))
        found = store.query(f"{sql} ORDER BY ts DESC, id DESC LIMIT {asked.limit + 1}", params)
        return Found(rows=rows(store, found[: asked.limit]), total=0, capped=False, next=_next(found, asked.limit))
    sql, params = _hits(asked)
    with store.reading() as ask:
        ask(f"CREATE TEMP TABLE hits AS {sql} ORDER BY ts DESC, id DESC LIMIT {HITS_MAX + 1}", params)
        total = ask("SELECT count(*) AS n FROM hits")[0]["n"]
        found = ask(f"SELECT is_span, id, ts FROM hits ORDER BY ts DESC, id DESC LIMIT {asked.limit + 1}")  # noqa: S608
        counted = _facets(ask)
        latency, cost = (_bins(ask, name) for name in ("latency", "cost"))
        ask("DROP TABLE hits")
    return Found(
        rows=rows(store, found[: asked.limit]),
        total=min(total, HITS_MAX),
        capped=total > HITS_MAX,
        next=_next(found, asked.limit),
        facets=counted,
        latency=latency,
        cost=cost,
    )


def _cursor(before: str) -> Condition:
    ts, _, ident = before.partition(":")
    if not ts.isdigit() or len(ts) > 18:
        raise BadRequest("the cursor is not one that a page gave", where="before", hint="leave it out to start anew")
    at = "make_timestamp(?::BIGINT)"
    return Condition(f"(ts < {at} OR ts = {at} AND id < ?)", [int(ts), int(ts), ident])


def _next(found: list[dict[str, Any]], limit: int) -> str:
    if len(found) <= limit:
        return ""
    last = found[limit - 1]
    return f"{_micros(last['ts'])}:{last['id']}"


def _micros(ts: datetime) -> int:
    """A naive UTC time of the store as µs since 1970, exactly."""
    days = ts.toordinal() - 719_163
    return ((days * 86_400 + ts.hour * 3_600 + ts.minute * 60 + ts.second) * 1_000_000) + ts.microsecond


def _facets(ask: Any) -> dict[str, dict[str, int]]:
    every = (1 << len(FACETS)) - 1
    names = ", ".join(FACETS)
    sets = ", ".join(f"({name})" for name in FACETS)
    found = ask(
        f"SELECT {names}, grouping_id({names}) AS which, count(*) AS n FROM hits "  # noqa: S608  # own names
        f"GROUP BY GROUPING SETS ({sets}) ORDER BY n DESC"
    )
    counts: dict[str, dict[str, int]] = {name: {} for name in FACETS}
    which = {every & ~(1 << (len(FACETS) - 1 - i)): name for i, name in enumerate(FACETS)}
    for row in found:
        name = which[row["which"]]
        if row[name] and len(counts[name]) < VALUES_MAX:
            counts[name][row[name]] = row["n"]
    return counts


def _bins(ask: Any, name: str) -> tuple[Bin, ...]:
    found = ask(
        f"SELECT {bin_of(name, BINS[name])} AS bin, count(*) AS n, count(*) FILTER (outcome = 'failed') AS failed "  # noqa: S608
        f"FROM hits WHERE {name} IS NOT NULL GROUP BY bin"
    )
    return bins(BINS[name], {row["bin"]: (row["n"], row["failed"]) for row in found})


_ROW = f"""SELECT r.id AS id, epoch_us(r.ts) AS ts_us, r.trace_id AS trace_id, r.source AS source, r.env AS env,
  r.route AS route, r.app AS app, coalesce(nullif(r.route, ''), r.requested_model) AS name,
  r.release AS release, r.canary AS canary, r.outcome AS outcome, r.status AS status,
  r.error_type AS error_type, {MODEL} AS model, r.requested_model AS requested_model, r.session AS session,
  r."user" AS "user", r.attempt_count AS attempt_count, 0 AS span_count, r.duration_ms AS duration_ms,
  r.ttft_ms AS ttft_ms, r.input_uncached + r.cache_read + r.cache_write AS input_tokens,
  r.output_text + r.reasoning AS output_tokens, r.cost_usd AS cost_usd, r.preview_in AS preview_in,
  r.preview_out AS preview_out
FROM requests r WHERE """  # noqa: S608  # own fragments
_FIRST_ROW = f"""WITH below AS (
  SELECT t.trace_id, count(*) AS n, sum({SPAN_TOKENS}) FILTER ({OWN}) AS tokens,
    sum(t.input_uncached + t.cache_read + t.cache_write) FILTER ({OWN}) AS input_tokens,
    sum(t.output_text + t.reasoning) FILTER ({OWN}) AS output_tokens, sum({SPAN_COST}) FILTER ({OWN}) AS cost_usd,
    count(*) FILTER (t.stage = 'model' AND {OWN}) AS calls, min(t.ttft_ms) AS ttft_ms,
    min(nullif(t.error_type, '')) AS error_type,
    arg_max(coalesce(nullif(t.response_model, ''), t.request_model), t.duration_ms)
      FILTER (concat(t.request_model, t.response_model) <> '') AS model
  FROM spans t WHERE t.trace_id IN {{ids}} AND {{time}} GROUP BY t.trace_id)
SELECT s.trace_id AS id, epoch_us(s.ts) AS ts_us, s.trace_id AS trace_id, 'otlp' AS source, s.env AS env,
  s.route AS route, s.app AS app, s.name AS name, nullif(s.release, '') AS release, false AS canary,
  {OUTCOME} AS outcome, 0 AS status,
  coalesce(nullif(s.error_type, ''), b.error_type) AS error_type, b.model AS model, '' AS requested_model,
  s.session AS session, s."user" AS "user", b.calls AS attempt_count, b.n AS span_count, s.duration_ms AS duration_ms,
  b.ttft_ms AS ttft_ms, b.input_tokens::BIGINT AS input_tokens, b.output_tokens::BIGINT AS output_tokens,
  b.cost_usd AS cost_usd, s.preview_in AS preview_in, s.preview_out AS preview_out
FROM spans s JOIN below b USING (trace_id) WHERE coalesce(s.parent_span_id, '') = '' AND s.trace_id IN {{ids}}
  AND {{own_time}}"""  # noqa: S608


def rows(store: TelemetryStore, found: list[dict[str, Any]]) -> list[Row]:
    """The rows of matches (`is_span`, `id`, `ts`) in their order; what belongs to a trace is summed over its spans."""
    made: dict[str, Row] = {}
    for is_span in (False, True):
        own = [one for one in found if one["is_span"] is is_span]
        for row in _wide(store, is_span, own) if own else ():
            made[row["id"]] = msgspec.convert({n: _EMPTY[n] if v is None else v for n, v in row.items()}, Row)
    return [made[one["id"]] for one in found if one["id"] in made]


def _wide(store: TelemetryStore, is_span: bool, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    times = [_micros(one["ts"]) for one in own]
    near = Window(min(times), max(times) + 1)
    ids = "(" + ", ".join("?" * len(own)) + ")"
    idents = [one["id"] for one in own]
    if not is_span:
        time = near.of("r.ts")
        return store.query(f"{_ROW} r.id IN {ids} AND {time.sql}", [*idents, *time.params])
    time, own_time = near.of("t.ts", SPREAD_US), near.of("s.ts")
    sql = _FIRST_ROW.format(ids=ids, time=time.sql, own_time=own_time.sql)
    return store.query(sql, [*idents, *time.params, *idents, *own_time.params])


_EMPTY: dict[str, Any] = {
    name: None if name in ("release", "ttft_ms", "input_tokens", "output_tokens", "cost_usd") else
    0 if name in ("status", "attempt_count", "span_count", "duration_ms") else False if name == "canary" else ""
    for name in Row.__struct_fields__
}  # fmt: skip


def fresh(store: TelemetryStore, queries: Sequence[Query], since_us: int) -> list[list[Row]]:
    """For each filter the matches from `since_us` on, oldest first: one question to the store for all of them."""
    if not queries:
        return []
    parts: list[str] = []
    params: list[Any] = []
    for number, query in enumerate(queries):
        sql, values_ = _hits(Asked(query=query, since_us=since_us))
        parts.append(
            f"(SELECT {number} AS tail, is_span, id, ts FROM ({sql}) ORDER BY ts DESC LIMIT {FRESH_MAX})"  # noqa: S608
        )
        params += values_
    hits = store.query(" UNION ALL ".join(parts), params)
    once = {one["id"]: one for one in hits}
    known = {row.id: row for row in rows(store, list(once.values()))}
    found: list[list[Row]] = [[] for _ in queries]
    for one in hits:
        if one["id"] in known:
            found[one["tail"]].append(known[one["id"]])
    return [sorted(part, key=lambda row: (row.ts_us, row.id)) for part in found]


def values(store: TelemetryStore, asked: Asked, field: str, typed: str) -> list[tuple[str, int]]:
    """The commonest values of a field that begin with what is typed, with their counts among the newest matches."""
    definition = FIELDS.get(field)
    if field not in _VALUED or definition is None:
        return []
    sql, params = _hits(asked)
    request, span = _VALUED[field]
    tools = "true" if field == "tool" else "false"  # of traces through the gateway too
    source = f"SELECT is_span, id, trace_id FROM ({sql}) ORDER BY ts DESC LIMIT {HITS_MAX}"  # noqa: S608
    time = Window(asked.since_us, asked.until_us)
    r, s = time.of("r.ts"), time.of("s.ts", SPREAD_US)
    found = store.rows(
        f"""WITH hit AS ({source}), named AS (
  SELECT {request}::VARCHAR AS value FROM requests r WHERE r.id IN (SELECT id FROM hit WHERE NOT is_span) AND {r.sql}
  UNION ALL
  SELECT {span}::VARCHAR FROM spans s
  WHERE s.trace_id IN (SELECT trace_id FROM hit WHERE is_span OR {tools}) AND {s.sql})
SELECT value AS v, count(*) AS n FROM named WHERE starts_with(lower(value), ?) AND value <> ''
GROUP BY v ORDER BY n DESC, v LIMIT {VALUES_MAX}""",  # noqa: S608
        [*params, *r.params, *s.params, typed.lower()],
    )
    return [(value, n) for value, n in found]


_VALUED = {
    **{name: (f"r.{name}", f"s.{name}") for name in ("route", "env", "app", "session", "provider", "release")},
    **{name: (f"r.{name}", "NULL") for name in ("api", "cache", "segment")},
    "user": ('r."user"', 's."user"'),
    "outcome": ("r.outcome", OUTCOME),
    "error": ("r.error_type", "s.error_type"),
    "model": (MODEL, "coalesce(nullif(s.response_model, ''), s.request_model)"),
    "key": ("r.key_id", "NULL"),
    "source": ("r.source", "'otlp'"),
    "name": ("r.route", "s.name"),
    "tool": ("NULL", f"CASE WHEN {IS_TOOL.replace('t.', 's.')} THEN {TOOL.replace('t.', 's.')} END"),
}  # fmt: skip
