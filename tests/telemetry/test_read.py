"""What pages read: one request whole, traffic. Lists: test_filter."""

from collections.abc import Callable

import pytest

from pilothouse.domain.errors import BadRequest
from pilothouse.domain.record import Payload, Record, ScoreRecord, SpanRecord, Validation
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import read

NOW_US = 1_750_000_000_000_000
MINUTE_US = 60_000_000


def test_a_request_is_read_whole_and_its_payload_only_when_asked(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    made = record(id="a", payload=Payload(request="in", response="out"))
    load(
        made,
        SpanRecord(trace_id=made.trace_id, span_id="s", ts_us=NOW_US, duration_ms=1, name="step"),
        ScoreRecord(id="1", ts_us=NOW_US, request_id="a", name="thumbs", value=1.0),
    )
    found = read.request(store, "a")
    assert found is not None
    assert (found["id"], found["ts_us"], found["outcome"]) == ("a", NOW_US, "success")
    assert [attempt["n"] for attempt in found["attempts"]] == [1]
    assert [score["value"] for score in found["scores"]] == [1.0]
    assert [span["name"] for span in found["spans"]] == ["step"]
    assert read.payload(store, "a") == {"request": "in", "response": "out", "upstream": ""}
    assert read.payload(store, "none") is None
    assert read.request(store, "none") is None


def test_traffic_is_one_series_per_route_with_buckets_and_a_total(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    valid = Validation(first_ok=True, ok=True)
    load(
        *(record(ts_us=NOW_US - 20 * MINUTE_US, duration_ms=100.0, validation=valid) for _ in range(3)),
        record(ts_us=NOW_US - MINUTE_US, outcome="failed", cost_usd=None, duration_ms=900.0),
        record(ts_us=NOW_US - MINUTE_US, route="other", cost_usd=None),
        record(ts_us=NOW_US - MINUTE_US, source="eval"),
    )
    busy, other = read.traffic(store, NOW_US - 60 * MINUTE_US, NOW_US, 600)
    assert (busy.route, busy.env) == ("docs-answer", "prod")
    assert [(point.requests, point.errors) for point in busy.points] == [(3, 0), (1, 1)]
    assert (busy.total.requests, busy.total.errors, busy.total.structured, busy.total.valid) == (4, 1, 3, 3)
    assert busy.total.cost == pytest.approx(0.003)
    assert busy.points[1].cost is None
    assert busy.points[0].p95 == pytest.approx(100.0, rel=0.26)
    assert busy.total.p95 == pytest.approx(900.0, rel=0.26)
    assert (other.route, other.total.cost) == ("other", None)
    assert [series.route for series in read.traffic(store, 0, NOW_US, 3600, route="other", env="prod")] == ["other"]
    with pytest.raises(BadRequest, match="at least a minute"):
        read.traffic(store, 0, NOW_US, 30)
