"""A trace as one waterfall: the app's spans, the gateway's requests and their attempts, with the critical path.

The critical path is the chain of steps that the trace's end waited for: from the end backwards, always into the child
that finished last. What is on it and belongs to no stage is shown as `unaccounted`.
"""

from typing import Any

import msgspec

from pilothouse.store.telemetry import TelemetryStore

UNACCOUNTED = "unaccounted"
DEPTH_MAX = 200  # the critical path is not followed further down: such a chain is a loop that the app ran away in
STAGES = ("queue", "preprocessing", "retrieval", "model", "tool", "postprocessing")


class Step(msgspec.Struct, kw_only=True):
    """A bar of the waterfall. Times in ms from the trace's start. `orphan`: its parent was never received."""

    id: str
    parent: str
    kind: str  # span, request, attempt
    name: str
    stage: str
    start_ms: float
    duration_ms: float
    status: str
    error_type: str
    depth: int = 0
    critical: bool = False
    orphan: bool = False
    owner: str = ""  # what `read.payload` takes; empty where there can be no payload
    row: dict[str, Any] = {}  # the stored row, for the side panel
    stages: dict[str, float] = {}  # of a gateway request: stage → ms


class Waterfall(msgspec.Struct, kw_only=True):
    """Steps in the order they are drawn, parents before children."""

    trace_id: str
    start_us: int
    duration_ms: float
    steps: list[Step]
    stages: dict[str, float]  # stage → ms on the critical path, with `unaccounted`
    request_ids: list[str]


def spans(store: TelemetryStore, trace_id: str) -> list[dict[str, Any]]:
    """The spans of a trace in order of time, without payloads."""
    rows = store.query("SELECT *, epoch_us(ts) AS ts_us FROM spans WHERE trace_id = ? ORDER BY ts", [trace_id])
    return [without_ts(row) for row in rows]


