"""The messages form: Anthropic's. Its usage is in disjoint buckets; a `Completion` has inclusive totals, as in chat."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pilothouse.domain.errors import CutStream, PilothouseError, ServerError
from pilothouse.providers.failures import failure_within
from pilothouse.providers.form import Assembling
from pilothouse.providers.openai import (
    Choice,
    Completion,
    InputDetails,
    Message,
    OutputDetails,
    Usage,
    events,
    whole_events,
)

# Why an answer ended, in chat's words. A stop reason that is new to us counts as `stop`.
FINISH: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_KINDS = {
    "rate_limit": "rate_limit_error",
    "request_too_large": "request_too_large",
    "route_disabled": "overloaded_error",
    "circuit_open": "overloaded_error",
    "timeout_first_token": "timeout_error",
    "timeout_idle": "timeout_error",
    "timeout_total": "timeout_error",
}
_KNOWN = frozenset(
    ("invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error")
)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Thinking(msgspec.Struct):
    thinking_tokens: int | None = None


class _Written(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class MessagesUsage(msgspec.Struct, omit_defaults=True):
    """What the provider counted; of a stream, the counts are cumulative, and the last one said holds."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _Thinking | None = None
    cache_creation: _Written | None = None  # of the cache-written ones, how long they are kept

    def updated(self, later: "MessagesUsage") -> "MessagesUsage":
        """With what `later` says anew."""
        new = {name: value for name in self.__struct_fields__ if (value := getattr(later, name)) is not None}
        return msgspec.structs.replace(self, **new)

    def inclusive(self) -> Usage | None:
        """As chat counts: the prompt's tokens with those from and for the cache. None where nothing was counted at all:
        the form demands numbers even of those who know none, and a message without a token of input there is not."""
        read, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        if not (self.input_tokens or read or written or self.output_tokens):
            return None
        hour = self.cache_creation.ephemeral_1h_input_tokens if self.cache_creation else None
        thinking = self.output_tokens_details.thinking_tokens if self.output_tokens_details else None
        return Usage(
            prompt_tokens=None if self.input_tokens is None else self.input_tokens + read + written,
            completion_tokens=self.output_tokens,
            prompt_tokens_details=InputDetails(read, written, hour),
            completion_tokens_details=OutputDetails(thinking),
        )


class _Whole(msgspec.Struct):
    type: str = ""
    id: str = ""
    model: str = ""
    content: list[dict[str, Any]] | None = None
    stop_reason: str | None = None
    usage: MessagesUsage | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Event(msgspec.Struct):
    """One event of a stream, as far as we look into it."""

    type: str = ""
    index: int = 0
    message: _Whole | None = None
    content_block: dict[str, Any] | None = None
    delta: _Delta | None = None
    usage: MessagesUsage | None = None

    @property
    def id(self) -> str | None:
        """The answer's id, in its first event."""
        return self.message.id if self.message else None

    @property
    def model(self) -> str | None:
        """The served model, in its first event."""
        return self.message.model if self.message else None

    @property
    def has_token(self) -> bool:
        """Whether it carries something of the answer, or its end."""
        delta, block = self.delta, self.content_block
        if delta is not None:
            return bool(delta.text or delta.thinking or delta.partial_json or delta.stop_reason)
        return block is not None and block.get("type") not in ("text", "thinking")


_event: Callable[[bytes], Event] = msgspec.json.Decoder(Event).decode
_whole: Callable[[bytes], _Whole] = msgspec.json.Decoder(_Whole).decode


