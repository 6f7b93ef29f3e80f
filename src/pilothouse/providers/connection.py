"""One kept connection to a provider: a request out, its answer in, then the next. HTTP/1.1; llhttp (httptools) parses.

What happens for each chunk of a body stays in C: the parser's callback is the `append` of a list, and whoever reads
takes the whole list. Python runs once for each read of the socket, not once for each chunk.
"""

import asyncio
from typing import Any, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from pilothouse.domain.errors import ServerError
from pilothouse.domain.pace import Pace
from pilothouse.providers.answer import OpenStream, Reply, kept_headers

HEAD_MAX = 64 << 10  # bytes of an answer's status line and headers, informational answers included
BODY_MAX = 64 << 20  # bytes of a whole answer
UNREAD_MAX = 256 << 10  # bytes of a stream that may wait to be read; then the provider is made to wait
STALE_S = 1.0  # a kept connection that was closed meanwhile shows it within one round trip
LINGER_S = 1.0  # how long the last bytes of an answer are waited for once its content is complete


class Stale(ServerError):
    """A connection used again was found closed: it broke at once, with no byte of an answer."""


class Owner(Protocol):
    """The pool that a connection belongs to."""

    where: str  # host and port, for errors
    pace: Pace  # the worker's

    def opened(self, connection: "Connection") -> None:
        """It is connected."""
        ...

    def release(self, connection: "Connection") -> None:
        """Its answer is complete: it can be used again."""
        ...

    def drop(self, connection: "Connection", *, aborted: bool) -> None:
        """It is not to be used again. `aborted`: by us, before its answer was complete."""
        ...

    def lost(self, connection: "Connection") -> None:
        """Its socket is closed."""
        ...


