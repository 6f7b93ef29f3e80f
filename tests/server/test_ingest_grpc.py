"""OTLP over gRPC, with OpenTelemetry's own exporters: the same answers as over HTTP."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.server.ingest_process import WITHIN_S, Process, table
from tests.server.ingest_process import running as receiving

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import StateError
from pilothouse.security.files import ensure
from pilothouse.security.keys import mint
from pilothouse.server import preflight

pytestmark = pytest.mark.process
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def finished(count: int) -> tuple[ReadableSpan, ...]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "docs"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for n in range(count):
        with provider.get_tracer("app").start_as_current_span(
            f"chat {n}", attributes={"gen_ai.operation.name": "chat"}
        ):
            pass
    provider.shutdown()
    return memory.get_finished_spans()


def call(port: int, method: str, body: bytes, **metadata: str) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = channel.unary_unary(method)
        answer: bytes = export(body, timeout=WITHIN_S, metadata=list(metadata.items()), wait_for_ready=True)
        return answer


@pytest.fixture(scope="module")
def open_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, int]]:
    port = free_port()
    with receiving(tmp_path_factory.mktemp("grpc"), table(anonymous=True), "--grpc-port", str(port)) as process:
        yield process, port


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_what_opentelemetry_exports_over_grpc_is_in_the_journal(open_door: Any, compression: Any) -> None:
    process, port = open_door
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}", insecure=True, compression=compression)
    made = finished(3)
    assert exporter.export(made) is SpanExportResult.SUCCESS
    exporter.shutdown()
    sent = {f"{span.context.span_id:016x}" for span in made}
    assert sent <= {record.span_id for record in process.records()}


def test_partial_success_and_refusals_are_told_in_grpc(open_door: Any) -> None:
    _, port = open_door
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "plain log"
    answer = ExportLogsServiceResponse.FromString(call(port, LOGS, request.SerializeToString()))
    assert answer.partial_success.rejected_log_records == 1
    with pytest.raises(grpc.RpcError) as caught:
        call(port, TRACES, b"\xff\xffgarbage")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not an OTLP" in caught.value.details()


def test_keys_come_in_the_metadata(tmp_path: Path) -> None:
    key = mint("staging", "ci", ensure(tmp_path / "secret").pepper, SystemClock())
    port = free_port()
    with receiving(tmp_path, table(key), "--grpc-port", str(port)) as process:
        with pytest.raises(grpc.RpcError) as caught:
            call(port, TRACES, b"")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        exporter = OTLPSpanExporter(
            f"http://127.0.0.1:{port}", insecure=True, headers={"authorization": f"Bearer {key.plain}"}
        )
        assert exporter.export(finished(1)) is SpanExportResult.SUCCESS
        exporter.shutdown()
        assert [record.env for record in process.records()] == ["staging"]


def test_without_room_an_exporter_is_told_to_come_again(tmp_path: Path) -> None:
    port = free_port()
    waiting = tmp_path / "journal" / "ingest-0"
    waiting.mkdir(parents=True)
    (waiting / "1-1-1.ndjson").write_bytes(b"x" * 200)
    with receiving(tmp_path, table(anonymous=True), "--backlog-bytes", "100", "--grpc-port", str(port)):
        with pytest.raises(grpc.RpcError) as caught:
            call(port, TRACES, b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_up_starts_it_where_it_is_asked_to(running: Any, scripted_app: Any) -> None:
    one = running(scripted_app(), otlp_grpc_port=0)
    key = one.key("prod")
    exporter = OTLPSpanExporter(
        f"http://{one.ready['otlp_grpc']}", insecure=True, headers={"authorization": f"Bearer {key}"}
    )
    assert exporter.export(finished(1)) is SpanExportResult.SUCCESS
    exporter.shutdown()


def test_without_the_extra_up_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda _: None)
    with pytest.raises(StateError, match=r"pilothouse\[grpc\]"):
        preflight.require_grpc()
