"""Requests for pages and their JSON twins: lists, one request, payloads, facets, traffic over time."""

from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest
from pilothouse.stats import histogram
from pilothouse.store.telemetry import HISTOGRAM_MS, TelemetryStore, dialect
from pilothouse.telemetry.waterfall import Waterfall, spans, trace, without_ts

__all__ = [
    "RequestFilter",
    "RequestPage",
    "RequestRow",
    "Traffic",
    "TrafficPoint",
    "Waterfall",
    "facets",
    "list_requests",
    "payload",
    "request",
    "spans",
    "trace",
    "traffic",
]

LIMIT_MAX = 500
TOTAL_MAX = 10_000
FACETS = ("route", "env", "outcome", "error_type", "release", "canary", "model", "api", "cache")
_MODEL = "coalesce(nullif(served_model, ''), requested_model)"
_ROW = f"""id, epoch_us(ts) AS ts_us, trace_id, source, env, route, app, release, inline, canary, outcome, status,
  error_type, {_MODEL} AS model, provider, requested_model, attempt_count, stream, duration_ms, ttft_ms,
  input_uncached + cache_read + cache_write AS input_tokens, output_text + reasoning AS output_tokens, cost_usd,
  valid, redaction_status, preview_in, preview_out"""


class RequestFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What to list; empty or None means any. `text` is looked for in previews, ids and error messages."""

    route: str = ""
    env: str = ""
    outcome: str = ""
    error_type: str = ""
    release: int | None = None
    model: str = ""
    api: str = ""
    cache: str = ""
    canary: bool | None = None
    since_us: int = 0
    until_us: int = 0
    text: str = ""
    min_ms: float = 0.0
    max_ms: float = 0.0  # 0: no bound
    source: str = "edge"  # empty: evals and replays too
    limit: int = 50  # 500 at most
    before: str = ""  # `next` of the page before


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request as lists show it. None: unknown."""

    id: str
    ts_us: int
    trace_id: str
    source: str
    env: str
    route: str
    app: str
    release: int | None
    inline: bool
    canary: bool
    outcome: str
    status: int
    error_type: str
    model: str
    provider: str
    requested_model: str
    attempt_count: int
    stream: bool
    duration_ms: float
    ttft_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    valid: bool | None
    redaction_status: str | None
    preview_in: str
    preview_out: str


class RequestPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first. `total` stops counting at 10,000; `next` is the cursor of the next page, empty at the end."""

    rows: list[RequestRow]
    total: int
    capped: bool
    next: str


_SEARCHED = ("preview_in", "preview_out", "error_message", "id", "trace_id")
_CONDITIONS: dict[str, str] = {
    **{name: f"{name} = ?" for name in ("route", "env", "outcome", "error_type", "source", "release", "canary")},
    **{name: f"{name} = ?" for name in ("api", "cache")},
    "model": f"{_MODEL} = ?",
    "since_us": f"ts >= {dialect.at()}",
    "until_us": f"ts < {dialect.at()}",
    "min_ms": "duration_ms >= ?",
    "max_ms": "duration_ms < ?",
    "text": "(" + " OR ".join(f"contains(lower({field}), lower(?))" for field in _SEARCHED) + ")",
}


def _where(wanted: RequestFilter) -> tuple[str, list[Any]]:
    """The conditions that are asked for, and their parameters. Release 0 and canary False are values, not "any"."""
    where = ["true"]
    params: list[Any] = []
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value or (name in ("release", "canary") and value is not None):
            where.append(condition)
            params.extend([value] * condition.count("?"))
    return " AND ".join(where), params


def _cursor(before: str) -> tuple[int, str]:
    ts, _, request_id = before.partition(":")
    if not ts.isdigit():
        raise BadRequest("the cursor is not one that a page gave", where="before", hint="leave it out to start anew")
    return int(ts), request_id


def list_requests(store: TelemetryStore, wanted: RequestFilter) -> RequestPage:
    """A page of requests; raises BadRequest for a cursor or limit that cannot be."""
    if not 1 <= wanted.limit <= LIMIT_MAX:
        raise BadRequest(f"a page has 1 to {LIMIT_MAX} rows", where="limit", hint=f"got {wanted.limit}")
    where, params = _where(wanted)
    total = store.rows(
        f"SELECT count(*) FROM (SELECT 1 FROM requests WHERE {where} LIMIT {TOTAL_MAX + 1})",  # noqa: S608
        params,
    )[0][0]
    if wanted.before:
        ts_us, request_id = _cursor(wanted.before)
        where += f" AND (ts < {dialect.at()} OR ts = {dialect.at()} AND id < ?)"
        params += [ts_us, ts_us, request_id]
    found = store.query(
        f"SELECT {_ROW} FROM requests WHERE {where} ORDER BY ts DESC, id DESC LIMIT {wanted.limit + 1}",  # noqa: S608
        params,
    )
    rows = [msgspec.convert(row, RequestRow) for row in found[: wanted.limit]]
    more = len(found) > wanted.limit
    return RequestPage(
        rows=rows,
        total=min(total, TOTAL_MAX),
        capped=total > TOTAL_MAX,
        next=f"{rows[-1].ts_us}:{rows[-1].id}" if more else "",
    )


def facets(store: TelemetryStore, wanted: RequestFilter) -> dict[str, dict[str, int]]:
    """Facet → value → requests that match the filter, commonest first; an unknown release is the empty string."""
    where, params = _where(wanted)
    rows = store.rows(
        f"""SELECT {", ".join(FACETS)}, grouping_id({", ".join(FACETS)}), count(*)
