"""Body → Parsed: is this a chat request, and what does it ask for? Raises BadRequest with the place of the error."""

import itertools
from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest
from pilothouse.gateway.types import Incoming, Parsed

ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_CONTENT = (str, list, type(None))
_ASIDE = frozenset(("prompt", "stream_options", "metadata", "user", "stream"))
LABELS_MAX = 32  # more `metadata` than this is not kept as labels
_decode = msgspec.json.Decoder().decode


def parse(incoming: Incoming) -> Parsed:
    """The request in `incoming`; unknown fields pass through untouched."""
    if incoming.refused is not None:
        raise incoming.refused
    body = json_object(incoming.body)
    model = body.get("model")
    if type(model) is str and model and _ASIDE.isdisjoint(body):  # most: nothing but what goes to the model as it is
        return Parsed(incoming.body, body, model, _messages(body, {}), session=incoming.session or "")
    prompt = part(body, "prompt", dict, "object", {})
    model = model or prompt.get("id")
    if not isinstance(model, str) or not model:
        raise bad("“model” is missing or not a string", "model", "name a route, or provider/model")
    options = part(body, "stream_options", dict, "object", {})
    metadata = part(body, "metadata", dict, "object", {})
    user = part(body, "user", str, "string", "")
    session = user or incoming.session or metadata.get("session_id") or ""
    return Parsed(
        raw=incoming.body,
        body=body,
        model=model,
        messages=_messages(body, prompt),
        stream=part(body, "stream", bool, "boolean", False),
        wants_usage=options.get("include_usage") is True,
        variables=part(prompt, "variables", dict, "object", {}) if prompt else None,
        session=session if isinstance(session, str) else str(session),
        user=user,
        labels=_labels(metadata) if metadata else {},
    )


def _labels(metadata: dict[str, Any]) -> dict[str, str]:
    return {k: v if isinstance(v, str) else str(v) for k, v in itertools.islice(metadata.items(), LABELS_MAX)}


def json_object(raw: bytes) -> dict[str, Any]:
    """The body as an object; raises BadRequest (`malformed_body`)."""
    try:
        body = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad(f"the body is not JSON: {error}", "", "send a JSON object as UTF-8", code="malformed_body") from error
    except RecursionError as error:
        raise bad("the body is nested too deeply", "", "flatten it", code="malformed_body") from error
    if not isinstance(body, dict):
        raise bad("the body is not a JSON object", "", "send {model, messages}", code="malformed_body")
    return body


def part(of: dict[str, Any], name: str, kind: type, words: str, default: Any) -> Any:
    """The field `name`, `default` where it is null or left out; raises BadRequest where it is of another type."""
    value = of.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise bad(f"“{name}” is not of type {words}", name, f"send a JSON {words}, or leave it out")
    return value


def _messages(body: dict[str, Any], prompt: dict[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if messages is None and prompt:
        return []
    if not isinstance(messages, list) or (not messages and not prompt):
        raise bad("“messages” is missing or not a list", "messages", "send at least one message")
    for i, message in enumerate(messages):
        if type(message) is not dict:  # as decoded: exactly that, or something else
            raise bad("a message is not an object", f"messages[{i}]", "send {role, content}")
        if message.get("role") not in ROLES:
            raise bad("a message's role is missing or unknown", f"messages[{i}].role", f"use one of {sorted(ROLES)}")
        content = message.get("content")
        if type(content) not in _CONTENT:
            raise bad("a message's content is neither text nor parts", f"messages[{i}].content", "send a string")
    return messages


def bad(what: str, where: str, hint: str, code: str = "") -> BadRequest:
    """A BadRequest, in few words."""
    return BadRequest(what, where=where, hint=hint, code=code)
