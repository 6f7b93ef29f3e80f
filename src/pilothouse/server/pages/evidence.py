"""A canary's evidence over its looks, as small charts: against the threshold that takes it back, and in its bounds.

Plots are 480 by 72 units, stretched to their column; y is in px. Labels stand beside the plot at the height of what
they name, moved apart where they would touch.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import msgspec

from pilothouse.domain.release import CanaryLook
from pilothouse.releases.guardrail import Guardrail
from pilothouse.server.pages import marks, quantities
from pilothouse.server.pages.release_shown import CanaryShown

WIDTH, HEIGHT = 480, 72
LANE = 1_000  # units of the share's lane
HOVERED = 40  # looks that tell their numbers under the pointer
SPELLS = 8  # decisions listed
_GAP = 13.0  # px between two labels
_FAINTEST = 0.01  # evidence below it says no more
_NAMES = {
    "failed": "failed requests",
    "refused": "refused requests",
    "invalid": "missed the schema",
    "guarded": "guardrail hits",
    "slow": "over the objective",
    "preferred": "comparisons lost",
}
_DECIDED = {
    "hold": "held",
    "step": "may step",
    "promote": "promoted",
    "abort": "taken back",
    "no_data": "no data, held",
    "inconclusive": "inconclusive, held",
}


class Label(msgspec.Struct, frozen=True):
    """A word beside the plot. `kind`: now, edge, allowed, zero."""

    y: float
    text: str
    kind: str


class Level(msgspec.Struct, frozen=True):
    """A line across the plot, likewise."""

    y: float
    kind: str


class Hover(msgspec.Struct, frozen=True):
    """A stretch of the plot and what is said under the pointer."""

    x: float
    width: float
    text: str


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One plot. `band`: the bounds; empty where there are none."""

    line: str
    end: tuple[float, float]
    levels: tuple[Level, ...]
    labels: tuple[Label, ...]
    hovers: tuple[Hover, ...]
    said: str  # the whole of it in one sentence
    band: str = ""
    tripped: bool = False


class Row(msgspec.Struct, frozen=True):
    """A guardrail: its name, its state, and its charts; None where there is nothing to draw yet."""

    rail: Guardrail
    name: str
    status: str  # of `parts.status`, empty: watched
    word: str
    difference: str  # with its bounds, as text
    margin: str
    evidence_chart: Chart | None
    difference_chart: Chart | None


class Step(msgspec.Struct, frozen=True):
    """A stretch at one share, in thousandths of the axis."""

    x: float
    width: float
    text: str


class Spell(msgspec.Struct, frozen=True):
    """A decision that stood for a while. `requests`: on the canary when it was last taken."""

    ts_us: int
    word: str
    share: str
    requests: int


class Drawn(msgspec.Struct, frozen=True):
    """A canary ready to be shown."""

    canary: CanaryShown
    until_us: int
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    ticks: tuple[marks.Tick, ...]
    spells: tuple[Spell, ...]
    share: str


def drawn(canary: CanaryShown, now_us: int) -> Drawn:
    """`canary` up to its end, or to `now_us` while it runs."""
    since, until = canary.started_us, canary.ended_us or now_us
    return Drawn(
        canary=canary,
        until_us=until,
        rows=tuple(_row(rail, canary.looks, (since, until)) for rail in canary.rails),
        steps=tuple(_steps(canary.steps, since, until)),
        ticks=marks.time_ticks(since, until, LANE, most=4),
        spells=_spells(canary.looks),
        share=_percent(canary.steps[-1][1]) if canary.steps else "",
    )


def _percent(share: float) -> str:
    """Empty at 0: the shadow stage."""
    return f"{share * 100:g}\u00a0%" if share else ""


def _steps(steps: Sequence[tuple[int, float]], since: int, until: int) -> Iterable[Step]:
    ends = [*(ts_us for ts_us, _ in steps[1:]), until]
    for (ts_us, share), end in zip(steps, ends, strict=True):
        x = marks.place_us(ts_us, since, until, LANE)
        yield Step(x, round(marks.place_us(end, since, until, LANE) - x, 1), _percent(share) or "shadow")


