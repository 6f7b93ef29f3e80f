"""A trace as a waterfall: what is below what, and what the end waited for."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.domain.record import Attempt, Record, SpanRecord
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import read
from pilothouse.telemetry.waterfall import Step, arrange

NOW_US = 1_750_000_000_000_000
TRACE = "f" * 32


def span(ident: str, parent: str, start_ms: float, ms: float, stage: str = "", **rest: object) -> SpanRecord:
    return SpanRecord(
        trace_id=TRACE, span_id=ident, parent_span_id=parent, ts_us=NOW_US + int(start_ms * 1_000), duration_ms=ms,
        name=ident, stage=stage, **rest,
    )  # type: ignore[arg-type]  # fmt: skip


def test_an_app_s_steps_and_the_gateway_s_request_make_one_tree(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(
        span("root", "", 0, 500),
        span("search", "root", 10, 90, "retrieval"),
        span("side", "root", 20, 50, "tool"),
        span("call", "root", 110, 380),
        span("lost", "gone", 30, 5),
        record(
            id="r", trace_id=TRACE, span_id="gw", parent_span_id="call", ts_us=NOW_US + 115_000, duration_ms=370.0,
            stages={"queue": 1.0, "preprocessing": 3.0, "model": 362.0, "postprocessing": 2.0},
            attempts=[
                Attempt(n=1, kind="primary", provider="p", model="m", offset_ms=4, duration_ms=100, error_type="stall"),
                Attempt(n=2, kind="retry", provider="p", model="m", offset_ms=106, duration_ms=262, status=200),
            ],
        ),
    )  # fmt: skip
    found = read.trace(store, TRACE)
    assert found is not None
    assert [(step.id, step.depth) for step in found.steps] == [
        ("root", 0), ("search", 1), ("side", 1), ("call", 1), ("gw", 2), ("r#1", 3), ("r#2", 3), ("lost", 0),
    ]  # fmt: skip
    assert [step.id for step in found.steps if step.critical] == ["root", "search", "call", "gw", "r#1", "r#2"]
    assert [step.id for step in found.steps if step.orphan] == ["lost"]
    assert {step.id: step.status for step in found.steps}["r#1"] == "error"
    assert found.request_ids == ["r"]
    assert found.duration_ms == 500
    assert found.stages["retrieval"] == pytest.approx(90)
    assert found.stages["model"] == pytest.approx(362)
    assert found.stages["queue"] == pytest.approx(1)
    assert sum(found.stages.values()) == pytest.approx(500)
    assert {step.id: step.owner for step in found.steps}["search"] == f"{TRACE}/search"
    assert {step.id: step.owner for step in found.steps}["gw"] == "r"


def test_a_trace_nobody_sent_is_none(store: TelemetryStore) -> None:
    assert read.trace(store, TRACE) is None


def test_work_that_outlives_its_parent_is_waited_for(store: TelemetryStore, load: Callable[..., None]) -> None:
    load(span("root", "", 0, 10), span("later", "root", 40, 60, "tool"))
    found = read.trace(store, TRACE)
    assert found is not None
    assert found.stages == pytest.approx({"tool": 60.0, "unaccounted": 40.0})


def test_rings_duplicates_and_chains_do_no_harm(store: TelemetryStore, load: Callable[..., None]) -> None:
    load(
        span("a", "b", 0, 10), span("b", "a", 0, 10), span("self", "self", 0, 5), span("twice", "", 0, 7),
        span("twice", "", 0, 7), *(span(f"c{n}", f"c{n - 1}" if n else "", n, 3_000 - n) for n in range(1_500)),
    )  # fmt: skip
    found = read.trace(store, TRACE)
    assert found is not None
    assert {step.id for step in found.steps} == {"a", "b", "self", "twice", *(f"c{n}" for n in range(1_500))}
    assert max(step.depth for step in found.steps) == 1_499
    assert found.stages == pytest.approx({"unaccounted": 3_000.0})


bars = st.tuples(st.integers(0, 8), st.integers(0, 100), st.integers(1, 100), st.sampled_from(["", "model", "tool"]))


@settings(max_examples=150)
@given(st.lists(bars, min_size=1, max_size=9))
def test_the_critical_path_covers_the_whole_trace(shape: list[tuple[int, int, int, str]]) -> None:
    """Stage times and what is unaccounted always sum to the trace's duration."""
    steps = [
        Step(
            id=f"s{number}",
            parent=f"s{parent}" if parent < number else "",
            kind="span",
            name="",
            stage=stage,
            start_ms=float(start),
            duration_ms=float(ms),
            status="ok",
            error_type="",
        )
        for number, (parent, start, ms, stage) in enumerate(shape)
    ]
    found = arrange(TRACE, NOW_US, steps, [])
    assert len(found.steps) == len(steps)
    assert sum(found.stages.values()) == pytest.approx(found.duration_ms)
    assert all(ms >= 0 for ms in found.stages.values())
