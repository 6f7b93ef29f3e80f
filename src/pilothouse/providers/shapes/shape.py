"""A shape: one dialect of the scripted provider. It reads what is asked, and writes answers, events and errors."""

from typing import Any, Protocol

import msgspec

from pilothouse.providers.script import Rule

encode = msgspec.json.encode
CREATED = 1_750_000_000


class Counts(msgspec.Struct, frozen=True):
    """Tokens, inclusive as OpenAI's totals are."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0

    @property
    def uncached(self) -> int:
        """Input that is neither from nor for a cache."""
        return self.prompt - self.cached - self.cache_write

    @property
    def text(self) -> int:
        """Output that is visible."""
        return self.completion - self.reasoning


class Said(msgspec.Struct, frozen=True):
    """An answer, before it has a shape."""

    rule: Rule
    body: dict[str, Any]  # what was asked
    serial: int
    model: str
    text: str
    counts: Counts | None

    @property
    def finish(self) -> str:
        """Why it ends, in chat's words; empty for the fault `no_finish`."""
        if self.rule.fault == "no_finish":
            return ""
        return self.rule.finish_reason or ("tool_calls" if self.rule.tool_calls else "stop")

    def pieces(self, text: str) -> list[str]:
        """`text` in the pieces of a stream."""
        size = max(self.rule.chunk_size, 1)
        return [text[i : i + size] for i in range(0, len(text), size)]


class Failure(msgspec.Struct, frozen=True):
    """An error as a dialect says it."""

    status: int
    body: Any
    headers: dict[str, str] = {}


class Shape(Protocol):
    """One dialect. `stream_type`: the content type of its streams."""

    stream_type: str

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:
        """What is asked, in chat's words: model, messages, stream, response_format."""

    def whole(self, said: Said) -> Any:
        """The whole answer, as JSON is made of it."""

    def events(self, said: Said) -> list[bytes]:
        """The events of a stream; without its end marker for the fault `no_done`."""

    def failure(self, rule: Rule) -> Failure:
        """The error that the rule asks for."""

    def error_event(self, rule: Rule) -> bytes:
        """The same in the middle of a stream."""

    def garbage(self) -> bytes:
        """An event that cannot be read."""


class Sse:
    """What dialects with server-sent events have in common."""

    stream_type = "text/event-stream"

    def garbage(self) -> bytes:
        """Not JSON."""
        return b"data: {not json]\n\n"


def sse(value: Any, name: str = "") -> bytes:
    """One event."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + encode(value) + b"\n\n"


def inputs(value: Any) -> list[dict[str, Any]]:
    """An `input` that is a text, a list of texts or a list of messages, as messages."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    items = value if isinstance(value, list) else []
    if all(isinstance(item, str) for item in items):
        return [{"role": "user", "content": "".join(items)}]
    return [item for item in items if isinstance(item, dict) and "role" in item]