def _spells(looks: Sequence[CanaryLook]) -> tuple[Spell, ...]:
    """Decisions in a row that are the same at the same share are one; newest first."""
    found: list[Spell] = []
    at: tuple[str, float] | None = None
    for look in looks:
        if (look.decision, look.share) == at:
            found[-1] = msgspec.structs.replace(found[-1], requests=look.requests)
            continue
        at = (look.decision, look.share)
        word = _DECIDED.get(look.decision, look.decision)
        found.append(Spell(look.ts_us, word, _percent(look.share), look.requests))
    return tuple(found[::-1][:SPELLS])


# --- a guardrail


class _Point(msgspec.Struct, frozen=True):
    """A look at one guardrail. Bounds are None where there was too little."""

    ts_us: int
    evidence: float
    difference: float | None
    low: float | None
    high: float | None
    n: int


def _row(rail: Guardrail, looks: Sequence[CanaryLook], axis: tuple[int, int]) -> Row:
    points = [_point(look, look.rails[rail.name]) for look in looks if rail.name in look.rails]
    status, word = _state(rail)
    bounds = ""
    if rail.difference is not None:
        bounds = _amount(rail, rail.difference, sign=True)
        if rail.low is not None and rail.high is not None:
            bounds += f" [{_amount(rail, rail.low, sign=True)}, {_amount(rail, rail.high, sign=True)}]"
    return Row(
        rail=rail,
        name=_NAMES.get(rail.name, rail.name),
        status=status,
        word=word,
        difference=bounds,
        margin=_amount(rail, rail.margin) if rail.margin else "",
        evidence_chart=_evidence(rail, points, axis) if points and rail.n else None,
        difference_chart=_difference(rail, points, axis),
    )


def _point(look: CanaryLook, numbers: Sequence[float | None]) -> _Point:
    evidence, _, difference, low, high, _, n = numbers
    return _Point(look.ts_us, evidence or 0.0, difference, low, high, int(n or 0))


def _state(rail: Guardrail) -> tuple[str, str]:
    if rail.tripped:
        return "FAIL", "Boundary reached"
    if not rail.n:
        return "NO_DATA", "No data"
    if rail.above:
        return "WARN", "Worse than allowed"
    return ("PASS", "Cleared") if rail.cleared else ("", "Watched")


def _amount(rail: Guardrail, value: float, *, sign: bool = False) -> str:
    """A difference in its unit: points of a rate, per cent of a mean, or the score's own."""
    unit = {"rate": "\u00a0pp", "ratio": "\u00a0%"}.get(rail.form, "")
    scaled = value * 100 if unit else value
    return (f"{scaled:+.3g}" if sign else f"{scaled:.3g}").replace("-", "\u2212") + unit


def e_value(value: float) -> str:
    """Evidence as people read it: three digits, and no more than enough."""
    if value > 1e6:
        return "e > 1,000,000"
    if value < _FAINTEST:
        return f"e < {_FAINTEST}"
    return f"e = {value:,.0f}" if value >= 100 else f"e = {value:.3g}"


def _evidence(rail: Guardrail, points: Sequence[_Point], axis: tuple[int, int]) -> Chart:
    """On a logarithmic axis; 1 is as likely as not."""

    def log(value: float) -> float:
        return math.log10(min(max(value, _FAINTEST), rail.threshold * 100))

    values = [log(one.evidence) for one in points]
    place = _scale(min(-0.4, *values), max(log(rail.threshold), *values) + 0.2)
    edge, one_ = place(log(rail.threshold)), place(0.0)
    at = [(_x(point.ts_us, axis), place(value)) for point, value in zip(points, values, strict=True)]
    now = e_value(points[-1].evidence)
    threshold = f"{rail.threshold:,.0f}"
    return Chart(
        line=_line(at),
        end=at[-1],
        levels=(Level(edge, "edge"), Level(one_, "zero")),
        labels=_apart(
            Label(edge, f"back at {threshold}", "edge"), Label(one_, "1", "zero"), Label(at[-1][1], now, "now")
        ),
        hovers=_hovers(points, at, lambda point: e_value(point.evidence)),
        said=f"evidence against {rail.name}: {now}, taken back at {threshold}, over {len(points)} looks, "
        f"n = {points[-1].n:,}",
        tripped=rail.tripped,
    )