def without_ts(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row without its TIMESTAMP; rows that have one are asked for with `ts_us` beside it."""
    row.pop("ts", None)
    return row


def trace(store: TelemetryStore, trace_id: str) -> Waterfall | None:
    """The waterfall of a trace; None where nothing of it is stored."""
    found = spans(store, trace_id)
    requests = store.query("SELECT *, epoch_us(ts) AS ts_us FROM requests WHERE trace_id = ? ORDER BY ts", [trace_id])
    if not found and not requests:
        return None
    attempts = store.query(
        "SELECT a.* FROM attempts a JOIN requests r ON r.id = a.request_id WHERE r.trace_id = ? ORDER BY a.n",
        [trace_id],
    )
    rows = [*found, *requests]
    start_us = min(row["ts_us"] for row in rows)
    steps = [_span_step(row, start_us) for row in found]
    for row in requests:
        step = _request_step(row, start_us)
        steps.append(step)
        steps += [_attempt_step(a, step) for a in attempts if a["request_id"] == row["id"]]
    return arrange(trace_id, start_us, steps, [row["id"] for row in requests])


def _span_step(row: dict[str, Any], start_us: int) -> Step:
    return Step(
        id=row["span_id"],
        parent=row["parent_span_id"] or "",
        kind="span",
        name=row["name"] or "",
        stage=row["stage"] or "",
        start_ms=(row["ts_us"] - start_us) / 1_000,
        duration_ms=row["duration_ms"] or 0.0,
        status=row["status"] or "unset",
        error_type=row["error_type"] or "",
        owner=f"{row['trace_id']}/{row['span_id']}",
        row=_plain(row),
    )


def _request_step(row: dict[str, Any], start_us: int) -> Step:
    return Step(
        id=row["span_id"],
        parent=row["parent_span_id"] or "",
        kind="request",
        name=row["route"] or row["requested_model"] or "request",
        stage="",
        start_ms=(row["ts_us"] - start_us) / 1_000,
        duration_ms=row["duration_ms"] or 0.0,
        status="error" if row["outcome"] == "failed" else "ok",
        error_type=row["error_type"] or "",
        owner=row["id"],
        row=_plain(row),
        stages={stage: row[f"stage_{stage}"] for stage in STAGES if row.get(f"stage_{stage}") is not None},
    )


def _attempt_step(row: dict[str, Any], request: Step) -> Step:
    return Step(
        id=f"{request.owner}#{row['n']}",
        parent=request.id,
        kind="attempt",
        name=f"{row['kind']} {row['provider']}/{row['model']}",
        stage="model",
        start_ms=request.start_ms + (row["offset_ms"] or 0.0),
        duration_ms=row["duration_ms"] or 0.0,
        status="error" if row["error_type"] and not row["cancelled"] else "ok",
        error_type=row["error_type"] or "",
        row=_plain(row),
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "ts" and value not in (None, "", [], {})}


def arrange(trace_id: str, start_us: int, steps: list[Step], request_ids: list[str]) -> Waterfall:
    """Steps put in order below one another, with their critical path."""
    known = {step.id for step in steps}
    children: dict[str, list[Step]] = {}
    for step in sorted(steps, key=lambda s: (s.start_ms, -s.duration_ms)):
        step.orphan = bool(step.parent) and step.parent not in known and bool(children.get(""))
        parent = step.parent if step.parent in known and step.parent != step.id else ""
        children.setdefault(parent, []).append(step)
    drawn = _drawn(children)
    shown = {step.id for step in drawn}
    drawn += [step for step in steps if step.id not in shown]  # a ring of parents: shown all the same
    end_ms = max(step.start_ms + step.duration_ms for step in steps)
    path = _Path(children, drawn)
    path.walk(None, end_ms)
    known_stages = [stage for stage in (*STAGES, UNACCOUNTED) if stage in path.stages]
    other_stages = [stage for stage in path.stages if stage not in known_stages]
    return Waterfall(
        trace_id=trace_id,
        start_us=start_us,
        duration_ms=end_ms,
        steps=drawn,
        stages={stage: path.stages[stage] for stage in known_stages + other_stages},
        request_ids=request_ids,
    )


def _drawn(children: dict[str, list[Step]]) -> list[Step]:
    """Parents before children; a span that was exported twice is drawn once."""
    drawn: list[Step] = []
    seen: set[str] = set()
    waiting = [(step, 0) for step in reversed(children.get("", []))]
    while waiting:
        step, depth = waiting.pop()
        if step.id in seen:
            continue
        seen.add(step.id)
        step.depth = depth
        drawn.append(step)
        waiting += [(child, depth + 1) for child in reversed(children.get(step.id, []))]
    return drawn


class _Path:
    """Walks the critical path: marks its steps, and adds up the time on it by stage."""

    def __init__(self, children: dict[str, list[Step]], drawn: list[Step]) -> None:
        self._children = children
        self._seen: set[str] = set()
        self.stages: dict[str, float] = {}
        # A step may end before what it started: until when its whole subtree runs.
        self._ends = {step.id: step.start_ms + step.duration_ms for step in drawn}
        for step in reversed(drawn):
            if step.parent in self._ends:
                self._ends[step.parent] = max(self._ends[step.parent], self._ends[step.id])

    def walk(self, step: Step | None, end_ms: float, floor_ms: float = 0.0) -> None:
        """Follow the path below `step` (None: the trace itself) back from `end_ms`, no further than `floor_ms`.

        A child may claim to start before its parent (clocks differ): that time is the parent's caller's.
        """
        start = floor_ms if step is None else max(floor_ms, step.start_ms)
        too_deep = step is not None and step.depth >= DEPTH_MAX
        below = [] if too_deep else self._children.get("" if step is None else step.id, [])
        cursor, own = end_ms, 0.0
        for child in sorted(below, key=lambda c: -self._ends.get(c.id, 0.0)):
            child_end = min(self._ends.get(child.id, 0.0), cursor)
            if child_end <= max(child.start_ms, start) or child.id in self._seen:
                continue
            self._seen.add(child.id)
            child.critical = True
            own += self._own(step, child_end, cursor)
            self.walk(child, child_end, start)
            cursor = max(child.start_ms, start)
        own += self._own(step, start, cursor)
        if step is not None and step.kind == "request" and step.stages:
            self._add_request(step, own)
        else:
            self._add(step.stage if step is not None else "", own)

    def _own(self, step: Step | None, start_ms: float, end_ms: float) -> float:
        """Of [start, end), the part in which the step itself ran; the rest only waited, and no stage says for what."""
        if step is None:
            ran = 0.0
        else:
            ran = max(0.0, min(end_ms, step.start_ms + step.duration_ms) - max(start_ms, step.start_ms))
        self._add("", max(0.0, end_ms - start_ms) - ran)
        return ran

    def _add(self, stage: str, ms: float) -> None:
        if ms > 0:
            self.stages[stage or UNACCOUNTED] = self.stages.get(stage or UNACCOUNTED, 0.0) + ms

    def _add_request(self, step: Step, own: float) -> None:
        """A request's own time (all but its attempts) is divided as its record's stages say."""
        named = {stage: ms for stage, ms in step.stages.items() if stage != "model" and ms > 0}
        total = sum(named.values())
        share = min(1.0, own / total) if total else 0.0
        for stage, ms in named.items():
            self._add(stage, ms * share)
        self._add("", own - total)
