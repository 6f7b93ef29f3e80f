"""What passes between the steps of a request. Each step's value holds the one before it.

    Incoming → Parsed → Resolved → Rendered → Answer

A step that is left out is a type error. The steps fill one `Draft`, from which the record is written. None of these but
the answer, whose stream may hold on to it, is ever part of a ring of references: the others are not the garbage
collector's to look at.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import Attempt, Outcome, Record
from pilothouse.domain.table import Live
from pilothouse.providers.form import Form
from pilothouse.providers.openai import Completion
from pilothouse.providers.wire import Flow

Headers = list[tuple[str, str]]
_encode = msgspec.json.Encoder().encode


def _no_header(_name: str) -> str | None:
    return None


class Incoming(msgspec.Struct, gc=False):
    """A request as the server hands it over. `header`: the request's header of a lower-case name, or None."""

    body: bytes
    authorization: str | None = None
    traceparent: str | None = None
    session: str | None = None  # header x-pilothouse-session
    refused: Exception | None = None  # why the server could not take the body: over the limit
    path: str = ""
    query: str = ""
    method: str = "POST"
    header: Callable[[str], str | None] = _no_header


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


class Parsed(msgspec.Struct, gc=False):
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
    api: str = "chat"
    path: str = ""  # of a form that is any path: what is called upstream, after the provider's `/v1`
    method: str = "POST"
    headers: Headers = []  # of the client, that a provider which speaks this API is meant to see
    named: tuple[int, int] | None = None  # where the model's name stands in `raw`, where that is no JSON
    own: Callable[[], bytes] | None = None  # our own answer, where the provider does not speak this API


class Resolved(msgspec.Struct, gc=False):
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
    flags: dict[str, str] = {}  # flag → variant, of those that had a say: which release, or that the flow is off
    off: PilothouseError | None = None  # the flow is switched off: what the client is told where policy has no answer


class Rendered(msgspec.Struct, gc=False):
    """A request ready to be sent: the upstream body is `before` + the model's name as JSON + `after`.

    `form`: which form that is in. `chat`: makes the same request in chat form, for a provider that does not speak
    `form`; raises BadRequest where it cannot be said in chat, None where `form` is chat or has no translation.
    """

    resolved: Resolved
    before: bytes
    after: bytes
    stream: bool  # whether the upstream is asked to stream
    strip_usage: bool = False  # the usage chunk is ours, not the client's wish
    form: str = "chat"
    chat: Callable[[], "Rendered"] | None = None
    nameless: bool = False  # the body has no place for a model's name: it is `before` as it stands
    plain: bool = False  # the body is no JSON: the model's name stands in it without quotes
    gather: bool = False  # the upstream streams (`stream` is False), and its answer is looked at as a whole

    def upstream(self, model: str) -> bytes:
        """The upstream body for this model name."""
        if self.nameless:
            return self.before
        if self.plain:
            return self.before + model.encode() + self.after
        return self.before + _encode(model) + self.after


class Answer(msgspec.Struct):
    """What an attempt brought: a completion, a stream that has begun, or a static text.

    `form`: how `body` or `flow` are to be read: the client's own form, or chat.
    """

    outcome: Outcome
    attempt: Attempt | None
    body: bytes = b""
    completion: Completion | None = None
    flow: Flow | None = None
    static: str | None = None
    form: str = "chat"
    strip_usage: bool = False
    content_type: str = ""  # the provider's own; of a stream, only where its form is any
    ready: bool = False  # `body` is what the client is to get, as it stands
    status: int = 200  # the provider's own, which where the form is any may be another of success


Send = Callable[[bytes], Awaitable[None]]
Stage = Literal["queue", "preprocessing", "model", "postprocessing"]


class Api(Protocol):
    """How requests of one API are read and answered.

    Inside the gateway an answer is in the API's own form where the provider speaks that natively, and in chat
    otherwise; `from_chat` and `stream_from_chat` then make it the API's own.
    """

    name: str  # as in the record: chat, messages, responses, embeddings, moderations, any
    form: Form
    translates: bool  # whether requests can be said in chat

    def parse(self, incoming: Incoming) -> Parsed:
        """The request; raises BadRequest with the place of the error."""

    def to_chat(self, parsed: Parsed) -> dict[str, Any]:
        """The request's body in chat form; raises BadRequest (`unsupported_parameter`) where it cannot be said."""

    def from_chat(self, body: bytes, parsed: Parsed) -> bytes:
        """A whole chat completion in the API's form."""

    def stream_from_chat(self, flow: Flow, parsed: Parsed) -> Flow:
        """A stream of chat chunks in the API's form."""

    def as_stream(self, body: bytes, parsed: Parsed) -> bytes:
        """A whole answer (in the API's form) as the events of a stream."""

    def static(self, text: str, record: Record) -> bytes:
        """A static answer in the API's form."""

    def error_body(self, error: PilothouseError) -> bytes:
        """An error in the API's form."""

    def error_event(self, error: PilothouseError) -> bytes:
        """The explicit end of a stream that broke."""

    def headers(self, record: Record) -> Headers:
        """Headers that this API's clients expect beside our own."""


class Draft(msgspec.Struct, gc=False):
    """A request on its way: its record while it is being made, and what the client is to get."""

    incoming: Incoming
    record: Record
    began: float  # Clock.monotonic
    api: Api
    parsed: Parsed | None = None
    resolved: Resolved | None = None
    rendered: Rendered | None = None
    asked: float | None = None  # when the attempts began, Clock.monotonic
    reply: bytes = b""  # for the record: the body that the client gets, or the assembled message of a stream
    text: str = ""  # the answer's own text
    out: bytes = b""  # what is still to be handed over once the record is written
    content_type: str = ""
    retry_after_s: float | None = None
    completion: Completion | None = None  # of the delivered answer
    headers: Headers = []  # more of them for the client
    ticket: Any = None  # gateway.admit.Ticket: what the limits reserved
    wanted: Any = None  # gateway.cache.Asked, of a route that keeps answers
    sent: list[bytes] = []  # what of a stream was sent, where it may be kept
    later_s: float = 0.0  # nobody waits for it: it is worked on for so long
    uncounted: list[tuple[Attempt, bytes, str]] = []  # tokens that we have to count: upstream body, answer's text
    reshaped: bool = False  # what was sent upstream cannot be rendered again from the client's body
    streaming: bool = False  # the client has the head of a stream
