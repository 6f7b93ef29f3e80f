"""A form: a wire format that answers come in, and how it is read. One object for each, without state.

`chat` is the form that everything can be translated to. `messages`, `responses` and the others are spoken natively
where the client's API and the provider agree, and then their bytes go through unchanged.
"""

from typing import Protocol

from pilothouse.domain.errors import PilothouseError
from pilothouse.providers.openai import Completion


class Began(Protocol):
    """The first event of a stream that carries something of the answer."""

    @property
    def id(self) -> str | None:
        """The answer's id."""

    @property
    def model(self) -> str | None:
        """The served model."""


class Assembling(Protocol):
    """A stream's events put together into the completion that it would have been."""

    def add(self, block: bytes) -> None:
        """Take the whole events of `block`; raises ServerError for an unreadable event or the provider's own error."""

    def completion(self) -> Completion:
        """What has arrived so far."""

    def finished(self) -> Completion:
        """The completion of a stream that is at its end; CutStream where it only seems to be."""


class Form(Protocol):
    """How answers in one wire format are read. Blocks are whole server-sent events."""

    name: str  # chat, messages, responses, embeddings, moderations, any
    done: bytes  # what a stream ends with where the provider left it out; empty where the last event says it

    def whole(self, data: bytes) -> int:
        """How many bytes of a stream's `data` can go on: its whole events, or all where the stream has no events."""

    def read(self, body: bytes) -> Completion:
        """A whole answer; raises ServerError where it is none."""

    def first(self, block: bytes) -> Began | None:
        """The first event in `block` that carries something of the answer, or None.

        Raises ServerError where the provider reports an error, CutStream where the stream ends before its first token.
        """

    def ends(self, block: bytes) -> bool:
        """Whether `block` holds the event that ends a stream."""

    def without_usage(self, block: bytes) -> bytes:
        """`block` without the usage event that only we asked for."""

    def assembly(self) -> Assembling:
        """An empty assembly."""

    def error_event(self, error: PilothouseError, body: bytes) -> bytes:
        """The explicit end of a stream that broke; `body` is the error in OpenAI's shape."""
