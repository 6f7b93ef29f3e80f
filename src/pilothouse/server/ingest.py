"""`python -m pilothouse.server.ingest`: OpenTelemetry in, over OTLP/HTTP and, where asked, gRPC.

Apart from the edge, so that decoding a big batch never delays a request. A batch is answered when all of it is in the
journal; until then the exporter keeps it.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import msgspec
import structlog
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import StateError
from pilothouse.domain.table import Table
from pilothouse.domain.tasks import Tasks
from pilothouse.security import files
from pilothouse.security.keys import make_authenticate
from pilothouse.security.pseudonyms import Pseudonyms
from pilothouse.security.redact import Redactor, credentials
from pilothouse.server import logs
from pilothouse.server.datadir import DataDir
from pilothouse.server.ingest_grpc import GrpcDoor
from pilothouse.server.ingest_http import HttpDoor
from pilothouse.server.ingest_receiver import BACKLOG_BYTES, Receiver, Room
from pilothouse.server.link import follow, saved_table
from pilothouse.server.span_prices import span_prices
from pilothouse.telemetry.events import EventNormaliser
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.normalise import Normaliser

log = structlog.get_logger("pilothouse.ingest")

DRAIN_S = 8.0  # batches being read get this long at shutdown
_EMPTY = Table(revision=0, issued_us=0, entries={}, keys={}, providers={})


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where ingest answers. `grpc_port` 0: not over gRPC."""

    host: str = "127.0.0.1"
    port: int = 4318
    grpc_port: int = 0


class Ingest:
    """The process: its table, its journal, its doors."""

    def __init__(self, data: DataDir, listening: Listening, worker: str, backlog_bytes: int = BACKLOG_BYTES) -> None:
        self._data = data
        self._worker = worker
        self._tasks = Tasks()
        self._table: Table | None = saved_table(data.path)
        clock = SystemClock()
        secrets = files.ensure(data.secret)
        redactor, bare = Redactor(secrets.salt), credentials(secrets.salt)
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
                pseudonym=Pseudonyms(secrets.salt),
                price=span_prices(lambda: self._table),
                credentials=(bare, bare.redact_json),
            ),
            events=EventNormaliser(redact=redactor, redact_json=redactor.redact_json),
            journal=self._journal,
            room=Room(data.journal, worker, backlog_bytes, settings.reserve_bytes, clock),
            clock=clock,
        )
        self._http = HttpDoor(self._receiver)
        self._grpc = GrpcDoor(self._receiver, listening.host, listening.grpc_port) if listening.grpc_port else None
        self._server = Server(
            self._http,
            address=listening.host,
            port=listening.port,
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
        if self._grpc is not None:
            await self._grpc.start()
        stopped = self._tasks.spawn(stop.wait(), "signal")
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        self._receiver.stopping = True
        over_grpc = [] if self._grpc is None else [self._grpc.stop(DRAIN_S)]
        late, *_ = await asyncio.gather(self._http.drain(DRAIN_S), *over_grpc)
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
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--worker", default="ingest-0")
    parser.add_argument("--backlog-bytes", type=int, default=BACKLOG_BYTES)
    args = parser.parse_args()
    logs.configure()
    listening = Listening(host=args.host, port=args.port, grpc_port=args.grpc_port)

    async def serve() -> None:
        await Ingest(DataDir(args.data), listening, args.worker, args.backlog_bytes).run()

    try:
        uvloop.run(serve())
    except StateError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
