"""Requests for pages and their JSON twins: one request, payloads, traffic over time. Lists: `telemetry.listing`."""

from collections.abc import Sequence
from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest
from pilothouse.stats import histogram
from pilothouse.store.telemetry import HISTOGRAM_MS, TelemetryStore, dialect
from pilothouse.telemetry import lookup, payloads, rollups
from pilothouse.telemetry.waterfall import Waterfall, spans, trace, without_ts

__all__ = [
    "InFull",
    "Traffic",
    "TrafficPoint",
    "Waterfall",
    "in_full",
    "in_full_between",
    "payload",
    "request",
    "request_row",
    "spans",
    "trace",
    "traffic",
]


_AT_ONCE = 500  # ids of one query


def request_row(store: TelemetryStore, request_id: str) -> dict[str, Any] | None:
    """Everything but payloads about one request, with its attempts and its scores."""
    time = lookup.within(store, request_id, "ts")
    found = store.query(
        f"SELECT *, epoch_us(ts) AS ts_us FROM requests WHERE id = ? AND {time.sql} LIMIT 1",  # noqa: S608  # bound
        [request_id, *time.params],
    )
    if not found:
        return None
    row = without_ts(found[0])
    row["attempts"] = [
        without_ts(attempt)
        for attempt in store.query(
            f"SELECT * FROM attempts WHERE request_id = ? AND {time.sql} ORDER BY n",  # noqa: S608  # bound
            [request_id, *time.params],
        )
    ]
    row["scores"] = [
        without_ts(score)
        for score in store.query(
            "SELECT *, epoch_us(ts) AS ts_us FROM scores WHERE request_id = ? ORDER BY ts", [request_id]
        )
    ]
    return row


def request(store: TelemetryStore, request_id: str) -> dict[str, Any] | None:
    """The same, with the spans of its trace."""
    row = request_row(store, request_id)
    if row is not None:
        row["spans"] = spans(store, row["trace_id"])
    return row


def payload(store: TelemetryStore, owner: str) -> dict[str, str] | None:
    """The stored bodies of a request (by id) or span (by `trace_id/span_id`); None where none were kept."""
    return payloads.fetch(store, [owner]).get(owner)


class InFull(msgspec.Struct, frozen=True):
    """Whose bodies were kept in full; route and environment are empty where its row is gone."""

    owner: str
    route: str = ""
    env: str = ""


def in_full(store: TelemetryStore, owners: Sequence[str]) -> list[InFull]:
    """Those of `owners` whose bodies may hold personal data; one whose row is gone is taken for such a one."""
    requests = [owner for owner in owners if "/" not in owner]
    spans = [tuple(owner.split("/", 1)) for owner in owners if "/" in owner]
    rows: dict[str, tuple[str, str, str]] = {}
    for first in range(0, len(requests), _AT_ONCE):
        part = requests[first : first + _AT_ONCE]
        marks = ", ".join("?" * len(part))
        asked = f"SELECT id, log_mode, route, env FROM requests WHERE id IN ({marks})"  # noqa: S608  # marks alone
        rows |= {owner: (mode or "", route or "", env or "") for owner, mode, route, env in store.rows(asked, part)}
    for trace_id, span_id in spans:
        asked = "SELECT log_mode, route, env FROM spans WHERE trace_id = ? AND span_id = ?"
        for mode, route, env in store.rows(asked, [trace_id, span_id]):
            rows[f"{trace_id}/{span_id}"] = (mode or "", route or "", env or "")
    found = [(owner, rows.get(owner, ("full", "", ""))) for owner in owners]
    return [InFull(owner, route, env) for owner, (mode, route, env) in found if mode == "full"]


def in_full_between(store: TelemetryStore, since_us: int, until_us: int) -> list[tuple[str, str, int]]:
    """(route, environment, rows) of what was kept in full in that time."""
    between = f"log_mode = 'full' AND ts >= {dialect.at()} AND ts < {dialect.at()}"
    found = store.rows(
        f"""SELECT route, env, count(*) FROM (
  SELECT route, env FROM requests WHERE {between} UNION ALL SELECT route, env FROM spans WHERE {between})
GROUP BY route, env ORDER BY route, env""",  # noqa: S608  # our own fragments
        [since_us, until_us, since_us, until_us],
    )
    return [(route or "", env or "", int(count)) for route, env, count in found]


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
    source, window = rollups.source(rollups.REQUESTS, since_us, until_us, bucket_s)
    rows = store.rows(
        f"""SELECT route, env, epoch_us({dialect.time_bucket("minute", bucket_s)}) AS bucket, sum(requests)::BIGINT,
  coalesce(sum(requests) FILTER (outcome = 'failed'), 0)::BIGINT, sum(fallbacks)::BIGINT, sum(cost_usd),
  sum(priced)::BIGINT, sum(structured)::BIGINT, sum(valid)::BIGINT, {dialect.merged("duration_hist")}
FROM {source} rolled WHERE source = 'edge' AND (? = '' OR route = ?) AND (? = '' OR env = ?)
GROUP BY ALL ORDER BY route, env, bucket""",  # noqa: S608  # our own fragments
        [*window, route, route, env, env],
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
