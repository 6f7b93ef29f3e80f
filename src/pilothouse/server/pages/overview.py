"""Overview: is anything wrong, and who has it?"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pilothouse.domain.alert import Alert
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.server.pages import marks, quantities
from pilothouse.server.pages.alerts import ordered
from pilothouse.server.pages.context import (
    WINDOW_S,
    Mark,
    Overview,
    PageContext,
    RouteOverview,
    TrafficPoint,
    Window,
)
from pilothouse.server.pages.render import Page

WINDOWS: dict[str, Window] = {"1h": "1h", "24h": "24h", "7d": "7d"}
WINDOW_NAMES = {"1h": "the last hour", "24h": "the last 24 hours", "7d": "the last 7 days"}


class Cell(msgspec.Struct, frozen=True):
    """A figure with its sparkline. `form` tells the reader's script how to write a value on hover."""

    figure: quantities.Quantity
    note: str
    spark: marks.Spark
    form: str
    name: str


class RowView(msgspec.Struct, frozen=True):
    """A route as a row."""

    route: RouteOverview
    cells: tuple[Cell, ...]
    marks: tuple[tuple[float, Mark], ...]
    firing: int
    selected: bool


def _rate(part: int | float, whole: int) -> float | None:
    return part / whole if whole else None


def filled(points: Iterable[TrafficPoint], since_us: int, until_us: int, bucket_s: int) -> list[TrafficPoint]:
    """One point per bucket; a bucket without a point had no requests."""
    bucket = bucket_s * 1_000_000
    start = since_us // bucket * bucket
    known = {point.ts_us // bucket * bucket: point for point in points}
    return [known.get(ts) or TrafficPoint(ts_us=ts, requests=0) for ts in range(start, until_us, bucket)]


def _cells(row: RouteOverview, points: list[TrafficPoint], window: str) -> tuple[Cell, ...]:
    hours = WINDOW_S[window] / 3_600
    per_hour = row.requests / hours
    costs = [None if p.cost_usd is None or not p.requests else p.cost_usd / p.requests for p in points]
    return (
        Cell(
            quantities.count(row.requests),
            f"{per_hour:,.0f} per hour" if per_hour >= 10 else f"{per_hour:.1f} per hour",
            marks.spark([p.requests for p in points]),
            "n",
            "Requests",
        ),
        Cell(
            quantities.duration(row.p95_ms),
            f"n\u202f=\u202f{row.requests:,}",
            marks.spark([p.p95_ms for p in points]),
            "ms",
            "p95 latency",
        ),
        Cell(
            quantities.share(_rate(row.errors, row.requests)),
            f"{row.errors:,} of {row.requests:,}",
            marks.spark([_rate(p.errors, p.requests) for p in points], top=max(0.02, *_error_rates(points), 0.0)),
            "share",
            "Error rate",
        ),
        Cell(
            quantities.money(None if row.cost_usd is None else _rate(row.cost_usd, row.priced)),
            _cost_note(row),
            marks.spark(costs),
            "usd",
            "Cost per request",
        ),
        Cell(
            quantities.share(row.quality),
            f"{row.quality_name}, n\u202f=\u202f{row.quality_n:,}" if row.quality_n else "not measured",
            marks.spark([p.quality for p in points], floor=None, top=1.0),
            "share",
            f"Quality: {row.quality_name}",
        ),
    )


def _error_rates(points: list[TrafficPoint]) -> list[float]:
    return [p.errors / p.requests for p in points if p.requests]


def _cost_note(row: RouteOverview) -> str:
    if row.cost_usd is None:
        return "no price known" if row.requests else ""
    total = quantities.text(quantities.money(row.cost_usd))
    return f"{total} in all" if row.priced == row.requests else f"{row.priced:,} of {row.requests:,} priced"


def _rows(data: Overview, selected: str) -> list[RowView]:
    firing = {row.route: 0 for row in data.routes}
    for alert in data.alerts:
        if alert.state in {"firing", "acknowledged"} and alert.route in firing:
            firing[alert.route] += 1
    rows = []
    for row in data.routes:
        points = filled(row.points, data.since_us, data.until_us, data.bucket_s)
        at = [(marks.place_us(m.ts_us, data.since_us, data.until_us), m) for m in data.marks if m.route == row.route]
        cells = _cells(row, points, data.window)
        rows.append(RowView(row, cells, tuple(at), firing[row.route], row.route == selected))
    return sorted(rows, key=lambda r: (-r.firing, r.route.ready is not False, -r.route.requests, r.route.route))


def _worst(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return max(known) if known else None


def chart(data: Overview, route: str) -> dict[str, Any]:
    """Series of the shared time axis for one route, or for all: sums, and the slowest route's p95."""
    chosen = [row for row in data.routes if route in {"", row.route}]
    columns = [filled(row.points, data.since_us, data.until_us, data.bucket_s) for row in chosen]
    buckets = list(zip(*columns, strict=True)) if columns else []

    def summed(value: Callable[[TrafficPoint], float | None]) -> list[float | None]:
        sums: list[float | None] = []
        for bucket in buckets:
            known = [v for v in map(value, bucket) if v is not None]
            sums.append(float(f"{sum(known):.6g}") if known else None)
        return sums

    traffic = summed(lambda p: p.requests)
    errors = summed(lambda p: p.errors)
    shown = [m for m in data.marks if route in {"", m.route}]
    return {
        "t": [bucket[0].ts_us // 1_000_000 for bucket in buckets],
        "n": traffic,
        "bucket_s": data.bucket_s,
        "panels": [
            {"name": "Requests", "form": "n", "bars": True, "v": traffic},
            {
                "name": "p95 latency" if route else "p95, slowest route",
                "form": "ms",
                "v": [_worst(p.p95_ms for p in bucket) for bucket in buckets],
            },
            {
                "name": "Error rate",
                "form": "share",
                "v": [e / n if n and e is not None else None for e, n in zip(errors, traffic, strict=True)],
            },
            {"name": "Cost", "form": "usd", "v": summed(lambda p: p.cost_usd)},
        ],
        "marks": [
            {"t": m.ts_us / 1e6, "kind": m.kind, "text": m.text if route else f"{m.route}: {m.text}"} for m in shown
        ],
    }


def verdict(data: Overview) -> tuple[str, str]:
    """The answer to the page's question: a status and a sentence."""

    def in_state(state: str) -> list[Alert]:
        return [alert for alert in data.alerts if alert.state == state]

    if firing := in_state("firing"):
        owners = ", ".join(sorted({a.owner for a in firing if a.owner})) or "nobody"
        many = "1 alert is firing" if len(firing) == 1 else f"{len(firing)} alerts are firing"
        return "FAIL", f"{many}; {owners} {'has' if len(firing) == 1 else 'have'} it."
    if pending := in_state("pending"):
        return "WARN", f"{len(pending)} pending: over the threshold, not yet for long enough to fire."
    if acknowledged := in_state("acknowledged"):
        who = ", ".join(sorted({a.acknowledged_by or a.owner for a in acknowledged}))
        return "WARN", f"{len(acknowledged)} acknowledged, in the hands of {who}."
    if blind := in_state("no_data"):
        return "NO_DATA", f"{len(blind)} of the rules see no data."
    if not any(row.requests for row in data.routes):
        return "NO_DATA", "No traffic yet, so nothing is known."
    return "PASS", "Nothing is firing."


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /?window=&env=&route=`."""
    query = page.request.query_params
    window = WINDOWS.get(query.get("window", ""), "24h")
    env = query.get("env", "prod") if query.get("env", "prod") in ENVIRONMENTS else "prod"
    data = await run_in_threadpool(ctx.overview, window, env)
    names = {row.route for row in data.routes}
    selected = query.get("route", "") if query.get("route", "") in names else ""
    return page.respond(
        "overview_part.html" if page.partial else "overview.html",
        title="Overview",
        at="overview",
        data=data,
        rows=_rows(data, selected),
        alerts=ordered(data.alerts),
        verdict=verdict(data),
        selected=selected,
        chart=msgspec.json.encode(chart(data, selected)).decode(),
        windows=WINDOW_NAMES,
        envs=ENVIRONMENTS,
        base={
            "window": window if window != "24h" else "",
            "env": env if env != "prod" else "",
            "route": selected,
        },
    )
