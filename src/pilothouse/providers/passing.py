"""The form of what is passed through: any body, any stream. What of it is known (usage, text) is read, no more.

A stream is whole when its connection ends well, unless its events are of a kind whose last one is known.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from pilothouse.domain.errors import CutStream, PilothouseError, ServerError
from pilothouse.providers.form import Assembling
from pilothouse.providers.openai import Choice, Completion, InputDetails, Message, OutputDetails, Usage, events

_ERROR = (b'data: {"error"', b'data:{"error"', b"event: error")
_CHUNKS = frozenset(("text_completion", "chat.completion.chunk"))


class _Usage(msgspec.Struct):
    """The usage objects that are known: chat's and completions', responses' and images', messages'."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None


class _Known(msgspec.Struct):
    id: Any = None
    model: Any = None
    object: Any = None
    type: Any = None
    text: Any = None
    usage: Any = None
    choices: Any = None
    response: Any = None


class Began(msgspec.Struct, frozen=True):
    """Of a stream about which nothing is known yet."""

    id: str | None = None
    model: str | None = None


_known: Callable[[bytes], _Known] = msgspec.json.Decoder(_Known).decode


def usage_of(value: Any) -> Usage | None:
    """A usage object in chat's names; None where it is none of the known."""
    try:
        said = msgspec.convert(value, _Usage)
    except (msgspec.ValidationError, RecursionError):
        return None
    if said.prompt_tokens is not None:
        rest = 0 if said.total_tokens in (None, said.prompt_tokens) else None  # embeddings, reranking: input alone
        output = said.completion_tokens if said.completion_tokens is not None else rest
        return Usage(said.prompt_tokens, output, said.prompt_tokens_details, said.completion_tokens_details)
    if said.input_tokens is None:
        return None
    read, written = said.cache_read_input_tokens, said.cache_creation_input_tokens
    if read is None and written is None:
        return Usage(said.input_tokens, said.output_tokens, said.input_tokens_details, said.output_tokens_details)
    total = said.input_tokens + (read or 0) + (written or 0)
    return Usage(total, said.output_tokens, InputDetails(read, written), said.output_tokens_details)


class AnyForm:
    """See `Form`."""

    name = "any"
    done = b""

    def whole(self, data: bytes) -> int:
        """All of it: what is not understood is not held back."""
        return len(data)

    def read(self, body: bytes) -> Completion:
        """Whatever it is; usage and text where they are known."""
        known = _look(body)
        if known is None:
            return Completion(choices=[])
        return _completion(known, _choices([known]))

    def first(self, block: bytes) -> Began | None:
        """The first byte."""
        if block.startswith(_ERROR):
            raise ServerError("the provider sent an error instead of a stream", code="stream_error")
        return Began() if block else None

    def ends(self, block: bytes) -> bool:  # noqa: ARG002  # only the connection's end is certain
        """Never by what it says."""
        return False

    def without_usage(self, block: bytes) -> bytes:
        """As it is."""
        return block

    def assembly(self) -> Assembling:
        """Bytes, looked at when they are all there."""
        return Assembly()

    def error_event(self, error: PilothouseError, body: bytes) -> bytes:  # noqa: ARG002  # `body` says it all
        """The error object as an event."""
        return b"data: " + body + b"\n\n"


class Assembly:
    """A stream's bytes; its events are read where it has any."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def add(self, block: bytes) -> None:
        """Take some more."""
        self._blocks.append(block)

    def _events(self) -> list[bytes]:
        data = b"".join(self._blocks)
        return list(events(data)) if data[:1024].lstrip().startswith((b"data:", b"event:", b"id:", b":")) else []

    def completion(self) -> Completion:
        """What is known of what has arrived so far."""
        seen = [known for data in self._events() if (known := _look(data)) is not None]
        if not seen:
            return Completion(choices=[])
        last = next((k for k in reversed(seen) if k.usage is not None), seen[0])
        return _completion(last, _choices(seen))

    def finished(self) -> Completion:
        """The completion; CutStream where a terminator that must come has not."""
        said = self._events()
        heads = [known for data in said[:4] if (known := _look(data)) is not None]
        chunks = any(known.object in _CHUNKS for known in heads)
        response = any(str(known.type).startswith("response.") for known in heads)
        last = [known for data in said[-2:] if (known := _look(data)) is not None]
        ended = any(known.type in ("response.completed", "response.incomplete", "response.failed") for known in last)
        if (chunks and b"[DONE]" not in said[-2:]) or (response and not ended):
            raise CutStream(
                "the stream ended without its end marker",
                hint="the text so far is incomplete: ask again",
                upstream_status=200,
            )
        return self.completion()


def _look(body: bytes) -> _Known | None:
    try:
        return _known(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return None


def _choices(seen: list[_Known]) -> list[Choice]:
    """The text of a body or stream of completions or transcriptions; empty where there is none."""
    text: dict[int, list[str]] = {}
    finish: dict[int, str] = {}
    for known in seen:
        if isinstance(known.text, str):
            text.setdefault(0, []).append(known.text)
        for choice in _completions(known.choices):
            text.setdefault(choice.index, []).append(choice.text or "")
            if choice.finish_reason:
                finish[choice.index] = choice.finish_reason
    return [
        Choice(index=index, message=Message(content="".join(said)), finish_reason=finish.get(index))
        for index, said in sorted(text.items())
    ]


def _completions(value: Any) -> list[_Choice]:
    try:
        return msgspec.convert(value, list[_Choice]) if isinstance(value, list) else []
    except msgspec.ValidationError:
        return []


def _completion(known: _Known, choices: list[Choice]) -> Completion:
    name, model = known.id, known.model
    return Completion(
        choices=choices,
        id=name if isinstance(name, str) else "",
        model=model if isinstance(model, str) else "",
        usage=usage_of(known.usage) if known.usage is not None else None,
    )


ANY = AnyForm()
