"""The OpenAI chat wire format: request headers, answers and streams.

Usage: see providers/usage.py; errors: see providers/failures.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from pilothouse.domain.errors import CutStream, ServerError
from pilothouse.domain.record import Tokens
from pilothouse.providers.failures import failure_within, message_of
from pilothouse.providers.usage import InputDetails, OutputDetails, Usage

__all__ = [
    "DONE", "Assembly", "Choice", "Chunk", "Completion", "InputDetails", "Message", "OutputDetails", "Usage", "events",
    "message_of", "read_chunk", "read_completion", "request_headers", "text_of", "whole_events",
]  # fmt: skip

DONE = b"data: [DONE]\n\n"
_JSON = ("content-type", "application/json")


class Message(msgspec.Struct, gc=False):
    """An answer's message. Providers differ in what else they put there."""

    content: Any = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None  # the same, as vLLM, Groq and OpenRouter name it


class Choice(msgspec.Struct, gc=False):
    """One of the n alternatives."""

    index: int = 0
    message: Message | None = None
    finish_reason: str | None = None
    error: Any = None  # OpenRouter: the provider behind it failed


class Completion(msgspec.Struct, gc=False):
    """A whole answer, or a stream put together again."""

    choices: list[Choice]
    id: str = ""
    model: str = ""
    system_fingerprint: str | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The first choice's text."""
        message = self.choices[0].message if self.choices else None
        return text_of(message.content) if message is not None else ""

    @property
    def finish_reason(self) -> str:
        """Why the first choice ended."""
        return (self.choices[0].finish_reason or "") if self.choices else ""

    @property
    def refused(self) -> bool:
        """Whether the model, or the provider's filter, declined to answer."""
        for choice in self.choices:
            if choice.finish_reason == "content_filter" or (choice.message is not None and choice.message.refusal):
                return True
        return False

    def tokens(self) -> Tokens | None:
        """The usage in disjoint buckets; None where the provider reported none."""
        return self.usage.tokens() if self.usage is not None else None

    def cost_usd(self) -> float | None:
        """What the provider itself says that the answer cost."""
        return self.usage.cost_usd() if self.usage is not None else None


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None

    @property
    def has_token(self) -> bool:
        return bool(self.content or self.tool_calls or self.reasoning_content or self.reasoning or self.refusal)


class _ChunkChoice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Groq(msgspec.Struct):
    usage: Usage | None = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream."""

    choices: list[_ChunkChoice] = []
    id: str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    usage: Usage | None = None
    error: Any = None
    x_groq: _Groq | None = None

    @property
    def has_token(self) -> bool:
        """Whether it carries something of the answer, or its end, rather than the role alone."""
        return any(c.finish_reason or (c.delta is not None and c.delta.has_token) for c in self.choices)


_completion = msgspec.json.Decoder(Completion).decode
_chunk = msgspec.json.Decoder(Chunk).decode
_any: Callable[[bytes], Any] = msgspec.json.Decoder().decode


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


def request_headers(
    key: str, trace_id: str, span_id: str, passed: Sequence[tuple[str, str]] = ()
) -> list[tuple[str, str]]:
    """Headers of an upstream call; the trace goes on through it. `passed`: of the client, its content type among them
    where the body is no JSON."""
    headers = [("traceparent", f"00-{trace_id}-{span_id}-01")]
    if passed:
        headers += passed
    if not passed or not any(name == "content-type" for name, _ in passed):
        headers.append(_JSON)
    if key:
        headers.append(("authorization", f"Bearer {key}"))
    return headers


def read_completion(body: bytes) -> Completion:
    """A whole answer; raises ServerError where it is none."""
    try:
        completion = _completion(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        _raise_said(body)
        raise ServerError(
            f"the provider's answer is not a chat completion: {error}",
            hint="see the record's attempts; retries and fallbacks follow the route's policy",
            code="malformed_response",
            upstream_status=200,
        ) from error
    for choice in completion.choices:
        if choice.error:
            raise failure_within({"error": choice.error}, streaming=False)
    if not completion.choices:
        _raise_said(body)
        raise ServerError("the provider's answer has no choices", code="malformed_response", upstream_status=200)
    return completion


def _raise_said(body: bytes) -> None:
    """Raise the error that an answer with status 200 holds instead of choices, where it holds one."""
    if b'"error"' not in body:
        return
    try:
        value = _any(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if isinstance(value, dict) and value.get("error"):
        raise failure_within(value, streaming=False)


def read_chunk(data: bytes) -> Chunk:
    """One event's data; raises ServerError where it is not a chunk or is the provider's own error."""
    try:
        chunk = _chunk(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ServerError(f"the provider sent an unreadable event: {error}", code="malformed_stream") from error
    if chunk.error is not None:
        raise failure_within(_any(data), streaming=True)
    return chunk


def events(block: bytes) -> Iterator[bytes]:
    """The data of each server-sent event in a block of whole events; comments and other fields are left out."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    for event in block.split(b"\n\n"):
        if event.startswith(b"data:") and b"\n" not in event:
            yield event[5:].lstrip(b" ")
        elif event:
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines)


