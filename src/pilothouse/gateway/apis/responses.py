"""OpenAI's responses: native to the providers that speak it, translated to and from chat for the rest.

What a provider keeps between calls (`previous_response_id`, `background`, stored responses) only that provider knows:
such requests are native or refused.
"""

from typing import Any

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.record import Record
from pilothouse.gateway import replies
from pilothouse.gateway.apis import responses_answer, responses_request
from pilothouse.gateway.apis.speaking import told
from pilothouse.gateway.parse import LABELS_MAX, bad, json_object, part
from pilothouse.gateway.types import Headers, Incoming, Parsed
from pilothouse.providers.form import Form
from pilothouse.providers.openai import Choice, Completion, Message, read_completion
from pilothouse.providers.responses import RESPONSES
from pilothouse.providers.usage import Usage
from pilothouse.providers.wire import Flow

PASSED = ("openai-beta", "openai-organization", "openai-project")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class ResponsesApi:
    """See `Api`."""

    name = "responses"
    form: Form = RESPONSES
    translates = True
    path = "/responses"

    def parse(self, incoming: Incoming) -> Parsed:
        """A request of responses; unknown fields pass through untouched."""
        if incoming.refused is not None:
            raise incoming.refused
        body = json_object(incoming.body)
        prompt: dict[str, Any] = part(body, "prompt", dict, "object", {})
        model = body.get("model") or prompt.get("id")
        if not isinstance(model, str) or not model:
            raise bad("“model” is missing or not a string", "model", "name a route, or provider/model")
        given = body.get("input")
        items = given if isinstance(given, list) else []
        if not isinstance(given, str | list | None) or not all(isinstance(item, dict) for item in items):
            raise bad("“input” is neither text nor a list of items", "input", "send a string, or items")
        for name in ("text", "reasoning"):
            part(body, name, dict, "object", {})
        for name in ("tools", "include"):
            part(body, name, list, "array", [])
        metadata: dict[str, Any] = part(body, "metadata", dict, "object", {})
        user = part(body, "user", str, "string", "") or part(body, "safety_identifier", str, "string", "")
        return Parsed(
            raw=incoming.body,
            body=body,
            model=model,
            messages=[],
            stream=part(body, "stream", bool, "boolean", False),
            wants_usage=True,
            variables=part(prompt, "variables", dict, "object", {}) if prompt else None,
            session=str(user or incoming.session or metadata.get("session_id") or ""),
            user=user,
            labels={k: v if isinstance(v, str) else str(v) for k, v in list(metadata.items())[:LABELS_MAX]},
            api=self.name,
            path=self.path,
            headers=[(name, value) for name in PASSED if (value := incoming.header(name))],
        )

    def to_chat(self, parsed: Parsed) -> dict[str, Any]:
        """The body in chat form."""
        return responses_request.to_chat(parsed.body)

    def from_chat(self, body: bytes, parsed: Parsed) -> bytes:
        """A completion as a response."""
        created = _decode(body).get("created")
        return responses_answer.whole(read_completion(body), created if isinstance(created, int) else 0, parsed.body)

    def stream_from_chat(self, flow: Flow, parsed: Parsed) -> Flow:
        """Chunks as events."""
        return told(flow, responses_answer.ResponsesSpeaker(parsed.body))

    def as_stream(self, body: bytes, parsed: Parsed) -> bytes:  # noqa: ARG002  # usage is always said
        """A response as events."""
        return responses_answer.as_stream(body)

    def static(self, text: str, record: Record) -> bytes:
        """A response that used no tokens."""
        said = Completion(
            [Choice(message=Message(content=text), finish_reason="stop")], record.id, record.route, usage=Usage(0, 0)
        )
        return responses_answer.whole(said, record.ts_us // 1_000_000, {})

    def error_body(self, error: PilothouseError) -> bytes:
        """OpenAI's error object."""
        return replies.error_body(error)

    def error_event(self, error: PilothouseError) -> bytes:
        """An `error` event."""
        return RESPONSES.error_event(error, replies.error_body(error))

    def headers(self, record: Record) -> Headers:
        """Where OpenAI's clients look for a request's id."""
        return [("x-request-id", record.id)]


RESPONSES_API = ResponsesApi()