def read_event(data: bytes) -> Event:
    """One event's data; raises ServerError or RateLimited where it is none, or the provider's own error."""
    try:
        event = _event(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ServerError(f"the provider sent an unreadable event: {error}", code="malformed_stream") from error
    if event.type == "error":
        raise failure_within(_decode(data), streaming=True)
    return event


def in_messages(body: bytes) -> bytes:
    """An error in OpenAI's shape as one in Anthropic's, its code and hint kept."""
    said: dict[str, Any] = _decode(body)["error"]
    kind = _KINDS.get(said.get("code") or "") or (said["type"] if said.get("type") in _KNOWN else "api_error")
    error = {"type": kind, "message": said.get("message")} | {k: said.get(k) for k in ("code", "param", "hint")}
    return _encode({"type": "error", "error": error})


class MessagesForm:
    """See `Form`."""

    name = "messages"
    done = b""

    def whole(self, data: bytes) -> int:
        """Whole events."""
        return whole_events(data)

    def read(self, body: bytes) -> Completion:
        """A whole message."""
        try:
            message = _whole(body)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise _malformed(str(error)) from error
        if message.content is None:
            failed = message.type == "error"
            raise failure_within(_decode(body), streaming=False) if failed else _malformed("it has no content")
        return completion_of(message.content, message.stop_reason, message)

    def first(self, block: bytes) -> Event | None:
        """The first delta that is not empty, the start of a block that is neither text nor thinking, or the end."""
        began: Event | None = None
        for data in events(block):
            event = read_event(data)
            if event.message is not None:
                began = event
            if event.type == "message_stop":
                raise CutStream("the stream ended before its first token", hint="ask again", upstream_status=200)
            if event.has_token:
                return began or event
        return None

    def ends(self, block: bytes) -> bool:
        """`message_stop`."""
        return b"message_stop" in block and any(read_event(data).type == "message_stop" for data in events(block))

    def without_usage(self, block: bytes) -> bytes:
        """A message's usage is the client's own."""
        return block

    def assembly(self) -> Assembling:
        """Events put together."""
        return Assembly()

    def error_event(self, error: PilothouseError, body: bytes) -> bytes:  # noqa: ARG002  # `body` says it all
        """`event: error`, after which nothing comes."""
        return b"event: error\ndata: " + in_messages(body) + b"\n\n"


class Assembly:
    """A stream's events put together into the message that it would have been."""

    def __init__(self) -> None:
        self._head = _Whole()
        self._usage: MessagesUsage | None = None
        self._blocks: dict[int, tuple[dict[str, Any], list[str]]] = {}
        self._stop: str | None = None
        self._done = False

    def add(self, block: bytes) -> None:
        """Take the whole events of `block`."""
        for data in events(block):
            self._add(read_event(data))

    def _add(self, event: Event) -> None:
        if event.message is not None:
            self._head = event.message
            self._usage = event.message.usage
        elif event.content_block is not None:
            self._blocks[event.index] = (event.content_block, [])
        elif event.type == "content_block_delta" and event.delta is not None:
            delta = event.delta
            _, said = self._blocks.setdefault(event.index, ({"type": "text", "text": ""}, []))
            said.append(delta.text or delta.thinking or delta.partial_json or "")
        elif event.type == "message_delta":
            if event.delta is not None and event.delta.stop_reason:
                self._stop = event.delta.stop_reason
            if event.usage is not None:
                self._usage = self._usage.updated(event.usage) if self._usage else event.usage
        self._done |= event.type == "message_stop"

    def completion(self) -> Completion:
        """What has arrived so far. The output that `message_start` counts is none yet: usage is known at the end."""
        blocks = [_block(*self._blocks[index]) for index in sorted(self._blocks)]
        usage = self._usage if self._stop is not None else None
        return completion_of(blocks, self._stop, msgspec.structs.replace(self._head, usage=usage))

    def finished(self) -> Completion:
        """The completion of a stream that is at its end; CutStream where it only seems to be."""
        if not self._done or self._stop is None:
            missing = "message_stop" if not self._done else "stop_reason"
            raise CutStream(
                f"the stream ended without its {missing}",
                hint="the text so far is incomplete: ask again",
                upstream_status=200,
            )
        return self.completion()


def _block(start: dict[str, Any], said: list[str]) -> dict[str, Any]:
    """A content block with what its deltas added; a tool's input as the JSON text that it came in."""
    text, kind = "".join(said), start.get("type")
    if kind in ("text", "thinking"):
        return start | {kind: str(start.get(kind) or "") + text}
    return start | {"input": text} if text else start


def completion_of(content: list[dict[str, Any]], stop_reason: str | None, head: _Whole) -> Completion:
    """Content blocks as a completion of one choice: text, tool calls in chat's shape, thinking."""
    text = [str(b.get("text") or "") for b in content if b.get("type") == "text"]
    thinking = [str(b.get("thinking") or "") for b in content if b.get("type") == "thinking"]
    calls = [
        {
            "id": str(b.get("id") or ""),
            "type": "function",
            "function": {"name": str(b.get("name") or ""), "arguments": _arguments(b.get("input"))},
        }
        for b in content
        if b.get("type") == "tool_use"
    ]
    said = "".join(text) if text or not calls else None
    message = Message(content=said, tool_calls=calls or None, reasoning_content="".join(thinking) or None)
    finish = FINISH.get(stop_reason, "stop") if stop_reason else None
    return Completion(
        choices=[Choice(message=message, finish_reason=finish)],
        id=head.id,
        model=head.model,
        usage=head.usage.inclusive() if head.usage else None,
    )


def _arguments(given: Any) -> str:
    return given if isinstance(given, str) else _encode(given or {}).decode()


def _malformed(why: str) -> ServerError:
    return ServerError(
        f"the provider's answer is not a message: {why}",
        hint="see the record's attempts; retries and fallbacks follow the route's policy",
        code="malformed_response",
        upstream_status=200,
    )


MESSAGES = MessagesForm()
