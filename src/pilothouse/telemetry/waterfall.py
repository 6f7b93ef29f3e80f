"""A trace as one waterfall: the app's spans, the gateway's requests and their attempts, with the critical path.

The critical path is the chain of steps that the trace's end waited for: from the end backwards, always into the child
that finished last. What is on it and belongs to no stage is shown as `unaccounted`.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import lookup
from pilothouse.telemetry.entries import SPREAD_US

UNACCOUNTED = "unaccounted"
DEPTH_MAX = 200  # the critical path is not followed further down: such a chain is a loop that the app ran away in
STAGES = ("queue", "preprocessing", "retrieval", "model", "tool", "postprocessing")


class Step(msgspec.Struct, kw_only=True, gc=False):  # 50,000 of them, none in a ring: nothing for the collector
    """A bar of the waterfall. Times in ms from the trace's start. `orphan`: its parent was never received.

    Tokens and cost are the step's own, and None where another step counts them. `merged`: the span that is the client's
    side of this request, shown as one with it.
    """

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
    row: dict[str, Any] | None = None  # of an attempt: the stored row
    stages: dict[str, float] | None = None  # of a gateway request: stage → ms
    operation: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    documents: int | None = None  # retrieved; None: not a retrieval
    merged: str = ""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole trace took, each call counted once. `priced`: calls with a cost, of `calls`."""

    steps: int = 0
    requests: int = 0
    errors: int = 0
    calls: int = 0
    priced: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None


class Waterfall(msgspec.Struct, kw_only=True):
    """Steps in the order they are drawn, parents before children."""

    trace_id: str
    start_us: int
    duration_ms: float
    steps: list[Step]
    stages: dict[str, float]  # stage → ms on the critical path, with `unaccounted`
    request_ids: list[str]
    totals: Totals = Totals()


def spans(store: TelemetryStore, trace_id: str) -> list[dict[str, Any]]:
    """The spans of a trace in order of time, without payloads."""
    time = lookup.within(store, trace_id, "ts")
    rows = store.query(
        f"SELECT *, epoch_us(ts) AS ts_us FROM spans WHERE trace_id = ? AND {time.sql} ORDER BY ts",  # noqa: S608
        [trace_id, *time.params],
    )
    return [without_ts(row) for row in rows]


def without_ts(row: dict[str, Any]) -> dict[str, Any]:
    """A stored row without its TIMESTAMP; rows that have one are asked for with `ts_us` beside it."""
    row.pop("ts", None)
    return row


# What a bar needs and no more: a trace may have 50,000 spans.
_LIGHT = """SELECT span_id, coalesce(parent_span_id, ''), coalesce(name, ''), coalesce(stage, ''), epoch_us(ts),
  coalesce(duration_ms, 0), coalesce(status, 'unset'), coalesce(error_type, ''), coalesce(operation, ''),
  coalesce(nullif(response_model, ''), request_model, ''), coalesce(request_id, ''), coalesce(counted_by, ''),
  (input_uncached + cache_read + cache_write)::BIGINT, (output_text + reasoning)::BIGINT,
  coalesce(cost_usd, reported_cost_usd), len(documents) FROM spans WHERE trace_id = ?"""


def trace(store: TelemetryStore, trace_id: str) -> Waterfall | None:
    """The waterfall of a trace; None where nothing of it is stored.

    A request that was put into its client's trace is found by the trace that it came with, too.
    """
    window = lookup.when(store, trace_id)
    time, near = window.of("ts"), window.of("ts", SPREAD_US)
    found = store.rows(f"{_LIGHT} AND {time.sql}", [trace_id, *time.params])
    requests = store.query(
        f"SELECT *, epoch_us(ts) AS ts_us FROM requests WHERE trace_id = ? AND {time.sql} ORDER BY ts",  # noqa: S608
        [trace_id, *time.params],
    )
    if not found and not requests:
        moved = store.rows("SELECT trace_id FROM requests WHERE own_trace_id = ? LIMIT 1", [trace_id])
        return trace(store, moved[0][0]) if moved and moved[0][0] != trace_id else None
    if elsewhere := {row[10] for row in found} - {"", *(row["id"] for row in requests)}:
        requests += store.query(
            "SELECT *, epoch_us(ts) AS ts_us FROM requests WHERE id IN (SELECT unnest(?::VARCHAR[])) "  # noqa: S608
            f"AND {near.sql} ORDER BY ts",
            [sorted(elsewhere), *near.params],
        )
    attempts = store.query(
        f"SELECT * FROM attempts WHERE request_id IN (SELECT unnest(?::VARCHAR[])) AND {near.sql} ORDER BY n",  # noqa: S608
        [[row["id"] for row in requests], *near.params],
    ) if requests else []  # fmt: skip
    start_us = min([row[4] for row in found] + [row["ts_us"] for row in requests])
    asked = {row["id"]: _request_step(row, start_us) for row in requests}
    steps = list(asked.values())
    steps += [_attempt_step(one, asked[one["request_id"]]) for one in attempts]
    steps += _span_steps(found, trace_id, start_us, asked)
    return arrange(trace_id, start_us, steps, list(asked))


