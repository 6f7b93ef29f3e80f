"""Traces: find the request."""

import math
import re
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, QueryParams
from starlette.responses import Response

from pilothouse.domain.errors import BadRequest
from pilothouse.server.pages import marks, quantities
from pilothouse.server.pages.context import PageContext, SavedView
from pilothouse.server.pages.guard import field, redirect
from pilothouse.server.pages.render import Page, link
from pilothouse.telemetry import filter as filters
from pilothouse.telemetry.filter import FIELDS, HAS, Query, Range, Term
from pilothouse.telemetry.histograms import Bin
from pilothouse.telemetry.listing import Asked, Found, Row

AGES = {"15m": 900, "1h": 3_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000}
AGE = "24h"  # where nothing is said: a list without a bound in time would read everything
ALL = "all"
FACETS = {
    "outcome": "Outcome", "route": "Route", "error": "Error", "model": "Model", "release": "Release",
    "env": "Environment", "app": "App", "source": "Source", "api": "API", "cache": "Cache",
}  # fmt: skip
ONE_IS_NO_CHOICE = {"api", "source", "env", "app"}
COMPLETED_MAX = 10


class FacetView(msgspec.Struct, frozen=True):
    """A value to filter by: `href` adds it, or takes it off where it is chosen."""

    value: str
    n: int
    part: float  # of the largest value, 0 … 100
    chosen: bool
    href: str


class BinView(msgspec.Struct, frozen=True):
    """A bar of a histogram, a link to what is in it; `low` and `high` are ends as the filter writes them."""

    bar: marks.Bar
    label: str
    href: str
    chosen: bool
    low: str
    high: str


class Chart(msgspec.Struct, frozen=True):
    """A histogram to brush. `rest`: the filter less its field."""

    field: str
    title: str
    rest: str
    bins: list[BinView]
    first: str
    last: str


class Line(msgspec.Struct, frozen=True):
    """A row of the list with the length of its latency bar, 0 … 100 by logarithm."""

    it: Row
    bar: float


class Offer(msgspec.Struct, frozen=True):
    """A completion: what it says, and the line with it taken."""

    word: str
    about: str
    line: str
    cursor: int


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


def age_of(query: QueryParams) -> str:
    """How far back an address looks."""
    age = query.get("age", "")
    return age if age in AGES or age == ALL else AGE


def since_us(age: str, now_us: int) -> int:
    """Where that begins; 0: no bound."""
    return now_us - AGES[age] * 1_000_000 if age in AGES else 0


def wanted(address: QueryParams, now_us: int) -> Asked:
    """The filter that an address asks for; BadRequest."""
    query = filters.of_address(address)
    low, high = number(address, "min_ms"), number(address, "max_ms")
    if low is not None or high is not None:
        query = Query((*query.without("latency").terms, Term("latency", ranges=(Range(low, high),))))
    return Asked(query=query, since_us=since_us(age_of(address), now_us), before=address.get("before", "").strip())


def _base(address: QueryParams, query: Query | None = None) -> dict[str, Any]:
    """What every link on the page carries."""
    age = age_of(address)
    live = "1" if address.get("live") == "1" else ""
    text = address.get("q", "") if query is None else str(query)
    return {"q": text, "age": "" if age == AGE else age, "live": live}


def _facets(found: Found, query: Query, base: dict[str, Any]) -> dict[str, list[FacetView]]:
    shown: dict[str, list[FacetView]] = {}
    for name in FACETS:
        values = dict(list(found.facets.get(name, {}).items())[:8])
        chosen = query.chosen(name)
        values |= {value: 0 for value in chosen if value not in values}
        most = max(values.values(), default=1) or 1
        views = [
            FacetView(
                value=value,
                n=n,
                part=round(n / most * 100, 1),
                chosen=value in chosen,
                href=link(base, "/traces", q=str(query.toggled(name, value))),
            )
            for value, n in values.items()
        ]
        if len(views) > (name in ONE_IS_NO_CHOICE and not chosen):
            shown[name] = views
    return shown


def _chart(name: str, title: str, found: tuple[Bin, ...], query: Query, base: dict[str, Any]) -> Chart | None:
    """A histogram as links; None where there is nothing to draw."""
    if not found:
        return None
    rest = query.without(name)
    asked = [term for term in query.terms if term.field == name and not term.negated]
    write = quantities.duration if name == "latency" else quantities.money
    views = []
    for bar, bin_ in zip(marks.bars([b.n for b in found], [b.failed for b in found]), found, strict=True):
        low, high = bin_.low or None, bin_.high
        one = Term(name, ranges=(Range(low, high),)) if low or high else None
        chosen = one in asked
        reach = "and more" if high is None else f"to {quantities.text(write(high))}"
        label = f"{quantities.text(write(bin_.low))} {reach}: {bin_.n:,}"
        label += f", {bin_.failed:,} failed" if bin_.failed else ""
        terms = (*rest.terms, one) if one and not chosen else rest.terms
        ends = [
            str(Term(name, ranges=(Range(e, e, through=True),))).partition(":")[2] if e else "" for e in (low, high)
        ]
        views.append(BinView(bar, label, link(base, "/traces", q=str(Query(terms))), chosen, ends[0], ends[1]))
    last = quantities.text(write(found[-1].low))
    return Chart(name, title, str(rest), views, quantities.text(write(found[0].low)), last)


