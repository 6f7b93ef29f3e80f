"""Anthropic's messages: native to the providers that speak it, translated to and from chat for the rest."""

from typing import Any

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.record import Record
from pilothouse.gateway import replies
from pilothouse.gateway.apis import messages_answer, messages_request
from pilothouse.gateway.apis.speaking import told
from pilothouse.gateway.parse import LABELS_MAX, bad, json_object, part
from pilothouse.gateway.types import Headers, Incoming, Parsed
from pilothouse.providers.form import Form
from pilothouse.providers.messages import MESSAGES, in_messages
from pilothouse.providers.openai import read_completion
from pilothouse.providers.wire import Flow

PASSED = ("anthropic-version", "anthropic-beta")  # the client's headers that the provider is meant to see
_encode = msgspec.json.Encoder().encode


class MessagesApi:
    """See `Api`."""

    name = "messages"
    form: Form = MESSAGES
    translates = True
    path = "/messages"

    def parse(self, incoming: Incoming) -> Parsed:
        """A request of messages; unknown fields pass through untouched."""
        if incoming.refused is not None:
            raise incoming.refused
        body = json_object(incoming.body)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise bad("“model” is missing or not a string", "model", "name a route, or provider/model")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
            raise bad("“messages” is missing or not a list of objects", "messages", "send at least one message")
        for name in ("thinking", "output_config"):
            part(body, name, dict, "object", {})
        for name in ("tools", "stop_sequences"):
            part(body, name, list, "array", [])
        metadata: dict[str, Any] = part(body, "metadata", dict, "object", {})
        user = part(metadata, "user_id", str, "string", "")
        labels = [(k, v) for k, v in metadata.items() if k != "user_id"][:LABELS_MAX]
        return Parsed(
            raw=incoming.body,
            body=body,
            model=model,
            messages=messages,
            stream=part(body, "stream", bool, "boolean", False),
            wants_usage=True,
            session=incoming.session or user,
            user=user,
            labels={k: v if isinstance(v, str) else str(v) for k, v in labels},
            api=self.name,
            path=self.path,
            headers=[(name, value) for name in PASSED if (value := incoming.header(name))],
        )

    def to_chat(self, parsed: Parsed) -> dict[str, Any]:
        """The body in chat form."""
        return messages_request.to_chat(parsed.body)

    def from_chat(self, body: bytes, parsed: Parsed) -> bytes:
        """A completion as a message."""
        return messages_answer.whole(read_completion(body), thinking=_thinks(parsed))

    def stream_from_chat(self, flow: Flow, parsed: Parsed) -> Flow:
        """Chunks as events."""
        return told(flow, messages_answer.MessagesSpeaker(thinking=_thinks(parsed)))

    def as_stream(self, body: bytes, parsed: Parsed) -> bytes:  # noqa: ARG002  # usage is always said
        """A message as events."""
        return messages_answer.as_stream(body)

    def static(self, text: str, record: Record) -> bytes:
        """A message that used no tokens."""
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        usage = messages_answer.usage_of(None)
        return _encode(messages_answer.message(f"msg_{record.id}", record.route, content, "end_turn", usage))

    def error_body(self, error: PilothouseError) -> bytes:
        """Anthropic's error object, with our code and hint."""
        return in_messages(replies.error_body(error))

    def error_event(self, error: PilothouseError) -> bytes:
        """`event: error`."""
        return MESSAGES.error_event(error, replies.error_body(error))

    def headers(self, record: Record) -> Headers:
        """Where Anthropic's clients look for a request's id."""
        return [("request-id", record.id)]


def _thinks(parsed: Parsed) -> bool:
    return (parsed.body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


MESSAGES_API = MessagesApi()
