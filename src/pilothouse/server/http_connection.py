"""One connection to the edge: its requests come in whole, are served one after another, and answered in order.

Nothing here waits without a limit: the server's sweep calls `look`. One task serves the connection; it is cancelled as
soon as the client leaves.
"""

import asyncio
import contextlib
import socket
from typing import cast

import structlog

from pilothouse.domain.errors import ClientGone, PilothouseError
from pilothouse.gateway.replies import JSON, error_body
from pilothouse.server.http_account import Account
from pilothouse.server.http_answer import answer_head
from pilothouse.server.http_door import ANSWERED, SILENT, STREAMING, Door
from pilothouse.server.http_head import CHUNKED, Chunks, Repeated, Request, read_head, repeated
from pilothouse.server.http_limits import Refused, malformed, overloaded, too_large, too_slow

log = structlog.get_logger("pilothouse.http")

HEAD, BODY, SERVING, LINGERING = range(4)  # what a connection is at; HEAD also between requests
NEVER = float("inf")
LEARNS = 3  # heads looked at for being repeated: a client that writes them anew each time is soon left alone


class Connection(Door):
    """One connection, and the door through which its requests are answered."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._task: asyncio.Task[None] | None = None
        self._came: asyncio.Future[None] | None = None  # the task waits for a request
        self._phase = HEAD
        self._repeated: Repeated | None = None
        self._learns = LEARNS
        self._rest: bytes | bytearray = b""  # part of a head, or what came after the request being served
        self._body = bytearray()
        self._chunks: Chunks | None = None
        self._held = 0  # bytes charged to the server's account; while lingering, bytes forgotten
        self._deadline = account.now + account.limits.head_s  # the loop's clock; what is late depends on the phase
        self._surplus = False  # one connection too many: its request is told so
        self._deaf = False  # reading is paused

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._surplus = not self._account.admit(self)
        if self._account.crowded:
            self._account.refused["connections"] += 1
            self._transport.abort()
            return
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if self._phase == SERVING:
            if isinstance(self._rest, bytes):
                self._rest = bytearray(self._rest)
            self._rest += data
            if len(self._rest) > self._limits.ahead and not self._deaf:
                self._deaf = True
                self._transport.pause_reading()
        elif self._phase == LINGERING:
            self._held += len(data)
            if self._held > self._limits.linger:
                self._transport.abort()
        elif not self._gone:
            self._take(data)

    def eof_received(self) -> bool:
        """The client will send no more. While it waits for an answer that means that it has left."""
        self._flush()
        if self._phase == SERVING and self._answer != ANSWERED:
            self._abandon()
        return False  # the transport closes

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """The connection is closed."""
        if self._phase == SERVING and self._answer != ANSWERED:
            self._abandon()
        self._gone = True
        self._release()
        for waiter in (self._came, self._drained):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
        self._account.forget(self)

    # -- what the handler and the server call

    @property
    def task(self) -> asyncio.Task[None]:
        """The task that serves a request."""
        if self._task is None:
            raise AssertionError("a request is served by a task")
        return self._task

    def look(self, now: float) -> None:
        """See to what is late."""
        if now >= self._deadline:
            self._deadline = NEVER
            if self._phase == LINGERING:
                self._transport.abort()
            elif self._phase == BODY or self._rest:
                self._refuse(too_slow("body" if self._phase == BODY else "head"))
            else:
                self._close()
        if self._unread.quiet_s(self._transport, now) >= self._limits.write_s:
            self._account.refused["slow_reader"] += 1
            self._transport.abort()

    def quit(self) -> None:
        """Close if nothing is under way."""
        if self._phase == HEAD and not self._rest:
            self._close()

    def cut(self) -> None:
        """Close, whatever is under way; an answer that was given whole still leaves."""
        if self._answer == ANSWERED:
            self._flush()
        self._transport.abort()

    # -- a request on its way in

    def _take(self, data: bytes) -> None:
        try:
            if self._phase == BODY:
                self._more_body(data)
            else:
                self._more_head(data)
        except Refused as refused:
            self._refuse(refused)

    def _more_head(self, data: bytes | bytearray) -> None:
        start = 0
        if self._rest:
            start = max(0, len(self._rest) - 3)
            self._rest += data
            data = self._rest
        elif self._task is not None:  # the first bytes of another request
            if self._repeated is not None and (found := self._repeated.read(data)) is not None:
                self._headed(*found, data)
                return
            self._deadline = self._account.now + self._limits.head_s
        if data[:2] == b"\r\n":  # an empty line before a request is passed over (RFC 9112 section 2.2)
            data, start = data[2:], 0
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            self._rest = self._unfinished(data, start)
            return
        head = bytes(data[: end + 4])
        request = read_head(head, self._limits)
        if self._surplus:
            raise overloaded("connections", "this worker has all the connections it takes")
        if self._task is not None and self._learns:  # a second request: many more may come
            self._learns -= 1
            self._repeated = repeated(head, request, self._limits)
        self._headed(request, end + 4, data)

    def _headed(self, request: Request, end: int, data: bytes | bytearray) -> None:
        """The head is read, and ends there in `data`."""
        rest = bytes(data[end:])
        length = request.length
        if length == 0:
            self._ready(request, rest)
        elif length > self._limits.body:
            request.refused = too_large(self._limits.body)
            self._ready(request, b"")
        elif 0 < length <= len(rest):
            request.body = rest[:length]
            self._ready(request, rest[length:])
        else:
            self._begin_body(request, rest)

    def _unfinished(self, data: bytes | bytearray, start: int) -> bytearray:
        """A head that has not come whole; refuse at once what cannot become one."""
        if len(data) > self._limits.head:
            read_head(bytes(data) + b"\r\n\r\n", self._limits)  # says which limit
        if data and not (65 <= data[0] <= 90 or data == b"\r"):
            raise malformed("this does not begin as an HTTP request does")
        at = data.find(b"\n", start)
        while at >= 0:
            if data[at - 1] != 13:
                raise malformed("a line ends without a carriage return")
            at = data.find(b"\n", at + 1)
        return data if isinstance(data, bytearray) else bytearray(data)

    def _begin_body(self, request: Request, rest: bytes) -> None:
        self._request = request
        self._rest = b""
        self._phase = BODY
        self._deadline = self._account.now + self._limits.body_s
        self._body = bytearray()
        self._chunks = Chunks(self._limits.body) if request.length == CHUNKED else None
        if rest:
            self._more_body(rest)
        elif request.expects:
            self._flush()
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _more_body(self, data: bytes) -> None:
        request, chunks, limits = self._request, self._chunks, self._limits
        if request is None:
            raise AssertionError("a body belongs to a request")
        self._held += len(data)
        self._account.held += len(data)
        if self._account.held > limits.held:
            raise overloaded("memory", "this worker holds all the request bodies it can")
        self._deadline = min(self._deadline + len(data) / limits.body_rate, self._account.now + limits.body_s)
        if chunks is None:
            self._body += data
            if len(self._body) >= request.length:
                rest = bytes(self._body[request.length :])
                del self._body[request.length :]
                request.body = bytes(self._body)
                self._ready(request, rest)
            return
        after = chunks.feed(data)
        if chunks.over:
            request.refused = too_large(limits.body)
            self._ready(request, b"")
        elif after is not None:
            request.body = bytes(chunks.body)
            self._ready(request, after)

    def _ready(self, request: Request, rest: bytes) -> None:
        """Have it served by the connection's task."""
        if self._held:
            self._body, self._chunks = bytearray(), None
        if request.refused is not None:
            request.keep_alive = False
        self._request = request
        self._rest = rest
        self._phase = SERVING
        self._answer = SILENT
        self._deadline = NEVER
        if self._task is None:
            self._task = self._account.tasks.spawn(self._serve())
        elif self._came is not None and not self._came.done():
            self._came.set_result(None)

    # -- the task

    async def _serve(self) -> None:
        """Every request of the connection, one after another."""
        goes_on = True
        while goes_on:
            if self._phase == SERVING and self._request is not None:
                goes_on = await self._one(self._request)
            elif self._gone:
                return
            else:
                self._came = self._loop.create_future()
                await self._came

    async def _one(self, request: Request) -> bool:
        """One request; whether the connection goes on."""
        try:
            await self._account.handler(request, self)
            if self._answer == SILENT:
                raise AssertionError("a request was left without an answer")
        except (asyncio.CancelledError, ClientGone) as error:
            self.cut()
            if isinstance(error, ClientGone) or self._gone:
                return False
            raise
        except Exception:  # request boundary: answered with 500, or cut if the answer has begun
            log.exception("a request failed inside the server", method=request.method, path=request.path)
            if self._answer != SILENT:
                self.cut()
                return False
            request.keep_alive = False
            self.whole(500, [("content-type", JSON)], error_body(PilothouseError("the gateway failed")))
        if self._answer == STREAMING:
            if request.chunks and request.method != "HEAD":
                self._out.append(b"0\r\n\r\n")
            self._flush()
        self._answer = ANSWERED
        if self._full and not self._gone:
            await self._drain()
        return self._next(request)

    def _next(self, request: Request) -> bool:
        """Go over to the next request, if there may be one."""
        self._request = None
        if self._held:
            self._release()
        if self._gone:
            return False
        if not request.keep_alive:
            if request.refused is not None:
                self._linger()
            else:
                self._close()
            return False
        self._phase = HEAD
        self._deadline = self._account.now + self._limits.idle_s
        if self._deaf:
            self._deaf = False
            self._transport.resume_reading()
        if self._rest:
            rest, self._rest = bytes(self._rest), b""
            self._take(rest)
        elif self._account.stopping:
            self._close()
        return True

    # -- the end

    def _close(self) -> None:
        """Close when all is written."""
        self._flush()
        self._transport.close()

    def _refuse(self, refused: Refused) -> None:
        """Say no, and close."""
        self._flush()
        self._account.refused[refused.reason] += 1
        self._request = None
        self._release()
        body = error_body(refused.error)
        headers = [("content-type", JSON)] + [("retry-after", "1")] * (refused.status == 503)
        more = f"content-length: {len(body)}\r\nconnection: close\r\n"
        self._transport.write(answer_head(refused.status, headers, more + self._account.date) + body)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes, and read on for a while: closing at once would take back the answer."""
        self._flush()
        self._release()
        self._phase = LINGERING
        self._rest = b""
        self._body, self._chunks = bytearray(), None
        self._deadline = self._account.now + self._limits.linger_s
        if self._deaf:
            self._deaf = False
            self._transport.resume_reading()
        with contextlib.suppress(OSError, RuntimeError):
            self._transport.write_eof()

    def _abandon(self) -> None:
        """The client has left while its request is served: end that at once."""
        if self._gone:
            return
        self._gone = True
        self._account.left += 1
        if self._task is not None:
            # After what is due already: a request that came whole has begun before it is cancelled, and is recorded.
            self._loop.call_soon(self._task.cancel)
        self._transport.abort()

    def _release(self) -> None:
        """Take this connection's bytes off the server's account."""
        if self._phase != LINGERING:
            self._account.held -= self._held
            self._held = 0
