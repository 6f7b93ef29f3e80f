"""Calls to providers over HTTP/1.1. One Upstream per worker; its connections are kept and shared.

A transport's failures leave here as the errors of the domain; statuses, redirects among them, are left to the wire
format. Why this is our own code: docs/decisions/0006-own-upstream-client.md.

A kept connection may have been closed by the provider just before it is used again. Where it breaks at once and no
byte of an answer has come, the call is sent once more on a new connection, POST or not: nothing was answered, and
nothing that providers do for a chat request is more than an answer. RFC 9112 (section 9.3.1) leaves that to those who
know what the request means. Any other broken call is the attempts' business: it is recorded, and its retry is charged.
"""

import asyncio
import ssl
import urllib.parse
from typing import Any

import msgspec

from pilothouse.domain.errors import ConnectFailed, ServerError
from pilothouse.domain.pace import Pace
from pilothouse.providers.answer import OpenStream, Reply
from pilothouse.providers.connection import BODY_MAX, Stale
from pilothouse.providers.dial import Dialer, Origin, basic, origin_of, tls_context
from pilothouse.providers.encoding import decoded
from pilothouse.providers.pool import Counts, Pool

__all__ = ["Call", "OpenStream", "Reply", "Upstream"]

IDLE_S = 90.0  # an unused connection is kept this long
CONNECTIONS = 1000  # to one origin, at most
_TARGETS_MAX = 1024
_ONE_WRITE = 64 << 10  # a body up to this size is copied behind its head rather than written apart


class Call(msgspec.Struct, frozen=True):
    """One upstream call. `connect_s` bounds DNS, TCP, TLS and the wait for a free connection.

    The caller bounds the rest with timeouts of its own: a call that is cancelled closes its connection at once.
    Host, user-agent, accept, accept-encoding and content-length are set here.
    """

    url: str
    headers: list[tuple[str, str]]
    body: bytes
    connect_s: float
    method: str = "POST"


class _Target(msgspec.Struct, frozen=True):
    """What all calls to one URL have in common."""

    pool: Pool
    head: bytes  # the request line and the headers that do not change


class Upstream:
    """The HTTP client. Proxies and certificates come from the environment. To be used in one event loop."""

    def __init__(self, connections: int = CONNECTIONS, idle_s: float = IDLE_S) -> None:
        self.pace = Pace()  # somebody else's to look at; until then it is not busy
        self._counts = Counts()
        self._connections = connections
        self._idle_s = idle_s
        self._pools: dict[Origin, Pool] = {}
        self._targets: dict[tuple[str, str], _Target] = {}
        self._tls: ssl.SSLContext | None = None

    @property
    def open(self) -> int:
        """Connections there are now."""
        return self._counts.open

    @property
    def idle(self) -> int:
        """Of these, the unused."""
        return sum(len(pool.idle) for pool in self._pools.values())

    @property
    def created(self) -> int:
        """Connections there have been."""
        return self._counts.created

    @property
    def reused(self) -> int:
        """How often a call took a kept connection."""
        return self._counts.reused

    @property
    def aborted(self) -> int:
        """Connections closed from here before their answer was complete."""
        return self._counts.aborted

    async def whole(self, call: Call) -> Reply:
        """Send, and read the whole answer; raises ConnectFailed or ServerError."""
        reply: Reply = await self._send(call, streamed=False)
        encoding = reply.headers.get("content-encoding")
        if encoding is not None:
            reply.body = decoded(reply.body, encoding, BODY_MAX)
        return reply

    async def stream(self, call: Call) -> OpenStream:
        """Send, and read the head of the answer; raises ConnectFailed or ServerError."""
        flow: OpenStream = await self._send(call, streamed=True)
        encoding = flow.headers.get("content-encoding", "identity")
        if flow.status == 200 and encoding != "identity":
            await flow.close()
            raise ServerError(
                f"the provider streams in the encoding “{encoding[:40]}”, though it was asked not to",
                hint="let the provider answer uncompressed",
                upstream_status=200,
            )
        return flow

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()
        for _ in range(3):  # the transports closed just now say so
            await asyncio.sleep(0)

    async def _send(self, call: Call, *, streamed: bool) -> Any:
        target = self._targets.get((call.method, call.url)) or self._aim(call.method, call.url)
        pool, data, bodiless = target.pool, _request(target, call), call.method == "HEAD"
        connection = pool.take() or await pool.connect(call.connect_s)
        try:
            return await connection.ask(data, streamed=streamed, bodiless=bodiless)
        except Stale:
            connection = await pool.connect(call.connect_s)
            return await connection.ask(data, streamed=streamed, bodiless=bodiless)

    def _aim(self, method: str, url: str) -> _Target:
        """The pool and the fixed part of the head for a URL; raises ConnectFailed where it is not usable."""
        try:
            parts = urllib.parse.urlsplit(url)
            origin = origin_of(parts)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            if not (method + path).isascii() or any(c <= " " or c == "\x7f" for c in method + path):
                raise ValueError("it holds spaces or characters that must be percent-encoded")
            pool = self._pools.get(origin) or self._pool(origin)
        except ValueError as error:
            what = f"the provider's address is not usable: {error}"
            raise ConnectFailed(what, where=url.partition("?")[0], hint="fix `base_url:`") from error
        head = _head(method, path, origin, basic(parts), pool.dialer)
        if len(self._targets) >= _TARGETS_MAX:
            self._targets.clear()
        target = self._targets[method, url] = _Target(pool, head)
        return target

    def _pool(self, origin: Origin) -> Pool:
        pool = Pool(Dialer(origin, self._context), self._counts, self._connections, self._idle_s, self.pace)
        self._pools[origin] = pool
        return pool

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context()
        return self._tls


def _head(method: str, path: str, origin: Origin, authorization: str, dialer: Dialer) -> bytes:
    lines = [
        f"host: {origin.authority}",
        "user-agent: pilothouse",
        "accept: */*",
        "accept-encoding: identity",
    ]
    if authorization:
        lines.append(f"authorization: {authorization}")
    if dialer.forwarded and dialer.proxy is not None:
        path = f"{origin.scheme}://{origin.authority}{path}"
        if dialer.proxy.authorization:
            lines.append(f"proxy-authorization: {dialer.proxy.authorization}")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, ""]).encode("latin-1")


def _request(target: _Target, call: Call) -> tuple[bytes, ...]:
    """The request's bytes, in one piece or two; raises ConnectFailed where a header cannot be sent."""
    text = "".join([f"{name}: {value}\r\n" for name, value in call.headers])
    lines, body = len(call.headers), call.body
    if text.count("\n") != lines or text.count("\r") != lines or "\0" in text or not text.isascii():
        # The value is not shown: it is most often the provider's key.
        what = "a header of the call holds a character that no header may hold"
        raise ConnectFailed(what, where=target.pool.where, hint="look at the provider's `key:`")
    head = target.head + text.encode("ascii")
    if not body and call.method in ("GET", "HEAD", "DELETE", "OPTIONS"):
        return (head + b"\r\n",)
    head += b"content-length: %d\r\n\r\n" % len(body)
    return (head + body,) if len(body) <= _ONE_WRITE else (head, body)
