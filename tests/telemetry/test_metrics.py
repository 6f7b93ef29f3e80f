"""Metrics: right numbers with their n, no data as no data, nothing else than what was asked for."""

from collections.abc import Callable

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import BadRequest, NotFound
from pilothouse.domain.record import (
    Attempt,
    GuardHit,
    Record,
    Redaction,
    ScoreRecord,
    SpanRecord,
    Tokens,
    Validation,
)
from pilothouse.domain.wires import MetricPoint, MetricQuery
from pilothouse.stats.proportions import wilson
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import listing
from pilothouse.telemetry.filter import parse
from pilothouse.telemetry.listing import Asked
from pilothouse.telemetry.metrics import CATALOGUE, make_metrics

NOW_US = 1_750_000_000_000_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


def ask(store: TelemetryStore, metric: str, since_us: int = NOW_US - HOUR_US, **rest: object) -> list[MetricPoint]:
    query = MetricQuery(metric=metric, since_us=since_us, until_us=NOW_US + 1_000_000, **rest)  # type: ignore[arg-type]
    return make_metrics(store, FrozenClock(NOW_US))(query)


def attempt(**changes: object) -> Attempt:
    return Attempt(
        **({"n": 1, "kind": "primary", "provider": "p", "model": "m", "offset_ms": 0.0, "status": 200} | changes)
    )  # type: ignore[arg-type]


@pytest.fixture
def traffic(load: Callable[..., None], record: Callable[..., Record]) -> None:
    """Ten requests: 6 fine, 1 retried, 1 by fallback, 1 failed, 1 the client's fault."""
    ok = [
        record(duration_ms=100.0 * (n + 1), cost_usd=0.01, tokens=Tokens(100, 20, 0, 50, 10),
               validation=Validation(first_ok=n != 0, ok=True, repairs=["fence"] if n == 0 else []))
        for n in range(6)
    ]  # fmt: skip
    retried = record(attempts=[attempt(status=429, error_type="rate_limit"), attempt(n=2, kind="retry")], cost_usd=None)
    fell = record(
        outcome="fallback", canary=True, release=4, served_model="big",
        attempts=[attempt(status=0, error_type="timeout_first_token"), attempt(n=2, kind="fallback", model="big")],
    )  # fmt: skip
    failed = record(
        outcome="failed", status=502, error_type="server_error", cost_usd=None, tokens=None,
        attempts=[attempt(status=500, error_type="server_error")], redaction=None,
    )  # fmt: skip
    refused = record(outcome="failed", status=400, error_type="bad_request", attempts=[], cost_usd=None, tokens=None,
                     redaction=Redaction(status="skipped"))  # fmt: skip
    scores = [
        ScoreRecord(id="1", ts_us=NOW_US, request_id=ok[0].id, name="thumbs", value=1.0),
        ScoreRecord(id="2", ts_us=NOW_US, request_id=fell.id, name="thumbs", value=0.0),
        ScoreRecord(id="3", ts_us=NOW_US, request_id=ok[0].id, name="judge", value=0.2, source="scorer"),
    ]
    load(*ok, retried, fell, failed, refused, *scores, record(source="eval", outcome="failed", error_type="x"))


EXPECTED: dict[str, tuple[float | None, int]] = {
    "requests.count": (10, 10),
    "failure.rate": (2 / 10, 10),
    "error.rate": (1 / 9, 9),
    "success.rate": (7 / 10, 10),
    "fallback.rate": (1 / 10, 10),
    "degraded.rate": (0.0, 10),
    "retry.success_rate": (1.0, 1),
    "attempts.per_request": (11 / 9, 9),
    "schema.valid_first": (5 / 6, 6),
    "schema.valid": (1.0, 6),
    "schema.invalid": (0.0, 6),
    "schema.repaired": (1 / 6, 6),
    "cost.per_request": (0.061 / 7, 7),
    "cost.per_success": (0.061 / 6, 6),
    "cost.spend": (0.061, 7),
    "cost.priced": (7 / 8, 8),
    "tokens.input": ((6 * 120 + 2 * 100) / 8, 8),
    "tokens.output": ((6 * 60 + 2 * 50) / 8, 8),
    "tokens.cached": (120 / 920, 920),
    "usage.reported": (1.0, 8),
    "redaction.coverage": (8 / 10, 10),
    "timeout.rate": (1 / 11, 11),
    "rate_limit.rate": (1 / 11, 11),
    "provider.error_rate": (3 / 11, 11),
    "feedback.score": (0.5, 2),
    "score.mean": (0.4, 3),
    "ttft.p50": (None, 0),
}


