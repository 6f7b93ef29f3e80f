"""A wire: how a kind of provider is spoken to. Wires are pure: the same ask makes the same request.

A wire takes some forms natively (`native`): then the body goes as it is. Chat it always takes: where that is not
native, it translates the request, and `chat_whole` and `chat_stream` translate what comes back.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from pilothouse.domain.errors import UpstreamError
from pilothouse.domain.table import ProviderEntry
from pilothouse.providers.form import Form


class Ask(msgspec.Struct, gc=False):
    """What is to be sent: `body` in `form`, its model's name filled in. `path`: of a form that is any path."""

    provider: ProviderEntry
    form: str
    body: bytes
    model: str
    stream: bool
    key: str  # the secret's value; empty where the provider has none
    trace_id: str
    span_id: str
    now_us: int
    path: str = ""
    method: str = "POST"
    secrets: dict[str, str] = {}  # the values of the provider's options that are references
    headers: list[tuple[str, str]] = []  # of the client, that the provider is meant to see (anthropic-beta …)


class Request(msgspec.Struct, gc=False):
    """One HTTP request, complete."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes
    method: str = "POST"


class Flow(Protocol):
    """An answer whose body is still arriving. Must be closed."""

    status: int
    headers: dict[str, str]
    held: bytes  # read already, but not yet passed on

    async def read(self) -> bytes | None:
        """What has arrived since the last read, None at the end; raises CutStream where the connection breaks."""

    async def rest(self, limit: int = ...) -> bytes:
        """What is left of the body, up to `limit` bytes."""

    def enough(self) -> None:
        """The content is complete: `close` may wait a moment for the end of the message, to keep the connection."""

    async def close(self) -> None:
        """Let the connection go; where the answer is not read to its end, the provider sees it closed."""


class Wire(Protocol):
    """See above. `native`: form name → how its answers are read."""

    native: Mapping[str, Form]

    def request(self, ask: Ask) -> Request:
        """The HTTP request; raises BadRequest where chat cannot be said to this provider."""

    def error(self, status: int, headers: Mapping[str, str], body: bytes, now_us: int) -> UpstreamError:
        """The error that an answer with this status stands for."""

    def chat_whole(self, body: bytes, now_us: int = 0) -> bytes:
        """A whole native answer as a chat completion, made at `now_us`; raises ServerError where it is none."""

    def chat_stream(self, flow: Flow, now_us: int = 0) -> Flow:
        """A native stream as a stream of chat chunks, which ends with [DONE] only where the native one was complete."""
