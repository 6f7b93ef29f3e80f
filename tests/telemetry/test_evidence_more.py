"""Evidence on safeguards, caches, segments and trends: counts that can be checked by hand, by journal and store."""

from collections.abc import Callable

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.facts import RouteFacts, WayUse
from pilothouse.domain.record import (
    Attempt,
    Document,
    LimitHit,
    Record,
    ScoreRecord,
    SpanRecord,
    Tokens,
    Validation,
)
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import evidence

NOW_US = 1_750_000_000_000_000
DAY_US = 86_400_000_000
Load = Callable[..., None]
Make = Callable[..., Record]


def only(store: TelemetryStore, days: int = 7) -> RouteFacts:
    (facts,) = evidence.gather(store, FrozenClock(NOW_US), NOW_US - days * DAY_US, NOW_US + 1).routes
    return facts


def attempt(**changes: object) -> Attempt:
    plain = {"n": 1, "kind": "primary", "provider": "p", "model": "m", "offset_ms": 0.0, "status": 200}
    return Attempt(**(plain | changes))  # type: ignore[arg-type]


def score(of: Record, name: str, value: float, ts_us: int = NOW_US) -> ScoreRecord:
    return ScoreRecord(id=f"{of.id}{name}", ts_us=ts_us, request_id=of.id, name=name, value=value)


def test_what_mending_takes_and_which_values_are_new(store: TelemetryStore, load: Load, record: Make) -> None:
    twice = Validation(first_ok=False, ok=True, retried=1, repairs=["coerce"], coerced=["/n"], missing=["/a", "/a"],
                       mismatched=["/level", "/n"], unlisted=["/level"])  # fmt: skip
    before = Validation(first_ok=False, ok=True, retried=1, mismatched=["/kind"], unlisted=["/kind"])
    load(
        record(validation=twice, cost_usd=0.5),
        record(validation=Validation(first_ok=False, ok=True, repairs=["fence"]), cost_usd=0.25),
        record(validation=Validation(first_ok=True, ok=True), cost_usd=0.25),
        record(validation=before, ts_us=NOW_US - 10 * DAY_US),
        record(cost_usd=9.0),
    )
    schema = only(store).schema
    assert (schema.structured, schema.mended, schema.repaired, schema.retried, schema.coerced) == (3, 2, 2, 1, 1)
    assert schema.cost == pytest.approx(1.0)
    assert schema.missing == {"/a": 1}  # a request, though two of its outputs lacked it
    assert schema.unlisted == {"/level": 1}
    assert schema.unlisted_before == {"/kind"}


def test_kinds_of_attempts_and_ways_to_fall_back(store: TelemetryStore, load: Load, record: Make) -> None:
    hedged = [attempt(cancelled=True), attempt(n=2, kind="hedge", delivered=True)]
    load(
        record(attempts=hedged),
        record(attempts=[attempt(), attempt(n=2, kind="reask"), attempt(n=3, kind="retry")]),
        *(record(outcome="fallback", way="static", attempts=[attempt(status=500)]) for _ in range(2)),
        record(outcome="degraded", way="trim", ts_us=NOW_US - 20 * DAY_US),
        record(outcome="escalated", way="handoff", ts_us=NOW_US - 91 * DAY_US),
        record(outcome="failed", way="model", error_type="server_error"),
    )
    runtime = only(store).runtime
    assert runtime.kinds == {"primary": 5, "hedge": 1, "reask": 1, "retry": 1}
    assert runtime.cancelled == 1
    assert runtime.ways == {"static": WayUse(2, NOW_US), "trim": WayUse(0, NOW_US - 20 * DAY_US)}


