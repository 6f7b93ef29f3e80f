"""An exporter whose answer was lost sends its batch again: what is stored is stored once."""

import time
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from tests.server.ingest_process import PROTOBUF, Process, running, table

from pilothouse.domain.clock import SystemClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import Loader

pytestmark = pytest.mark.process


def spans() -> bytes:
    message = ExportTraceServiceRequest()
    found = message.resource_spans.add().scope_spans.add().spans
    now = time.time_ns()
    for n in range(20):
        span = found.add(
            trace_id=b"\x01" * 16, span_id=(n + 1).to_bytes(8, "big"), name="chat m",
            start_time_unix_nano=now - 1_000_000, end_time_unix_nano=now,
        )  # fmt: skip
        span.attributes.append(KeyValue(key="gen_ai.input.messages", value=AnyValue(string_value="hello")))
    return message.SerializeToString()


def judgement() -> bytes:
    message = ExportLogsServiceRequest()
    record = (
        message.resource_logs.add()
        .scope_logs.add()
        .log_records.add(
            event_name="gen_ai.evaluation.result", trace_id=b"\x01" * 16, span_id=b"\x02" * 8, time_unix_nano=5
        )
    )
    record.attributes.append(KeyValue(key="gen_ai.evaluation.score.value", value=AnyValue(double_value=0.5)))
    return message.SerializeToString()


def post(process: Process, path: str, body: bytes) -> None:
    assert process.post(body, {"content-type": PROTOBUF}, path)[0] == 200


def stored(process: Process, load_between: bool) -> list[tuple[Any, ...]]:
    """Spans, their payloads and scores in the store when each batch was sent twice."""
    store = TelemetryStore(process.data / "telemetry.duckdb")
    loader = Loader(process.data / "journal", store, SystemClock())
    traces, logs = spans(), judgement()
    for _ in range(2):
        post(process, "/v1/traces", traces)
        post(process, "/v1/logs", logs)
        if load_between:
            loader.load_once()
    loader.load_once()
    rows: list[tuple[Any, ...]] = store.rows(
        "SELECT (SELECT count(*) FROM spans), (SELECT count(*) FROM payloads), (SELECT count(*) FROM scores)"
    )
    store.close()
    return rows


def test_a_retry_says_what_the_first_try_said(tmp_path: Any) -> None:
    with running(tmp_path, table(anonymous=True)) as process:
        for _ in range(2):
            post(process, "/v1/traces", spans())
            post(process, "/v1/logs", judgement())
        assert len({record.span_id for record in process.records()}) == 20
        assert len({score.id for score in process.lines("score")}) == 1


@pytest.mark.parametrize("load_between", [False, True])
def test_a_batch_that_is_sent_twice_is_stored_once(tmp_path: Any, load_between: bool) -> None:
    with running(tmp_path, table(anonymous=True)) as process:
        assert stored(process, load_between) == [(20, 20, 1)]
