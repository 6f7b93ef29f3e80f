"""`python -m pilothouse.server.edge`: one worker of the data plane.

Holds the table in memory, opens no database, writes its journal. Several workers share the port (SO_REUSEPORT).
Starts from `table.json` alone, and goes on without control.
"""

import argparse
import asyncio
import contextlib
import functools
import gc
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop
from granian.constants import Interfaces
from granian.rsgi import HTTPProtocol, ProtocolClosed, ProtocolError, Scope  # type: ignore[attr-defined]
from granian.server.embed import Server

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import ClientGone, NotFound, PilothouseError, RequestError, TooLarge
from pilothouse.domain.record import Record
from pilothouse.domain.table import Table
from pilothouse.domain.tasks import Tasks
from pilothouse.domain.wires import JournalLine
from pilothouse.gateway import feedback, settle
from pilothouse.gateway.meters import Meters
from pilothouse.gateway.pipeline import Gateway
from pilothouse.gateway.replies import JSON, error_body, status_of
from pilothouse.gateway.types import Headers, Incoming
from pilothouse.security import files
from pilothouse.security.keys import make_authenticate, pseudonym
from pilothouse.security.redact import Redactor
from pilothouse.security.secrets import read_secret
from pilothouse.server.datadir import DataDir
from pilothouse.server.link import follow, saved_table
from pilothouse.telemetry.journal import Journal

log = structlog.get_logger("pilothouse.edge")

BODY_MAX = 10 << 20  # bytes
WATCH_S = 0.05  # a request that takes longer has its client's connection watched
DRAIN_S = 8.0  # in-flight requests get this long at shutdown
EMPTY = Table(revision=0, issued_us=0, entries={}, keys={}, providers={})
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_encode = msgspec.json.encode


