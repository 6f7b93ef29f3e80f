"""A trace as a waterfall: what is below what, and what the end waited for."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.domain.record import Attempt, Document, EventRecord, Record, SpanEvent, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import read, steps
from pilothouse.telemetry.waterfall import Step, arrange

NOW_US = 1_750_000_000_000_000
TRACE = "f" * 32


def span(ident: str, parent: str, start_ms: float, ms: float, stage: str = "", **rest: Any) -> SpanRecord:
    return SpanRecord(
        trace_id=TRACE, span_id=ident, parent_span_id=parent, ts_us=NOW_US + int(start_ms * 1_000), duration_ms=ms,
        name=ident, stage=stage, **rest,
    )  # fmt: skip


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


def test_the_client_s_side_of_a_request_is_one_with_it_and_counted_once(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    call = span("call", "root", 100, 380, "model", tokens=Tokens(input_uncached=100, output_text=50), cost_usd=0.001)
    load(
        span("root", "", 0, 500),
        call,
        span("below", "call", 120, 10, "tool"),
        span("other", "root", 490, 5, "model", tokens=Tokens(input_uncached=7, output_text=1), cost_usd=0.01),
        record(id="r", trace_id=TRACE, span_id="gw", parent_span_id="call", ts_us=NOW_US + 115_000, duration_ms=350.0),
    )
    with store.transaction() as write:
        write.execute("UPDATE spans SET request_id = 'r', counted_by = 'r' WHERE span_id = 'call'")
    found = read.trace(store, TRACE)
    assert found is not None
    assert [(step.id, step.parent, step.merged) for step in found.steps] == [
        ("root", "", ""), ("gw", "root", "call"), ("r#1", "gw", ""), ("below", "gw", ""), ("other", "root", ""),
    ]  # fmt: skip
    request = found.steps[1]
    assert (request.start_ms, request.duration_ms) == (100, 380)
    assert (found.totals.input_tokens, found.totals.output_tokens, found.totals.calls) == (107, 51, 2)
    assert found.totals.cost_usd == pytest.approx(0.011)


def test_a_step_in_full_has_its_documents_events_and_messages(store: TelemetryStore, load: Callable[..., None]) -> None:
    load(
        span("s", "", 0, 5, "retrieval", documents=[Document("d1", 0.9, 60.0)], attributes={"k": "v"},
             events=[SpanEvent("hit", 1.0, {"a": "b"})], tokens=Tokens(input_uncached=3, output_text=0)),
        EventRecord(ts_us=NOW_US + 2, trace_id=TRACE, span_id="s", name="gen_ai.choice", body="yes"),
        EventRecord(ts_us=NOW_US + 1, trace_id=TRACE, span_id="s", name="gen_ai.user.message", body="well?"),
        EventRecord(ts_us=NOW_US + 1, trace_id=TRACE, span_id="x", name="gen_ai.user.message", body="another's"),
    )  # fmt: skip
    found = steps.span(store, TRACE, "s")
    assert found is not None
    assert found.documents == [Document("d1", 0.9, 60.0)]
    assert found.events == [SpanEvent("hit", 1.0, {"a": "b"})]
    assert [said.body for said in found.said] == ["well?", "yes"]
    assert (found.tokens, found.attributes["k"]) == ({"input_uncached": 3}, "v")
    assert steps.span(store, TRACE, "none") is None
