"""A provider that does byte for byte what a test says: a server on a real socket."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from pilothouse.providers.upstream import Call

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Asked:
    """One request that came in, and the way back."""

    def __init__(
        self, n: int, connection: int, head: bytes, body: bytes, reader: asyncio.StreamReader, w: asyncio.StreamWriter
    ) -> None:
        self.n = n  # 1 for the first of all
        self.connection = connection
        self.head = head
        self.line, *rest = head.decode("latin-1").split("\r\n")
        self.headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in rest if line)}
        self.body = body
        self.reader = reader
        self.writer = w

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Until the other side has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


WITHIN_S = 10.0  # nothing here takes long; what hangs fails


async def eventually(holds: Callable[[], object]) -> None:
    """Until `holds`, which no event tells of: turn after turn of the loop."""
    async with asyncio.timeout(WITHIN_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(WITHIN_S):
        await event.wait()


Answer = Callable[[Asked], Awaitable[None]]


class Peer:
    """Answers each request with `answer`; `asked` holds what came in."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.connections = 0
        self.open = 0
        self.closed = asyncio.Event()  # a connection has ended
        self.port = 0
        self.scheme = "http"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, host, 0, ssl=context, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        self.scheme = "https" if context else "http"

    def call(self, body: bytes = b"{}", **more: object) -> Call:
        host = more.pop("host", "127.0.0.1")
        given: dict[str, object] = {
            "url": f"{self.scheme}://{host}:{self.port}{more.pop('path', '/v1/x')}",
            "headers": [("content-type", "application/json")],
            "body": body,
            "connect_s": 2.0,
        }
        return Call(**(given | more))  # type: ignore[arg-type]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        connection = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                asked = Asked(len(self.asked) + 1, connection, head[:-4], b"", reader, writer)
                self.asked.append(asked)
                asked.body = await reader.readexactly(int(asked.headers.get("content-length", "0")))
                await self.answer(asked)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self.open -= 1
            self.closed.set()
            self._tasks.discard(task)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def peer(
    answer: Answer | bytes = OK, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    """A peer with one answer for all, or with what `answer` does for each request."""

    async def fixed(asked: Asked) -> None:
        assert isinstance(answer, bytes)
        await asked.send(answer)

    one = Peer(fixed if isinstance(answer, bytes) else answer)
    await one.start(host, context)
    try:
        yield one
    finally:
        await one.close()
