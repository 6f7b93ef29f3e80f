"""The review for a pull request or a wiki: GitHub's Markdown, the rest folded by layer."""

from collections.abc import Iterable

from pilothouse.domain.finding import Finding, Review, RouteReview
from pilothouse.review import page

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\|*_[]<>#`"})


def markdown(review: Review) -> str:
    """All routes, worst first."""
    blocks = [_route(route, review) for route in review.routes] or ["No route to review.\n"]
    return "\n".join([*blocks, f"**{page.sentence(review.ready)}**", ""])


def _route(route: RouteReview, review: Review) -> str:
    release = "nothing live" if route.release is None else f"release {route.release}"
    parts = " · ".join(
        f"{part.name} {'n/a' if part.score is None else f'{part.score:.2f}'} {'✓' if part.ok else '✗'}"
        for part in page.parts(route)
    )
    about = (route.env, release, route.tier, page.people(route), page.requests(route, review), route.window)
    lines = [
        f"## {escape(route.route)}: {'READY' if route.ready else 'NOT READY'}",
        "",
        f"{parts} · {page.security(route)} · ready from {route.floor:.2f}",
        "",
        f"{escape(' · '.join(about))} · {review.measured_at}",
        "",
    ]
    if rows := page.wrong(route):
        lines += ["| status | item | value | n | threshold | owner → fallback | fix |", "|---|---|---|--:|---|---|---|"]
        lines += [_row(each) for each in rows]
        lines.append("")
    for reason, ids in page.missing(route):
        lines += [f"NO DATA: {len(ids)} items, {escape(reason)} ({', '.join(ids)}).", ""]
    lines += [" · ".join(page.counts(route)), ""]
    lines += _folded(route.findings)
    return "\n".join(lines)


def _row(each: page.Row) -> str:
    status, ident, title, value, n, threshold, who = (escape(cell) for cell in each.cells)
    measured = f"{value}<br>{escape(each.detail)}" if each.detail else value
    named = f"[{ident}]({each.evidence.replace(' ', '%20')}) {title}" if each.evidence else f"{ident} {title}"
    cells = (status, named, measured, n.removeprefix("n="), threshold, who, _code(each.fix))
    return f"| {' | '.join(cells)} |"


def _code(text: str) -> str:
    """Escaped, except between backticks, where Markdown takes text as it is (but for the table's own bar)."""
    pieces = text.split("`")
    return "`".join(p.replace("|", "\\|") if i % 2 else escape(p) for i, p in enumerate(pieces))


def _folded(findings: Iterable[Finding]) -> list[str]:
    lines: list[str] = []
    for layer, rows in by_layer(findings):
        good = sum(found.status == "PASS" for found in rows)
        lines += [f"<details><summary>{escape(layer)}: {good} of {len(rows)} pass</summary>", ""]
        lines += [f"- {f.status.replace('_', ' ')} {f.id} {escape(f.title)}: {escape(f.value)}" for f in rows]
        lines += ["", "</details>", ""]
    return lines


def by_layer(findings: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """All findings, in the list's order of layers and ids."""
    layers: dict[str, list[Finding]] = {}
    for found in sorted(findings, key=_in_order):
        layers.setdefault(found.layer, []).append(found)
    return list(layers.items())


_NUMBERED = "TCIVG"
_CADENCES = {"CR": 0, "CW": 1, "CM": 2, "CQ": 3}


def _in_order(found: Finding) -> tuple[int, int, tuple[int, ...]]:
    head, _, tail = found.id.partition(".")
    numbers = tuple(int(digits) for part in (head, tail) if (digits := "".join(c for c in part if c.isdigit())))
    return _NUMBERED.index(found.id[0]), _CADENCES.get(head, 0), numbers


def escape(text: str) -> str:
    """Text that stands for itself in Markdown and in a table cell."""
    return text.replace("\n", " ").translate(_SPECIAL)
