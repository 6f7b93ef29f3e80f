"""The edge's HTTP server: asyncio protocols on uvloop, heads read by llhttp (httptools).

A handler is given a Request, whole, and a Client (gateway/types.py) to answer through. docs/edge.md lists the limits,
decision note 5 says why there is a server of our own.
"""

import asyncio
import contextlib
from email.utils import formatdate

from pilothouse.domain.clock import Clock, SystemClock
from pilothouse.domain.pace import Pace
from pilothouse.server.http_account import Account, Handler
from pilothouse.server.http_connection import Connection
from pilothouse.server.http_limits import Limits


class HttpServer:
    """`start` listens, `stop` begins to drain, `close` ends. `pace`: the worker's, which is kept up to date here."""

    def __init__(
        self, handler: Handler, limits: Limits | None = None, clock: Clock | None = None, pace: Pace | None = None
    ) -> None:
        self.account = Account(handler, limits or Limits(), pace or Pace())
        self.port = 0
        self._clock = clock or SystemClock()
        self._listening: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` 0 chooses a free one. Several workers may listen on one port. OSError if it cannot be."""
        loop = asyncio.get_running_loop()
        self._sweep(loop)
        account = self.account
        self._listening = await loop.create_server(
            lambda: Connection(account), host, port, backlog=1024, reuse_port=port != 0
        )
        self.port = self._listening.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Take no more connections, close the idle ones; what is in flight is told that its connection closes."""
        account = self.account
        account.stopping = True
        if self._listening is not None:
            self._listening.close()
        for connection in tuple(account.connections):
            connection.quit()
        if not account.connections:
            account.empty.set()

    async def close(self, within_s: float) -> int:
        """Stop, wait up to `within_s` for the last answers to leave, cut the rest; the number cut."""
        self.stop()
        account = self.account
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await account.empty.wait()
        late = tuple(account.connections)
        for connection in late:
            connection.cut()
        await account.tasks.drain(1.0)
        if self._sweeping is not None:
            self._sweeping.cancel()
        return len(late)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at every connection's times: one timer for all."""
        account = self.account
        account.now = loop.time()
        account.pace.look(account.now)
        account.date = f"date: {formatdate(self._clock.now_us() / 1e6, usegmt=True)}\r\n"
        for connection in tuple(account.connections):
            connection.look(account.now)
        self._sweeping = loop.call_later(account.limits.sweep_s, self._sweep, loop)
