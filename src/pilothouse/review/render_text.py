"""The review in a terminal: the verdict, then what is wrong, worst first, with its fix; what is right in one line."""

from io import StringIO
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pilothouse.domain.finding import Review, RouteReview
from pilothouse.review import page

INDENT = 2
GAP = 2
_KEPT = 4  # status, id, title and value stay; columns to the right of them go when there is no room
_STYLE = {"FAIL": "bold red", "WARN": "yellow", "NO_DATA": "cyan", "STALE": "magenta"}
ONE_LINE = 120  # columns that a list of ids may take where the width is not known
_WIDE = 10_000  # columns of something that is not a terminal


def text(review: Review, *, width: int | None = None, colour: bool = False) -> str:
    """All routes, worst first. `width`: of the terminal, in columns; None: not a terminal, nothing is left out."""
    columns = width or _WIDE
    if not review.routes:
        return "no route to review\n"
    lines: list[Text] = []
    for route in review.routes:
        lines += [*_route(route, review, columns), Text()]
    lines += _verdict(review, columns)
    cut = [_cut(line, columns) for line in lines]
    return _coloured(cut) if colour else "".join(f"{line.plain.rstrip()}\n" for line in cut)


def _verdict(review: Review, columns: int) -> list[Text]:
    if review.ready:
        return [Text(page.READY, "green")]
    return [Text(line) for line in wrap(page.VERDICT, columns)]


def _route(route: RouteReview, review: Review, columns: int) -> list[Text]:
    rows, left_out = page.fitting(route)
    lines = [_title(route, review, columns), _readiness(route, columns), Text()]
    lines += _rows(rows, columns)
    if left_out:
        lines.append(Text(f"{' ' * INDENT}and {left_out} more: pilothouse review {route.route} --format json"))
    lines += [_missing(reason, ids, columns) for reason, ids in page.missing(route)]
    lines += [Text(" " * INDENT + "   ".join(page.counts(route))), Text(), _three(route)]
    return lines


def _title(route: RouteReview, review: Review, columns: int) -> Text:
    release = "nothing live" if route.release is None else f"release {route.release}"
    left = "   ".join((route.route, route.env, release, route.tier, page.people(route)))
    when = review.measured_at[:16].replace("T", " ")
    right = f"{when}, {route.window}, {page.requests(route, review)}"
    line = Text(left, "bold")
    if columns == _WIDE or cell_len(left) + 3 + cell_len(right) <= columns:
        line.append("   " + right, "not bold")
    return line


def _readiness(route: RouteReview, columns: int) -> Text:
    line = Text("READY    " if route.ready else "NOT READY", "bold green" if route.ready else "bold red")
    words = [f"{part.name} {'n/a' if part.score is None else f'{part.score:.2f}'}" for part in page.parts(route)]
    for word in (*words, page.security(route), f"ready from {route.floor:.2f}"):
        if cell_len(line.plain) + 4 + cell_len(word) > columns:
            break
        line.append(f"    {word}", "not bold default")
    return line


def _rows(rows: list[page.Row], columns: int) -> list[Text]:
    """Aligned cells with detail and fix beneath; columns that do not fit go, from the right, in all rows alike."""
    if not rows:
        return []
    widths = [max(cell_len(each.cells[i]) for each in rows) for i in range(len(rows[0].cells))]
    shown = len(widths)
    while shown > _KEPT and INDENT + sum(widths[:shown]) + GAP * (shown - 1) > columns:
        shown -= 1
    under = " " * (INDENT + widths[0] + widths[1] + 2 * GAP)
    lines: list[Text] = []
    for each in rows:
        line = Text(" " * INDENT)
        for i, cell in enumerate(each.cells[:shown]):
            padded = cell + " " * (widths[i] - cell_len(cell) + GAP)
            line.append(padded, _STYLE.get(each.status, "") if i == 0 else "")
        lines.append(line)
        if each.detail:
            lines.append(Text(f"{under}{each.detail}", "dim"))
        if each.fix:
            lines.append(Text(_fix(each.fix, under, columns)))
    return lines


def _fix(fix: str, under: str, columns: int) -> str:
    """The fix; where that is too long for the terminal only its command, because half of one helps nobody."""
    plain = f"{under}fix: {fix.replace('`', '')}"
    command = next(
        (code for code in fix.split("`")[1::2] if code.startswith("pilothouse ") and code != "pilothouse up"), ""
    )
    return f"{under}fix: {command}" if command and cell_len(plain) > columns else plain


def _missing(reason: str, ids: list[str], columns: int) -> Text:
    """One line for all items that share a reason: as many ids as fit."""
    head = f"{' ' * INDENT}NO DATA  {len(ids)} items, {reason}"
    for shown in range(len(ids), 0, -1):
        more = f" and {len(ids) - shown} more" if shown < len(ids) else ""
        line = f"{head}: {' '.join(ids[:shown])}{more}"
        if cell_len(line) <= min(columns, ONE_LINE):
            return Text(line)
    return Text(head)


def _three(route: RouteReview) -> Text:
    line = Text(" " * INDENT)
    for part in page.parts(route):
        mark, style = ("–", "") if part.score is None else ("✓", "green") if part.ok else ("✗", "red")
        line.append(f"{part.name} ").append(mark, style).append("   ", "default")
    return line.append(page.last_drill(route), "default")


def _cut(line: Text, columns: int) -> Text:
    if cell_len(line.plain.rstrip()) > columns:
        line.truncate(columns, overflow="ellipsis")
    return line


def _coloured(lines: list[Text]) -> str:
    out = StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=_WIDE, highlight=False)
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)
    return out.getvalue()
