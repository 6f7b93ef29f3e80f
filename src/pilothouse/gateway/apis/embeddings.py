"""OpenAI's embeddings and moderations: a list in, a list out, native or refused."""

from typing import Any

from pilothouse.domain.errors import BadRequest, InvalidOutput, PilothouseError
from pilothouse.domain.record import Record
from pilothouse.gateway import replies
from pilothouse.gateway.parse import bad, json_object, part
from pilothouse.gateway.types import Headers, Incoming, Parsed
from pilothouse.providers.embeddings import EMBEDDINGS, MODERATIONS
from pilothouse.providers.form import Form
from pilothouse.providers.wire import Flow


class ListApi:
    """See `Api`."""

    translates = False

    def __init__(self, form: Form) -> None:
        self.name = form.name
        self.form = form

    def parse(self, incoming: Incoming) -> Parsed:
        """A request with an `input`; unknown fields pass through untouched."""
        if incoming.refused is not None:
            raise incoming.refused
        body = json_object(incoming.body)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise bad("“model” is missing or not a string", "model", "name a route, or provider/model")
        given = body.get("input")
        if not isinstance(given, str | list) or not given:
            raise bad("“input” is missing, empty or neither text nor a list", "input", "send a string, or several")
        user = part(body, "user", str, "string", "")
        return Parsed(
            raw=incoming.body,
            body=body,
            model=model,
            messages=[],
            session=user or incoming.session or "",
            user=user,
            api=self.name,
            path=f"/{self.name}",
        )

    def to_chat(self, parsed: Parsed) -> dict[str, Any]:
        """Never: a chat model answers in words."""
        raise BadRequest(
            "this API cannot be said in chat",
            where="model",
            hint=f"name a model for {parsed.api}",
            code="unsupported_api",
        )

    def from_chat(self, body: bytes, parsed: Parsed) -> bytes:  # noqa: ARG002  # nothing comes in chat form
        """The body as it is."""
        return body

    def stream_from_chat(self, flow: Flow, parsed: Parsed) -> Flow:  # noqa: ARG002  # nothing comes in chat form
        """The stream as it is."""
        return flow

    def as_stream(self, body: bytes, parsed: Parsed) -> bytes:  # noqa: ARG002  # nobody asks for a stream of it
        """The body as it is."""
        return body

    def static(self, text: str, record: Record) -> bytes:  # noqa: ARG002  # whatever it says
        """A text is not what this API answers with."""
        raise InvalidOutput(
            f"the route's static answer is a text, which is no answer of the API “{self.name}”",
            where="policy.fallback",
            hint="give the route a fallback with a model",
            code="unsupported_fallback",
        )

    def error_body(self, error: PilothouseError) -> bytes:
        """OpenAI's error object."""
        return replies.error_body(error)

    def error_event(self, error: PilothouseError) -> bytes:
        """The error object as an event."""
        return replies.error_event(error)

    def headers(self, record: Record) -> Headers:
        """Where OpenAI's clients look for a request's id."""
        return [("x-request-id", record.id)]


EMBEDDINGS_API = ListApi(EMBEDDINGS)
MODERATIONS_API = ListApi(MODERATIONS)