class _Client:
    """The way back to one client."""

    def __init__(self, proto: HTTPProtocol) -> None:
        self._proto = proto
        self._stream: Any = None

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer at once."""
        self._proto.response_bytes(status, headers, body)

    def begin(self, status: int, headers: Headers) -> None:
        """The head of a stream."""
        headers.append(("cache-control", "no-cache"))
        self._stream = self._proto.response_stream(status, headers)

    async def send(self, data: bytes) -> None:
        """More of it; raises ClientGone."""
        try:
            await self._stream.send_bytes(data)
        except ProtocolClosed as error:
            raise ClientGone("the client closed the connection before the answer was complete") from error


class Edge:
    """The RSGI application."""

    def __init__(
        self, gateway: Gateway, meters: Meters, tasks: Tasks, ready: Callable[[], bool], journal: Journal
    ) -> None:
        self.stopping = False
        self._gateway = gateway
        self._meters = meters
        self._tasks = tasks
        self._ready = ready
        self._journal = journal
        self._live: set[asyncio.Task[Any]] = set()
        self._paths: dict[str, tuple[str, Callable[[Scope, HTTPProtocol], Any]]] = {
            "/v1/chat/completions": ("POST", self._chat),
            "/chat/completions": ("POST", self._chat),
            "/v1/models": ("GET", self._models),
            "/v1/feedback": ("POST", self._feedback),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics),
        }

    async def __rsgi__(self, scope: Scope, proto: HTTPProtocol) -> None:
        """One request, by path and method."""
        method, serve = self._paths.get(scope.path, ("", None))
        if serve is None:
            error = NotFound(f"no such path: {scope.path}", where="path", hint=f"there are {', '.join(self._paths)}")
            _error(proto, error)
        elif scope.method == method or (method == "GET" and scope.method == "HEAD"):
            await serve(scope, proto)
        else:
            allow = "GET, HEAD" if method == "GET" else method
            error405 = RequestError(
                f"{scope.method} is not allowed here", hint=f"use {allow}", code="method_not_allowed"
            )
            proto.response_bytes(405, [("content-type", JSON), ("allow", allow)], error_body(error405))

    async def _chat(self, scope: Scope, proto: HTTPProtocol) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("a request is served by a task")
        self._live.add(task)
        self._meters.in_flight += 1
        loop = asyncio.get_running_loop()
        watching: list[asyncio.Task[Any]] = []
        timer = loop.call_later(WATCH_S, lambda: watching.append(self._tasks.spawn(_watch(proto, task))))
        try:
            header = scope.headers.get
            incoming = Incoming(
                body=b"",
                authorization=header("authorization"),
                traceparent=header("traceparent"),
                session=header("x-pilothouse-session"),
            )
            try:
                incoming.body = await _body(scope, proto)
            except RequestError as error:
                incoming.refused = error
            await self._gateway.handle(incoming, _Client(proto))
        except (asyncio.CancelledError, ClientGone):
            # Recorded already. The server still waits for an answer, which nobody will read.
            with contextlib.suppress(ProtocolClosed, ProtocolError, RuntimeError):
                proto.response_empty(499, [])
        finally:
            timer.cancel()
            if watching:
                watching[0].cancel()
            self._meters.in_flight -= 1
            self._live.discard(task)

    async def _feedback(self, scope: Scope, proto: HTTPProtocol) -> None:
        gateway = self._gateway
        try:
            principal = gateway.authenticate(scope.headers.get("authorization"), gateway.table())
            body = await _body(scope, proto)
            line = feedback.score(body, principal, gateway.redact, gateway.clock)
            gateway.sink(line)
        except PilothouseError as error:
            _error(proto, error)
            return
        proto.response_bytes(202, [("content-type", JSON)], _encode({"id": line.id, "request_id": line.request_id}))

    async def _models(self, scope: Scope, proto: HTTPProtocol) -> None:
        gateway = self._gateway
        table = gateway.table()
        try:
            principal = gateway.authenticate(scope.headers.get("authorization"), table)
        except PilothouseError as error:
            _error(proto, error)
            return
        created = table.issued_us // 1_000_000
        names = [(e.route, "pilothouse") for e in table.entries.values() if e.env == principal.env]
        names += [(f"{name}/*", name) for name in table.providers]
        models = [{"id": n, "object": "model", "created": created, "owned_by": by} for n, by in sorted(names)]
        proto.response_bytes(200, [("content-type", JSON)], _encode({"object": "list", "data": models}))

    async def _healthz(self, _scope: Scope, proto: HTTPProtocol) -> None:
        proto.response_str(200, [("content-type", "text/plain")], "ok\n")

    async def _readyz(self, _scope: Scope, proto: HTTPProtocol) -> None:
        why = "stopping" if self.stopping else ("ready" if self._ready() else "no table yet")
        proto.response_str(200 if why == "ready" else 503, [("content-type", "text/plain")], why + "\n")

    async def _metrics(self, _scope: Scope, proto: HTTPProtocol) -> None:
        gauges = {
            "pilothouse_in_flight": ("Requests being served", self._meters.in_flight),
            "pilothouse_table_revision": (
                "Revision of the table that this worker holds",
                self._gateway.table().revision,
            ),
            "pilothouse_records_unwritten": (
                "Records that the journal refused since the start",
                self._gateway.unwritten,
            ),
            "pilothouse_journal_lines": ("Lines written to the journal since the start", self._journal.lines),
            "pilothouse_link_failures": ("Background tasks of this worker that ended", len(self._tasks.failures)),
        }
        text = self._meters.text({k: (h, float(v)) for k, (h, v) in gauges.items()}, self._journal.lost)
        proto.response_str(200, [("content-type", _TEXT)], text)

    async def drain(self, within_s: float) -> int:
        """Wait for what is in flight, cancel the rest (each is recorded); the number cancelled."""
        if not self._live:
            return 0
        _, late = await asyncio.wait(set(self._live), timeout=within_s)
        self._gateway.stopping = True
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        return len(late)


async def _watch(proto: HTTPProtocol, task: asyncio.Task[Any]) -> None:
    """Cancel the request when its client leaves."""
    await proto.client_disconnect()
    task.cancel()


async def _body(scope: Scope, proto: HTTPProtocol) -> bytes:
    """The request's body; raises TooLarge, ClientGone."""
    length = scope.headers.get("content-length")
    if length is not None and length.isdigit() and int(length) > BODY_MAX:
        raise _too_large()
    try:
        if length is not None:
            return await proto()
        parts, size = [], 0
        async for part in proto:
            size += len(part)
            if size > BODY_MAX:
                raise _too_large()
            parts.append(part)
        return b"".join(parts)
    except (ProtocolClosed, ProtocolError) as error:
        raise ClientGone("the client closed the connection before its request was complete") from error


