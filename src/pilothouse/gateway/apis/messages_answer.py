"""A chat answer in the form of Anthropic's messages: as a whole, and as the events of a stream."""

from typing import Any

import msgspec

from pilothouse.domain.errors import InvalidOutput
from pilothouse.providers.openai import Completion, text_of
from pilothouse.providers.usage import Usage

STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TEXTS = {"text": "text", "thinking": "thinking"}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
Json = dict[str, Any]


def usage_of(usage: Usage | None) -> Json:
    """Totals as disjoint buckets; zeros where nothing was counted, because the form demands numbers."""
    tokens = usage.tokens() if usage is not None else None
    if tokens is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": tokens.input_uncached,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "output_tokens": tokens.output,
        "output_tokens_details": {"thinking_tokens": tokens.reasoning},
    }


def message(name: str, model: str, content: list[Json], stop: str | None, usage: Json) -> Json:
    """A message object."""
    return {
        "id": name,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def whole(completion: Completion, *, thinking: bool) -> bytes:
    """A completion's first choice as a message; raises InvalidOutput for a tool call whose arguments are no object."""
    choice = completion.choices[0]
    said = choice.message
    content: list[Json] = []
    if said is not None:
        reasoning = said.reasoning_content or text_of(said.reasoning)
        if thinking and reasoning:
            content.append({"type": "thinking", "thinking": reasoning, "signature": ""})
        if text := text_of(said.content) + (said.refusal or ""):
            content.append({"type": "text", "text": text})
        content += [_tool_use(call) for call in said.tool_calls or ()]
    stop = STOP.get(choice.finish_reason or "stop", "end_turn")
    return _encode(message(completion.id, completion.model, content, stop, usage_of(completion.usage)))


def _tool_use(call: Json) -> Json:
    function = call.get("function") or {}
    try:
        given = _decode(function.get("arguments") or "{}")
    except msgspec.DecodeError:
        given = None
    if not isinstance(given, dict):
        raise InvalidOutput(
            f"the arguments of the tool call “{function.get('name')}” are not a JSON object",
            where="output",
            hint="ask again; chat/completions passes such calls on as they are",
            code="invalid_tool_call",
        )
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}


def _event(kind: str, **more: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _encode({"type": kind} | more) + b"\n\n"


class MessagesSpeaker:
    """See `Speaker`. `thinking`: whether the client asked to see thoughts."""

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking
        self._index = -1
        self._open = ""  # the kind of the block that is being said

    def begin(self, name: str, model: str, created: int) -> bytes:  # noqa: ARG002  # a message has no date
        """`message_start`; what was counted is known at the end only."""
        return _event("message_start", message=message(name, model, [], None, usage_of(None)))

    def say(self, kind: str, text: str) -> bytes:
        """A delta of text or thinking, in a block of its kind."""
        block = "thinking" if kind == "reasoning" else "text"
        if block == "thinking" and not self._thinking:
            return b""
        start = b""
        if self._open != block:
            first: Json = {"type": block, block: ""} | ({"signature": ""} if block == "thinking" else {})
            start = self.block(block, first)
        return start + self.delta({"type": f"{block}_delta", block: text})

    def call(self, name: str, function: str) -> bytes:
        """A block of its own for each call."""
        return self.block("tool_use", {"type": "tool_use", "id": name, "name": function, "input": {}})

    def arguments(self, more: str) -> bytes:
        """One delta for each piece."""
        return self.delta({"type": "input_json_delta", "partial_json": more})

    def block(self, kind: str, first: Json) -> bytes:
        """The next block begins, and the one before is over."""
        before = self.close()
        self._open = kind
        self._index += 1
        return before + _event("content_block_start", index=self._index, content_block=first)

    def delta(self, delta: Json) -> bytes:
        """Some more of the block."""
        return _event("content_block_delta", index=self._index, delta=delta)

    def close(self) -> bytes:
        """The block is over."""
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", index=self._index)

    def end(self, finish: str, usage: Usage | None) -> bytes:
        """`message_delta` with the usage, and `message_stop`."""
        return self.stop(STOP.get(finish, "end_turn"), usage_of(usage))

    def stop(self, reason: str | None, usage: Json) -> bytes:
        """The same with a stop reason of the messages API."""
        delta = {"stop_reason": reason, "stop_sequence": None}
        return self.close() + _event("message_delta", delta=delta, usage=usage) + _event("message_stop")


def as_stream(body: bytes) -> bytes:
    """A whole message as the events of a stream; blocks that are neither text nor thought nor call start whole."""
    said: Json = _decode(body)
    speaker = MessagesSpeaker(thinking=True)
    head = said | {"content": [], "stop_reason": None, "stop_sequence": None}
    out = [_event("message_start", message=head)]
    for block in said.get("content") or ():
        kind = block.get("type")
        if field := _TEXTS.get(kind):
            out.append(speaker.block(kind, block | {field: ""}))
            out.append(speaker.delta({"type": f"{kind}_delta", field: block.get(field) or ""}))
        elif kind == "tool_use":
            out.append(speaker.block(kind, block | {"input": {}}))
            out.append(speaker.arguments(_encode(block.get("input") or {}).decode()))
        else:
            out.append(speaker.block(str(kind), block))
    delta = {"stop_reason": said.get("stop_reason"), "stop_sequence": said.get("stop_sequence")}
    out += [
        speaker.close(),
        _event("message_delta", delta=delta, usage=said.get("usage") or {}),
        _event("message_stop"),
    ]
    return b"".join(out)
