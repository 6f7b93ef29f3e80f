"""Live re-export: what the journals get goes on to another OTLP backend, apart from the request path.

A batch that the backend has no time for (429, 502, 503, 504), or that does not reach it, is sent again until it is
taken; one that it refuses for good is counted, told in the log, and left behind. Nothing is sent twice but what a kill
has cut between answer and note.
"""

import gzip
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from pyreqwest.client import SyncClient, SyncClientBuilder
from pyreqwest.exceptions import PyreqwestError

from pilothouse.config.app import ForwardConfig
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StateError
from pilothouse.domain.record import Record, SpanRecord
from pilothouse.domain.wires import SecretReader
from pilothouse.telemetry import forward
from pilothouse.telemetry.tail import Tail

log = structlog.get_logger("pilothouse.forward")

FILE = "forwarded.json"
BATCH_BYTES = 1 << 20  # of journal lines
TIMEOUT_S = 10.0
WAIT_S = (1.0, 60.0)  # between tries: doubled from the first to the last, or as the backend says
_LATER = frozenset({408, 429, 502, 503, 504})


class Told(msgspec.Struct):
    """How the forwarding fares; shown in `/overview.json`. `lost`: segments that were gone before they were sent."""

    endpoint: str
    spans: int = 0
    rejected: int = 0
    lost: int = 0


class Forwarder:
    """Sends what is new; called from one thread at a time."""

    def __init__(
        self, journal: Path, data: Path, clock: Clock, secret: SecretReader, config: Callable[[], ForwardConfig | None]
    ) -> None:
        self.told = Told(endpoint="")
        self._journal = journal
        self._file = data / FILE
        self._clock = clock
        self._secret = secret
        self._config = config
        self._tail: Tail | None = None
        self._next = 0.0
        self._wait = WAIT_S[0]

    def send(self) -> None:
        """Send all that is new, as far as the backend takes it; StateError where it does not, at most once a wait."""
        config = self._config()
        if config is None:
            self._tail = None
            return
        if self._clock.monotonic() < self._next:
            return
        if self._tail is None:
            self._tail = Tail(self._journal, self._file)
        self.told.endpoint = config.endpoint
        headers = {name: self._value(value) for name, value in config.headers.items()}
        with SyncClientBuilder().timeout(timedelta(seconds=TIMEOUT_S)).follow_redirects(False).build() as client:
            for part, lines in self._tail.batches(BATCH_BYTES):
                if lines:
                    self._post(client, config, headers, lines)
                self._tail.keep(part)
        if self._tail.lost != self.told.lost:
            log.error("journal segments were deleted before they were forwarded", segments=self._tail.lost)
            self.told.lost = self._tail.lost
        self._wait = WAIT_S[0]

    def _value(self, value: str) -> str:
        return self._secret(value) if value.startswith(("env://", "file://")) else value

    def _post(
        self, client: SyncClient, config: ForwardConfig, headers: dict[str, str], lines: list[Record | SpanRecord]
    ) -> None:
        body = gzip.compress(forward.encode(lines, content=config.content), 3)
        request = client.post(config.endpoint)
        for name, value in {
            **headers, "content-type": "application/x-protobuf", "content-encoding": "gzip",
        }.items():  # fmt: skip
            request = request.header(name, value)
        try:
            response = request.body_bytes(body).build().send()
        except (PyreqwestError, ValueError) as error:
            raise self._later(type(error).__name__, None) from None  # its text may hold the headers
        if response.status in _LATER:
            raise self._later(f"it answered {response.status}", response.get_header("retry-after"))
        self.told.spans += len(lines)
        if not 200 <= response.status < 300:
            self.told.rejected += len(lines)
            log.error("a backend refused spans for good", status=response.status, spans=len(lines))
            return
        rejected = _rejected(bytes(response.bytes()))
        if rejected:
            self.told.rejected += rejected
            log.warning("a backend took a batch in part", rejected=rejected)

    def _later(self, why: str, retry_after: str | None) -> StateError:
        wait = float(retry_after) if retry_after and retry_after.isdigit() else self._wait
        self._next = self._clock.monotonic() + min(wait, WAIT_S[1])
        self._wait = min(self._wait * 2, WAIT_S[1])
        return StateError(
            f"spans cannot be forwarded: {why}", where="forward.endpoint", hint="they wait in the journal, for an hour"
        )


def _rejected(body: bytes) -> int:
    try:
        return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)
    except (DecodeError, UnicodeDecodeError):
        return 0
