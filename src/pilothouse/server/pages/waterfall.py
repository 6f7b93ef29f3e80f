"""The waterfall of a trace as a drawing: bars, the critical path and the time by stage."""

from typing import Any

import msgspec

from pilothouse.server.pages import quantities
from pilothouse.telemetry.waterfall import UNACCOUNTED, Step, Waterfall

UNITS = 1_000  # width of the drawing
STAGES = {"queue", "preprocessing", "retrieval", "model", "tool", "postprocessing", UNACCOUNTED}
_FIGURES = {
    "operation": "operation",
    "served_model": "model",
    "response_model": "model",
    "index_name": "index",
    "index_version": "index version",
    "finish_reason": "finish",
}
WINDOW = 150  # rows that are rendered at once; the next are fetched when scrolled to
WHOLE_MAX = 400  # a trace of so many steps is shown with all of them open
LEVELS = 3  # of a larger one, or of a subtree that is opened


class BarView(msgspec.Struct, frozen=True):
    """A row: its indent, its bar in units, and the words beside it. `hidden`: steps below that are not shown."""

    step: Step
    indent: int
    x: float
    width: float
    stage: str
    duration: str
    figures: list[tuple[str, str]]
    hidden: int = 0


class Later(msgspec.Struct, frozen=True):
    """Rows that are not rendered yet: from which, and how many."""

    start: int
    count: int


class StageView(msgspec.Struct, frozen=True):
    """A part of the strip that divides the critical path by stage."""

    name: str
    x: float
    width: float
    duration: str
    part: str


class Drawing(msgspec.Struct, frozen=True):
    """All of it."""

    bars: list[BarView]
    stages: list[StageView]
    ticks: list[tuple[float, str]]
    duration: str
    later: list[Later] = []
    shown: int = 0  # rows in all, rendered or not


def _known(stage: str) -> str:
    return stage if stage in STAGES else "other" if stage else UNACCOUNTED


def draw(trace: Waterfall, start: int = 0, under: str = "") -> Drawing:
    """Rows from `start`, a window of them, in units of a thousandth of the trace; `under`: of one step's subtree."""
    total = max(trace.duration_ms, 0.001)
    rows = visible(trace.steps, under)
    ticks = _ticks(total)
    window = rows[start : start + WINDOW]
    rest = range(start + WINDOW, len(rows), WINDOW) if start == 0 else range(0)
    return Drawing(
        bars=[_bar(trace.steps[index], total, hidden) for index, hidden in window],
        stages=_stages(trace, total),
        ticks=ticks,
        duration=quantities.text(quantities.duration(trace.duration_ms)),
        later=[Later(at, min(WINDOW, len(rows) - at)) for at in rest],
        shown=len(rows),
    )


def visible(steps: list[Step], under: str = "") -> list[tuple[int, int]]:
    """The steps that are shown, as (index, number of steps hidden below it), in order.

    All of a small trace; of a large one, or of the subtree below the step `under`, the first levels.
    """
    first, last = _subtree(steps, under)
    if last - first <= WHOLE_MAX:
        return [(index, 0) for index in range(first, last)]
    deepest = (steps[first].depth if under else 0) + LEVELS - 1
    shown: list[tuple[int, int]] = []
    for index in range(first, last):
        if steps[index].depth <= deepest:
            shown.append((index, 0))
        else:
            shown[-1] = (shown[-1][0], shown[-1][1] + 1)
    return shown


def _subtree(steps: list[Step], under: str) -> tuple[int, int]:
    """Where the steps below one begin and end; all of them where none is named, nothing where it is not there."""
    if not under:
        return 0, len(steps)
    at = next((index for index, step in enumerate(steps) if step.id == under), len(steps))
    if at == len(steps):
        return 0, 0
    end = next((index for index in range(at + 1, len(steps)) if steps[index].depth <= steps[at].depth), len(steps))
    return at + 1, end


def _bar(step: Step, total: float, hidden: int = 0) -> BarView:
    x = round(max(0.0, step.start_ms) / total * UNITS, 1)
    width = round(max(2.5, step.duration_ms / total * UNITS), 1)
    return BarView(
        step=step,
        indent=min(step.depth, 8),
        x=min(x, UNITS - 2.5),
        width=min(width, UNITS - min(x, UNITS - 2.5)),
        stage="request" if step.kind == "request" else _known(step.stage),
        duration=quantities.text(quantities.duration(step.duration_ms)),
        figures=figures(step.row) if step.row else [],
        hidden=hidden,
    )


def figures(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What a stored row says about a step, for people."""
    found: list[tuple[str, str]] = []
    found += [(name, str(row[key])) for key, name in _FIGURES.items() if row.get(key)]
    documents = row.get("documents")
    if documents is not None:
        found.append(("documents", str(len(documents))))
    if row.get("backoff_ms"):
        found.append(("waited before", quantities.text(quantities.duration(row["backoff_ms"]))))
    if row.get("ttft_ms") is not None:
        found.append(("first token", quantities.text(quantities.duration(row["ttft_ms"]))))
    return found


def _stages(trace: Waterfall, total: float) -> list[StageView]:
    views, x = [], 0.0
    for name, ms in trace.stages.items():
        width = ms / total * UNITS
        part = quantities.text(quantities.share(ms / total))
        views.append(
            StageView(_known(name), round(x, 1), round(width, 1), quantities.text(quantities.duration(ms)), part)
        )
        x += width
    return views


def _ticks(total: float) -> list[tuple[float, str]]:
    step = next(s for s in _steps() if total / s <= 6)
    count = int(total / step)
    return [(round(i * step / total * UNITS, 1), quantities.text(_tick(i * step))) for i in range(count + 1)]


def _tick(ms: float) -> quantities.Quantity:
    if ms == 0:
        return ("0", "")
    return (f"{ms:g}", "ms") if ms < 1_000 else (f"{ms / 1_000:g}", "s")


def _steps() -> list[float]:
    return [base * 10.0**power for power in range(-3, 9) for base in (1, 2, 5)]