def whole_events(data: bytes) -> int:
    """How many bytes of `data` are whole events: up to and with the last blank line."""
    if data.endswith(b"\n\n"):
        return len(data)
    end = data.rfind(b"\n\n") + 2
    crlf = data.rfind(b"\r\n\r\n") + 4
    return max(end if end > 1 else 0, crlf if crlf > 3 else 0)


class Assembly:
    """A stream's chunks put together into the completion that it would have been. Raises ServerError, CutStream."""

    def __init__(self) -> None:
        self._choices: dict[int, tuple[list[str], dict[int, dict[str, Any]], list[str]]] = {}
        self._finish: dict[int, str] = {}
        self._reasoning: dict[int, list[str]] = {}
        self._head = Completion(choices=[])
        self.done = False

    def add(self, block: bytes) -> None:
        """Take the whole events of `block`."""
        for data in events(block):
            if data == b"[DONE]":
                self.done = True
            elif not self.done:
                self._add(read_chunk(data))

    def _add(self, chunk: Chunk) -> None:
        head = self._head
        if not head.id:
            head.id, head.model, head.system_fingerprint = chunk.id or "", chunk.model or "", chunk.system_fingerprint
        if chunk.usage is not None:
            head.usage = chunk.usage
        elif chunk.x_groq is not None and chunk.x_groq.usage is not None:
            head.usage = chunk.x_groq.usage
        for choice in chunk.choices:
            delta = choice.delta
            if choice.finish_reason:
                self._finish[choice.index] = choice.finish_reason
            if delta is not None:
                self._delta(choice.index, delta)

    def _delta(self, index: int, delta: _Delta) -> None:
        kept = self._choices.get(index)
        if kept is None:
            kept = self._choices[index] = ([], {}, [])
        if delta.content:
            kept[0].append(delta.content if isinstance(delta.content, str) else text_of(delta.content))
        if delta.refusal:
            kept[2].append(delta.refusal)
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning and isinstance(reasoning, str):
            self._reasoning.setdefault(index, []).append(reasoning)
        for call in delta.tool_calls or ():
            if isinstance(call, dict):
                _merge_call(kept[1], call)

    def completion(self) -> Completion:
        """What has arrived so far."""
        head = self._head
        head.choices = [
            Choice(
                index=index,
                message=Message(
                    content="".join(text) if text or not calls else None,
                    refusal="".join(refusal) or None,
                    tool_calls=[calls[i] for i in sorted(calls)] or None,
                    reasoning_content="".join(self._reasoning.get(index, ())) or None,
                ),
                finish_reason=self._finish.get(index),
            )
            for index, (text, calls, refusal) in sorted(self._choices.items())
        ]
        return head

    def finished(self) -> Completion:
        """The completion of a stream that is at its end; CutStream where it only seems to be."""
        completion = self.completion()
        open_choices = [c.index for c in completion.choices if not c.finish_reason]
        if not self.done or open_choices or not completion.choices:
            missing = "end marker" if not self.done else "finish_reason"
            raise CutStream(
                f"the stream ended without its {missing}",
                hint="the text so far is incomplete: ask again",
                upstream_status=200,
            )
        return completion


def _merge_call(calls: dict[int, dict[str, Any]], call: dict[str, Any]) -> None:
    index = call.get("index")
    at = index if isinstance(index, int) else len(calls)
    kept = calls.setdefault(at, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    kept["id"] = call.get("id") or kept["id"]
    function = call.get("function")
    if isinstance(function, dict):
        kept["function"]["name"] += function.get("name") or ""
        kept["function"]["arguments"] += function.get("arguments") or ""
