"""`python -m pilothouse.server.edge`: one worker of the data plane.

Holds the table in memory, opens no database, writes its journal. Several workers share the port (SO_REUSEPORT).
Starts from `table.json` alone, and goes on without control.
"""

import argparse
import asyncio
import contextlib
import functools
import gc
import resource
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import NotFound, PilothouseError, RequestError
from pilothouse.domain.record import Record
from pilothouse.domain.table import Table
from pilothouse.domain.tasks import Tasks
from pilothouse.domain.wires import JournalLine
from pilothouse.gateway import feedback, settle
from pilothouse.gateway.admit import Admission
from pilothouse.gateway.apis.named import PATHS
from pilothouse.gateway.apis.passing import ANY_API
from pilothouse.gateway.meters import Meters
from pilothouse.gateway.pipeline import Gateway
from pilothouse.gateway.replies import JSON, error_body, status_of
from pilothouse.gateway.types import Api, Client, Incoming
from pilothouse.security import files
from pilothouse.security.keys import make_authenticate
from pilothouse.security.pseudonyms import Pseudonyms
from pilothouse.security.redact import Redactor, credentials
from pilothouse.security.secrets import read_secret
from pilothouse.server import equipment, heap
from pilothouse.server.datadir import DataDir
from pilothouse.server.flag_paths import FlagPaths
from pilothouse.server.http import HttpServer
from pilothouse.server.http_account import Asker
from pilothouse.server.http_head import Request
from pilothouse.server.http_limits import Limits
from pilothouse.server.link import follow, saved_table
from pilothouse.store.counters.opened import open_counters
from pilothouse.telemetry.journal import Journal

log = structlog.get_logger("pilothouse.edge")

DRAIN_S = 8.0  # in-flight requests get this long at shutdown
FILES = 65_536  # open files that a worker asks the system for
FLUSH_S = 1.0  # and their answers this long to leave
GC_THRESHOLDS = (20_000, 20, 20)  # a request leaves hardly a cycle behind: look for them less often
EMPTY = Table(revision=0, issued_us=0, entries={}, keys={}, providers={})
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_encode = msgspec.json.encode
Place = tuple[str, Callable[[Request, Asker], Awaitable[None]]]  # method, and who serves it