class Connection(asyncio.Protocol):
    """The protocol of one socket. One request at a time; the pool hands it on when its answer is complete."""

    __slots__ = (
        "_bodiless", "_complete", "_flow", "_headers", "_keep", "_linger", "_loop", "_made", "_owner", "_parser",
        "_parts", "_paused", "_raw", "_started", "_status", "_streamed", "_unread", "_unsent", "_used",
        "_waiter",
        "busy", "idle_since", "on_body", "on_header", "transport",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []
        self._unsent: tuple[bytes, ...] = ()  # the request, until it is written
        self._raw: dict[bytes, bytes] = {}
        self.on_body = self._parts.append
        self.on_header = self._raw.__setitem__
        self._parser: Any = HttpResponseParser(self)
        self.busy = False  # an answer is awaited or arriving
        self.idle_since = 0.0  # event loop's clock
        self._made = self._used = False
        self._waiter: asyncio.Future[Any] | None = None  # for the whole answer, or for the head of a stream
        self._flow: OpenStream | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._headers: dict[str, str] = {}
        self._reset()

    def _reset(self) -> None:
        self._status = 0  # of the answer proper; 0 until its head is complete
        self._unread = 0  # bytes received since the last `take`
        self._complete = self._keep = self._paused = False

    # --- asking -------------------------------------------------------------------------------------------------

    async def ask(self, data: tuple[bytes, ...], *, streamed: bool, bodiless: bool = False) -> Any:
        """Send a request; its Reply, or its OpenStream once the head is there.

        `bodiless`: the answer has no body whatever its headers say (HEAD). Raises ServerError, Stale. Where the
        caller is cancelled, the connection is closed at once.
        """
        waiter: asyncio.Future[Any] = self._loop.create_future()
        self._waiter, self._streamed, self._bodiless = waiter, streamed, bodiless
        self.busy = True
        if self._used:
            self._started = self._loop.time()
        self._unsent = data
        if self._owner.pace.busy:
            self._loop.call_soon(self._send)
        else:
            self._send()
        try:
            return await waiter
        except asyncio.CancelledError:
            if self._waiter is waiter:
                self.abort()
            elif streamed and waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                await waiter.result().close()
            raise
        finally:
            del waiter  # it holds its error, whose traceback holds this frame and those of all callers

    def _send(self) -> None:
        data, self._unsent = self._unsent, ()  # none where the connection has ended since
        for part in data:
            self.transport.write(part)

    def take(self) -> bytes:
        """What has arrived of the body since the last call."""
        parts = self._parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        return data

    def abort(self) -> None:
        """Close now, whatever is under way."""
        self._end(aborted=self.busy)

    def discard(self) -> None:
        """Opening it was given up. uvloop then closes the socket, but does not say so if it was connected already."""
        if self._made:
            self.transport.abort()
            self.connection_lost(None)

    def stop(self) -> None:
        """Close now, and tell who waits for the answer."""
        if self.busy:
            self._fail("the gateway is closing")
        else:
            self.abort()

    def linger(self) -> None:
        """Nobody reads on, but wait for the end of the message, so that the connection can be used again."""
        self._flow = None
        self.take()
        self._linger = self._loop.call_later(LINGER_S, self.abort)

    def _end(self, *, aborted: bool) -> None:
        self.busy = False
        self._waiter = self._flow = None
        self._unsent = ()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._owner.drop(self, aborted=aborted)
        self.transport.abort()

    # --- the parser's callbacks -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins; a second one was not asked for."""
        if self._complete:
            raise ValueError("bytes after the answer")

    def on_headers_complete(self) -> None:
        """The head is there. Informational answers (1xx) are passed over."""
        status = self._parser.get_status_code()
        if status >= 200:
            raw = self._raw
            if self._unread > HEAD_MAX and sum(map(len, raw)) + sum(map(len, raw.values())) > HEAD_MAX:
                raise ValueError(f"headers over {HEAD_MAX >> 10} KiB")
            self._status = status
            self._headers = kept_headers(raw)

    def on_message_complete(self) -> None:
        """The answer is complete."""
        if self._status:
            self._complete = True
            self._keep = self._parser.should_keep_alive()
        else:
            self._raw.clear()

    # --- the transport's callbacks ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = transport  # type: ignore[assignment]  # a stream's transport
        self._made = True
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer, or bytes that nobody asked for."""
        if not self.busy:
            self.abort()
            return
        self._unread += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._complete:
                self._fail(f"its answer is not readable: {error.__context__ or error}")
                return
            self._keep = False  # what follows the answer is no answer of ours
        if self._complete or (self._bodiless and self._status):
            self._finish()
        elif not self._status:
            if self._unread > HEAD_MAX:
                self._fail(f"its answer's headers are over {HEAD_MAX >> 10} KiB")
        elif self._streamed:
            self._arrived()
        elif self._unread > BODY_MAX:
            self._fail(f"its answer is over {BODY_MAX >> 20} MiB")

    def eof_received(self) -> None:
        """The provider sends no more; an answer of unknown length is complete with that."""
        if not self.busy:
            self.abort()
        elif self._status and not self._framed():
            self._keep = False
            self._finish()
        else:
            what = "it closed before the answer was complete" if self._status else "it closed without an answer"
            self._fail(what, ours=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed. May be called twice, see `discard`."""
        if self._parser is None:
            return
        if self.busy:
            self._fail(str(exc) if exc else "it closed before the answer was complete", ours=False)
        self._owner.drop(self, aborted=False)
        self._owner.lost(self)
        self._parser = None  # it refers back to us

    # --- the answer -----------------------------------------------------------------------------------------------

    def _framed(self) -> bool:
        return any(name.lower() in (b"content-length", b"transfer-encoding") for name in self._raw)

    def _arrived(self) -> None:
        flow = self._flow
        if flow is not None:
            flow.arrived()
        elif self._linger is not None:
            if self._unread > UNREAD_MAX:
                self.abort()
            self._parts.clear()
        elif self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                self._flow = OpenStream(self, self._status, self._headers)
                waiter.set_result(self._flow)
            else:
                self.abort()
        if self._unread > UNREAD_MAX and self._parts and not self._paused and self.busy:
            self._paused = True
            self.transport.pause_reading()

    def _finish(self) -> None:
        """Free the connection first, then hand the answer over."""
        parts, waiter, flow = self._parts, self._waiter, self._flow
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        status, headers, keep, streamed = self._status, self._headers, self._keep, self._streamed
        parts.clear()
        self._raw.clear()
        self._waiter = self._flow = None
        self.busy = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        sent = not self._unsent and not self.transport.get_write_buffer_size()
        if keep and sent and not self.transport.is_closing():
            if self._paused:
                self.transport.resume_reading()
            self._used = True
            self._reset()
            self._owner.release(self)
        else:
            self._end(aborted=False)
        if flow is not None:
            flow.settle(body)
        elif waiter is not None and not waiter.done():
            if streamed:
                flow = OpenStream(self, status, headers)
                flow.settle(body)
                waiter.set_result(flow)
            else:
                waiter.set_result(Reply(status, headers, body))

    def _fail(self, what: str, *, ours: bool = True) -> None:
        """The answer cannot be had. What came of a stream before can still be taken. `ours`: we end it."""
        waiter, flow = self._waiter, self._flow
        stale = self._used and not self._unread and self._loop.time() - self._started < STALE_S
        left = b"".join(self._parts)
        self._end(aborted=ours)
        if flow is not None:
            flow.settle(left, what)
        elif waiter is not None and not waiter.done():
            kind = Stale if stale else ServerError
            text = f"the provider's connection broke: {what}"
            waiter.set_exception(kind(text, where=self._owner.where, hint="it may have crashed"))
