"""The link: control hands the table to the workers over a unix socket and learns when each one holds it.

Both ends speak newline-delimited JSON:

    worker → control   {"type": "hello", "worker": "edge-0", "revision": 7, "issued_us": …}
    control → worker   {"type": "table", "table": {…}}            one line, may be megabytes
    worker → control   {"type": "ack", "revision": 8, "issued_us": …}

`table.json` beside it is the same table on disk, so that a worker can start, and go on, without control.
"""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from pilothouse.domain.clock import Clock, SystemClock
from pilothouse.domain.table import Table
from pilothouse.domain.tasks import Tasks

log = structlog.get_logger("pilothouse.link")

ACK_TIMEOUT_S = 2.0
GATEWAY = "edge-"  # how the names of the workers begin that serve requests
LINE_LIMIT = 256 << 20  # bytes; a table of 10,000 routes is about 40 MB
_SOCKET_PATH_MAX = 100  # bytes; Linux allows 108 in sockaddr_un
_BACKOFF_S = (0.05, 0.25)  # first and longest wait before a worker connects again: 30 µs of CPU a try


class PushReport(msgspec.Struct, frozen=True):
    """How a push went: `workers` of the `of` connected gateways hold the table after `ms`.

    `late` names every process, ingest included, that did not say in time that it holds it; on another host as
    `host/worker`. `hosts` of `of_hosts` hold it whole; `away`: those that are cut off, and follow when they are back.
    """

    workers: int
    of: int
    ms: float
    late: tuple[str, ...] = ()
    hosts: int = 1
    of_hosts: int = 1
    away: tuple[str, ...] = ()


class WorkerState(msgspec.Struct, frozen=True):
    """A connected worker and the revision that it last said it holds (-1: none yet)."""

    worker: str
    revision: int
    connected_us: int


class _Hello(msgspec.Struct, tag_field="type", tag="hello"):
    worker: str
    revision: int = -1
    issued_us: int = 0


class _Ack(msgspec.Struct, tag_field="type", tag="ack"):
    revision: int
    issued_us: int = 0


class _TableLine(msgspec.Struct):
    table: Table
    type: Literal["table"] = "table"


_from_worker = msgspec.json.Decoder(_Hello | _Ack)
_from_control = msgspec.json.Decoder(_TableLine)
_table_file = msgspec.json.Decoder(Table)


def socket_path(data: Path) -> Path:
    """Where the link listens."""
    return data / "run" / "control.sock"


def table_path(data: Path) -> Path:
    """Where the last table is kept on disk."""
    return data / "table.json"


def save_table(data: Path, table: Table) -> None:
    """Write `table.json` so that a reader sees either the old or the new one, never a part; mode 0600."""
    path = table_path(data)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(msgspec.json.encode(table))
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)


