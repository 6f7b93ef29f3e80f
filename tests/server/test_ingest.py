"""The OTLP receiver as a process, with OpenTelemetry's own exporter and with garbage, over real sockets."""

import gzip
import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.server.ingest_process import JSON, PROTOBUF, SPAN, WITHIN_S, Process, running, table

from pilothouse.domain.clock import SystemClock
from pilothouse.security.files import ensure
from pilothouse.security.keys import mint, pseudonym

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("anonymous"), table(anonymous=True)) as process:
        yield process


def spans() -> tuple[ReadableSpan, ...]:
    """A trace of an answer with retrieval, as an app would make it."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "docs", "pilothouse.route": "docs-answer"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("answer", attributes={"user.id": "bob"}):
        found = {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": '[{"id": "a", "score": 0.5}]'}
        with tracer.start_as_current_span("retrieval docs", attributes=found):
            pass
        said = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3}
        with tracer.start_as_current_span("chat m", attributes={**said, "input.value": "I am bob@example.org"}):
            pass
    provider.shutdown()
    return memory.get_finished_spans()


@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.NoCompression, Compression.Deflate])
def test_what_opentelemetry_exports_is_in_the_journal_when_it_is_answered(
    anonymous: Process, compression: Compression
) -> None:
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{anonymous.port}/v1/traces", compression=compression)
    made = spans()
    assert exporter.export(made) is SpanExportResult.SUCCESS
    exporter.shutdown()
    trace = f"{made[0].context.trace_id:032x}"
    found = {r.name: r for r in anonymous.records() if r.trace_id == trace}
    assert set(found) == {"answer", "retrieval docs", "chat m"}
    assert {r.route for r in found.values()} == {"docs-answer"}
    assert {r.env for r in found.values()} == {"dev"}
    assert found["answer"].user == pseudonym(ensure(anonymous.data / "secret").salt, "bob")
    assert [d.id for d in found["retrieval docs"].documents or []] == ["a"]
    chat = found["chat m"]
    assert chat.parent_span_id == found["answer"].span_id
    assert chat.tokens is not None
    assert (chat.stage, chat.tokens.input, chat.tokens.output) == ("model", 7, 3)
    assert chat.preview_in.startswith("I am [EMAIL:")
    assert b"bob@example.org" not in b"".join(f.read_bytes() for f in (anonymous.data / "journal").rglob("*.ndjson"))


def test_json_with_a_bad_span_is_a_partial_success(anonymous: Process) -> None:
    before = len(anonymous.records())
    status, answer = anonymous.send(SPAN, {**SPAN, "traceId": "nonsense"})
    assert status == 200
    assert answer["partialSuccess"]["rejectedSpans"] == "1"
    assert "trace id" in answer["partialSuccess"]["errorMessage"]
    assert len(anonymous.records()) == before + 1
    lost = anonymous.lines("loss")[-1]
    assert (lost.what, lost.count) == ("span", 1)
    assert "trace id" in lost.reason


def test_protobuf_with_a_bad_span_is_a_partial_success(anonymous: Process) -> None:
    request = encode_spans(spans())
    request.resource_spans[0].scope_spans[0].spans[0].span_id = b""
    status, headers, body = anonymous.post(request.SerializeToString(), {"content-type": PROTOBUF})
    assert (status, headers["content-type"]) == (200, PROTOBUF)
    assert ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans == 1


@pytest.mark.parametrize(
    ("headers", "body", "status", "says"),
    [
        ({"content-type": JSON}, b"{", 400, "not JSON"),
        ({"content-type": JSON}, b"[]", 400, "not a JSON object"),
        ({"content-type": PROTOBUF}, b"\xff\xffnonsense", 400, "not an OTLP"),
        ({"content-type": PROTOBUF, "content-encoding": "gzip"}, b"nonsense", 400, "not gzip"),
        ({"content-type": "text/plain"}, b"hello", 415, "content type"),
        ({}, b"hello", 415, "content type"),
        ({"content-type": JSON, "content-encoding": "br"}, b"", 415, "content encoding"),
        ({"content-type": PROTOBUF, "content-encoding": "gzip"}, gzip.compress(bytes(40 << 20)), 413, "unpacks"),
        ({"content-type": JSON}, b" " * ((16 << 20) + 1), 413, "larger than 16 MiB"),
    ],
)
def test_garbage_is_refused_in_the_requests_content_type(
    anonymous: Process, headers: dict[str, str], body: bytes, status: int, says: str
) -> None:
    got, answered, text = anonymous.post(body, headers)
    assert got == status
    assert says in text.decode()
    assert answered["content-type"] == (PROTOBUF if headers.get("content-type") == PROTOBUF else JSON)
    if answered["content-type"] == JSON:
        assert set(json.loads(text)) == {"code", "message"}


def test_a_chunked_body_is_bounded_too(anonymous: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", anonymous.port, timeout=WITHIN_S)
    chunks = (b" " * (1 << 20) for _ in range(18))
    connection.request("POST", "/v1/traces", chunks, {"content-type": JSON}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert anonymous.send(SPAN)[0] == 200


def test_other_paths_and_methods(anonymous: Process) -> None:
    assert anonymous.post(b"", {"content-type": JSON}, "/v1/profiles")[0] == 404
    status, headers, _ = anonymous.post(b"", {}, "/v1/traces", "GET")
    assert (status, headers["allow"]) == (405, "POST")
    assert anonymous.post(b"", {}, "/readyz", "GET")[0] == 200


def test_a_client_that_leaves_early_does_no_harm(anonymous: Process) -> None:
    with socket.create_connection(("127.0.0.1", anonymous.port)) as early:
        early.sendall(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )
    assert anonymous.send(SPAN)[0] == 200


def test_keys_are_asked_for_where_there_are_any_and_say_the_environment(tmp_path: Path) -> None:
    pepper, clock = ensure(tmp_path / "secret").pepper, SystemClock()
    key, revoked = (mint("staging", name, pepper, clock) for name in ("ci", "old"))
    with running(tmp_path, table(key)) as process:
        for plain, status in ((key.plain, 200), (revoked.plain, 401), (key.plain[:-1] + "~", 401), ("", 401)):
            assert process.send(SPAN, key=plain)[0] == status
        body = json.dumps({"resourceSpans": []}).encode()
        assert process.post(body, {"content-type": JSON, "x-pilothouse-key": key.plain})[0] == 200
        said = {"key": "deployment.environment.name", "value": {"stringValue": "prod"}}
        assert process.send({**SPAN, "attributes": [said]}, key=key.plain)[0] == 200
        assert [r.env for r in process.records()] == ["staging", "staging"]


def test_a_backlog_asks_the_exporter_to_wait(tmp_path: Path) -> None:
    with running(tmp_path, table(anonymous=True), "--backlog-bytes", "100") as process:
        (tmp_path / "journal" / "ingest-0" / "1-1-1.ndjson").write_bytes(b"x" * 200)
        headers = {"content-type": JSON}
        deadline = time.monotonic() + WITHIN_S
        answer = process.post(b"{}", headers)
        while answer[0] == 200 and time.monotonic() < deadline:  # the size is looked at once a second
            time.sleep(0.05)
            answer = process.post(b"{}", headers)
        assert answer[0] == 429
        assert int(answer[1]["retry-after"]) > 0
        told = {"ingest-0/1-1-1.ndjson": 200}  # as the loader says how far it is
        (tmp_path / "journal" / ".loaded").write_text(json.dumps(told))
        while answer[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
            answer = process.post(b"{}", headers)
        assert answer[0] == 200


def test_without_a_table_nothing_is_taken_and_the_exporter_keeps_it(tmp_path: Path) -> None:
    with running(tmp_path, None) as process:
        status, headers, body = process.post(b"{}", {"content-type": JSON})
        assert (status, headers["retry-after"]) == (503, "5")
        assert b"no table" in body
        assert process.post(b"", {}, "/readyz", "GET")[0] == 503


def test_a_batch_in_flight_is_finished_when_it_is_told_to_stop(tmp_path: Path) -> None:
    with running(tmp_path, table(anonymous=True)) as process:
        many = [{**SPAN, "spanId": f"{i + 1:016x}"} for i in range(3_000)]
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": many}]}]}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=WITHIN_S)
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        connection.request("POST", "/v1/traces", body, {"content-type": JSON})
        process.popen.send_signal(signal.SIGTERM)
        try:
            answered = connection.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            answered = 0
        connection.close()
        process.popen.wait(WITHIN_S)
        if answered == 200:
            assert len(process.records()) == 3_000
        else:
            assert answered in (0, 503)
