"""Requests and traces: the list with its facets, one request with its trace, its payload."""

from pilothouse.domain.record import Payload
from pilothouse.server.composition import Control
from pilothouse.server.pages.context import FacetValue, LatencyBin, TraceDetail, TraceFilter, TraceList, TraceRow
from pilothouse.server.views import rows
from pilothouse.store.telemetry import dialect
from pilothouse.telemetry import read, waterfall
from pilothouse.telemetry.read import RequestFilter, RequestRow

_FACETS = ("route", "outcome", "error_type", "release", "model", "api", "cache")
BINS_MS = (0.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 30_000.0)


def list_requests(control: Control, wanted: TraceFilter) -> TraceList:
    """A page of requests, newest first; BadRequest for a limit or cursor that cannot be."""
    asked = _asked(control, wanted)
    page = read.list_requests(control.telemetry, asked)
    counted = read.facets(control.telemetry, asked)
    return TraceList(
        rows=tuple(row(one) for one in page.rows),
        total=page.total,
        capped=page.capped,
        facets={name: tuple(FacetValue(v, n) for v, n in counted[name].items() if v) for name in _FACETS},
        histogram=_histogram(control, wanted),
    )


def _asked(control: Control, wanted: TraceFilter) -> RequestFilter:
    return RequestFilter(
        route=wanted.route,
        env=wanted.env,
        outcome=wanted.outcome,
        error_type=wanted.error_type,
        release=wanted.release,
        model=wanted.model,
        api=wanted.api,
        cache=wanted.cache,
        text=wanted.text,
        min_ms=wanted.min_ms or 0.0,
        max_ms=wanted.max_ms or 0.0,
        since_us=wanted.since_us,
        until_us=wanted.until_us,
        before=_cursor(control, wanted.before),
        limit=wanted.limit,
    )


def _cursor(control: Control, before: str) -> str:
    """The reader's cursor for "after the row with this id"; empty where that row is gone."""
    if not before:
        return ""
    found = control.telemetry.rows("SELECT epoch_us(ts) FROM requests WHERE id = ? LIMIT 1", [before])
    return f"{found[0][0]}:{before}" if found else ""


def row(one: RequestRow) -> TraceRow:
    """A row of the list as the pages know it."""
    return TraceRow(
        id=one.id,
        ts_us=one.ts_us,
        trace_id=one.trace_id,
        env=one.env,
        route=one.route,
        release=one.release,
        canary=one.canary,
        source=one.source,
        outcome=one.outcome,
        status=one.status,
        error_type=one.error_type or "",
        served_model=one.model or "",
        requested_model=one.requested_model or "",
        attempt_count=one.attempt_count,
        duration_ms=one.duration_ms,
        ttft_ms=one.ttft_ms,
        input_tokens=one.input_tokens,
        output_tokens=one.output_tokens,
        cost_usd=one.cost_usd,
        preview_in=one.preview_in or "",
    )


def _histogram(control: Control, wanted: TraceFilter) -> tuple[LatencyBin, ...]:
    """Requests by duration under the filters of route, environment, outcome, release, API, cache and time."""
    where, params = ["source = 'edge'"], []
    for name in ("route", "env", "outcome", "error_type", "release", "api", "cache"):
        value = getattr(wanted, name)
        if value not in ("", None):
            where.append(f"{name} = ?")
            params.append(value)
    if wanted.since_us:
        where.append(f"ts >= {dialect.at()}")
        params.append(wanted.since_us)
    if wanted.until_us:
        where.append(f"ts < {dialect.at()}")
        params.append(wanted.until_us)
    steps = " + ".join(f"(duration_ms >= {low})::INT" for low in BINS_MS[1:])
    found = control.telemetry.rows(
        f"SELECT {steps} AS bin, count(*), count(*) FILTER (outcome = 'failed') FROM requests "  # noqa: S608  # own names
        f"WHERE {' AND '.join(where)} GROUP BY bin",
        params,
    )
    counts = {bin_: (n, failed) for bin_, n, failed in found}
    highs: tuple[float | None, ...] = (*BINS_MS[1:], None)
    return tuple(
        LatencyBin(low, high, *counts.get(index, (0, 0)))
        for index, (low, high) in enumerate(zip(BINS_MS, highs, strict=True))
    )


def request(control: Control, ident: str) -> TraceDetail | None:
    """A request by its id, or the first of a trace by the trace's id; None where nothing of it is stored."""
    found = read.request(control.telemetry, ident)
    if found is None:
        first = control.telemetry.rows("SELECT id FROM requests WHERE trace_id = ? ORDER BY ts LIMIT 1", [ident])
        found = read.request(control.telemetry, first[0][0]) if first else None
    if found is None:
        return None
    record = rows.record(found)
    return TraceDetail(
        record=record,
        spans=tuple(rows.span(one) for one in found["spans"]),
        siblings=_siblings(control, record.trace_id, record.id),
        waterfall=waterfall.trace(control.telemetry, record.trace_id),
        replay=f"pilothouse trace replay {record.id}",
    )


def _siblings(control: Control, trace_id: str, ident: str) -> tuple[TraceRow, ...]:
    page = read.list_requests(control.telemetry, RequestFilter(text=trace_id, source="", limit=50))
    return tuple(row(one) for one in page.rows if one.trace_id == trace_id and one.id != ident)


def payload(control: Control, owner: str) -> Payload | None:
    """The stored bodies of a request or span; None where the log mode keeps none."""
    found = read.payload(control.telemetry, owner)
    return Payload(**found) if found is not None else None