def _span_steps(found: list[tuple[Any, ...]], trace_id: str, start_us: int, asked: dict[str, Step]) -> Iterator[Step]:
    """The spans as steps; one that is the client's side of a request of this trace becomes part of the request's."""
    renamed: dict[str, str] = {}
    for row in sorted((row for row in found if row[10]), key=lambda row: -row[4]):  # of several the innermost
        if (request := asked.get(row[10])) is not None and not request.merged:
            renamed[row[0]] = request.id
            _merge(request, row, start_us)
    for request in asked.values():
        request.parent = renamed.get(request.parent, request.parent)
    for ident, parent, name, stage, ts_us, ms, status, error, operation, model, _, by, *figures in found:
        if ident in renamed:
            continue
        docs = figures.pop()
        tokens_in, tokens_out, cost = (None, None, None) if by else figures
        yield Step(
            id=ident, parent=renamed.get(parent, parent), kind="span", name=name, stage=stage,
            start_ms=(ts_us - start_us) / 1_000, duration_ms=ms, status=status, error_type=error,
            owner=f"{trace_id}/{ident}", operation=operation, model=model, documents=docs,
            input_tokens=tokens_in, output_tokens=tokens_out, cost_usd=cost,
        )  # fmt: skip


def _merge(request: Step, row: tuple[Any, ...], start_us: int) -> None:
    """The request takes the place of its client's span: under the same parent, from the first sent to the last read."""
    start_ms, end_ms = (row[4] - start_us) / 1_000, (row[4] - start_us) / 1_000 + row[5]
    last = max(request.start_ms + request.duration_ms, end_ms)
    request.merged, request.parent = row[0], row[1]
    request.start_ms = min(request.start_ms, start_ms)
    request.duration_ms = last - request.start_ms


def _request_step(row: dict[str, Any], start_us: int) -> Step:
    known = row["input_uncached"] is not None
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
        stages={stage: row[f"stage_{stage}"] for stage in STAGES if row.get(f"stage_{stage}") is not None},
        model=row["served_model"] or row["asked_model"] or row["requested_model"] or "",
        input_tokens=row["input_uncached"] + (row["cache_read"] or 0) + (row["cache_write"] or 0) if known else None,
        output_tokens=(row["output_text"] or 0) + (row["reasoning"] or 0) if known else None,
        cost_usd=row["cost_usd"],
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
        model=row["served_model"] or row["model"] or "",
    )


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "ts" and value not in (None, "", [], {})}


def _totals(steps: list[Step]) -> Totals:
    calls = [step for step in steps if step.input_tokens is not None or step.cost_usd is not None]
    inputs = [step.input_tokens for step in calls if step.input_tokens is not None]
    outputs = [step.output_tokens for step in calls if step.output_tokens is not None]
    costs = [step.cost_usd for step in calls if step.cost_usd is not None]
    return Totals(
        steps=len(steps),
        requests=sum(step.kind == "request" for step in steps),
        errors=sum(step.status == "error" for step in steps),
        calls=len(calls),
        priced=len(costs),
        input_tokens=sum(inputs) if inputs else None,
        output_tokens=sum(outputs) if outputs else None,
        cost_usd=sum(costs) if costs else None,
    )


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
        totals=_totals(drawn),
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
        named = {stage: ms for stage, ms in (step.stages or {}).items() if stage != "model" and ms > 0}
        total = sum(named.values())
        share = min(1.0, own / total) if total else 0.0
        for stage, ms in named.items():
            self._add(stage, ms * share)
        self._add("", own - total)
