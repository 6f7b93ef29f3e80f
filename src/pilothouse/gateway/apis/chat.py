"""OpenAI's chat/completions: the API whose form everything else is translated to."""

from typing import Any

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.record import Record
from pilothouse.gateway import replies
from pilothouse.gateway.parse import parse
from pilothouse.gateway.types import Headers, Incoming, Parsed
from pilothouse.providers.chat import CHAT
from pilothouse.providers.form import Form
from pilothouse.providers.wire import Flow


class ChatApi:
    """See `Api`."""

    name = "chat"
    form: Form = CHAT
    translates = True

    def parse(self, incoming: Incoming) -> Parsed:
        """A chat request."""
        return parse(incoming)

    def to_chat(self, parsed: Parsed) -> dict[str, Any]:
        """The body as it is."""
        return parsed.body

    def from_chat(self, body: bytes, parsed: Parsed) -> bytes:  # noqa: ARG002
        """The body as it is."""
        return body

    def stream_from_chat(self, flow: Flow, parsed: Parsed) -> Flow:  # noqa: ARG002
        """The stream as it is."""
        return flow

    def as_stream(self, body: bytes, parsed: Parsed) -> bytes:
        """A completion as chunks."""
        return replies.as_stream(body, usage=parsed.wants_usage)

    def static(self, text: str, record: Record) -> bytes:
        """A completion that used no tokens."""
        return replies.static_body(text, record)

    def error_body(self, error: PilothouseError) -> bytes:
        """OpenAI's error object."""
        return replies.error_body(error)

    def error_event(self, error: PilothouseError) -> bytes:
        """The error object as an event."""
        return replies.error_event(error)

    def headers(self, record: Record) -> Headers:  # noqa: ARG002
        """None but ours."""
        return []


CHAT_API = ChatApi()
