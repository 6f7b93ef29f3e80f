"""Evidence for the review: counts that can be checked by hand, and a large store checked against plain SQL."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.facts import RouteFacts, TelemetryFacts
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.record import (
    Attempt,
    Document,
    LossRecord,
    Payload,
    Record,
    Redaction,
    ScoreRecord,
    SpanRecord,
    Tokens,
    Validation,
)
from pilothouse.store.telemetry import HISTOGRAM_MS, TelemetryStore
from pilothouse.telemetry import evidence, samples

NOW_US = 1_750_000_000_000_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
ROOT = Path(__file__).resolve().parent.parent.parent


def gather(store: TelemetryStore, days: int = 7) -> TelemetryFacts:
    return evidence.gather(store, FrozenClock(NOW_US), NOW_US - days * DAY_US, NOW_US + 1)


def only(store: TelemetryStore) -> RouteFacts:
    (facts,) = gather(store).routes
    return facts


def attempt(**changes: object) -> Attempt:
    plain = {"n": 1, "kind": "primary", "provider": "p", "model": "m", "offset_ms": 0.0, "status": 200}
    return Attempt(**(plain | changes))  # type: ignore[arg-type]


def test_a_store_without_traffic_has_no_facts(store: TelemetryStore) -> None:
    facts = gather(store)
    assert (facts.routes, facts.spend, facts.losses) == ([], 0, {})
    assert facts.route("any", "prod") is None


def test_a_route_with_one_failed_request_knows_what_it_does_not_know(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(record(outcome="failed", error_type="", attempts=[], tokens=None, cost_usd=None, redaction=None, parts={}))
    facts = only(store)
    assert (facts.requests, facts.failures, facts.failures_typed, facts.with_tokens) == (1, 1, 0, 0)
    cost = facts.cost
    assert (cost.mean, cost.p95, cost.per_success, cost.baseline_mean, cost.baseline_per_success) == (None,) * 5
    assert facts.retrieval is None
    assert (facts.runtime.providers, facts.runtime.fallback_cost_mean, facts.runtime.undelivered_cost) == (
        [],
        None,
        None,
    )
    assert facts.redaction.by_status == {}
    assert facts.manifests[0].parts == {}
    assert facts.manifests[0].missing == dict.fromkeys(PARTS, 1)
    assert (facts.latency[0].ttft_n, facts.latency[0].ttft_p95) == (0, None)


def test_versions_and_models(store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]) -> None:
    new = dict.fromkeys(PARTS, "new")
    served = {"delivered": True, "served_model": "m-2026"}
    load(
        *(record(attempts=[attempt(fingerprint="old", **served)], ts_us=NOW_US - 20 * DAY_US) for _ in range(2)),
        *(record(attempts=[attempt(fingerprint="old", **served)]) for _ in range(3)),
        record(manifest="b" * 64, release=4, canary=True, parts=new, attempts=[attempt(fingerprint="new", **served)]),
        record(manifest="c" * 64, release=None, inline=True, parts={**new, "prompt": ""}),
    )
    facts = only(store)
    assert facts.requests == 5
    assert [(use.manifest[0], use.release, use.inline, use.canary, use.requests) for use in facts.manifests] == [
        ("a", 3, False, False, 3), ("b", 4, False, True, 1), ("c", None, True, False, 1),
    ]  # fmt: skip
    assert facts.manifests[1].parts == new
    assert facts.manifests[2].missing == {"prompt": 1}
    models = {(use.model, use.fingerprint): use for use in facts.models}
    assert models["m", "old"].attempts == 3
    assert models["m", "old"].first_us == NOW_US - 20 * DAY_US  # first seen before the window
    assert models["m", "new"].first_us == NOW_US
    assert models["smollm2", ""].served_model == ""


def test_outcomes_errors_redaction_and_schema(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(
        record(outcome="failed", error_type="timeout", attempts=[attempt(error_type="timeout_total", status=0)]),
        record(outcome="failed", error_type="internal"),
        record(outcome="refused", redaction=Redaction(status="skipped")),
        record(redaction=Redaction(status="skipped", reason="log off")),
        record(redaction=Redaction(status="redacted", secrets=2)),
        record(redaction=Redaction(status="clean", secrets=1)),
        record(validation=Validation(first_ok=True, ok=True)),
        record(validation=Validation(first_ok=False, ok=True, repairs=["fence"])),
        record(validation=Validation(first_ok=False, ok=True, retried=1),
               attempts=[attempt(error_type="invalid_output", cost_usd=0.25),
                         attempt(n=2, kind="retry", delivered=True)]),
        record(validation=Validation(first_ok=False, ok=False, error="not an object", missing=["/a", "/b"],
                                     mismatched=["/c"], delivered_invalid=True)),
        record(tokens=Tokens(1, 0, 0, 1, 0, estimated=True)),
        LossRecord(ts_us=NOW_US, worker="edge-0", what="payload", count=7),
    )  # fmt: skip
    assert gather(store).losses == {"payload": 7}
    facts = only(store)
    assert facts.outcomes == {"success": 8, "failed": 2, "refused": 1}
    assert (facts.failures, facts.failures_typed, facts.errors) == (2, 1, {"timeout": 1, "internal": 1})
    assert (facts.with_tokens, facts.with_usage) == (11, 10)
    redaction = facts.redaction
    assert redaction.by_status == {"clean": 8, "skipped": 2, "redacted": 1}
    assert redaction.skipped_without_reason == 1
    assert (redaction.requests_with_secrets, redaction.secrets_unredacted, redaction.secrets_found) == (2, 1, 3)
    schema = facts.schema
    assert (schema.structured, schema.valid_first, schema.valid, schema.repaired, schema.retried) == (4, 1, 3, 1, 1)
    assert (schema.delivered_invalid, schema.invalid_attempt_cost) == (1, 0.25)
    assert (schema.missing, schema.mismatched) == ({"/a": 1, "/b": 1}, {"/c": 1})
    assert schema.errors == {"not an object": 1}


def test_retries_fallbacks_and_providers(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    limited = attempt(status=429, error_type="rate_limit", ratelimit_limit=10, ratelimit_remaining=1, cost_usd=0.5)
    load(
        *(record(attempts=[attempt(tokens=Tokens(1), delivered=True)], cost_usd=0.01) for _ in range(40)),
        record(id="again", attempts=[
            limited, attempt(n=2, kind="retry", tokens=Tokens(1, estimated=True), delivered=True)]),
        record(id="fell", outcome="fallback", cost_usd=0.05, attempts=[
            attempt(status=0, error_type="timeout_first_token"),
            attempt(n=2, kind="fallback", provider="q", tokens=Tokens(1), delivered=True)]),
        record(id="person", outcome="escalated", attempts=[attempt(status=0, error_type="connect_failed")]),
        *(ScoreRecord(id=on, ts_us=NOW_US, route="docs-answer", env="prod", request_id=on, name="thumbs", value=value)
          for on, value in (("fell", 0.0), ("again", 1.0))),
    )  # fmt: skip
    facts = only(store)
    runtime = facts.runtime
    assert (runtime.attempts, runtime.attempts_declared, runtime.timeouts) == (45, 45, 1)
    assert (runtime.retried, runtime.retried_recovered, runtime.reached_provider) == (1, 1, 43)
    assert (runtime.fallbacks, runtime.degraded) == (2, 1)
    assert runtime.primary_cost_mean == pytest.approx((40 * 0.01 + 0.001) / 41)
    assert (runtime.fallback_score_mean, runtime.fallback_scores) == (0.0, 1)
    assert (runtime.primary_score_mean, runtime.primary_scores) == (1.0, 1)
    assert runtime.undelivered_cost == 0.5
    p, q = runtime.providers
    assert (p.provider, p.attempts, p.rate_limited, p.timeouts) == ("p", 44, 1, 1)
    assert p.errors == {"rate_limit": 1, "timeout_first_token": 1, "connect_failed": 1}
    assert (p.worst_hour_attempts, p.worst_hour_rate_limited, p.headroom_min) == (44, 1, 0.1)
    assert (p.usage_reported, p.usage_expected) == (40, 41)
    assert (q.attempts, q.worst_hour_attempts, q.headroom_min) == (1, 0, None)
    assert facts.scores == {"thumbs": (0.5, 2)}


def test_money_now_and_before(store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]) -> None:
    weeks = [record(ts_us=NOW_US - week * 7 * DAY_US, cost_usd=cost) for week, cost in ((1, 0.1), (2, 0.2), (3, 0.9))]
    load(
        *weeks,
        record(cost_usd=0.4, key_id="k1"),
        record(cost_usd=0.6, key_id="k2", outcome="failed", error_type="timeout"),
        record(cost_usd=0.2, key_id=""),
        record(cost_usd=None),
    )
    cost = evidence.gather(store, FrozenClock(NOW_US), NOW_US - 6 * DAY_US, NOW_US + 1).routes[0].cost
    assert (cost.priced, cost.unpriced) == (3, 1)
    assert cost.spend == pytest.approx(1.2)
    assert (cost.mean, cost.p50) == (pytest.approx(0.4), pytest.approx(0.4))
    assert cost.baseline_mean == pytest.approx(0.2)  # the median of the same hour in the weeks before
    assert cost.baseline_requests == 3
    assert cost.per_success == pytest.approx(0.6)  # 1.2 over two priced successes
    assert cost.baseline_per_success == pytest.approx(0.4)
    assert cost.unowned == pytest.approx(0.2)
    assert [(spender.id, spender.cost) for spender in cost.top_keys][:2] == [("k2", 0.6), ("k1", 0.4)]


def test_latency_burn_and_days(store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]) -> None:
    ages = [1, 10 * 60, 45 * 60, 3 * 3600, 48 * 3600, 6 * 86_400]
    load(
        *(record(ts_us=NOW_US - age * 1_000_000, duration_ms=100.0, ttft_ms=10.0) for age in ages),
        record(ts_us=NOW_US - 2, duration_ms=900.0, outcome="failed", error_type="x", served_model="other"),
    )
    facts = only(store)
    assert [(one.model, one.requests, one.p95, one.ttft_n) for one in facts.latency] == [
        ("smollm2", 6, 100.0, 6), ("other", 1, 900.0, 0),
    ]  # fmt: skip
    burn = {one.seconds: (one.total, one.failed) for one in facts.burn}
    assert burn == {300: (2, 1), 1800: (3, 1), 3600: (4, 1), 21_600: (5, 1), 259_200: (6, 1)}
    assert {len(one.duration_hist) for one in facts.burn} == {len(HISTOGRAM_MS) + 1}
    assert sum(day.requests for day in facts.days) == 7
    assert [day.start_us for day in facts.days] == sorted(day.start_us for day in facts.days)
    assert (facts.days[-1].failed, facts.days[-1].input_tokens) == (1, 100 * facts.days[-1].with_tokens)


def test_traces_and_retrieval(store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]) -> None:
    def traced(name: str, *, score: float | None, model_ms: float, ts_us: int = NOW_US, orphan: bool = False) -> list:  # type: ignore[type-arg]
        documents = [] if score is None else [Document(id="d", score=score, age_s=60.0)]
        return [
            SpanRecord(trace_id=name, span_id=f"{name}-root", ts_us=ts_us - 100_000, duration_ms=1_000, name="root"),
            SpanRecord(
                trace_id=name, span_id=f"{name}-r", ts_us=ts_us - 90_000, duration_ms=50, name="retrieval",
                stage="retrieval", parent_span_id="nobody" if orphan else f"{name}-root", documents=documents,
                index_name="docs", index_version="v1" if score else "",
            ),
            SpanRecord(trace_id=name, span_id=f"{name}-below", parent_span_id=f"{name}-gw", ts_us=ts_us, duration_ms=1,
                       name="below the gateway's own request"),
            record(trace_id=name, span_id=f"{name}-gw", parent_span_id=f"{name}-root", ts_us=ts_us,
                   duration_ms=model_ms),
        ]  # fmt: skip

    load(
        *traced("t1", score=0.9, model_ms=850),  # 50 + 850 of 1,000 ms are accounted for
        *traced("t2", score=None, model_ms=100, orphan=True),
        *traced("old", score=0.5, model_ms=100, ts_us=NOW_US - 10 * DAY_US),
        record(id="same", trace_id="alone", duration_ms=1_000.0, stages={"model": 900.0}, cost_usd=1.0),
        record(id="same", trace_id="alone", duration_ms=1_000.0, stages={"model": 10.0}, cost_usd=2.0),
        record(id="no trace", trace_id="", stages={"model": 400.0}, duration_ms=401.0, cost_usd=None),
    )
    facts = only(store)
    traces = facts.traces
    assert (traces.identified, facts.requests, traces.duplicate_ids) == (4, 5, 1)
    assert (traces.traces, traces.traces_with_spans, traces.accounted) == (5, 2, 3)
    assert traces.unaccounted_ms_p50 == pytest.approx((100 + 850) / 2)
    assert (traces.spans, traces.orphan_spans) == (6, 1)
    assert traces.workflow_cost_p95 == pytest.approx(2.85, abs=0.2)
    retrieval = facts.retrieval
    assert retrieval is not None
    assert (retrieval.retrievals, retrieval.no_result, retrieval.scored) == (2, 1, 1)
    assert (retrieval.baseline_retrievals, retrieval.baseline_no_result) == (1, 0)
    assert retrieval.tau == pytest.approx(0.52)
    assert retrieval.low_confidence == 0
    assert {(use.name, use.version): use.retrievals for use in retrieval.versions} == {
        ("docs", "v1"): 1,
        ("docs", ""): 1,
    }


def test_samples_hold_what_replay_and_the_scan_need(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(
        *(record(id=f"r{number}", payload=Payload(request=f"in {number}", response="out")) for number in range(30)),
        record(id="bare", payload=None),
        record(id="never sent", attempts=[]),
        record(id="elsewhere", route="other"),
        SpanRecord(
            trace_id="t",
            span_id="s",
            ts_us=NOW_US,
            duration_ms=1,
            name="n",
            preview_in="span text",
            route="docs-answer",
            env="prod",
        ),
    )
    drawn = samples.sample_requests(store, "docs-answer", "prod", n=20)
    assert len({one.id for one in drawn}) == 20
    assert drawn == samples.sample_requests(store, "docs-answer", "prod", n=20)
    every = {one.id: one for one in samples.sample_requests(store, "docs-answer", "prod", n=99)}
    assert set(every) == {*(f"r{number}" for number in range(30)), "bare"}
    assert (every["r1"].payload_request, every["bare"].payload_request) == ("in 1", None)
    assert set(every["r1"].parts) == set(PARTS)
    assert samples.sample_requests(store, "docs-answer", "prod", since_us=NOW_US + 1) == []

    texts = samples.stored_texts(store, "docs-answer", "prod", n=200)
    assert {(one.field, one.text) for one in texts if one.owner == "r1"} == {
        ("preview_in", "question"), ("preview_out", "answer"), ("request", "in 1"), ("response", "out"),
        ("words", "docs-answer\nsmollm2"),
    }  # fmt: skip
    assert [one.text for one in texts if one.owner == "t/s"] == ["span text", "n"]
    assert len({one.owner for one in samples.stored_texts(store, "docs-answer", "prod", n=5)}) == 5


@pytest.fixture(scope="module")
def synthetic() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic", ROOT / "bench" / "synthetic.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_facts_of_synthetic_traffic_agree_with_plain_counts(synthetic: ModuleType) -> None:
    store = TelemetryStore(":memory:")
    synthetic.generate(store, requests=20_000, routes=10, until_us=NOW_US, days=7)
    facts = evidence.gather(store, FrozenClock(NOW_US), NOW_US - 7 * DAY_US, NOW_US)
    assert len(facts.routes) == 10
    counted = store.query(
        "SELECT route, count(*) AS n, sum(cost_usd) AS spend, count(*) FILTER (outcome = 'failed') AS failed, "
        "count(*) FILTER (valid_first) AS first FROM requests GROUP BY route"
    )
    for row in counted:
        one = facts.route(row["route"], "prod")
        assert one is not None
        assert (one.requests, one.failures, one.schema.valid_first) == (row["n"], row["failed"], row["first"])
        assert one.cost.spend == pytest.approx(row["spend"])
        assert one.runtime.attempts == one.runtime.attempts_declared
        assert sum(day.requests for day in one.days) == row["n"]
        assert sum(use.requests for use in one.manifests) == row["n"]
    assert facts.spend == pytest.approx(sum(row["spend"] for row in counted))
    retrieving = [one for one in facts.routes if one.retrieval is not None]
    assert len(retrieving) == 4
    assert all(one.traces.orphan_spans == 0 < one.traces.spans for one in retrieving)
    store.close()
