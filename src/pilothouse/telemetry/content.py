"""What went into a span and what came out of it, as text; and the line of it that a list shows."""

from collections.abc import Mapping
from typing import Any

import msgspec

from pilothouse.domain.record import PREVIEW
from pilothouse.telemetry.dialects import DIALECTS, Flattened
from pilothouse.telemetry.documents import is_flattened, parsed, unflatten
from pilothouse.telemetry.spans import Event

MAX_CONTENT = 1 << 20  # characters of each side that are kept
_ALSO = ("gen_ai.system_instructions", "gen_ai.tool.definitions")  # content that is kept with the input
_KEYS = frozenset(key for d in DIALECTS for key in (*d.input, *d.output)) | set(_ALSO)
_PREFIXES = tuple(shape.prefix for d in DIALECTS for shape in (*d.flat_input, *d.flat_output))
_EVENT_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}


def as_text(value: Any) -> str:
    """An attribute's value as text: JSON where it is structured."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()


def content(attributes: Mapping[str, Any], events: list[Event]) -> tuple[str, str]:
    """(input, output), each empty where the span does not tell."""
    went_in, came_out = _from_events(events)
    for dialect in DIALECTS:
        went_in = went_in or _found(attributes, dialect.input, dialect.flat_input)
        came_out = came_out or _found(attributes, dialect.output, dialect.flat_output)
    also = {key: parsed(attributes[key]) for key in _ALSO if attributes.get(key)}
    if also:
        also["gen_ai.input.messages"] = parsed(went_in)
        went_in = as_text(also)
    return went_in, came_out


def is_content_key(key: str) -> bool:
    """Whether the attribute is content, which belongs into the payload and nowhere else."""
    return key in _KEYS or is_flattened(key, _PREFIXES)


def _found(attributes: Mapping[str, Any], keys: tuple[str, ...], shapes: tuple[Flattened, ...]) -> str:
    """Messages spread over keys say more than a summary of them, so they go first."""
    for shape in shapes:
        if rows := unflatten(attributes, shape):
            return as_text(rows)
    return next((as_text(attributes[key]) for key in keys if attributes.get(key) not in (None, "")), "")


def _from_events(events: list[Event]) -> tuple[str, str]:
    """Messages as span events: the first generation's names, and one event with the newer attributes."""
    asked: list[dict[str, Any]] = []
    answered: list[Any] = []
    for event in events:
        if event.name == "gen_ai.client.inference.operation.details":
            return (
                as_text(event.attributes.get("gen_ai.input.messages")),
                as_text(event.attributes.get("gen_ai.output.messages")),
            )
        if event.name in _EVENT_ROLES:
            asked.append({"role": _EVENT_ROLES[event.name], **event.attributes})
        elif event.name == "gen_ai.choice":
            answered.append(event.attributes)
    return as_text(asked) if asked else "", as_text(answered) if answered else ""


def preview(text: str) -> str:
    """The last message's words, on one line, at most 200 characters; of a text that is no JSON, its beginning."""
    value = parsed(text)
    words = text if value is text else " ".join(_words(_last(value)))
    return " ".join(words[: PREVIEW * 4].split())[:PREVIEW]


def _last(value: Any) -> Any:
    if isinstance(value, dict) and "gen_ai.input.messages" in value:
        value = value["gen_ai.input.messages"]
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    return value[-1] if isinstance(value, list) and value else value


def _words(value: Any, depth: int = 0) -> list[str]:
    """The texts of a message, wherever its dialect puts them."""
    if isinstance(value, str):
        return [value]
    if depth > 4 or value is None:
        return []
    if isinstance(value, dict):
        value = _said(value)
    if not isinstance(value, list):
        return [str(value)]
    return [word for item in value for word in _words(item, depth + 1)]


def _said(message: dict[str, Any]) -> list[Any]:
    """The part of a message that says something; all of it but its labels where no part is known to."""
    name = next((n for n in ("content", "parts", "text", "message", "arguments", "result") if message.get(n)), None)
    if name is None:
        return [v for k, v in message.items() if k not in ("role", "type", "id", "index")]
    return [parsed(message[name]) if name == "message" else message[name]]
