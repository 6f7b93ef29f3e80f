"""`python -m pilothouse.server.ingest`: OpenTelemetry traces in, over OTLP/HTTP.

Apart from the edge, so that decoding a big batch never delays a request. A batch is answered with 200 when all its
spans are in the journal; until then the exporter keeps it.
"""

import argparse
import asyncio
import contextlib
import functools
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import uvloop
from granian.constants import Interfaces
from granian.rsgi import HTTPProtocol, ProtocolClosed, ProtocolError, Scope  # type: ignore[attr-defined]
from granian.server.embed import Server

from pilothouse.domain.clock import Clock, SystemClock
from pilothouse.domain.errors import ClientGone, NotFound, PilothouseError, RequestError, TooLarge
from pilothouse.domain.principal import Principal
from pilothouse.domain.table import Table
from pilothouse.domain.tasks import Tasks
from pilothouse.domain.wires import Authenticate
from pilothouse.security import files
from pilothouse.security.keys import ANONYMOUS, make_authenticate, pseudonym
from pilothouse.security.redact import Redactor
from pilothouse.server import logs
from pilothouse.server.datadir import DataDir
from pilothouse.server.link import follow, saved_table
from pilothouse.telemetry import otlp
from pilothouse.telemetry.journal import SUFFIX, Journal
from pilothouse.telemetry.normalise import Normaliser
from pilothouse.telemetry.spans import OtlpSpan

log = structlog.get_logger("pilothouse.ingest")

TRACES = "/v1/traces"
DRAIN_S = 8.0  # batches being read get this long at shutdown
RETRY_S = 5  # how long an exporter is asked to wait
BACKLOG_BYTES = 1 << 30  # of segments; the loader keeps up to 256 MiB of loaded ones
BACKLOG_S = 1.0  # how often they are counted
DISCARD = 64 << 20  # bytes of a body over the limit that are read before the connection is given up
AT_ONCE = 4  # batches decoded at a time: bounds the memory
PIECE = 64  # spans between two looks at other connections
_STATUS = {
    "unavailable": 503,
    "backlog": 429,
    "method_not_allowed": 405,
}  # code → HTTP status where it is not the class's
_GRPC = {400: 3, 401: 16, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 503: 14}  # HTTP status → gRPC code
_EMPTY = Table(revision=0, issued_us=0, entries={}, keys={}, providers={})


class Backlog:
    """Bytes of the journal's segments that wait on the disk, counted at most once a second."""

    def __init__(self, directory: Path, limit: int, clock: Clock) -> None:
        self._directory = directory
        self._limit = limit
        self._clock = clock
        self._next = -1.0
        self._bytes = 0

    def refuse_when_full(self) -> None:
        """Raises RequestError `backlog`."""
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + BACKLOG_S
            self._bytes = sum(_size(path) for path in self._directory.glob(f"*{SUFFIX}"))
        if self._bytes > self._limit:
            raise RequestError(
                f"{self._bytes >> 20} MiB of spans wait to be loaded, over the limit of {self._limit >> 20} MiB",
                hint="is control running? send the batch again later",
                code="backlog",
            )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # loaded and deleted meanwhile
        return 0


