"""The chat form: OpenAI's chat/completions, the form that everything can be translated to."""

from typing import Any

import msgspec

from pilothouse.domain.errors import CutStream, PilothouseError
from pilothouse.providers.form import Assembling
from pilothouse.providers.openai import (
    DONE,
    Assembly,
    Chunk,
    events,
    read_chunk,
    read_completion,
    whole_events,
)

_decode = msgspec.json.Decoder().decode


class ChatForm:
    """See `Form`."""

    name = "chat"
    done = DONE

    def whole(self, data: bytes) -> int:
        """Whole events."""
        return whole_events(data)

    read = staticmethod(read_completion)

    def first(self, block: bytes) -> Chunk | None:
        """The first chunk with a token, or with the finish reason."""
        for event in events(block):
            if event == b"[DONE]":
                raise CutStream("the stream ended before its first token", hint="ask again", upstream_status=200)
            chunk = read_chunk(event)
            if chunk.has_token:
                return chunk
        return None

    def ends(self, block: bytes) -> bool:
        """[DONE]."""
        return b"[DONE]" in block and any(data == b"[DONE]" for data in events(block))

    def without_usage(self, block: bytes) -> bytes:
        """Without the chunk that has usage and no choices."""
        if b'"usage"' not in block or not (b'"choices":[]' in block or b'"choices": []' in block):
            return block
        kept = [data for data in events(block) if not _only_usage(data)]
        return b"".join(b"data: " + data + b"\n\n" for data in kept)

    def assembly(self) -> Assembling:
        """Chunks put together."""
        return Assembly()

    def error_event(self, error: PilothouseError, body: bytes) -> bytes:  # noqa: ARG002  # other forms name its kind
        """The error object as an event, never followed by [DONE]."""
        return b"data: " + body + b"\n\n"


def _only_usage(data: bytes) -> bool:
    if b'"usage"' not in data:
        return False
    try:
        value: Any = _decode(data)
    except msgspec.DecodeError:
        return False
    return isinstance(value, dict) and not value.get("choices") and bool(value.get("usage"))


CHAT = ChatForm()
