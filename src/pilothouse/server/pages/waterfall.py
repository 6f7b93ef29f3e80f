"""The waterfall of a trace as a drawing: bars, the critical path and the time by stage."""

from typing import Any

import msgspec

from pilothouse.domain.record import Attempt, Record
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
SHOWN_MAX = 400  # bars; a longer trace says how many are left out


class BarView(msgspec.Struct, frozen=True):
    """A row: its indent, its bar in units, and the words beside it."""

    step: Step
    indent: int
    x: float
    width: float
    stage: str
    duration: str
    figures: list[tuple[str, str]]


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
    left_out: int


def _known(stage: str) -> str:
    return stage if stage in STAGES else "other" if stage else UNACCOUNTED


def alone(record: Record) -> Waterfall:
    """The waterfall of a request whose trace holds nothing else: itself and its attempts."""
    steps = [
        Step(
            id=record.span_id, parent="", kind="request", name=record.route or record.requested_model, stage="",
            start_ms=0.0, duration_ms=record.duration_ms, critical=True, owner=record.id,
            status="error" if record.outcome == "failed" else "ok", error_type=record.error_type,
        )
    ]  # fmt: skip
    steps += [_attempt(record, one) for one in record.attempts]
    stages = {name: ms for name, ms in record.stages.items() if ms > 0}
    rest = record.duration_ms - sum(stages.values())
    if rest > 0:
        stages[UNACCOUNTED] = rest
    return Waterfall(
        trace_id=record.trace_id, start_us=record.ts_us, duration_ms=record.duration_ms, steps=steps, stages=stages,
        request_ids=[record.id],
    )  # fmt: skip


def _attempt(record: Record, one: Attempt) -> Step:
    return Step(
        id=f"{record.id}#{one.n}",
        parent=record.span_id,
        kind="attempt",
        name=f"{one.kind} {one.provider}/{one.model}",
        stage="model",
        start_ms=one.offset_ms,
        duration_ms=one.duration_ms,
        status="error" if one.error_type and not one.cancelled else "ok",
        error_type=one.error_type,
        depth=1,
        critical=True,
    )


def draw(trace: Waterfall) -> Drawing:
    """Bars in units of a thousandth of the trace."""
    total = max(trace.duration_ms, 0.001)
    shown = trace.steps[:SHOWN_MAX]
    return Drawing(
        bars=[_bar(step, total) for step in shown],
        stages=_stages(trace, total),
        ticks=_ticks(total),
        duration=quantities.text(quantities.duration(trace.duration_ms)),
        left_out=len(trace.steps) - len(shown),
    )


def _bar(step: Step, total: float) -> BarView:
    x = round(max(0.0, step.start_ms) / total * UNITS, 1)
    width = round(max(2.5, step.duration_ms / total * UNITS), 1)
    return BarView(
        step=step,
        indent=min(step.depth, 8),
        x=min(x, UNITS - 2.5),
        width=min(width, UNITS - min(x, UNITS - 2.5)),
        stage="request" if step.kind == "request" else _known(step.stage),
        duration=quantities.text(quantities.duration(step.duration_ms)),
        figures=_figures(step.row),
    )


def _figures(row: dict[str, Any]) -> list[tuple[str, str]]:
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