def test_the_queue_its_depth_and_what_is_never_answered(store: TelemetryStore, load: Load, record: Make) -> None:
    slots = LimitHit("slots", "concurrency")
    hour_us = NOW_US - NOW_US % 3_600_000_000  # the last whole hour that has begun
    waits = ((0, 2_000.0), (500_000, 1_000.0), (1_000_000, 4_000.0))  # two, three, then fewer at once
    load(
        *(record(ts_us=hour_us - DAY_US + at, queued_ms=ms, duration_ms=ms + 100.0) for at, ms in waits),
        record(queued_ms=900.0, outcome="failed", error_type="queue_timeout", limits=[slots, slots], attempts=[]),
        record(outcome="failed", error_type="budget_exceeded", limits=[LimitHit("daily", "spend")], attempts=[]),
        record(limits=[LimitHit("trial", "requests", shadow=True)]),
        record(delayed=True),
        record(delayed=True, outcome="failed", error_type="timeout_total"),
    )
    queue = only(store).queue
    assert (queue.waited, queue.waited_in_vain, queue.refused) == (4, 1, 2)
    assert queue.wait_ms_p95 == pytest.approx(3_700.0)
    assert queue.depth_peak == 3
    assert queue.depth_mean == pytest.approx(7_900.0 / (7 * 86_400_000), rel=1e-3)
    assert queue.hits == {"slots:concurrency": 1, "daily:spend": 1, "trial:requests:shadow": 1}
    assert (queue.delayed, queue.delayed_failed, queue.arrivals_peak) == (2, 1, 5)


def test_a_queue_that_empties_as_the_next_comes_is_one_deep(store: TelemetryStore, load: Load, record: Make) -> None:
    load(*(record(ts_us=NOW_US - DAY_US + i * 1_000_000, queued_ms=1_000.0) for i in range(5)))
    assert only(store).queue.depth_peak == 1


def test_the_busiest_hour_counts_work_and_not_waits(store: TelemetryStore, load: Load, record: Make) -> None:
    hours = (NOW_US - 30 * 3_600_000_000, NOW_US - 30 * 3_600_000_000, NOW_US - 50 * 3_600_000_000)
    load(*(record(ts_us=at, duration_ms=1_801_000.0, queued_ms=1_000.0) for at in hours))
    assert only(store).queue.busy_peak == pytest.approx(1.0)


def test_caches_now_and_before(store: TelemetryStore, load: Load, record: Make) -> None:
    hit = record(cache="semantic", tokens=None, cost_usd=0.0, saved_usd=0.5, attempts=[])
    old = record(cache="semantic", ts_us=NOW_US - 9 * DAY_US, tokens=None, attempts=[])
    load(
        hit,
        old,
        record(cache="hit", tokens=None, cost_usd=0.0, saved_usd=0.25, attempts=[]),
        *(record(cache=use, tokens=Tokens(60, 40, 0, 10)) for use in ("miss", "miss", "bypass", "")),
        record(cache="miss", ts_us=NOW_US - 9 * DAY_US, tokens=Tokens(100, 0, 0, 10)),
        *(score(of, "semantic_hit", value) for of, value in ((hit, 0.0), (old, 1.0))),
    )
    cache = only(store).cache
    assert (cache.asked, cache.hits, cache.semantic, cache.saved) == (4, 2, 1, 0.75)
    assert (cache.input_tokens, cache.cached_tokens) == (400, 160)
    assert (cache.asked_before, cache.hits_before) == (2, 1)
    assert (cache.input_tokens_before, cache.cached_tokens_before) == (100, 0)
    assert (cache.semantic_judged, cache.semantic_false) == (2, 1)


