"""Calls to providers over HTTP. One Upstream per worker; its connections are kept and shared.

A transport's failures leave here as the errors of the domain; statuses are left to the wire format.
"""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, ConnectError, PyreqwestError
from pyreqwest.request import RequestBuilder, StreamRequest
from pyreqwest.response import ResponseBodyReader

from pilothouse.domain.errors import ConnectFailed, CutStream, ServerError, UpstreamError

IDLE_S = 90  # an unused connection is kept this long
ERROR_BODY_MAX = 64 << 10  # bytes of an error body that are read


class Call(msgspec.Struct, frozen=True):
    """One upstream call. `connect_s` bounds the handshake; the caller bounds the rest with timeouts of its own.

    `total_s` is what is left of a call that the caller has given up: then its connection is closed.
    """

    url: str
    headers: list[tuple[str, str]]
    body: bytes
    connect_s: float
    total_s: float


class Reply(msgspec.Struct):
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]  # those that anyone here reads
    body: bytes


_KEPT = ("retry-after", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "content-type")


def _headers(response: Any) -> dict[str, str]:
    get = response.get_header
    return {name: value for name in _KEPT if (value := get(name)) is not None}


class OpenStream:
    """An answer whose body is still arriving. Must be closed."""

    def __init__(
        self, request: StreamRequest, status: int, headers: dict[str, str], reader: ResponseBodyReader
    ) -> None:
        self.status = status
        self.headers = headers
        self.held = b""  # read already, but not yet passed on
        self._request = request
        self._reader = reader

    async def read(self) -> bytes | None:
        """The next bytes as they arrive, None at the end; raises CutStream where the connection breaks."""
        try:
            chunk = await self._reader.read_chunk()
        except PyreqwestError as error:
            raise CutStream(
                f"the provider's connection broke: {_cause(error)}",
                hint="the text so far is incomplete: ask again",
                upstream_status=self.status,
            ) from error
        return None if chunk is None else chunk.to_bytes()

    async def rest(self, limit: int = ERROR_BODY_MAX) -> bytes:
        """What is left of the body, up to `limit` bytes."""
        out = bytearray()
        while len(out) < limit and (chunk := await self.read()) is not None:
            out += chunk
        return bytes(out[:limit])

    async def close(self) -> None:
        """Let the connection go; where the answer is not read to its end, the provider sees it closed."""
        await self._request.__aexit__(None, None, None)


class Upstream:
    """The HTTP client. Proxies and certificates come from the environment, as reqwest reads them."""

    def __init__(self) -> None:
        self._clients: dict[float, Client] = {}

    def _client(self, connect_s: float) -> Client:
        client = self._clients.get(connect_s)
        if client is None:
            builder = ClientBuilder().connect_timeout(timedelta(seconds=connect_s))
            builder = builder.pool_idle_timeout(timedelta(seconds=IDLE_S)).follow_redirects(False)
            client = self._clients[connect_s] = builder.user_agent("pilothouse").build()
        return client

    def _builder(self, call: Call) -> RequestBuilder:
        # pyreqwest goes on with a call whose task is cancelled before the head of its answer came; its own timeout
        # is what closes the connection of a call that was given up.
        builder = self._client(call.connect_s).post(call.url).timeout(timedelta(seconds=call.total_s))
        return builder.headers(call.headers).body_bytes(call.body)

    async def whole(self, call: Call) -> Reply:
        """Send, and read the whole answer; raises ConnectFailed or ServerError."""
        try:
            response = await self._builder(call).build().send()
            body = await response.bytes()
        except PyreqwestError as error:
            raise _failure(error, call.url) from error
        return Reply(status=response.status, headers=_headers(response), body=body.to_bytes())

    async def stream(self, call: Call) -> OpenStream:
        """Send, and read the head of the answer; raises ConnectFailed or ServerError."""
        try:
            # 0: hand over each chunk as it arrives; the default reads 64 KiB ahead before the head is given.
            request = self._builder(call).streamed_read_buffer_limit(0).build_streamed()
            response = await request.__aenter__()
        except PyreqwestError as error:
            raise _failure(error, call.url) from error
        return OpenStream(request, response.status, _headers(response), response.body_reader)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))


def _cause(error: PyreqwestError) -> str:
    """The innermost cause, which says what happened."""
    details = getattr(error, "details", None)
    causes = details.get("causes") if isinstance(details, dict) else None
    return str(causes[-1]["message"]) if causes else error.message


def _failure(error: PyreqwestError, url: str) -> UpstreamError:
    host = url.split("/")[2] if "://" in url else url
    if isinstance(error, BuilderError):
        return ConnectFailed(
            f"the provider's address is not usable: {_cause(error)}", where=url, hint="fix `base_url:`"
        )
    # The caller's own timeouts come before `total_s`, so a timeout here is the connect timeout. A ConnectError may
    # also be a connection that broke while the request was sent; only hyper's own cause tells.
    if isinstance(error, TimeoutError) or (isinstance(error, ConnectError) and "(Connect)" in str(error.details)):
        return ConnectFailed(f"no connection to the provider: {_cause(error)}", where=host, hint="is it running?")
    return ServerError(f"the provider's connection broke: {_cause(error)}", where=host, hint="it may have crashed")