class Receiver:
    """The RSGI application."""

    def __init__(
        self,
        table: Callable[[], Table | None],
        authenticate: Authenticate,
        normaliser: Normaliser,
        journal: Journal,
        backlog: Backlog,
    ) -> None:
        self.stopping = False
        self._table = table
        self._authenticate = authenticate
        self._normaliser = normaliser
        self._journal = journal
        self._backlog = backlog
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._live: set[asyncio.Task[Any]] = set()

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """One request, by path and method."""
        if scope.path in ("/healthz", "/readyz"):
            self._health(scope.path, proto)
            return
        task = asyncio.current_task()
        if task is not None:
            self._live.add(task)
        try:
            await self._export(scope, proto)
        except PilothouseError as error:
            _refuse(scope, proto, error)
        except Exception as error:  # noqa: BLE001  # the request boundary: one bad batch must not end the process
            # Where, but not the error's own text, which may quote what was sent.
            frames = traceback.format_tb(error.__traceback__)
            log.error("a batch could not be taken", error=type(error).__name__, frames=frames)
            _refuse(scope, proto, PilothouseError("the batch could not be taken", hint="see the log of ingest"))
        finally:
            if task is not None:
                self._live.discard(task)

    def _health(self, path: str, proto: HTTPProtocol) -> None:
        why = "ok"
        if path == "/readyz":
            why = "stopping" if self.stopping else ("ready" if self._table() is not None else "no table yet")
        status = 200 if why in ("ok", "ready") else 503
        proto.response_str(status, [("content-type", "text/plain")], why + "\n")

    async def _export(self, scope: Scope, proto: HTTPProtocol) -> None:
        """Take a batch into the journal and answer; raises `PilothouseError` where it is not taken."""
        if scope.path != TRACES:
            raise NotFound(f"no such path: {scope.path}", where="path", hint=f"OTLP traces go to POST {TRACES}")
        if scope.method != "POST":
            raise RequestError(f"{scope.method} is not allowed here", hint="use POST", code="method_not_allowed")
        if self.stopping:
            raise _unavailable("the receiver is stopping", "send the batch again")
        principal = self._principal(scope)
        kind = otlp.media_type(scope.headers.get("content-type"))
        self._backlog.refuse_when_full()
        async with self._slots:
            body = await _body(scope, proto)
            decoded = otlp.decode(body, kind, scope.headers.get("content-encoding"))
            lost = await self._keep(decoded.spans, principal)
        if lost:
            decoded.rejected += lost
            decoded.reasons = {**decoded.reasons, "the journal's disk is full": lost}
        if decoded.rejected:
            log.warning("spans were rejected", rejected=decoded.rejected, reasons=decoded.reasons)
        proto.response_bytes(200, [("content-type", kind)], otlp.success(kind, decoded))

    async def _keep(self, spans: list[OtlpSpan], principal: Principal) -> int:
        """Write the spans to the journal; the number that it lost."""
        lost_before = self._journal.lost["span"]
        env, default_env = ("", principal.env) if principal is ANONYMOUS else (principal.env, "")
        for n, span in enumerate(spans, 1):
            self._journal.write(self._normaliser.span(span, env=env, default_env=default_env))
            if n % PIECE == 0:
                await asyncio.sleep(0)
        return self._journal.lost["span"] - lost_before

    def _principal(self, scope: Scope) -> Principal:
        """Who sends; raises `Unauthorized`, and `unavailable` while no table says which keys there are."""
        table = self._table()
        if table is None:
            raise _unavailable("the receiver has no table yet", "start control, then send the batch again")
        if table.anonymous and not table.keys:
            return ANONYMOUS
        key = scope.headers.get("x-pilothouse-key")
        return self._authenticate(f"Bearer {key}" if key else scope.headers.get("authorization"), table)

    async def drain(self, within_s: float) -> int:
        """Wait for the batches in flight, cancel the rest, which were not answered; the number cancelled."""
        if not self._live:
            return 0
        _, late = await asyncio.wait(set(self._live), timeout=within_s)
        for task in late:
            task.cancel()
        return len(late)


async def _body(scope: Scope, proto: HTTPProtocol) -> bytes:
    """The request's body; raises TooLarge, ClientGone.

    A body over the limit is read on and thrown away, to a bound: an exporter that is still sending would see a broken
    connection instead of the answer, and try for ever.
    """
    length = scope.headers.get("content-length")
    try:
        if length is not None and length.isdigit() and int(length) <= otlp.MAX_BODY:
            return await proto()
        parts, size = [], 0
        async for part in proto:
            size += len(part)
            if size <= otlp.MAX_BODY:
                parts.append(part)
            else:
                parts.clear()
            if size > DISCARD:
                break
    except (ProtocolClosed, ProtocolError) as error:
        raise ClientGone("the client closed the connection before its batch was complete") from error
    if size > otlp.MAX_BODY:
        raise TooLarge(
            f"the body is larger than {otlp.MAX_BODY >> 20} MiB", where="body", hint="export smaller batches"
        )
    return b"".join(parts)