def test_segments_revenue_and_what_was_judged(store: TelemetryStore, load: Load, record: Make) -> None:
    eu = [record(segment="eu", cost_usd=0.5) for _ in range(3)]
    us = record(segment="us", cost_usd=2.0, outcome="failed", error_type="timeout")
    old = record(ts_us=NOW_US - 9 * DAY_US)
    load(
        *eu,
        us,
        record(cost_usd=0.5),
        old,
        score(eu[0], "revenue", 3.0),
        score(eu[1], "revenue", 0.25),
        score(eu[0], "thumbs", 1.0),
        score(eu[1], "thumbs", 0.0),
        score(eu[1], "judge", 0.4),
        score(us, "thumbs", 1.0),  # failed: no success to judge
        score(old, "thumbs", 1.0, NOW_US - 8 * DAY_US),
    )
    facts = only(store)
    cost = facts.cost
    assert cost.segmented == pytest.approx(3.5)
    assert cost.spend == pytest.approx(4.0)
    found = {use.segment: (use.requests, use.cost, use.success, use.revenue, use.revenue_cost) for use in cost.segments}
    assert found == {"us": (1, 2.0, 0, None, 0.0), "eu": (3, 1.5, 3, 3.25, 1.0), "": (1, 0.5, 1, None, 0.0)}
    assert (cost.judged, cost.judged_good, cost.judged_before, cost.judged_good_before) == (2, 1, 1, 1)
    assert facts.runtime.primary_scores == 4  # thumbs and judge, of the window; revenue is no quality


def test_traces_cost_and_steps_against_the_time_before(store: TelemetryStore, load: Load, record: Make) -> None:
    load(
        *(record(trace_id="t1", cost_usd=0.5) for _ in range(3)),
        record(trace_id="t2", cost_usd=0.5),
        record(trace_id="t3", cost_usd=None),
        *(record(trace_id="t0", cost_usd=0.25, ts_us=NOW_US - 10 * DAY_US) for _ in range(2)),
        record(trace_id="long ago", cost_usd=9.0, ts_us=NOW_US - 20 * DAY_US),
    )
    facts = only(store)
    traces = facts.traces
    assert (traces.workflows, traces.workflows_priced, traces.workflow_cost_mean) == (3, 2, 1.0)
    assert (traces.workflows_priced_before, traces.workflow_cost_mean_before) == (1, 0.5)
    assert (traces.steps_mean, traces.steps_p95) == (pytest.approx(5 / 3), pytest.approx(2.8))
    assert (facts.cost.priced_before, facts.cost.p95_before) == (2, 0.25)


def test_context_windows_and_chunks_given_twice(store: TelemetryStore, load: Load, record: Make) -> None:
    def retrieval(span: str, *ids: str) -> SpanRecord:
        return SpanRecord(trace_id="t", span_id=span, ts_us=NOW_US, duration_ms=1, name="r", stage="retrieval",
                          documents=[Document(id=name) for name in ids])  # fmt: skip

    load(
        retrieval("s1", "a", "b", "c"),
        retrieval("s2", "b", "c", "d", ""),
        record(trace_id="t", attempts=[attempt(tokens=Tokens(10, 80, 10, 5), delivered=True)]),
        record(attempts=[attempt(tokens=Tokens(300), delivered=True), attempt(n=2, tokens=Tokens(9_999))]),
        record(attempts=[attempt(delivered=True)]),
    )
    facts = only(store)
    assert (facts.traces.documents, facts.traces.documents_repeated) == (6, 2)
    (use,) = facts.contexts
    assert (use.provider, use.model, use.n, use.mean, use.p95) == ("p", "m", 2, 200.0, pytest.approx(290.0))


def test_records_of_before_these_columns_are_no_evidence(store: TelemetryStore, load: Load, record: Make) -> None:
    load(record())
    with store.transaction() as write:
        write.execute(
            "UPDATE requests SET way = NULL, cache = NULL, queued_ms = NULL, limit_hits = NULL, delayed = NULL"
        )
        write.execute("UPDATE requests SET unlisted_fields = NULL, coerced_fields = NULL, saved_usd = NULL")
    facts = only(store)
    assert (facts.runtime.ways, facts.queue.waited, facts.queue.hits, facts.queue.delayed) == ({}, 0, {}, 0)
    assert (facts.cache.asked, facts.cache.saved, facts.schema.unlisted) == (0, None, {})
