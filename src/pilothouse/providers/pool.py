"""The connections to one origin: kept while idle, the one used last first, and never more than a limit."""

import asyncio
import contextlib
from collections import deque

import msgspec

from pilothouse.domain.errors import ConnectFailed
from pilothouse.domain.pace import Pace
from pilothouse.providers.connection import Connection
from pilothouse.providers.dial import Dialer


class Counts(msgspec.Struct):
    """What became of the connections of all pools together, since the start but for `open`."""

    open: int = 0  # now
    created: int = 0
    reused: int = 0
    aborted: int = 0  # closed by us before the answer was complete


class Pool:
    """Last in, first out: under little load the same few connections serve, and the others age out."""

    def __init__(self, dialer: Dialer, counts: Counts, limit: int, idle_s: float, pace: Pace) -> None:
        self.where = dialer.origin.full
        self.pace = pace
        self.idle: list[Connection] = []  # by `idle_since`
        self.dialer = dialer
        self._counts = counts
        self._limit = limit
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self._members: set[Connection] = set()
        self._slots = 0  # members, and connections being opened
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self) -> Connection | None:
        """A kept connection, None where there is none."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                self._counts.reused += 1
                return connection
        return None

    async def connect(self, within_s: float) -> Connection:
        """A new connection, or, at the limit, the next one to become free, in order of asking; raises ConnectFailed."""
        try:
            async with asyncio.timeout(within_s):
                while self._slots >= self._limit and not self._closed:
                    connection = await self._turn()
                    if connection is None:
                        return await self._open()
                    if not connection.transport.is_closing():
                        self._counts.reused += 1
                        return connection
                if self._closed:
                    raise OSError("the gateway is closing")
                self._slots += 1
                return await self._open()
        except TimeoutError as error:
            what = f"no connection to the provider within {within_s:g} s"
            raise ConnectFailed(what, where=self.where, hint="is it running?") from error
        except OSError as error:
            what = f"no connection to the provider: {error.strerror or error}"
            raise ConnectFailed(what, where=self.where, hint="is it running?") from error

    async def _open(self) -> Connection:
        """A new connection for a slot that is taken already."""
        made: list[Connection] = []
        connection: Connection | None = None

        def make() -> Connection:
            made.append(Connection(self))
            return made[-1]

        try:
            connection = await self.dialer.open(make)
        finally:
            if connection is None:
                for one in made:
                    one.discard()
                self._free()
        self._members.add(connection)
        if connection.transport.is_closing():  # it broke while the last step of opening it was under way
            self.drop(connection, aborted=False)
            raise OSError("it was closed at once")
        return connection

    async def _turn(self) -> Connection | None:
        """Wait for a connection; None: there is a slot for a new one, and it is taken for the caller."""
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled() or not waiter.done():
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            elif (connection := waiter.result()) is None:
                self._free()
            elif not connection.transport.is_closing():
                self.release(connection)
            raise

    def _hand(self, given: Connection | None) -> bool:
        """Give the one who waits longest a connection or a slot; whether somebody waited."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(given)
                return True
        return False

    def _free(self) -> None:
        """A slot is free."""
        if not self._hand(None):
            self._slots -= 1

    def opened(self, connection: Connection) -> None:  # noqa: ARG002  # the Owner's signature
        """Count it."""
        self._counts.open += 1
        self._counts.created += 1

    def release(self, connection: Connection) -> None:
        """Hand it to the one who waits longest, or keep it."""
        if self._waiters and self._hand(connection):
            return
        connection.idle_since = self._loop.time()
        self.idle.append(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_s, self._sweep)

    def drop(self, connection: Connection, *, aborted: bool) -> None:
        """Forget it. Its slot is free, though its socket may take a moment to close."""
        self._counts.aborted += aborted
        if connection in self._members:
            self._members.discard(connection)
            with contextlib.suppress(ValueError):
                self.idle.remove(connection)
            self._free()

    def lost(self, connection: Connection) -> None:  # noqa: ARG002  # the Owner's signature
        """Count it."""
        self._counts.open -= 1

    def _sweep(self) -> None:
        """Close what was idle for too long. One timer looks now and then: one for each connection costs more."""
        self._timer = None
        now = self._loop.time()
        while self.idle and self.idle[0].idle_since + self._idle_s <= now:
            self.idle[0].abort()
        if self.idle:
            self._timer = self._loop.call_at(self.idle[0].idle_since + self._idle_s, self._sweep)

    def close(self) -> None:
        """Close everything, and let nobody wait."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(OSError("the gateway is closing"))
        self._waiters.clear()
        for connection in tuple(self._members):
            connection.stop()