class Edge:
    """The data plane's paths, on an HTTP server of its own (`http`)."""

    def __init__(
        self,
        gateway: Gateway,
        meters: Meters,
        tasks: Tasks,
        ready: Callable[[], bool],
        journal: Journal,
        limits: Limits | None = None,
    ) -> None:
        self.stopping = False
        self.http = HttpServer(self.serve, limits, pace=gateway.upstream.pace)
        self._gateway = gateway
        self._meters = meters
        self._tasks = tasks
        self._ready = ready
        self._journal = journal
        self._live: set[Asker] = set()  # whose request goes to a model
        self.flags = FlagPaths(gateway, _authorization)
        self._paths: dict[str, Place] = {
            **{path: ("POST", functools.partial(self._model, api)) for path, api in PATHS.items()},
            "/v1/models": ("GET", self._models),
            "/v1/feedback": ("POST", self._feedback),
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics),
            **self.flags.paths(),
        }
        # What begins so, with its method ("" for any); looked at in this order, after the paths.
        self._prefixes: tuple[tuple[str, Place], ...] = (
            *self.flags.prefixes(),
            ("/v1/models/", ("GET", self._model_named)),
            ("/v1/delayed/", ("GET", self._delayed)),
            ("/v1/", ("", functools.partial(self._model, ANY_API))),
        )

    def serve(self, request: Request, client: Asker) -> Awaitable[None]:
        """One request, by path and method."""
        method, serve = self._paths.get(request.path) or self._under(request.path)
        if not method or request.method == method or (method == "GET" and request.method == "HEAD"):
            return serve(request, client)
        return self._not_allowed(method, request, client)

    def _under(self, path: str) -> Place:
        for prefix, found in self._prefixes:
            if path.startswith(prefix):
                return found
        return "", self._nowhere

    async def _nowhere(self, request: Request, client: Client) -> None:
        there = ", ".join(self._paths)
        _error(client, NotFound(f"no such path: {request.path}", where="path", hint=f"there are {there}"))

    async def _not_allowed(self, method: str, request: Request, client: Client) -> None:
        allow = "GET, HEAD" if method == "GET" else method
        error = RequestError(f"{request.method} is not allowed here", hint=f"use {allow}", code="method_not_allowed")
        client.whole(405, [("content-type", JSON), ("allow", allow)], error_body(error))

    async def _model(self, api: Api, request: Request, client: Asker) -> None:
        """A request that goes to a model: one record, whatever happens."""
        self._live.add(client)
        self._meters.in_flight += 1
        try:
            await self._gateway.handle(_incoming(request), client, api)
        finally:
            self._meters.in_flight -= 1
            self._live.discard(client)

    async def _delayed(self, request: Request, client: Client) -> None:
        """An answer that comes later, or that it is still being worked on."""
        gateway, key = self._gateway, _authorization(request)
        try:
            gateway.authenticate(key, gateway.table())
            kept = await gateway.later.poll(request.path.removeprefix("/v1/delayed/"), key)
        except PilothouseError as error:
            _error(client, error)
            return
        client.whole(kept.status, kept.headers, kept.body)

    async def _feedback(self, request: Request, client: Client) -> None:
        gateway = self._gateway
        try:
            principal = gateway.authenticate(request.header("authorization"), gateway.table())
            if request.refused is not None:
                raise request.refused
            line = feedback.score(request.body, principal, gateway.redact, gateway.clock)
            gateway.sink(line)
        except PilothouseError as error:
            _error(client, error)
            return
        client.whole(202, [("content-type", JSON)], _encode({"id": line.id, "request_id": line.request_id}))

    async def _models(self, request: Request, client: Client) -> None:
        try:
            models = self._listed(request)
        except PilothouseError as error:
            _error(client, error)
            return
        client.whole(200, [("content-type", JSON)], _encode({"object": "list", "data": models}))

    async def _model_named(self, request: Request, client: Client) -> None:
        name = request.path.removeprefix("/v1/models/")
        try:
            found = next((m for m in self._listed(request) if m["id"] == name), None)
            if found is None:
                raise NotFound(
                    f"no route “{name}”", where="model", hint="GET /v1/models lists them", code="unknown_route"
                )
        except PilothouseError as error:
            _error(client, error)
            return
        client.whole(200, [("content-type", JSON)], _encode(found))

    def _listed(self, request: Request) -> list[dict[str, Any]]:
        """The routes of the key's environment, and the providers; raises Unauthorized."""
        table = self._gateway.table()
        principal = self._gateway.authenticate(_authorization(request), table)
        created = table.issued_us // 1_000_000
        names = [(e.route, "pilothouse") for e in table.entries.values() if e.env == principal.env]
        names += [(f"{name}/*", name) for name in table.providers]
        return [{"id": n, "object": "model", "created": created, "owned_by": by} for n, by in sorted(names)]

    async def _healthz(self, _request: Request, client: Client) -> None:
        client.whole(200, [("content-type", "text/plain")], b"ok\n")

    async def _readyz(self, _request: Request, client: Client) -> None:
        why = "stopping" if self.stopping else ("ready" if self._ready() else "no table yet")
        client.whole(200 if why == "ready" else 503, [("content-type", "text/plain")], f"{why}\n".encode())

    async def _metrics(self, _request: Request, client: Client) -> None:
        gauges: dict[str, tuple[str, float]] = {
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
        upstream = self._gateway.upstream
        gauges |= {
            "pilothouse_upstream_open": ("Connections to providers", upstream.open),
            "pilothouse_upstream_idle": ("Of these, the unused", upstream.idle),
            "pilothouse_upstream_created": ("Connections to providers since the start", upstream.created),
            "pilothouse_flag_evaluations": ("Flags evaluated since the start", self._gateway.counts.total),
            "pilothouse_flag_listeners": ("Clients that wait for news of flags", self.flags.ofrep.listening),
            "pilothouse_delayed_pending": ("Requests worked on after their 202", self._gateway.later.pending),
            **self._gateway.door.gauges(),
        }
        text = self._meters.text({k: (h, float(v)) for k, (h, v) in gauges.items()}, self._journal.lost)
        attempts = "\n".join(self._gateway.attempts.metrics()) + "\n"
        client.whole(200, [("content-type", _TEXT)], (text + self.http.account.metrics() + attempts).encode())

    async def drain(self, within_s: float) -> int:
        """Wait for what is in flight, cancel the rest (each is recorded and answered); the number cancelled."""
        self.stopping = True
        self.flags.ofrep.stop()
        self.http.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.http.account.empty.wait()
        self._gateway.stopping = True
        late = {client.task for client in self._live}
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        return len(late)


def _incoming(request: Request) -> Incoming:
    header = request.header
    return Incoming(
        body=request.body,
        authorization=_authorization(request),
        traceparent=header("traceparent"),
        session=header("x-pilothouse-session"),
        refused=request.refused,
        path=request.path,
        query=request.query,
        method=request.method,
        header=header,
    )


def _authorization(request: Request) -> str | None:
    """The key as a bearer token, however the client's library sends it."""
    given = request.header("authorization")
    if given is None and (key := request.header("x-api-key")) is not None:
        return f"Bearer {key}"
    return given


def _error(client: Client, error: PilothouseError) -> None:
    client.whole(status_of(error), [("content-type", JSON)], error_body(error))


def _limits() -> Limits:
    """The HTTP limits, with as many connections as there can be open files: each may need one more to a provider."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES if most == resource.RLIM_INFINITY else min(most, FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    standard = Limits()
    return msgspec.structs.replace(standard, connections=min(standard.connections, max(16, (files - 128) // 3)))


class Worker:
    """One edge worker: its table, its journal, its server."""

    def __init__(self, data: DataDir, host: str, port: int, worker: str, app: Path | None, *, sole: bool) -> None:
        self._data = data
        self._worker = worker
        self._tasks = Tasks()
        self._clock = SystemClock()
        self._table: Table | None = saved_table(data.path)
        secrets = files.ensure(data.secret)
        table = self._table or EMPTY
        settings = table.journal
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
            credentials=credentials(secrets.salt),
            authenticate=make_authenticate(secrets.pepper, self._clock),
            secret=read_secret,
            clock=self._clock,
            pseudonym=Pseudonyms(secrets.salt),
            worker=worker,
            admission=Admission(open_counters(table.counters, data.path, self._clock, read_secret, sole=sole)),
            guards=equipment.guards(app),
            answers=equipment.answers(table.counters, self._clock, read_secret),
            shared=data.run,
        )
        self._edge = Edge(
            self._gateway, self._meters, self._tasks, lambda: self._table is not None, self._journal, _limits()
        )
        self._at = (host, port)

    def _hold(self, table: Table) -> None:
        self._table = table
        self._edge.flags.ofrep.changed(table)

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
        counting = self._tasks.spawn(self._edge.flags.keep(), "flag counts")
        settle.warm()
        self._gateway.redact("warm")
        gc.collect()
        gc.freeze()  # what is there now lives as long as the process: the collector need not walk it again
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            await self._edge.http.start(*self._at)
        except OSError as error:
            log.error("the edge cannot listen", worker=self._worker, error=str(error))
            await self._finish(link, counting)
            raise SystemExit(2) from error
        await stop.wait()
        late = await self._finish(link, counting)
        log.info("edge stopped", worker=self._worker, cancelled=late)

    async def _finish(self, *background: asyncio.Task[Any]) -> int:
        late = await self._edge.drain(DRAIN_S)
        await self._edge.http.close(FLUSH_S)
        for task in background:
            task.cancel()
        self._edge.flags.write()
        await self._tasks.drain(1.0)
        await self._gateway.close()
        self._journal.close()
        return late


def main() -> None:
    """Read the command line and serve."""
    heap.give_back()
    parser = argparse.ArgumentParser(prog="pilothouse.server.edge", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4000)
    parser.add_argument("--worker", default="edge-0")
    parser.add_argument("--app", type=Path, help="the app's folder, for guardrails of its own")
    parser.add_argument("--sole", action="store_true", help="no other worker counts on this host")
    args = parser.parse_args()

    async def serve() -> None:
        await Worker(DataDir(args.data), args.host, args.port, args.worker, args.app, sole=args.sole).run()

    uvloop.run(serve())


if __name__ == "__main__":
    main()
