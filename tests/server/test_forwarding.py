"""Live re-export to another OTLP backend, over a real socket."""

import gzip
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from pilothouse.config.app import ForwardConfig
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StateError
from pilothouse.domain.record import Attempt, Payload, Record, SpanEvent, SpanRecord, Tokens
from pilothouse.security.redact import Redactor
from pilothouse.server.forwarding import FILE, Forwarder
from pilothouse.telemetry import otlp
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.normalise import Normaliser

NOW_US = 1_750_000_000_000_000


@dataclass
class Backend:
    """Keeps what it is sent and answers as it is told: statuses in order, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    rejects: int = 0
    retry_after: str = ""

    def spans(self) -> list[otlp.OtlpSpan]:
        return [span for body in self.bodies for span in otlp.decode(body, otlp.PROTOBUF).spans]


@pytest.fixture
def backend() -> Iterator[Backend]:
    told = Backend()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = told.statuses.pop(0) if told.statuses else 200
            told.headers.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
            answer = ExportTraceServiceResponse()
            answer.partial_success.rejected_spans = told.rejects
            out = answer.SerializeToString()
            if status == 200:
                told.bodies.append(gzip.decompress(body))
            self.send_response(status)
            if told.retry_after:
                self.send_header("retry-after", told.retry_after)
            self.send_header("content-length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


def request(n: int = 0) -> Record:
    tokens = Tokens(input_uncached=10, cache_read=5, output_text=7, reasoning=3)
    attempt = Attempt(n=1, kind="primary", provider="openai", model="mini", offset_ms=1.0, duration_ms=4.0,
                      response_id="r1", tokens=tokens, delivered=True)  # fmt: skip
    return Record(
        id=f"01a20b9c-a055-7dbb-bef4-{n:012x}", ts_us=NOW_US, trace_id="a" * 32, span_id=f"{n + 1:016x}", route="docs",
        app="docs", env="prod", requested_model="docs", served_model="mini-1", provider="openai", outcome="success",
        duration_ms=5.0, tokens=tokens, cost_usd=0.001, attempts=[attempt], release=4, parts={"prompt": "ab"},
        payload=Payload(request="asked", response="told"), labels={"team": "x"},
    )  # fmt: skip


def span() -> SpanRecord:
    return SpanRecord(
        trace_id="b" * 32, span_id="c" * 16, ts_us=NOW_US, duration_ms=2.0, name="embed", operation="embeddings",
        stage="retrieval", app="docs", env="prod", tokens=Tokens(input_uncached=9), attributes={"k": "v"},
        events=[SpanEvent(name="hit", offset_ms=1.0, attributes={"a": "b"})], span_kind="client", status="ok",
    )  # fmt: skip


Make = Callable[..., Forwarder]


@pytest.fixture
def make(tmp_path: Path, backend: Backend) -> Make:
    def made(clock: FrozenClock | None = None, *, content: bool = False) -> Forwarder:
        config = ForwardConfig(
            endpoint=backend.url, headers={"authorization": "env://TOKEN", "x-scope": "team"}, content=content
        )
        return Forwarder(
            tmp_path / "journal", tmp_path, clock or FrozenClock(NOW_US), lambda ref: f"secret of {ref}", lambda: config
        )

    return made


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal", "edge-0", FrozenClock(NOW_US))
    yield opened
    opened.close()


def test_requests_and_spans_arrive_as_they_are(make: Make, journal: Journal, backend: Backend) -> None:
    journal.write(request(7))  # before the first start: not for the past
    forwarder = make()
    forwarder.send()
    assert backend.bodies == []
    journal.write(request())
    journal.write(span())
    forwarder.send()
    forwarder.send()
    assert len(backend.bodies) == 1
    assert backend.headers[0]["authorization"] == "secret of env://TOKEN"
    assert (backend.headers[0]["x-scope"], backend.headers[0]["path"]) == ("team", "/v1/traces")
    root, attempt, app = backend.spans()
    assert (root.name, root.kind, attempt.name, attempt.kind) == ("chat docs", 2, "attempt mini", 3)
    assert (attempt.parent_span_id, attempt.trace_id) == (root.span_id, root.trace_id)
    assert root.attributes["pilothouse.release"] == 4
    assert root.attributes["pilothouse.part.prompt"] == "ab"
    assert root.attributes["pilothouse.label.team"] == "x"
    assert not [key for key in attempt.attributes if "usage" in key]
    assert "asked" not in str(backend.spans())
    assert (app.attributes["k"], app.events[0].name, app.events[0].attributes) == ("v", "hit", {"a": "b"})
    assert forwarder.told.spans == 2
    redact = Redactor(b"salt")
    read = Normaliser(redact=redact, redact_json=redact.redact_json, pseudonym=str)
    again = [read.span(one) for one in (root, app)]
    assert again[0].tokens == request().tokens
    assert (again[0].operation, again[0].provider, again[0].response_model) == ("chat", "openai", "mini-1")
    assert (again[1].tokens, again[1].operation) == (span().tokens, "embeddings")


def test_content_goes_along_only_where_asked(make: Make, journal: Journal, backend: Backend) -> None:
    forwarder = make(content=True)
    forwarder.send()
    journal.write(request())
    forwarder.send()
    assert backend.spans()[0].attributes["input.value"] == "asked"
    assert backend.spans()[0].attributes["output.value"] == "told"


@pytest.mark.parametrize("status", [429, 503])
def test_a_backend_that_asks_for_time_gets_it_and_then_all(
    make: Make, journal: Journal, backend: Backend, status: int
) -> None:
    clock = FrozenClock(NOW_US)
    forwarder = make(clock)
    forwarder.send()
    journal.write(request())
    backend.statuses, backend.retry_after = [status], "7"
    with pytest.raises(StateError, match=str(status)):
        forwarder.send()
    forwarder.send()  # not yet
    assert len(backend.headers) == 1
    clock.advance(7.1)
    journal.write(request(1))
    forwarder.send()
    assert [one.attributes["pilothouse.request_id"] for one in backend.spans() if one.kind == 2] == [
        request().id,
        request(1).id,
    ]


def test_what_is_refused_for_good_is_counted_and_left(make: Make, journal: Journal, backend: Backend) -> None:
    forwarder = make()
    forwarder.send()
    journal.write(request())
    backend.statuses = [400]
    forwarder.send()
    journal.write(request(1))
    backend.rejects = 1
    forwarder.send()
    assert (forwarder.told.spans, forwarder.told.rejected) == (2, 2)
    assert len(backend.headers) == 2


def test_a_new_process_goes_on_where_the_last_one_ended(make: Make, journal: Journal, backend: Backend) -> None:
    first = make()
    first.send()
    journal.write(request())
    first.send()
    journal.write(request(1))
    make().send()
    assert [one.attributes["pilothouse.request_id"] for one in backend.spans() if one.kind == 2] == [
        request().id,
        request(1).id,
    ]


def test_a_segment_that_was_deleted_unread_is_counted(
    make: Make, journal: Journal, backend: Backend, tmp_path: Path
) -> None:
    forwarder = make()
    forwarder.send()
    journal.write(request())
    forwarder.send()
    journal.write(request(1))
    for path in (tmp_path / "journal" / "edge-0").glob("*.ndjson"):
        path.unlink()
    forwarder.send()
    assert forwarder.told.lost == 1
    forwarder.send()
    assert forwarder.told.lost == 1


def test_a_backend_that_is_not_there_is_said_without_its_token(make: Make, journal: Journal, backend: Backend) -> None:
    forwarder = make()
    forwarder.send()
    journal.write(request())
    backend.url = "http://127.0.0.1:1/v1/traces"
    with pytest.raises(StateError, match="cannot be forwarded") as error:
        make().send()
    assert "secret" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(make: Make, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(Exception, match="how far the journal was forwarded"):
        make().send()
