"""Traces: find the request."""

import math
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.responses import Response

from pilothouse.domain.errors import BadRequest
from pilothouse.server.pages import marks, quantities
from pilothouse.server.pages.context import LatencyBin, PageContext, TraceFilter, TraceList, TraceRow
from pilothouse.server.pages.render import Page, link

AGES = {"15m": 900, "1h": 3_600, "24h": 86_400, "7d": 604_800}
FACETS = {
    "outcome": "Outcome", "route": "Route", "error_type": "Error", "release": "Release", "model": "Model", "api": "API",
    "cache": "Cache",
}  # fmt: skip
_TEXT = ("route", "env", "outcome", "error_type", "model", "api", "cache")


class FacetView(msgspec.Struct, frozen=True):
    """A value to filter by: `href` adds it, or takes it off where it is chosen."""

    value: str
    n: int
    part: float  # of the largest value, 0 … 100
    chosen: bool
    href: str


class BinView(msgspec.Struct, frozen=True):
    """A bar of the histogram, a link to the requests in it."""

    bar: marks.Bar
    label: str
    href: str
    chosen: bool


class Row(msgspec.Struct, frozen=True):
    """A request with the length of its latency bar, 0 … 100 by logarithm."""

    it: TraceRow
    bar: float


def number(query: QueryParams, name: str) -> float | None:
    """A query parameter as a finite number; None where absent, BadRequest where it is none."""
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise BadRequest(f"{name} must be a number, not {text!r}", where="the address", hint="clear the filter")
    return value


def wanted(query: QueryParams, now_us: int) -> tuple[TraceFilter, dict[str, Any]]:
    """The filter that an address asks for, and the same as the query of every link on the page."""
    age = query.get("age", "")
    release = number(query, "release")
    chosen = TraceFilter(
        route=query.get("route", "").strip(),
        env=query.get("env", "").strip(),
        outcome=query.get("outcome", "").strip(),
        error_type=query.get("error_type", "").strip(),
        model=query.get("model", "").strip(),
        api=query.get("api", "").strip(),
        cache=query.get("cache", "").strip(),
        before=query.get("before", "").strip(),
        text=query.get("q", "").strip()[:200],
        release=None if release is None else int(release),
        min_ms=number(query, "min_ms"),
        max_ms=number(query, "max_ms"),
        since_us=now_us - AGES[age] * 1_000_000 if age in AGES else 0,
    )
    base: dict[str, Any] = {name: getattr(chosen, name) for name in _TEXT}
    base |= {"q": chosen.text, "release": chosen.release, "age": age if age in AGES else ""}
    base |= {"min_ms": _plain(chosen.min_ms), "max_ms": _plain(chosen.max_ms)}
    return chosen, base


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _facets(found: TraceList, base: dict[str, Any]) -> dict[str, list[FacetView]]:
    shown = {}
    for name in FACETS:
        values = sorted(found.facets.get(name, ()), key=lambda v: -v.n)[:8]
        most = max((v.n for v in values), default=1)
        current = str(base.get(name) if base.get(name) is not None else "")
        shown[name] = [
            FacetView(
                value=v.value,
                n=v.n,
                part=round(v.n / most * 100, 1),
                chosen=v.value == current,
                href=link(base, "/traces", **{name: "" if v.value == current else v.value}),
            )
            for v in values
        ]
    # One API is no choice.
    return {name: views for name, views in shown.items() if len(views) > (name == "api" and not base.get("api"))}


def _bins(found: tuple[LatencyBin, ...], base: dict[str, Any]) -> list[BinView]:
    views = []
    for bar, bin_ in zip(marks.bars([b.n for b in found], [b.failed for b in found]), found, strict=True):
        low, high = _plain(bin_.low_ms) if bin_.low_ms else "", _plain(bin_.high_ms)
        chosen = (base["min_ms"], base["max_ms"]) == (low, high) and bool(low or high)
        low_text = quantities.text(quantities.duration(bin_.low_ms))
        reach = "and more" if bin_.high_ms is None else f"to {quantities.text(quantities.duration(bin_.high_ms))}"
        label = f"{low_text} {reach}: {bin_.n:,} requests" + (f", {bin_.failed:,} failed" if bin_.failed else "")
        href = link(base, "/traces", **({"min_ms": "", "max_ms": ""} if chosen else {"min_ms": low, "max_ms": high}))
        views.append(BinView(bar, label, href, chosen))
    return views


def bar_length(ms: float) -> float:
    """1 ms → 0, 100 s → 100, by logarithm: a bar that compares across the page and between pages."""
    return round(min(100.0, max(1.5, math.log10(max(ms, 1.0)) * 20)), 1)


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /traces` with the filters as its query; an htmx request gets the results alone."""
    query = page.request.query_params
    chosen, base = wanted(query, page.now_us)
    found = await run_in_threadpool(ctx.list_requests, chosen)
    names = await run_in_threadpool(ctx.routes)
    rows = [Row(row, bar_length(row.duration_ms)) for row in found.rows]
    more = link(base, "/traces", before=found.rows[-1].id) if len(rows) == chosen.limit else ""
    target = page.request.headers.get("hx-target", "")
    template = "traces.html"
    if page.partial:
        template = "traces_more.html" if target == "more" else "traces_part.html"
    return page.respond(
        template,
        title="Traces",
        at="traces",
        found=found,
        rows=rows,
        facets=_facets(found, base),
        facet_names=FACETS,
        bins=_bins(found.histogram, base),
        base=base,
        chosen=chosen,
        active=[(k, v) for k, v in base.items() if v not in {"", None}],
        more=more,
        route_names=names,
        ages=AGES,
    )
