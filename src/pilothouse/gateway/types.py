"""What passes between the steps of a request. Each step's value holds the one before it.

    Incoming → Parsed → Resolved → Rendered → Answer

A step that is left out is a type error. The steps fill one `Draft`, from which the record is written.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Attempt, Outcome, Record
from pilothouse.domain.table import Live
from pilothouse.providers.openai import Completion
from pilothouse.providers.upstream import OpenStream

Headers = list[tuple[str, str]]


class Incoming(msgspec.Struct):
    """A request as the server hands it over."""

    body: bytes
    authorization: str | None = None
    traceparent: str | None = None
    session: str | None = None  # header x-pilothouse-session
    refused: Exception | None = None  # why the server could not take the body: over the limit


class Client(Protocol):
    """The door through which the answer leaves: once `whole`, or `begin` and any number of `send`."""

    def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer."""
        ...

    def begin(self, status: int, headers: Headers) -> None:
        """Status and headers of a stream."""
        ...

    async def send(self, data: bytes) -> None:
        """More of a stream; raises ClientGone."""
        ...


class Parsed(msgspec.Struct):
    """A body that is a chat request. `variables` None: the client sent none (plain messages)."""

    raw: bytes
    body: dict[str, Any]
    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    wants_usage: bool = False
    variables: dict[str, Any] | None = None
    session: str = ""
    user: str = ""
    labels: dict[str, str] = {}


class Resolved(msgspec.Struct):
    """A request that knows its release. `model` is the release's own, or the one pinned over it."""

    parsed: Parsed
    live: Live
    model: ModelRef
    route: str
    app: str = ""
    tier: str = ""
    canary: bool = False
    inline: bool = False
    pinned: bool = False


class Rendered(msgspec.Struct):
    """A request ready to be sent: the upstream body is `before` + the model's name as JSON + `after`."""

    resolved: Resolved
    before: bytes
    after: bytes
    stream: bool  # whether the upstream is asked to stream
    strip_usage: bool = False  # the usage chunk is ours, not the client's wish

    def upstream(self, model: str) -> bytes:
        """The upstream body for this model name."""
        return self.before + msgspec.json.encode(model) + self.after


class Answer(msgspec.Struct):
    """What an attempt brought: a completion, a stream that has begun, or a static text."""

    outcome: Outcome
    attempt: Attempt | None
    body: bytes = b""
    completion: Completion | None = None
    flow: OpenStream | None = None
    static: str | None = None


class Accepted(msgspec.Struct):
    """A validated answer: its body as it may be delivered."""

    body: bytes
    completion: Completion


# Looks at a whole answer before it counts as one; raises InvalidOutput.
Accept = Callable[[bytes, Completion], Accepted]
Send = Callable[[bytes], Awaitable[None]]
Stage = Literal["queue", "preprocessing", "model", "postprocessing"]


class Draft(msgspec.Struct):
    """A request on its way: its record while it is being made, and what the client is to get."""

    incoming: Incoming
    record: Record
    began: float  # Clock.monotonic
    parsed: Parsed | None = None
    resolved: Resolved | None = None
    rendered: Rendered | None = None
    asked: float | None = None  # when the attempts began, Clock.monotonic
    reply: bytes = b""  # for the record: the body that the client gets, or the assembled message of a stream
    text: str = ""  # the answer's own text
    out: bytes = b""  # what is still to be handed over once the record is written
    content_type: str = ""
    retry_after_s: float | None = None
    streaming: bool = False  # the client has the head of a stream