def saved_table(data: Path) -> Table | None:
    """The table on disk; None where there is none yet or it is unreadable (which is logged)."""
    path = table_path(data)
    try:
        return _table_file.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("the saved table cannot be read", path=str(path), error=str(error))
        return None


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """An address for `path` that fits in a socket address: a deep directory is reached through its descriptor."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


class _Peer:
    """One connected worker. `sent` is the last table it was given, `held` the last one it acknowledged."""

    def __init__(self, worker: str, writer: asyncio.StreamWriter, held: tuple[int, int], now_us: int) -> None:
        self.worker = worker
        self.held = held
        self.sent: tuple[int, int] | None = None
        self.gone = False
        self.connected_us = now_us
        self._writer = writer

    def send(self, identity: tuple[int, int], line: bytes) -> None:
        """Hand the line to the transport; a peer that reads nothing is cut off rather than buffered without end."""
        if self._writer.transport.get_write_buffer_size() > LINE_LIMIT:
            self.abort()
            return
        self.sent = identity
        self._writer.write(line)

    def settled(self, identity: tuple[int, int]) -> bool:
        """Whether it holds this table, or one that it was sent later."""
        return self.held in (identity, self.sent)

    def abort(self) -> None:
        """Close at once, unsent bytes included."""
        self._writer.transport.abort()


class LinkServer:
    """Control's end. Keeps the connected workers and what each holds; a push waits for their word."""

    def __init__(
        self, path: Path, tasks: Tasks, clock: Clock | None = None, news: Callable[[], None] = lambda: None
    ) -> None:
        """`news` is called whenever a worker comes, goes, or holds another table."""
        self._path = path
        self._told = news
        self._tasks = tasks
        self._clock: Clock = clock or SystemClock()
        self._peers: set[_Peer] = set()
        self._news = asyncio.Condition()
        self._table: Table | None = None
        self._line = b""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, replacing a socket that a killed control left behind; mode 0600 from its first moment."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with _reachable(self._path) as address:
                listener.bind(address)
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE_LIMIT)

    async def close(self) -> None:
        """Stop listening and let every worker go on alone."""
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            peer.abort()
        async with self._news:
            await self._news.wait_for(lambda: not self._peers)
        self._path.unlink(missing_ok=True)

    @property
    def table(self) -> Table | None:
        """The last table that was pushed."""
        return self._table

    def workers(self) -> list[WorkerState]:
        """The connected workers, by name."""
        return sorted(
            (WorkerState(worker=p.worker, revision=p.held[0], connected_us=p.connected_us) for p in self._peers),
            key=lambda state: state.worker,
        )

    async def wait_for_workers(self, names: set[str], timeout_s: float) -> set[str]:
        """Wait until all of `names` are connected; those that are not when the time is over."""

        def missing() -> set[str]:
            return names - {peer.worker for peer in self._peers}

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: not missing())
        return missing()

    async def push(self, table: Table) -> PushReport:
        """Give `table` to every connected worker and wait, at most `ACK_TIMEOUT_S`, until each one holds it."""
        started = self._clock.monotonic()
        self._table = table
        self._line = msgspec.json.encode(_TableLine(table=table)) + b"\n"
        identity = (table.revision, table.issued_us)
        peers = list(self._peers)
        for peer in peers:
            peer.send(identity, self._line)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACK_TIMEOUT_S), self._news:
                await self._news.wait_for(lambda: all(p.gone or p.settled(identity) for p in peers))
        late = tuple(sorted(p.worker for p in peers if not p.settled(identity)))
        ms = (self._clock.monotonic() - started) * 1_000
        if late:
            log.warning("workers did not confirm the table in time", revision=table.revision, late=late)
        gateways = [p for p in peers if p.worker.startswith(GATEWAY)]
        return PushReport(
            workers=sum(p.worker not in late for p in gateways), of=len(gateways), ms=round(ms, 3), late=late
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One worker's connection, until it ends."""
        peer: _Peer | None = None
        try:
            hello = _from_worker.decode(await reader.readline())
            if not isinstance(hello, _Hello):
                return
            peer = _Peer(hello.worker, writer, (hello.revision, hello.issued_us), self._clock.now_us())
            await self._welcome(peer)
            while line := await reader.readline():
                ack = _from_worker.decode(line)
                async with self._news:
                    if isinstance(ack, _Ack):
                        peer.held = (ack.revision, ack.issued_us)
                    self._tell()
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("a worker's link broke", worker=peer.worker if peer else "", error=str(error))
        finally:
            writer.close()
            if peer is not None:
                await self._forget(peer)

    async def _welcome(self, peer: _Peer) -> None:
        async with self._news:
            for old in [p for p in self._peers if p.worker == peer.worker]:
                old.abort()  # a worker that comes back before its old connection is seen to be dead
            self._peers.add(peer)
            if self._table is not None and peer.held != (identity := (self._table.revision, self._table.issued_us)):
                peer.send(identity, self._line)
            self._tell()

    async def _forget(self, peer: _Peer) -> None:
        async with self._news:
            peer.gone = True
            self._peers.discard(peer)
            self._tell()

    def _tell(self) -> None:
        """Wake who waits for the workers; the condition is held."""
        self._news.notify_all()
        self._told()


class _Follower:
    """A worker's side of one or more connections: what it holds, and who is told."""

    def __init__(self, worker: str, hold: Callable[[Table], None]) -> None:
        self._worker = worker
        self._hold = hold
        self._held = (-1, 0)

    def take(self, table: Table) -> None:
        """Replace what is held."""
        self._hold(table)
        self._held = (table.revision, table.issued_us)

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say hello, then take and acknowledge every table until the connection ends."""
        revision, issued_us = self._held
        hello = _Hello(worker=self._worker, revision=revision, issued_us=issued_us)
        writer.write(msgspec.json.encode(hello) + b"\n")
        while (line := await reader.readline()).endswith(b"\n"):
            self.take(_from_control.decode(line).table)
            revision, issued_us = self._held
            writer.write(msgspec.json.encode(_Ack(revision=revision, issued_us=issued_us)) + b"\n")
            await writer.drain()


async def follow(data: Path, worker: str, hold: Callable[[Table], None]) -> None:
    """A worker's end: hold the table on disk, then every table that control sends; runs until cancelled.

    While control is away the worker goes on with what it holds, and connects again with back-off.
    """
    follower = _Follower(worker, hold)
    if (saved := saved_table(data)) is not None:
        follower.take(saved)
    wait = _BACKOFF_S[0]
    while True:
        try:
            with _reachable(socket_path(data)) as address:
                reader, writer = await asyncio.open_unix_connection(address, limit=LINE_LIMIT)
        except OSError:
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, _BACKOFF_S[1])
            continue
        try:
            await follower.listen(reader, writer)
            wait = _BACKOFF_S[0]
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("the link to control broke", worker=worker, error=str(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, _BACKOFF_S[1])
        finally:
            writer.close()
