"""What hostile or unlucky exporters send: never a crash, nothing lost unsaid, nothing unbounded."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from tests.server.ingest_process import JSON, PROTOBUF, SPAN, WITHIN_S, Process, running, table

from pilothouse.domain.clock import SystemClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import Loader

pytestmark = pytest.mark.process


@pytest.fixture
def process(tmp_path: Any) -> Iterator[Process]:
    with running(tmp_path, table(anonymous=True)) as one:
        yield one
        assert one.post(b"", {}, "/healthz", "GET")[0] == 200


def attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def batch(count: int, trace: bytes = b"\x01" * 16, **more: Any) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    now = time.time_ns()
    for n in range(count):
        spans.add(
            trace_id=trace, span_id=(n + 1).to_bytes(8, "big"), name=f"step {n}",
            **{"start_time_unix_nano": now - 1_000_000, "end_time_unix_nano": now, **more},
        )  # fmt: skip
    return message


def post(process: Process, body: bytes, path: str = "/v1/traces") -> tuple[int, bytes]:
    status, _, answer = process.post(body, {"content-type": PROTOBUF}, path)
    return status, answer


def until(process: Process, status: int) -> bool:
    """Whether an empty batch is answered so, soon."""
    deadline = time.monotonic() + WITHIN_S
    while (got := post(process, b"")[0]) != status and time.monotonic() < deadline:
        time.sleep(0.05)
    return got == status


def test_logs_and_metrics_are_in_the_journal_when_they_are_answered(process: Process) -> None:
    logs = ExportLogsServiceRequest()
    records = logs.resource_logs.add().scope_logs.add().log_records
    for name in ("gen_ai.user.message", "gen_ai.evaluation.result", "app.started"):
        records.add(event_name=name, trace_id=b"\x01" * 16, span_id=b"\x02" * 8, body=AnyValue(string_value="a@b.org"))
    records[1].attributes.append(attribute("gen_ai.evaluation.name", "polite"))
    records[1].attributes.append(KeyValue(key="gen_ai.evaluation.score.value", value=AnyValue(double_value=0.5)))
    status, answer = post(process, logs.SerializeToString(), "/v1/logs")
    assert status == 200
    assert ExportLogsServiceResponse.FromString(answer).partial_success.rejected_log_records == 1
    (event,), (score,) = process.lines("event"), process.lines("score")
    assert event.body.startswith("[EMAIL:")
    assert (score.name, score.value, score.trace_id) == ("polite", 0.5, "01" * 16)
    assert process.lines("loss") == []  # a log record that is none of ours is not a loss

    metrics = ExportMetricsServiceRequest()
    found = metrics.resource_metrics.add().scope_metrics.add().metrics
    found.add(name="calls").gauge.data_points.add(time_unix_nano=time.time_ns(), as_int=4)
    found.add(name="wide").exponential_histogram.data_points.add(count=1)
    status, answer = post(process, metrics.SerializeToString(), "/v1/metrics")
    assert ExportMetricsServiceResponse.FromString(answer).partial_success.rejected_data_points == 1
    assert [(point.name, point.value) for point in process.lines("metric")] == [("calls", 4.0)]
    assert [(loss.what, loss.count) for loss in process.lines("loss")] == [("metric", 1)]

    store = TelemetryStore(process.data / "telemetry.duckdb")
    assert Loader(process.data / "journal", store, SystemClock()).load_once().torn == 0
    assert store.rows("SELECT name, span_id FROM span_events") == [("gen_ai.user.message", "02" * 8)]
    assert store.rows("SELECT name, value, span_id, source FROM scores") == [("polite", 0.5, "02" * 8, "scorer")]
    assert store.rows("SELECT name, type, value FROM app_metrics") == [("calls", "gauge", 4.0)]
    store.close()


def test_malformed_bodies_are_refused_on_every_path(process: Process) -> None:
    for path in ("/v1/traces", "/v1/logs", "/v1/metrics"):
        assert post(process, b"\xff\xfenonsense", path)[0] == 400
        for body in (b"{", b"[]", b'{"resourceSpans": 7, "resourceLogs": 7, "resourceMetrics": 7}', b"\xff"):
            assert process.post(body, {"content-type": JSON}, path)[0] == 400
    told = Counter(loss.what for loss in process.lines("loss"))
    assert told == {"span": 5, "event": 5, "metric": 5}
    assert {loss.reason for loss in process.lines("loss")} == {"a whole batch was refused with 400"}


def test_a_text_that_is_not_utf8_costs_its_span_alone(process: Process) -> None:
    body = batch(3).SerializeToString().replace(b"step 1", b"step \xff")
    status, answer = post(process, body)
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (status, partial.rejected_spans) == (200, 1)
    assert "UTF-8" in partial.error_message
    assert {record.name for record in process.records()} == {"step 0", "step 2"}
    assert [(loss.what, loss.count) for loss in process.lines("loss")] == [("span", 1)]


def test_an_attribute_of_ten_megabytes_is_kept_in_part(process: Process) -> None:
    message = batch(2)
    spans = message.resource_spans[0].scope_spans[0].spans
    spans[0].attributes.append(attribute("note", "word " * (2 << 20)))
    spans[1].attributes.append(attribute("gen_ai.input.messages", "word " * (1 << 20)))
    assert post(process, message.SerializeToString())[0] == 200
    first, second = process.records()
    assert len(first.attributes["note"]) == 2_048
    assert second.payload is not None
    assert len(second.payload.request) <= 1 << 20


def test_a_flood_of_attributes_is_bounded_and_told(process: Process) -> None:
    message = batch(1)
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.extend(attribute(f"key.{n}", "value") for n in range(100_000))
    assert post(process, message.SerializeToString())[0] == 200
    (record,) = process.records()
    assert len(record.attributes) <= 130
    assert int(record.attributes["pilothouse.dropped_attributes"]) >= 99_870


def test_a_trace_of_fifty_thousand_spans_is_taken_while_others_are_answered(process: Process) -> None:
    body = batch(50_000).SerializeToString()
    with ThreadPoolExecutor(1) as other:
        answered = other.submit(post, process, body)
        asked = 0
        while not answered.done():
            assert process.post(b"", {}, "/healthz", "GET")[0] == 200
            asked += 1
        assert answered.result()[0] == 200
    assert asked > 1
    assert len({record.span_id for record in process.records()}) == 50_000


def test_spans_of_another_time_are_kept_and_flagged(process: Process) -> None:
    now = time.time_ns()
    for start in (now + 7_200 * 10**9, now - 7 * 86_400 * 10**9, now):
        message = batch(1, start_time_unix_nano=start, end_time_unix_nano=start + 1)
        assert post(process, message.SerializeToString())[0] == 200
    ahead, behind, right = (record.attributes.get("pilothouse.clock_skew_s") for record in process.records())
    assert 7_100 < int(ahead) < 7_300
    assert int(behind) < -600_000
    assert right is None


def test_a_disk_that_is_nearly_full_asks_the_exporter_to_wait(tmp_path: Any) -> None:
    reserve = 1 << 60
    with running(tmp_path, table(anonymous=True, reserve_bytes=reserve)) as process:
        status, headers, body = process.post(b"{}", {"content-type": JSON})
        assert (status, headers["retry-after"]) == (503, "5")
        assert b"disk" in body


def test_what_is_loaded_is_no_backlog(tmp_path: Any) -> None:
    with running(tmp_path, table(anonymous=True), "--backlog-bytes", "5000") as process:
        store = TelemetryStore(tmp_path / "telemetry.duckdb")
        loader = Loader(tmp_path / "journal", store, SystemClock())
        assert post(process, batch(40).SerializeToString())[0] == 200
        assert until(process, 429)  # the size is looked at once a second
        loader.load_once()
        assert until(process, 200)
        assert store.rows("SELECT count(*) FROM spans") == [(40,)]
        store.close()


def test_json_of_surrogates_and_big_numbers_is_no_crash(process: Process) -> None:
    odd = '{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}'
    span = {**SPAN, "attributes": [{"key": "n", "value": {"intValue": str(2**63 - 1)}}]}
    assert process.post((odd % json.dumps(span)).encode(), {"content-type": JSON})[0] == 200
    assert process.post((odd % '{"name":"\\ud800"}').encode(), {"content-type": JSON})[0] == 400
    assert len(process.records()) == 1


def test_what_was_answered_survives_a_kill_and_is_loaded(tmp_path: Any) -> None:
    with running(tmp_path, table(anonymous=True), ended=-signal.SIGKILL) as process:
        for sent in range(5):
            assert post(process, batch(300, trace=bytes([sent + 1]) * 16).SerializeToString())[0] == 200
        process.popen.kill()
        process.popen.wait(WITHIN_S)
    store = TelemetryStore(tmp_path / "telemetry.duckdb")
    Loader(tmp_path / "journal", store, SystemClock()).load_once()
    assert store.rows("SELECT count(*), count(DISTINCT trace_id || span_id) FROM spans") == [(1_500, 1_500)]
    store.close()