def _end(name: str, value: float | None) -> str:
    """An end of a bar as the filter writes it; empty where it is open."""
    return str(Term(name, ranges=(Range(value, value, through=True),))).partition(":")[2] if value else ""


def bar_length(ms: float) -> float:
    """1 ms → 0, 100 s → 100, by logarithm: a bar that compares across the page and between pages."""
    return round(min(100.0, max(1.5, math.log10(max(ms, 1.0)) * 20)), 1)


def lines(rows: list[Row]) -> list[Line]:
    """Rows as the list draws them."""
    return [Line(row, bar_length(row.duration_ms)) for row in rows]


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /traces` with the filter as `q`; an htmx request gets the results alone."""
    address = page.request.query_params
    try:
        asked = wanted(address, page.now_us)
    except BadRequest as error:
        if not (place := re.match(r"character (\d+) of the filter", error.where)):
            raise
        return await _wrong(ctx, page, error, int(place[1]))
    base = _base(address, asked.query)
    found = await run_in_threadpool(ctx.list_traces, asked)
    template = "traces.html"
    if page.partial:
        template = "traces_more.html" if page.request.headers.get("hx-target") == "more" else "traces_part.html"
    charts = (
        _chart("latency", "Latency", found.latency, asked.query, base),
        _chart("cost", "Cost", found.cost, asked.query, base),
    )
    return page.respond(
        template,
        title="Traces",
        at="traces",
        found=found,
        rows=lines(found.rows),
        facets=_facets(found, asked.query, base),
        facet_names=FACETS,
        charts=[chart for chart in charts if chart],
        base=base,
        terms=asked.query.terms,
        more=link(base, "/traces", before=found.next, live="") if found.next else "",
        **await _frame(ctx, page),
    )


async def _frame(ctx: PageContext, page: Page) -> dict[str, Any]:
    views = await run_in_threadpool(ctx.views, str(page.actor))
    return {"views": views, "ages": [*AGES, ALL], "age": age_of(page.request.query_params), "fields": FIELDS}


async def _wrong(ctx: PageContext, page: Page, error: BadRequest, at: int) -> Response:
    """The list's frame with what is wrong in the line; htmx swaps answers of 200 alone."""
    text = page.request.query_params.get("q", "")
    begin = max(0, at - 40)
    return page.respond(
        "traces_wrong.html" if page.partial else "traces.html",
        status=200 if page.partial else 400,
        title="Traces",
        at="traces",
        base=_base(page.request.query_params),
        wrong=error,
        excerpt=text[begin : at + 40],
        caret=" " * (at - 1 - begin) + "▲",
        **await _frame(ctx, page),
    )


async def complete(ctx: PageContext, page: Page) -> Response:
    """`GET /traces/complete?q=&at=`: what could stand at the cursor, names first and then values that there are."""
    address = page.request.query_params
    text = address.get("q", "")[: filters.LENGTH_MAX]
    at = address.get("at", "")
    place = filters.typed_at(text, int(at) if at.isdigit() and len(at) < 6 else len(text))
    if place.field:
        found = await run_in_threadpool(_values, ctx, page, text, place)
        offers = [_offer(text, place, value, f"{n:,}" if n else "") for value, n in found]
    else:
        typed = place.typed.lower()
        named = [one for one in FIELDS.values() if one.name.startswith(typed)]
        offers = [_offer(text, place, _opened(one.name, one.kind), one.about) for one in named]
    return page.respond("complete.html", offers=offers[:COMPLETED_MAX], at="traces", title="Completions")


def _opened(name: str, kind: str) -> str:
    return name + (">" if kind == "number" else ":")


def _offer(text: str, place: filters.Place, word: str, about: str) -> Offer:
    line, cursor = filters.completed(text, place, word)
    return Offer(word, about, line, cursor)


def _values(ctx: PageContext, page: Page, text: str, place: filters.Place) -> list[tuple[str, int]]:
    known = FIELDS.get(place.field)
    if known is None or known.kind == "number":
        return []
    if known.kind != "text":
        words = HAS if known.kind == "has" else ("true", "false")
        return [(word, 0) for word in words if word.startswith(place.typed.lower())]
    try:
        rest = filters.parse(f"{text[: place.start]}x{text[place.end :]}").without(place.field)
    except BadRequest:  # another term is not finished yet
        rest = Query()
    since = since_us(age_of(page.request.query_params), page.now_us)
    return ctx.values(Asked(query=rest, since_us=since), place.field, place.typed)


async def save(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /views`: keep the filter under a name, for oneself or for all."""
    query = str(filters.parse(field(form, "q")))
    age = field(form, "age")
    owner = "" if field(form, "shared") else str(page.actor)
    view = SavedView(name=field(form, "name"), owner=owner, filter=query, age=age if age in AGES or age == ALL else "")
    await ctx.save_view(view, page.actor)
    return redirect(page, link({"q": query, "age": view.age}, "/traces"))


async def drop(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /views/delete`: take a view away, one's own or one for all."""
    owner = "" if field(form, "shared") else str(page.actor)
    await ctx.drop_view(SavedView(name=field(form, "name"), owner=owner), page.actor)
    return redirect(page, "/traces")
