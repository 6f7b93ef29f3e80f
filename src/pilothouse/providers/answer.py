"""A provider's answer: whole, or still arriving."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from pilothouse.domain.errors import CutStream
from pilothouse.providers.encoding import decoded

ERROR_BODY_MAX = 64 << 10  # bytes of an error body that are read
_KEPT = frozenset(
    [
        "content-disposition",
        "content-encoding",
        "content-type",
        "location",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "x-amzn-errortype",
        "x-amzn-requestid",
        "x-request-id",
        "x-should-retry",
    ]
)
_KEPT_PREFIXES = ("x-ratelimit-", "ratelimit-", "anthropic-ratelimit-", "openai-")
_names: dict[bytes, str] = {}  # a header's name as a provider writes it → as we read it, "" where nobody reads it
_NAMES_MAX = 1024


class Reply(msgspec.Struct):
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]  # those that anyone here reads, names in lower case
    body: bytes


def kept_headers(raw: dict[bytes, bytes]) -> dict[str, str]:
    """Those of an answer's headers that the gateway reads; of headers sent twice, the last."""
    found: dict[str, str] = {}
    for written, value in raw.items():
        name = _names.get(written)
        if name is None:
            name = _kept_name(written)
        if name:
            found[name] = value.decode("latin-1")
    return found


def _kept_name(written: bytes) -> str:
    name = written.decode("latin-1").lower()
    kept = name if name in _KEPT or name.startswith(_KEPT_PREFIXES) else ""
    if len(_names) >= _NAMES_MAX:
        _names.clear()
    _names[written] = kept
    return kept


class Source(Protocol):
    """The connection that a stream arrives on."""

    def take(self) -> bytes:
        """What has arrived of the body since the last call."""
        ...

    def abort(self) -> None:
        """Close now."""
        ...

    def linger(self) -> None:
        """Nobody reads on, but wait for the end of the message, so that the connection can be used again."""
        ...


class OpenStream:
    """An answer whose body is still arriving. Must be closed.

    Read it with `await read()`, or, where no task should be woken for each chunk, `listen` and `take` what is there.
    """

    __slots__ = ("_broke", "_connection", "_enough", "_left", "_listener", "_waiter", "headers", "held", "status")

    def __init__(self, connection: "Source", status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.held = b""  # read already, but not yet passed on
        self._connection: Source | None = connection  # None once the answer is complete, broken or closed
        self._left = b""  # arrived before that, and not yet taken
        self._broke = ""  # why it ended before its end
        self._listener: Callable[[], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._enough = False

    @property
    def ended(self) -> bool:
        """Whether the answer is complete and everything of it was taken."""
        return self._connection is None and not self._left and not self._broke

    def take(self) -> bytes:
        """All that has arrived since the last call, b"" where nothing has; raises CutStream where it broke there."""
        connection = self._connection
        if connection is not None:
            return connection.take()
        data = self._left
        self._left = b""
        if not data and self._broke:
            # Made here: an error kept in the stream would hold, through its traceback, whatever reads the stream.
            hint = "the text so far is incomplete: ask again"
            raise CutStream(f"the provider's connection broke: {self._broke}", hint=hint, upstream_status=self.status)
        return data

    async def read(self) -> bytes | None:
        """All that has arrived, as soon as there is something; None at the end; raises CutStream where it breaks."""
        while not (data := self.take()):
            if self._connection is None:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return data

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever there is something new: it takes until there is nothing, and looks at `ended`.

        It is called from the event loop itself, with no task between, and not for what is there already.
        """
        self._listener = changed

    async def rest(self, limit: int = ERROR_BODY_MAX) -> bytes:
        """What is left of the body, up to `limit` bytes, decoded where it was compressed."""
        out = bytearray()
        while len(out) < limit and (chunk := await self.read()) is not None:
            out += chunk
        return decoded(bytes(out[:limit]), self.headers.get("content-encoding", ""), limit, whole=False)

    def enough(self) -> None:
        """The content is complete: `close` may wait a moment for the end of the message, to keep the connection."""
        self._enough = True

    async def close(self) -> None:
        """Let the connection go; where the answer is not read to its end, the provider sees it closed."""
        connection = self._connection
        if connection is not None:
            self._listener = None
            self.settle(b"", "it was closed here")
            if self._enough:
                connection.linger()
            else:
                connection.abort()

    def settle(self, left: bytes, broke: str = "") -> None:
        """Nothing more will arrive but `left`; `broke`: why the answer is incomplete. Called by the connection."""
        self._connection, self._left, self._broke = None, left, broke
        self.arrived()

    def arrived(self) -> None:
        """Something is new. Called by the connection."""
        if self._listener is not None:
            self._listener()
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
