"""The way out of a connection: the Client of gateway/types.py, in the form of HTTP/1.1."""

import asyncio

from pilothouse.domain.errors import ClientGone
from pilothouse.gateway.types import Headers
from pilothouse.server.http_account import Account
from pilothouse.server.http_answer import EMPTY, Unread, answer_head
from pilothouse.server.http_head import Request

SILENT, STREAMING, ANSWERED = range(3)  # how far the answer is
TOGETHER = 64 << 10  # bytes up to which pieces are copied into one write


class Door(asyncio.Protocol):
    """Answers one request after another. `_request` is the one being answered."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._limits = account.limits
        self._transport: asyncio.Transport
        self._loop: asyncio.AbstractEventLoop  # held: asking for it makes a system call each time
        self._request: Request | None = None
        self._answer = SILENT
        self._out: list[bytes] = []  # to be written in this turn of the loop
        self._out_bytes = 0
        self._unread = Unread()
        self._full = False  # more waits for the client than the transport likes
        self._drained: asyncio.Future[None] | None = None  # the handler waits for the client to take it
        self._gone = False  # the client has left, or is not wanted any more

    def pause_writing(self) -> None:
        """More waits for the client than is good."""
        self._full = True

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        self._full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer at once."""
        empty = status in EMPTY
        head = self._head(status, headers, "" if empty else f"content-length: {len(body)}\r\n")
        self._answer = ANSWERED
        if self._gone:
            return
        if empty or self._request is None or self._request.method == "HEAD":
            body = b""
        if len(body) > TOGETHER:
            self._flush()
            self._transport.writelines((head, body))
        elif self._out or self._account.pace.busy:
            self._put(head + body)
        else:
            self._transport.write(head + body)

    def begin(self, status: int, headers: Headers) -> None:
        """The head of a stream."""
        request = self._request
        if request is not None and not request.chunks:
            request.keep_alive = False  # its end is the connection's
        more = "transfer-encoding: chunked\r\n" if request is not None and request.chunks else ""
        head = self._head(status, headers, "cache-control: no-cache\r\n" + more)
        self._answer = STREAMING
        self._put(head)

    async def send(self, data: bytes) -> None:
        """More of it, waiting only while the client is behind; raises ClientGone."""
        if self._gone:
            raise ClientGone("the client closed the connection before the answer was complete")
        request = self._request
        if not data or request is None or request.method == "HEAD":
            return
        self._put(b"%x\r\n%b\r\n" % (len(data), data) if request.chunks else data)
        if self._full:
            await self._drain()

    def _put(self, data: bytes) -> None:
        """Write once what is sent in one turn of the loop: the transport makes a system call of each write."""
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > TOGETHER:
            self._flush()
        elif len(self._out) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what waits for the turn's end; before all that closes, and all that is written past it."""
        out, self._out, self._out_bytes = self._out, [], 0
        if out and not self._gone:
            self._transport.write(b"".join(out))

    def _head(self, status: int, headers: Headers, framing: str) -> bytes:
        request = self._request
        if request is None or self._answer != SILENT:
            raise AssertionError("a request is answered once")
        if self._account.stopping:
            request.keep_alive = False
        if not request.keep_alive:
            framing += "connection: close\r\n"
        elif not request.chunks:
            framing += "connection: keep-alive\r\n"
        return answer_head(status, headers, framing + self._account.date)

    async def _drain(self) -> None:
        """Wait until the client has taken most of what waits for it, or has left."""
        self._drained = self._loop.create_future()
        await self._drained
