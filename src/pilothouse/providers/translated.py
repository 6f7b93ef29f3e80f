"""What another provider's answers become: chat completions, whole and as streams of chunks.

`created` is when the provider was asked: most do not say when they answered, and wires read no clock.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from pilothouse.domain.errors import ServerError, UpstreamError
from pilothouse.providers.openai import DONE, events, whole_events
from pilothouse.providers.usage import Usage
from pilothouse.providers.wire import Flow

_encode = msgspec.json.Encoder().encode


def completion_body(
    name: str, model: str, message: dict[str, Any], finish: str | None, usage: Usage | None, created: int
) -> dict[str, Any]:
    """A whole chat completion of one choice; `created` in seconds since 1970."""
    body: dict[str, Any] = {
        "id": name,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}],
    }
    if usage is not None:
        body["usage"] = summed(usage)
    return body


def summed(usage: Usage) -> Usage:
    """With the total that clients expect."""
    total = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    return msgspec.structs.replace(usage, total_tokens=total)


class Chunks:
    """The chunks of one stream, asked for at `now_us`; `name` and `model` are set when the provider has said them."""

    def __init__(self, now_us: int) -> None:
        self._created = now_us // 1_000_000
        self.name = ""
        self.model = ""
        self._begun = False

    def delta(self, delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
        """A chunk with something of the answer, or with its finish reason."""
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        return self._event({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})

    def call(self, index: int, name: str, ident: str) -> bytes:
        """The beginning of a tool call."""
        function = {"name": name, "arguments": ""}
        return self.delta({"tool_calls": [{"index": index, "id": ident, "type": "function", "function": function}]})

    def arguments(self, index: int, text: str) -> bytes:
        """More of a tool call's arguments."""
        return self.delta({"tool_calls": [{"index": index, "function": {"arguments": text}}]})

    def usage(self, usage: Usage | None) -> bytes:
        """The chunk with usage and no choices; nothing where there is no usage."""
        if usage is None:
            return b""
        return self._event({"choices": [], "usage": summed(usage)})

    def _event(self, rest: dict[str, Any]) -> bytes:
        head = {"id": self.name, "object": "chat.completion.chunk", "created": self._created, "model": self.model}
        return b"data: " + _encode(head | rest) + b"\n\n"


class Translator(Protocol):
    """Makes chat chunks of one provider's stream. One for each stream."""

    def split(self, data: bytes) -> Iterator[Any]:
        """The native events that are whole with `data`; the rest is kept."""

    def event(self, event: Any) -> bytes:
        """Chat events, or nothing; raises UpstreamError for the provider's own error."""

    def end(self) -> bytes:
        """What is left to say at the end of the connection: [DONE] only where the stream was complete."""


class SseTranslator:
    """A translator's part that splits server-sent events."""

    def __init__(self, now_us: int = 0) -> None:
        self.chunks = Chunks(now_us)
        self.complete = False
        self._rest = b""

    def split(self, data: bytes) -> Iterator[bytes]:
        """The data of each whole event."""
        data = self._rest + data
        at = whole_events(data)
        self._rest = data[at:]
        yield from events(data[:at])

    def event(self, event: bytes) -> bytes:
        """See `Translator`."""
        raise NotImplementedError

    def last(self) -> bytes:
        """What an event says whose blank line the provider left out; nothing where it is a part of one."""
        if not self._rest.strip():
            return b""
        try:
            return b"".join(self.event(data) for data in self.split(b"\n\n"))
        except ServerError as error:
            if error.kind == "malformed_stream":
                return b""
            raise


class TranslatedFlow:
    """A native stream as a stream of chat chunks. See `Flow`.

    What came before a provider's own error is given out first, and the error is raised at the next read.
    """

    def __init__(self, flow: Flow, translator: Translator) -> None:
        self.status = flow.status
        self.headers = flow.headers
        self.held = b""
        self._flow = flow
        self._translator = translator
        self._ended = False
        self._failed: UpstreamError | None = None

    async def read(self) -> bytes | None:
        """Chat events as soon as there are any, None at the end."""
        while not self._ended:
            if self._failed is not None:
                failed, self._failed, self._ended = self._failed, None, True
                raise failed
            data = self._flow.held or await self._flow.read()
            self._flow.held = b""
            if data is None:
                self._ended = True
                return self._translator.end() or None
            if out := self._translate(data):
                return out
        return None

    def _translate(self, data: bytes) -> bytes:
        out = bytearray()
        try:
            for event in self._translator.split(data):
                out += self._translator.event(event)
        except UpstreamError as error:
            self._failed = error
        return bytes(out)

    async def rest(self, limit: int = 64 << 10) -> bytes:
        """What is left of the native body, up to `limit` bytes."""
        return await self._flow.rest(limit)

    def enough(self) -> None:
        """The content is complete."""
        self._flow.enough()

    async def close(self) -> None:
        """Close the native stream."""
        await self._flow.close()


__all__ = ["DONE", "Chunks", "SseTranslator", "TranslatedFlow", "Translator", "completion_body", "summed"]
