"""The review as a fragment of a page: everything that is not ours is escaped by the template."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from pilothouse.domain.finding import Review, RouteReview
from pilothouse.review import page
from pilothouse.review.render_markdown import by_layer

_CSS = {"FAIL": "fail", "WARN": "warn", "NO_DATA": "no-data", "STALE": "stale", "WAIVED": "waived",
        "PASS": "pass", "N/A": "na"}  # fmt: skip


def _css(status: str) -> str:
    return _CSS[status]


_environment = Environment(
    loader=PackageLoader("pilothouse.review"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_environment.filters["css"] = _css


def html(review: Review) -> str:
    """One `<div class="review">`, one `<article>` for each route, printable on a page each."""
    template = _environment.get_template("review.html")
    routes = [_route(route, review) for route in review.routes]
    return template.render(review=review, routes=routes, sentence=page.sentence(review.ready))


def _route(route: RouteReview, review: Review) -> dict[str, object]:
    return {
        "it": route,
        "people": page.people(route),
        "requests": page.requests(route, review),
        "parts": page.parts(route),
        "security": page.security(route),
        "wrong": [_row(row) for row in page.wrong(route)],
        "missing": page.missing(route),
        "counts": page.counts(route),
        "last_drill": page.last_drill(route),
        "layers": by_layer(route.findings),
    }


def _row(row: page.Row) -> dict[str, object]:
    pieces = [(text, bool(i % 2)) for i, text in enumerate(row.fix.split("`")) if text]
    return {"cells": row.cells, "css": _css(row.status), "detail": row.detail, "fix": pieces, "evidence": row.evidence}
