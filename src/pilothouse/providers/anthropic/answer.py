"""Anthropic's answers as chat completions, whole and streaming.

Thinking becomes `reasoning_content`; `thinking_blocks`, with their signatures, are given too: a client that sends
them back with the message lets the model think on between tool calls.
"""

from typing import Any

import msgspec

from pilothouse.providers.anthropic.request import JSON_TOOL
from pilothouse.providers.messages import FINISH, MESSAGES, Event, MessagesUsage, read_event
from pilothouse.providers.openai import DONE
from pilothouse.providers.translated import SseTranslator, completion_body

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def whole(body: bytes, now_us: int) -> bytes:
    """A message as a chat completion; raises ServerError where it is none."""
    completion = MESSAGES.read(body)
    message = completion.choices[0].message
    finish = completion.finish_reason
    said: dict[str, Any] = {"content": message.content if message else None}
    blocks: list[dict[str, Any]] = _decode(body)["content"]
    thoughts = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    if message is not None and message.reasoning_content:
        said["reasoning_content"] = message.reasoning_content
    if thoughts:
        said["thinking_blocks"] = thoughts
    calls = message.tool_calls if message else None
    if calls and calls[0]["function"]["name"] == JSON_TOOL:
        said["content"] = calls[0]["function"]["arguments"]
        finish = "stop" if finish == "tool_calls" else finish
    elif calls:
        said["tool_calls"] = calls
    made = now_us // 1_000_000
    return _encode(completion_body(completion.id, completion.model, said, finish or None, completion.usage, made))


class MessagesTranslator(SseTranslator):
    """A stream of messages events → chat chunks. See `Translator`."""

    def __init__(self, now_us: int) -> None:
        super().__init__(now_us)
        self._usage = MessagesUsage()
        self._calls: dict[int, int] = {}  # block → tool call; -1: the tool whose input is the answer
        self._json = False
        self._thoughts: dict[int, dict[str, Any]] = {}

    def event(self, event: bytes) -> bytes:
        """Chat events, or nothing; a ping keeps the client's connection alive as a comment."""
        seen = read_event(event)
        match seen.type:
            case "message_start" if seen.message is not None:
                self.chunks.name, self.chunks.model = seen.message.id, seen.message.model
                self._usage = seen.message.usage or self._usage
                return self.chunks.delta({"content": ""})
            case "content_block_start":
                return self._start(seen)
            case "content_block_delta":
                return self._delta(seen, event)
            case "content_block_stop":
                return self._stop(seen)
            case "message_delta":
                return self._ending(seen)
            case "message_stop":
                self.complete = True
                return self.chunks.usage(self._usage.inclusive()) + DONE
            case "ping":
                return b": ping\n\n"
        return b""

    def end(self) -> bytes:
        """An event whose blank line is missing has been said all the same."""
        return self.last()

    def _start(self, event: Event) -> bytes:
        block = event.content_block or {}
        kind = block.get("type")
        if kind == "tool_use":
            if block.get("name") == JSON_TOOL:
                self._json = True
                self._calls[event.index] = -1
                return b""
            at = self._calls[event.index] = len(self._calls)
            return self.chunks.call(at, str(block.get("name") or ""), str(block.get("id") or ""))
        if kind in ("thinking", "redacted_thinking"):
            self._thoughts[event.index] = dict(block)
            return b""
        text = block.get("text")
        return self.chunks.delta({"content": text}) if kind == "text" and text else b""

    def _delta(self, event: Event, data: bytes) -> bytes:
        delta = event.delta
        if delta is None:
            return b""
        if delta.type == "text_delta" and delta.text:
            return self.chunks.delta({"content": delta.text})
        if delta.type == "input_json_delta" and delta.partial_json:
            at = self._calls.get(event.index)
            if at is None:
                return b""  # a tool that runs at the provider
            if at < 0:
                return self.chunks.delta({"content": delta.partial_json})
            return self.chunks.arguments(at, delta.partial_json)
        thought = self._thoughts.get(event.index)
        if thought is None:
            return b""
        if delta.type == "thinking_delta" and delta.thinking:
            thought["thinking"] = str(thought.get("thinking") or "") + delta.thinking
            return self.chunks.delta({"reasoning_content": delta.thinking})
        if delta.type == "signature_delta":
            signed = _decode(data)["delta"].get("signature")
            thought["signature"] = str(thought.get("signature") or "") + str(signed or "")
        return b""

    def _stop(self, event: Event) -> bytes:
        thought = self._thoughts.pop(event.index, None)
        return self.chunks.delta({"thinking_blocks": [thought]}) if thought is not None else b""

    def _ending(self, event: Event) -> bytes:
        if event.usage is not None:
            self._usage = self._usage.updated(event.usage)
        reason = event.delta.stop_reason if event.delta is not None else None
        if not reason:
            return b""
        finish = FINISH.get(reason, "stop")
        return self.chunks.delta({}, "stop" if self._json and finish == "tool_calls" else finish)
