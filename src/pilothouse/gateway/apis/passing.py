"""Every other path under `/v1/`: method, path, query and bytes go to the provider as they are, and are recorded.

Which provider: the header `x-pilothouse-route` names a route or `provider/model`; else the `model` of a JSON or form
body; else the only provider that takes such paths.
"""

import re
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.record import Record
from pilothouse.gateway import replies
from pilothouse.gateway.apis.embeddings import ListApi
from pilothouse.gateway.parse import bad
from pilothouse.gateway.types import Incoming, Parsed
from pilothouse.providers.passing import ANY

ROUTE = "x-pilothouse-route"
PASSED = ("content-type", "accept", "openai-beta", "openai-organization", "openai-project", "idempotency-key", "range")
_STREAMED = re.compile(r"/audio/speech$|/files/[^/]+/content$")  # large, and of use from the first byte on
_MODEL = re.compile(rb'name="?model"?\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n')
_decode = msgspec.json.Decoder().decode


class AnyApi(ListApi):
    """See `Api`."""

    def parse(self, incoming: Incoming) -> Parsed:
        """Whatever it is; raises BadRequest for a path that leads elsewhere."""
        if incoming.refused is not None:
            raise incoming.refused
        path = incoming.path.removeprefix("/v1")
        if not path.startswith("/") or any(step in (".", "..") for step in unquote(path).split("/")):
            raise bad("the path leads out of the API", "path", "send a path under /v1/ without dots")
        body, named = _object(incoming.body), None
        if not body and (found := _MODEL.search(incoming.body[: 1 << 20])) is not None:
            named = found.span(1)
        told = incoming.header(ROUTE) or body.get("model") or ""
        if not told and named:
            told = incoming.body[slice(*named)].decode("utf-8", "replace")
        user = body.get("user")
        return Parsed(
            raw=incoming.body,
            body=body,
            model=told if isinstance(told, str) else "",
            messages=[],
            stream=_streamed(incoming, path, body),
            session=incoming.session or "",
            user=user if isinstance(user, str) else "",
            api=self.name,
            path=path + (f"?{incoming.query}" if incoming.query else ""),
            method=incoming.method,
            named=named,
            headers=[(name, value) for name in PASSED if (value := incoming.header(name))],
        )

    def error_event(self, error: PilothouseError) -> bytes:
        """The error object as an event: what is no event stream is cut off by it, and never looks complete."""
        return replies.error_event(error)

    def headers(self, record: Record) -> list[tuple[str, str]]:
        """Where OpenAI's clients look for a request's id."""
        return [("x-request-id", record.id)]


def _object(raw: bytes) -> dict[str, Any]:
    """The body as an object; empty where it is none."""
    if raw[:64].lstrip()[:1] != b"{":
        return {}
    try:
        body = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _streamed(incoming: Incoming, path: str, body: dict[str, Any]) -> bool:
    asked = body.get("stream") is True or "text/event-stream" in (incoming.header("accept") or "")
    said = "true" in parse_qs(incoming.query).get("stream", ())
    form = re.search(rb'name="?stream"?\r\n\r\ntrue\r\n', incoming.body[: 1 << 20]) is not None if not body else False
    return asked or said or form or _STREAMED.search(path) is not None


ANY_API = AnyApi(ANY)