@pytest.mark.parametrize("window_us", [HOUR_US, 7 * DAY_US], ids=["raw", "rollups"])
def test_a_metric_counts_what_its_formula_says(store: TelemetryStore, traffic: None, window_us: int) -> None:
    points = {metric: ask(store, metric, NOW_US - window_us)[0] for metric in EXPECTED}
    found = {metric: (point.value, point.n) for metric, point in points.items()}
    assert found == {metric: (pytest.approx(value) if value else value, n) for metric, (value, n) in EXPECTED.items()}
    for metric, point in points.items():
        if CATALOGUE[metric].kind == "ratio":
            assert (point.low, point.high) == pytest.approx(wilson(round((point.value or 0) * point.n), point.n))


def test_safeguards_have_their_metrics(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    hedged = [attempt(cancelled=True, error_type="cancelled"), attempt(n=2, kind="hedge", delivered=True)]
    asked_again = Validation(first_ok=False, ok=True, retried=1, coerced=["/n"])
    made = record(cache="hit", saved_usd=0.25, segment="eu", attempts=[], stream_end="complete")
    load(
        made,
        record(cache="semantic", attempts=[], stream_end="continued"),
        *(record(cache="miss", attempts=hedged, validation=asked_again) for _ in range(2)),
        record(cache="bypass", queued_ms=100.0, guards=[GuardHit("pii", "output", "mask", "email")]),
        record(queued_ms=300.0, outcome="failed", error_type="queue_timeout", attempts=[]),
        record(delayed=True, outcome="failed", error_type="timeout_total", attempts=[]),
        record(delayed=True, guards=[GuardHit("app.rules:mine", "input", "block")], attempts=[]),
        *(ScoreRecord(id=name, ts_us=NOW_US, request_id=made.id, name=name, value=value)
          for name, value in (("thumbs", 1.0), ("revenue", 30.0), ("semantic_hit", 0.0))),
    )  # fmt: skip
    expected: dict[str, tuple[float, int]] = {
        "cache.hit_rate": (2 / 4, 4),
        "cache.semantic_rate": (1 / 4, 4),
        "cache.saved": (0.25, 1),
        "queue.rate": (2 / 8, 8),
        "queue.wait.p95": (290.0, 2),
        "limit.refusal_rate": (1 / 8, 8),
        "guard.hit_rate": (2 / 8, 8),
        "guard.block_rate": (1 / 8, 8),
        "stream.broken_rate": (1 / 2, 2),
        "delayed.failure_rate": (1 / 2, 2),
        "segment.known": (1 / 8, 8),
        "reask.rate": (1.0, 2),
        "schema.coerced": (1.0, 2),
        "hedge.rate": (2 / 3, 3),
        "attempts.cancelled": (2 / 5, 5),
        "score.mean": (1.0, 1),
    }
    for window_us in (HOUR_US, 7 * DAY_US):
        points = {metric: ask(store, metric, NOW_US - window_us)[0] for metric in expected}
        assert {metric: (pytest.approx(point.value), point.n) for metric, point in points.items()} == expected


def test_percentiles_are_exact_up_close_and_within_a_tenth_from_afar(store: TelemetryStore, traffic: None) -> None:
    exact = {name: ask(store, name)[0] for name in ("latency.p50", "latency.p95", "latency.p99")}
    assert exact["latency.p95"].value == pytest.approx(555.0)
    assert exact["latency.p50"].value == pytest.approx(401.0)
    assert exact["latency.p50"].n == 10
    for name, near in exact.items():
        (far,) = ask(store, name, NOW_US - 7 * DAY_US)
        assert far.n == 10
        assert far.value == pytest.approx(near.value, rel=0.26)  # a bucket's width
    assert ask(store, "latency.mean")[0].value == pytest.approx((2100 + 4 * 401) / 10)
    assert ask(store, "cost.per_request.p95")[0].n == 7


def test_dimensions_filter_and_group(store: TelemetryStore, traffic: None) -> None:
    by_release = {point.labels["release"]: point.n for point in ask(store, "requests.count", by=("release",))}
    assert by_release == {"3": 9, "4": 1}
    by_canary = {point.labels["canary"]: point.value for point in ask(store, "fallback.rate", by=("canary",))}
    assert by_canary == {"false": 0.0, "true": 1.0}
    assert ask(store, "requests.count", model="big")[0].value == 1
    assert ask(store, "requests.count", release=3, canary=False, route="docs-answer", env="prod")[0].value == 9
    assert ask(store, "timeout.rate", model="m", by=("provider", "error_type"))[0].labels["provider"] == "p"
    assert ask(store, "feedback.score", release=4)[0] == MetricPoint(value=0.0, n=1)


def test_what_no_model_answered_counts_for_the_model_that_was_asked(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    down = {"outcome": "failed", "error_type": "server_error", "served_model": ""}
    load(
        record(id="answered", served_model="big-2026", asked_model="big"),
        record(id="down", asked_model="big", **down),
        record(id="refused", asked_model="", provider="", attempts=[], **down),
    )
    expected = {"big-2026": 1, "big": 1, "docs-answer": 1}
    for window_us in (HOUR_US, DAY_US):  # raw rows, and rollups
        for metric in ("requests.count", "calls.count"):
            points = ask(store, metric, NOW_US - window_us, by=("model",))
            assert {point.labels["model"]: point.value for point in points} == expected, metric
    (failed,) = ask(store, "failure.rate", model="big")
    assert (failed.value, failed.n) == (1.0, 1)
    for model, found in (("big", "down"), ("big-*", "answered"), ("docs-answer", "refused")):
        (row,) = listing.find(store, Asked(query=parse(f"model:{model}"))).rows
        assert row.id == found


def test_by_error_type_shares_are_of_all_requests(store: TelemetryStore, traffic: None) -> None:
    points = {point.labels["error_type"]: point for point in ask(store, "error.rate", by=("error_type",))}
    assert points["server_error"].value == pytest.approx(1 / 9)
    assert points["server_error"].n == points["bad_request"].n == 9
    assert points["bad_request"].value == 0.0


def test_buckets_are_points_in_time(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(*(record(ts_us=NOW_US - minutes * 60_000_000) for minutes in (1, 1, 30)))
    for window_us in (HOUR_US, DAY_US):
        points = ask(store, "requests.count", NOW_US - window_us, bucket_s=600)
        assert [(point.ts_us % 600_000_000, point.value) for point in points] == [(0, 1.0), (0, 2.0)]
        assert points[0].ts_us < points[1].ts_us <= NOW_US


@pytest.mark.parametrize("window_us", [HOUR_US, 30 * DAY_US], ids=["raw", "rollups"])
def test_no_data_is_none_and_never_a_number(store: TelemetryStore, window_us: int) -> None:
    for metric in CATALOGUE:
        (point,) = ask(store, metric, NOW_US - window_us)
        assert point.n == 0, metric
        assert point.value == (0.0 if metric == "requests.count" else None), metric  # no request is a fact, not a gap
        assert ask(store, metric, NOW_US - window_us, by=("route",)) == []


def test_an_unpriced_model_costs_nothing_known(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(record(cost_usd=None))
    for metric in ("cost.per_request", "cost.per_success", "cost.spend", "cost.per_request.p95"):
        assert ask(store, metric)[0] == MetricPoint(value=None, n=0)
    assert ask(store, "cost.priced")[0].value == 0.0


def test_tokens_of_an_app_s_spans_are_not_counted_again(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    made = record(tokens=Tokens(input_uncached=10, cache_read=5, cache_write=1, output_text=3, reasoning=2))
    nested = [
        SpanRecord(trace_id=made.trace_id, span_id=name, ts_us=NOW_US, duration_ms=1, name=name, tokens=made.tokens)
        for name in ("agent", "chat")
    ]
    load(made, *nested)
    for window_us in (HOUR_US, 7 * DAY_US):
        assert ask(store, "tokens.input", NOW_US - window_us)[0] == MetricPoint(value=16.0, n=1)
        assert ask(store, "tokens.output", NOW_US - window_us)[0] == MetricPoint(value=5.0, n=1)


def test_a_wrong_name_is_answered_with_the_nearest(store: TelemetryStore) -> None:
    with pytest.raises(NotFound) as refused:
        ask(store, "latency.p96")
    assert "latency.p9" in refused.value.hint
    with pytest.raises(BadRequest, match="has no dimension outcome"):
        ask(store, "timeout.rate", by=("outcome",))
    with pytest.raises(BadRequest, match="no dimension"):
        ask(store, "latency.p95", by=("1; DROP TABLE requests",))
    with pytest.raises(BadRequest):
        ask(store, "latency.p95", bucket_s=-1)


def test_values_are_parameters_and_never_sql(store: TelemetryStore, traffic: None) -> None:
    assert ask(store, "requests.count", route="x' OR '1'='1")[0].value == 0
    assert ask(store, "requests.count")[0].value == 10
