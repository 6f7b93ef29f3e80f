"""A stream of chat chunks told in another API's events. What a chunk says becomes events at once, delta by delta.

`Told` reads the chunks and tells a `Speaker` what they say; the speaker knows its API's events. Nothing is merged,
cut or held back: each piece of text or of a tool call's arguments becomes one delta.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from pilothouse.domain.errors import ServerError
from pilothouse.providers.openai import Chunk, read_chunk, text_of
from pilothouse.providers.translated import SseTranslator, TranslatedFlow
from pilothouse.providers.usage import Usage
from pilothouse.providers.wire import Flow


class _Made(msgspec.Struct):
    created: Any = None


_made: Callable[[bytes], _Made] = msgspec.json.Decoder(_Made).decode


class Speaker(Protocol):
    """Says an answer in an API's events. Items (texts, calls) come one after another, never within one another."""

    def begin(self, name: str, model: str, created: int) -> bytes:
        """The head of the stream; `created` in seconds since 1970."""

    def say(self, kind: str, text: str) -> bytes:
        """Some more `text`, `refusal` or `reasoning`."""

    def call(self, name: str, function: str) -> bytes:
        """A tool call begins; `name` is its id."""

    def arguments(self, more: str) -> bytes:
        """Some more of the arguments of the call that began last."""

    def end(self, finish: str, usage: Usage | None) -> bytes:
        """The end of a complete answer, with chat's finish reason."""


class Told(SseTranslator):
    """Reads the events of a chat stream of one choice, and has a speaker say them. See `Translator`."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__()
        self._speaker = speaker
        self._begun = False
        self._calls: list[int] = []  # the indexes of the calls, in order
        self._unnamed: tuple[str, list[str]] | None = None  # a call whose function has no name yet
        self._finish = ""
        self._usage: Usage | None = None

    def event(self, event: bytes) -> bytes:
        """The events that one chunk becomes."""
        if event == b"[DONE]":
            # Without a finish reason the stream only seems to be at its end: it gets none here.
            return self._speaker.end(self._finish, self._usage) if self._finish else b""
        chunk = read_chunk(event)
        out: list[bytes] = []
        if not self._begun:
            self._begun = True
            made = _made(event).created
            created = int(made) if isinstance(made, int | float) else 0
            out.append(self._speaker.begin(chunk.id or "", chunk.model or "", created))
        self._chunk(chunk, out)
        return b"".join(out)

    def end(self) -> bytes:
        """What a provider said that left out the last blank line."""
        return self.last()

    def _chunk(self, chunk: Chunk, out: list[bytes]) -> None:
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices:
            delta = choice.delta
            if choice.index != 0:
                continue  # the other APIs know one answer only
            if delta is not None:
                reasoning = delta.reasoning_content or delta.reasoning
                said = (("reasoning", reasoning), ("text", delta.content), ("refusal", delta.refusal))
                for kind, value in said:
                    if text := text_of(value):
                        out.append(self._speaker.say(kind, text))
                for call in delta.tool_calls or ():
                    if isinstance(call, dict):
                        self._call(call, out)
            self._finish = choice.finish_reason or self._finish

    def _call(self, call: dict[str, object], out: list[bytes]) -> None:
        given, function = call.get("index"), call.get("function")
        about = function if isinstance(function, dict) else {}
        name, arguments = str(about.get("name") or ""), str(about.get("arguments") or "")
        fresh = bool(call.get("id")) and not isinstance(given, int)
        index = given if isinstance(given, int) else len(self._calls) - (0 if fresh or not self._calls else 1)
        if index not in self._calls:
            self._calls.append(index)
            self._unnamed = (str(call.get("id") or ""), [])
        elif index != self._calls[-1]:
            raise ServerError(
                "the provider says two tool calls at once, which this API cannot tell apart",
                hint="ask for one call at a time (parallel_tool_calls: false), or use chat/completions",
                code="interleaved_tool_calls",
                upstream_status=200,
            )
        if self._unnamed is not None:
            first, held = self._unnamed
            if not name:
                self._unnamed = (str(call.get("id") or first), [*held, arguments])
                return
            self._unnamed = None
            out.append(self._speaker.call(str(call.get("id") or first), name))
            out += [self._speaker.arguments(piece) for piece in held if piece]
        if arguments:
            out.append(self._speaker.arguments(arguments))


def told(flow: Flow, speaker: Speaker) -> Flow:
    """A stream of chat chunks as `speaker` says it."""
    return TranslatedFlow(flow, Told(speaker))
