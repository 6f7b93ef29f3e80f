"""What went into a span and what came out of it, as text; and the line of it that a list shows."""

from typing import Any

from pilothouse.domain.record import PREVIEW
from pilothouse.telemetry.dialects.index import CHUNKS, is_content
from pilothouse.telemetry.said import Said
from pilothouse.telemetry.spans import Event
from pilothouse.telemetry.text import as_text, parsed

__all__ = ["as_text", "content", "finish_reason", "is_content_event", "is_content_key", "preview"]

DETAILS = "gen_ai.client.inference.operation.details"
CHOICE = "gen_ai.choice"
_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_PROMPTS = ("gen_ai.content.prompt", "gen_ai.prompt")  # of OpenLIT and the second generation: name and attribute
_COMPLETIONS = ("gen_ai.content.completion", "gen_ai.completion")
_ROWS = "db.query.result"  # OpenLLMetry: a vector store's answer, an event a row
_EVENTS = frozenset({DETAILS, CHOICE, *_ROLES, *_PROMPTS, *_COMPLETIONS, _ROWS, *CHUNKS})

is_content_key = is_content


def is_content_event(name: str) -> bool:
    """Whether an event's attributes are content, which belongs into the payload and nowhere else."""
    return name in _EVENTS


def content(said: Said, events: list[Event]) -> tuple[str, str]:
    """(input, output), each empty where the span does not tell."""
    asked, answered = _from_events(events) if events else (None, None)
    went_in = as_text(said.best("input") if asked is None else asked)
    came_out = as_text(said.best("output") if answered is None else answered)
    also = said.also | said.flat_also()
    if also:
        also["gen_ai.input.messages"] = parsed(went_in)
        went_in = as_text(also)
    return went_in, came_out


def _from_events(events: list[Event]) -> tuple[Any, Any]:
    """Messages as span events: the first generation's names, and one event with the newer attributes."""
    asked: list[Any] = []
    answered: list[Any] = []
    for event in events:
        told = event.attributes
        if event.name == DETAILS:
            return told.get("gen_ai.input.messages"), told.get("gen_ai.output.messages")
        if event.name in _ROLES:
            asked.append({"role": _ROLES[event.name], **told})
        elif event.name == CHOICE:
            answered.append(told)
        elif event.name in _PROMPTS:
            asked.append(_either(told, _PROMPTS))
        elif event.name in _COMPLETIONS:
            answered.append(_either(told, _COMPLETIONS))
        elif event.name == _ROWS:
            answered.append({key.removeprefix(_ROWS + "."): v for key, v in told.items() if not key.endswith("vector")})
    return asked or None, answered or None


def _either(told: dict[str, Any], keys: tuple[str, str]) -> Any:
    return next((parsed(told[key]) for key in keys if key in told), told)


def rows(events: list[Event]) -> list[Any] | None:
    """The documents that a vector store's events list; None where there are no such events."""
    found = [
        {key.removeprefix(_ROWS + "."): value for key, value in event.attributes.items()}
        for event in events
        if event.name == _ROWS
    ]
    return found or None


def finish_reason(output: str) -> str:
    """Why the answer ended, where only the answer itself says so; empty where it does not."""
    if '"finish_reason"' not in output:
        return ""
    value = parsed(output)
    last = value[-1] if isinstance(value, list) and value else value
    if isinstance(last, dict) and isinstance(last.get("choices"), list) and last["choices"]:
        last = last["choices"][-1]
    reason = last.get("finish_reason") if isinstance(last, dict) else None
    return reason if isinstance(reason, str) else ""


def preview(text: str) -> str:
    """The last message's words, on one line, at most 200 characters; of a text that is no JSON, its beginning."""
    value = parsed(text)
    words = text if value is text else " ".join(_words(_last(value)))
    return " ".join(words[: PREVIEW * 4].split())[:PREVIEW]


def _last(value: Any) -> Any:
    if isinstance(value, dict) and "gen_ai.input.messages" in value:
        value = value["gen_ai.input.messages"]
    for name in ("messages", "choices", "generations"):
        if isinstance(value, dict) and isinstance(value.get(name), list):
            value = value[name]
    while isinstance(value, list) and value:
        value = value[-1]
    return value


def _words(value: Any, depth: int = 0) -> list[str]:
    """The texts of a message, wherever its dialect puts them."""
    if isinstance(value, str):
        return [value]
    if depth > 6 or value is None:
        return []
    if isinstance(value, dict):
        value = _said(value)
    if not isinstance(value, list):
        return [as_text(value)]
    return [word for item in value[:100] for word in _words(item, depth + 1)]


def _said(message: dict[str, Any]) -> list[Any]:
    """The part of a message that says something; all of it but its labels where no part is known to."""
    names = ("content", "parts", "text", "message", "kwargs", "data", "arguments", "result", "response", "document")
    name = next((n for n in names if message.get(n)), None)
    if name is None:
        return [v for k, v in message.items() if k not in ("role", "type", "id", "index", "finish_reason", "lc")]
    return [parsed(message[name]) if name == "message" else message[name]]
