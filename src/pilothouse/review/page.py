"""What the one page of a route says, in which order: the same rows for text, Markdown and HTML."""

import msgspec

from pilothouse.domain.finding import Finding, Review, RouteReview
from pilothouse.review.triggers import REOPENS

MAX_LINES = 60  # G5: a review that does not fit on one page is not read
UNMEASURED = "not measured yet"
VERDICT = "if you cannot observe it, evaluate it, and roll it back, it is not ready for production"
READY = "it can be observed, evaluated and rolled back: it is ready for production"
_SHARED = 3  # so many lines with the same reason become one
_WRONG = ("FAIL", "WARN", "NO_DATA", "STALE")


def sentence(ready: bool) -> str:
    """The last line, as a sentence."""
    text = READY if ready else VERDICT
    return f"{text[0].upper()}{text[1:]}."


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that needs somebody, as cells: status, id, title, value, n, threshold, who → what happens."""

    cells: tuple[str, ...]
    detail: str
    fix: str
    status: str
    evidence: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One of the three scores: its name, its value, and whether it reaches the floor; None: nothing applies."""

    name: str
    score: float | None
    ok: bool


def parts(route: RouteReview) -> tuple[Part, ...]:
    """Observe, evaluate, roll back."""
    named = (("observe", route.observe), ("evaluate", route.evaluate), ("roll back", route.roll_back))
    return tuple(Part(name=n, score=s, ok=s is not None and s >= route.floor) for n, s in named)


def requests(route: RouteReview, review: Review) -> str:
    """How many requests were measured, and on which host where others have telemetry of their own."""
    said = f"{route.requests:,} requests"
    return f"{said} on {review.hosts[0]} alone, not on {', '.join(review.hosts[1:])}" if review.hosts else said


def people(route: RouteReview) -> str:
    """Owner and backup."""
    return ", ".join(who for who in (route.owner, route.backup) if who) or "nobody"


def wrong(route: RouteReview) -> list[Row]:
    """What needs somebody, worst first; lines without data that share their reason are in `missing`."""
    gathered = {ident for _, ids in missing(route) for ident in ids}
    return [row(found) for found in route.findings if found.status in _WRONG and found.id not in gathered]


def missing(route: RouteReview) -> list[tuple[str, list[str]]]:
    """Reasons for NO DATA that several items share, each with the ids; what nothing measures yet comes last."""
    reasons: dict[str, list[str]] = {}
    for found in route.findings:
        if found.status == "NO_DATA":
            reasons.setdefault(found.value, []).append(found.id)
    last = reasons.pop(UNMEASURED, [])
    shared = [(reason, ids) for reason, ids in reasons.items() if len(ids) >= _SHARED]
    return [*shared, (UNMEASURED, last)] if last else shared


def row(found: Finding) -> Row:
    """A finding as a row."""
    n = "" if found.n is None else f"n={_short(found.n)}"
    who = f"{found.owner or 'nobody'} → {found.fallback}" if found.fallback else found.owner
    status = found.status.replace("_", " ")
    crossed = found.threshold if found.status in ("FAIL", "WARN") else ""
    cells = (status, found.id, found.title, found.value, n, crossed, who)
    return Row(cells=cells, detail=found.detail, fix=found.fix, status=found.status, evidence=found.evidence)


def _short(n: int) -> str:
    return f"{n:,}" if n < 10_000 else f"{n / 1_000:.0f}k" if n < 10_000_000 else f"{n / 1_000_000:.0f}M"


def counts(route: RouteReview) -> list[str]:
    """`61 pass`, `1 fail` …, zeros left out except pass and fail."""
    names = {"PASS": "pass", "FAIL": "fail", "WARN": "warn", "NO_DATA": "no data", "STALE": "stale",
             "WAIVED": "waived", "N/A": "not applicable"}  # fmt: skip
    always = ("PASS", "FAIL")
    return [
        f"{route.counts.get(status, 0)} {name}{_next_waiver(route) if status == 'WAIVED' else ''}"
        for status, name in names.items()
        if route.counts.get(status) or status in always
    ]


def _next_waiver(route: RouteReview) -> str:
    ends = [found.detail.removeprefix("until ")[:10] for found in route.findings if found.status == "WAIVED"]
    return f" (next expires {min(ends)})" if ends else ""


def security(route: RouteReview) -> str:
    """The security layer in words."""
    return f"security: {route.security_fails} FAIL" if route.security_fails else "security: no FAIL"


def last_drill(route: RouteReview) -> str:
    """When the way back was last exercised, as T10.1 measured it."""
    found = next((found for found in route.findings if found.id == "T10.1"), None)
    _, mark, rest = (found.detail if found else "").partition("last drill ")
    return f"last drill {rest}" if mark else ""


def lines_of(rows: list[Row]) -> int:
    """Lines that the rows take: each its own, one for its detail, one for its fix."""
    return sum(1 + bool(each.detail) + bool(each.fix) for each in rows)


def frame(route: RouteReview) -> int:
    """Lines around the rows: title, verdict, shared reasons, counts, the three words, the last sentence; blanks."""
    return 9 + len(missing(route))


def fitting(route: RouteReview, room: int = MAX_LINES) -> tuple[list[Row], int]:
    """The rows that fit on the page, worst first, and how many do not.

    Where not all fit, the second lines of NO DATA rows go first, then those of warnings, then rows from the end. What
    re-opened items stays: it says why they are STALE.
    """
    rows = wrong(route)
    left = room - frame(route)
    shown = rows
    for spared in ((), ("NO_DATA", "STALE"), ("NO_DATA", "STALE", "WARN")):
        shown = [_shortened(each) if each.status in spared else each for each in shown]
        if lines_of(shown) <= left:
            return shown, 0
    kept = len(shown)
    while kept and lines_of(shown[:kept]) > left - 1:
        kept -= 1
    return shown[:kept], len(shown) - kept


def _shortened(each: Row) -> Row:
    kept = each.detail if each.cells[1] in REOPENS else ""
    return msgspec.structs.replace(each, detail=kept, fix="")