def _difference(rail: Guardrail, points: Sequence[_Point], axis: tuple[int, int]) -> Chart | None:
    """The difference between its bounds; None where no look could tell one. What the axis leaves out is cut off."""
    known = [one for one in points if one.difference is not None and one.low is not None and one.high is not None]
    if not known or not rail.margin:
        return None
    last = known[-1]
    ends = [0.0, rail.margin, *(v for v in (last.low, last.high, last.difference) if v is not None)]
    room = (max(ends) - min(ends)) * 0.12
    place = _scale(min(ends) - room, max(ends) + room)
    xs = [_x(one.ts_us, axis) for one in known]
    at = [(x, place(one.difference or 0.0)) for x, one in zip(xs, known, strict=True)]
    above = [(x, place(one.high or 0.0)) for x, one in zip(xs, known, strict=True)]
    beneath = [(x, place(one.low or 0.0)) for x, one in zip(xs, known, strict=True)]
    allowed, half, none = place(rail.margin), place(rail.margin / 2), place(0.0)
    now = _amount(rail, last.difference or 0.0, sign=True)
    return Chart(
        line=_line(at),
        band=_line([*above, *reversed(beneath)]) + "Z" if len(known) > 1 else "",
        end=at[-1],
        levels=(Level(allowed, "allowed"), Level(half, "edge"), Level(none, "zero")),
        labels=_apart(
            Label(allowed, f"allowed {_amount(rail, rail.margin)}", "allowed"),
            Label(half, f"half {_amount(rail, rail.margin / 2)}", "edge"),
            Label(none, "0", "zero"),
            Label(at[-1][1], now, "now"),
        ),
        hovers=_hovers(known, at, lambda one: _bounds(rail, one)),
        said=f"{rail.name} worse by {_bounds(rail, last)} against {_amount(rail, rail.margin)} allowed, "
        f"over {len(known)} looks, n = {last.n:,}",
        tripped=rail.tripped,
    )


def _bounds(rail: Guardrail, one: _Point) -> str:
    shown = [_amount(rail, value or 0.0, sign=True) for value in (one.difference, one.low, one.high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


# --- geometry


def _scale(low: float, high: float) -> Callable[[float], float]:
    """Value → y; beyond the axis no farther than one height, where the plot cuts it off."""
    extent = (high - low) or 1.0

    def place(value: float) -> float:
        return round(min(2.0 * HEIGHT, max(-1.0 * HEIGHT, HEIGHT * (high - value) / extent)), 1)

    return place


def _x(ts_us: int, axis: tuple[int, int]) -> float:
    return marks.place_us(ts_us, axis[0], axis[1], WIDTH)


def _line(at: Sequence[tuple[float, float]]) -> str:
    body = "L".join(f"{x:g} {y:g}" for x, y in at)
    return f"M{body}h0.1" if len(at) == 1 else f"M{body}"


def _hovers(
    points: Sequence[_Point], at: Sequence[tuple[float, float]], say: Callable[[_Point], str]
) -> tuple[Hover, ...]:
    """From half-way to the look before to half-way to the one after; of many looks every so many, and the newest."""
    every = -(-len(points) // HOVERED)
    chosen = sorted({*range(0, len(points), every), len(points) - 1})
    xs = [at[index][0] for index in chosen]
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(xs)), float(WIDTH)]
    return tuple(
        Hover(
            round(start, 1),
            round(end - start, 1),
            f"{quantities.stamp(points[index].ts_us, 'date')} UTC: {say(points[index])}, n = {points[index].n:,}",
        )
        for index, start, end in zip(chosen, edges[:-1], edges[1:], strict=True)
    )


def _apart(*labels: Label) -> tuple[Label, ...]:
    """At least `_GAP` between each other, and within the plot's height."""
    ordered = sorted(labels, key=lambda label: label.y)
    ys: list[float] = []
    for label in ordered:
        ys.append(max(label.y, ys[-1] + _GAP if ys else 5.0))
    limit = HEIGHT - 4.0
    for index in range(len(ys) - 1, -1, -1):
        ys[index] = min(ys[index], limit)
        limit = ys[index] - _GAP
    return tuple(msgspec.structs.replace(label, y=round(y, 1)) for label, y in zip(ordered, ys, strict=True))