def _too_large() -> TooLarge:
    return TooLarge(f"the body is larger than {BODY_MAX >> 20} MiB", where="body", hint="send less, or by reference")


def _error(proto: HTTPProtocol, error: PilothouseError) -> None:
    proto.response_bytes(status_of(error), [("content-type", JSON)], error_body(error))


class Worker:
    """One edge worker: its table, its journal, its server."""

    def __init__(self, data: DataDir, host: str, port: int, worker: str) -> None:
        self._data = data
        self._worker = worker
        self._tasks = Tasks()
        self._clock = SystemClock()
        self._table: Table | None = saved_table(data.path)
        secrets = files.ensure(data.secret)
        settings = (self._table or EMPTY).journal
        self._meters = Meters()
        self._journal = Journal(
            data.journal,
            worker,
            self._clock,
            fsync=settings.fsync,
            segment_bytes=settings.segment_bytes,
            reserve_bytes=settings.reserve_bytes,
        )
        self._gateway = Gateway(
            table=lambda: self._table or EMPTY,
            sink=self._sink,
            redact=Redactor(secrets.salt),
            authenticate=make_authenticate(secrets.pepper, self._clock),
            secret=read_secret,
            clock=self._clock,
            pseudonym=functools.partial(pseudonym, secrets.salt),
            worker=worker,
        )
        self._edge = Edge(self._gateway, self._meters, self._tasks, lambda: self._table is not None, self._journal)
        self._server = Server(
            self._edge,
            address=host,
            port=port,
            interface=Interfaces.RSGI,
            websockets=False,
            log_enabled=False,
            backlog=1024,
        )

    def _hold(self, table: Table) -> None:
        self._table = table

    def _sink(self, line: JournalLine) -> None:
        self._journal.write(line)
        if isinstance(line, Record):
            self._meters.observe(line)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and close the journal."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        link = self._tasks.spawn(follow(self._data.path, self._worker, self._hold), "link")
        serving = self._tasks.spawn(self._server.serve(), "server")
        settle.warm()
        self._gateway.redact("warm")
        gc.collect()
        gc.freeze()  # what is there now lives as long as the process: the collector need not walk it again
        stopped = self._tasks.spawn(stop.wait())
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        self._edge.stopping = True
        late = await self._finish(serving, link)
        log.info("edge stopped", worker=self._worker, cancelled=late)
        if not serving.cancelled() and serving.exception() is not None:
            raise SystemExit(2)

    async def _finish(self, serving: asyncio.Task[Any], link: asyncio.Task[Any]) -> int:
        if not serving.done():
            self._server.stop()  # type: ignore[no-untyped-call]
        late = await self._edge.drain(DRAIN_S)
        link.cancel()
        await self._tasks.drain(1.0)
        await self._gateway.upstream.close()
        self._journal.close()
        return late


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="pilothouse.server.edge", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4000)
    parser.add_argument("--worker", default="edge-0")
    args = parser.parse_args()

    async def serve() -> None:
        await Worker(DataDir(args.data), args.host, args.port, args.worker).run()

    uvloop.run(serve())


if __name__ == "__main__":
    main()