FROM (SELECT *, {_MODEL} AS model FROM requests WHERE {where})
GROUP BY GROUPING SETS ({", ".join(f"({name})" for name in FACETS)}) ORDER BY count(*) DESC""",  # noqa: S608
        params,
    )
    counts: dict[str, dict[str, int]] = {name: {} for name in FACETS}
    every = (1 << len(FACETS)) - 1
    for *values, grouping, count in rows:
        index = next(i for i in range(len(FACETS)) if grouping == every & ~(1 << (len(FACETS) - 1 - i)))
        value = values[index]
        label = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        counts[FACETS[index]][label] = count
    return counts


def request(store: TelemetryStore, request_id: str) -> dict[str, Any] | None:
    """Everything but payloads about one request, with its attempts, its scores and the spans of its trace."""
    found = store.query("SELECT *, epoch_us(ts) AS ts_us FROM requests WHERE id = ? LIMIT 1", [request_id])
    if not found:
        return None
    row = without_ts(found[0])
    row["attempts"] = [
        without_ts(attempt)
        for attempt in store.query("SELECT * FROM attempts WHERE request_id = ? ORDER BY n", [request_id])
    ]
    row["scores"] = [
        without_ts(score)
        for score in store.query(
            "SELECT *, epoch_us(ts) AS ts_us FROM scores WHERE request_id = ? ORDER BY ts", [request_id]
        )
    ]
    row["spans"] = spans(store, row["trace_id"])
    return row


def payload(store: TelemetryStore, owner: str) -> dict[str, str] | None:
    """The stored bodies of a request (by id) or span (by `trace_id/span_id`); None where none were kept."""
    found = store.query("SELECT request, response, upstream FROM payloads WHERE owner = ? LIMIT 1", [owner])
    return {name: text or "" for name, text in found[0].items()} if found else None


class TrafficPoint(msgspec.Struct, frozen=True):
    """One time bucket of a route; p50 and p95 in ms from rollup histograms, `cost` of priced requests in USD."""

    ts_us: int
    requests: int
    errors: int  # outcome failed
    fallbacks: int
    p50: float | None
    p95: float | None
    cost: float | None
    structured: int
    valid: int


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """A route's traffic in an environment; buckets without traffic are absent. `total` is of the whole span."""

    route: str
    env: str
    total: TrafficPoint
    points: list[TrafficPoint]


def traffic(
    store: TelemetryStore, since_us: int, until_us: int, bucket_s: int, route: str = "", env: str = ""
) -> list[Traffic]:
    """Traffic of all routes (or one), from minute rollups in one query, busiest route first."""
    if bucket_s < 60:
        raise BadRequest("a bucket is at least a minute", where="bucket_s", hint="rollups are kept by the minute")
    rows = store.rows(
        f"""SELECT route, env, epoch_us({dialect.time_bucket("minute", bucket_s)}) AS bucket, sum(requests)::BIGINT,
  coalesce(sum(requests) FILTER (outcome = 'failed'), 0)::BIGINT, sum(fallbacks)::BIGINT, sum(cost_usd),
  sum(priced)::BIGINT, sum(structured)::BIGINT, sum(valid)::BIGINT, {dialect.merged("duration_hist")}
FROM rollup_minute WHERE source = 'edge' AND minute >= {dialect.at()} AND minute < {dialect.at()}
  AND (? = '' OR route = ?) AND (? = '' OR env = ?)
GROUP BY ALL ORDER BY route, env, bucket""",  # noqa: S608  # our own fragments
        [since_us, until_us, route, route, env, env],
    )
    by_route: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for name, environment, *rest in rows:
        by_route.setdefault((name, environment), []).append(tuple(rest))
    series = [
        Traffic(route=name, env=environment, total=_total(since_us, found), points=[_traffic_point(*p) for p in found])
        for (name, environment), found in by_route.items()
    ]
    return sorted(series, key=lambda s: -s.total.requests)


def _total(since_us: int, rows: list[tuple[Any, ...]]) -> TrafficPoint:
    sums = [sum(column) for column in zip(*(row[1:-1] for row in rows), strict=True)]
    return _traffic_point(since_us, *sums, histogram.merge(row[-1] for row in rows))


def _traffic_point(ts_us: int, *values: Any) -> TrafficPoint:
    requests, errors, fallbacks, cost, priced, structured, valid, hist = values
    return TrafficPoint(
        ts_us=ts_us,
        requests=requests,
        errors=errors,
        fallbacks=fallbacks,
        p50=histogram.quantile(hist, HISTOGRAM_MS, 0.5),
        p95=histogram.quantile(hist, HISTOGRAM_MS, 0.95),
        cost=float(cost) if priced else None,
        structured=structured,
        valid=valid,
    )