def _unavailable(what: str, hint: str) -> RequestError:
    """Not now, but later: the exporter keeps the batch and sends it again."""
    return RequestError(what, hint=hint, code="unavailable")


def _refuse(scope: Scope, proto: HTTPProtocol, error: PilothouseError) -> None:
    """An error as OTLP wants it: a Status in the request's content type, JSON where that is not known."""
    sent = (scope.headers.get("content-type") or "").partition(";")[0].strip().lower()
    kind = otlp.PROTOBUF if sent == otlp.PROTOBUF else otlp.JSON
    status = _STATUS.get(error.kind, error.status)
    headers = [("content-type", kind)]
    if status in (429, 503):
        headers.append(("retry-after", str(RETRY_S)))
    if status == 405:
        headers.append(("allow", "POST"))
    with contextlib.suppress(ProtocolClosed, ProtocolError):  # the client may be gone
        proto.response_bytes(status, headers, otlp.failure(kind, _GRPC.get(status, 13), str(error)))


class Ingest:
    """The process: its table, its journal, its server."""

    def __init__(self, data: DataDir, host: str, port: int, worker: str, backlog_bytes: int = BACKLOG_BYTES) -> None:
        self._data = data
        self._worker = worker
        self._tasks = Tasks()
        self._table: Table | None = saved_table(data.path)
        clock = SystemClock()
        secrets = files.ensure(data.secret)
        redactor = Redactor(secrets.salt)
        settings = (self._table or _EMPTY).journal
        self._journal = Journal(
            data.journal,
            worker,
            clock,
            fsync=settings.fsync,
            segment_bytes=settings.segment_bytes,
            reserve_bytes=settings.reserve_bytes,
        )
        self._receiver = Receiver(
            table=lambda: self._table,
            authenticate=make_authenticate(secrets.pepper, clock),
            normaliser=Normaliser(
                redact=redactor,
                redact_json=redactor.redact_json,
                pseudonym=functools.partial(pseudonym, secrets.salt),
            ),
            journal=self._journal,
            backlog=Backlog(self._journal.dir, backlog_bytes, clock),
        )
        self._server = Server(
            self._receiver,
            address=host,
            port=port,
            interface=Interfaces.RSGI,
            websockets=False,
            log_enabled=False,
        )

    def _hold(self, table: Table) -> None:
        self._table = table

    async def run(self) -> None:
        """Receive until SIGTERM or SIGINT, then finish what is in flight and close the journal."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        link = self._tasks.spawn(follow(self._data.path, self._worker, self._hold), "link")
        serving = self._tasks.spawn(self._server.serve(), "server")
        stopped = self._tasks.spawn(stop.wait(), "signal")
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        self._receiver.stopping = True
        late = await self._receiver.drain(DRAIN_S)
        if not serving.done():
            self._server.stop()  # type: ignore[no-untyped-call]
        link.cancel()
        await self._tasks.drain(1.0)
        self._journal.close()
        log.info("ingest stopped", worker=self._worker, cancelled=late)
        if not serving.cancelled() and serving.exception() is not None:
            raise SystemExit(2)


def main() -> None:
    """Read the command line and receive."""
    parser = argparse.ArgumentParser(prog="pilothouse.server.ingest", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4318)
    parser.add_argument("--worker", default="ingest-0")
    parser.add_argument("--backlog-bytes", type=int, default=BACKLOG_BYTES)
    args = parser.parse_args()
    logs.configure()

    async def serve() -> None:
        await Ingest(DataDir(args.data), args.host, args.port, args.worker, args.backlog_bytes).run()

    uvloop.run(serve())


if __name__ == "__main__":
    main()
