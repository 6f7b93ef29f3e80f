"""Answers of Bedrock's Converse as chat completions, whole and streaming."""

from collections.abc import Iterator
from typing import Any

import msgspec

from pilothouse.domain.errors import ServerError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.providers.anthropic.request import JSON_TOOL
from pilothouse.providers.bedrock.eventstream import Message, Splitter
from pilothouse.providers.failures import failure_within
from pilothouse.providers.openai import DONE
from pilothouse.providers.translated import Chunks, completion_body
from pilothouse.providers.usage import InputDetails, Usage

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _CacheDetail(msgspec.Struct, rename="camel"):
    ttl: str = ""
    input_tokens: int | None = None


class ConverseUsage(msgspec.Struct, rename="camel"):
    """What Bedrock counted, in disjoint buckets."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[_CacheDetail] | None = None

    def inclusive(self) -> Usage | None:
        """As chat counts; None where Bedrock counted nothing."""
        if self.input_tokens is None:
            return None
        read, written = self.cache_read_input_tokens or 0, self.cache_write_input_tokens or 0
        hour = sum(one.input_tokens or 0 for one in self.cache_details or () if one.ttl == "1h")
        return Usage(self.input_tokens + read + written, self.output_tokens, InputDetails(read, written, hour or None))


class _Spoken(msgspec.Struct):
    content: list[dict[str, Any]]


class _Output(msgspec.Struct):
    message: _Spoken | None = None


class _Whole(msgspec.Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: ConverseUsage | None = None


_whole = msgspec.json.Decoder(_Whole).decode


def finish_of(reason: str | None, *, streaming: bool) -> str | None:
    """Why it ended, in chat's words; raises ServerError where the model's output was malformed."""
    if reason and reason.startswith("malformed"):
        raise ServerError(
            f"the provider ended its answer with {reason}",
            hint="retries and fallbacks follow the route's policy",
            code="stream_error" if streaming else "error_in_answer",
            upstream_status=200,
        )
    return _FINISH.get(reason, "stop") if reason else None


def whole(body: bytes, now_us: int) -> bytes:
    """An answer of Converse as a chat completion; raises ServerError where it is none."""
    try:
        answer = _whole(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _malformed(str(error)) from error
    if answer.output is None or answer.output.message is None:
        value = _decode(body)
        if isinstance(value, dict) and "message" in value:
            raise failure_within(value, streaming=False)
        raise _malformed("it has no message")
    finish = finish_of(answer.stop_reason, streaming=False)
    message, by_tool = _message(answer.output.message.content)
    if by_tool and finish == "tool_calls":
        finish = "stop"
    usage = answer.usage.inclusive() if answer.usage else None
    return _encode(completion_body(f"bedrock-{bytes_hash(body)[:24]}", "", message, finish, usage, now_us // 1_000_000))


def _message(content: list[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The message, and whether its text is the input of the tool that stands for a JSON answer."""
    text = [block["text"] for block in content if isinstance(block.get("text"), str)]
    tools = [block["toolUse"] for block in content if isinstance(block.get("toolUse"), dict)]
    thoughts = [block["reasoningContent"] for block in content if isinstance(block.get("reasoningContent"), dict)]
    out: dict[str, Any] = {"content": "".join(text) if text or not tools else None}
    if thoughts:
        blocks = [_thinking(thought) for thought in thoughts]
        out["reasoning_content"] = "".join(block.get("thinking", "") for block in blocks)
        out["thinking_blocks"] = blocks
    if tools and tools[0].get("name") == JSON_TOOL:
        return out | {"content": _encode(tools[0].get("input") or {}).decode()}, True
    if tools:
        out["tool_calls"] = [
            {
                "id": tool.get("toolUseId") or "",
                "type": "function",
                "function": {"name": tool.get("name") or "", "arguments": _encode(tool.get("input") or {}).decode()},
            }
            for tool in tools
        ]
    return out, False


def _thinking(thought: dict[str, Any]) -> dict[str, Any]:
    said = thought.get("reasoningText")
    if isinstance(said, dict):
        return {"type": "thinking", "thinking": said.get("text") or "", "signature": said.get("signature") or ""}
    return {"type": "redacted_thinking", "data": thought.get("redactedContent") or ""}


def _malformed(why: str) -> ServerError:
    return ServerError(
        f"the provider's answer is not one of Converse: {why}",
        hint="see the record's attempts; retries and fallbacks follow the route's policy",
        code="malformed_response",
        upstream_status=200,
    )


class ConverseTranslator:
    """A stream of ConverseStream → chat chunks. See `Translator`."""

    def __init__(self, name: str, now_us: int) -> None:
        self._chunks = Chunks(now_us)
        self._chunks.name = name
        self._splitter = Splitter()
        self._calls: dict[int, int] = {}  # block → tool call; -1: the tool whose input is the answer
        self._thoughts: dict[int, dict[str, Any]] = {}
        self._stopped = False
        self._ended = False

    def split(self, data: bytes) -> Iterator[Message]:
        """Whole messages."""
        return self._splitter.take(data)

    def event(self, message: Message) -> bytes:
        """Chat events, or nothing; raises what an exception stands for."""
        kind = message.headers.get(":message-type", "event")
        try:
            value = _decode(message.payload) if message.payload else {}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServerError(f"the provider sent an unreadable event: {error}", code="malformed_stream") from error
        if kind != "event":
            name = message.headers.get(":exception-type") or message.headers.get(":error-code", "")
            said = message.headers.get(":error-message") or (value.get("message") if isinstance(value, dict) else "")
            raise failure_within({"error": {"type": name, "message": said or name}}, streaming=True)
        if not isinstance(value, dict):
            return b""
        match message.headers.get(":event-type"):
            case "messageStart":
                return self._chunks.delta({"content": ""})
            case "contentBlockStart":
                return self._start(value)
            case "contentBlockDelta":
                return self._delta(value)
            case "contentBlockStop":
                thought = self._thoughts.pop(_index(value), None)
                return self._chunks.delta({"thinking_blocks": [thought]}) if thought else b""
            case "messageStop":
                return self._stop(value)
            case "metadata" if self._stopped:
                self._ended = True
                usage = _whole(message.payload).usage
                return self._chunks.usage(usage.inclusive() if usage else None) + DONE
        return b""

    def end(self) -> bytes:
        """[DONE] where only the metadata are missing."""
        return DONE if self._stopped and not self._ended and not self._splitter.pending else b""

    def _start(self, value: dict[str, Any]) -> bytes:
        tool = (value.get("start") or {}).get("toolUse")
        if not isinstance(tool, dict):
            return b""
        if tool.get("name") == JSON_TOOL:
            self._calls[_index(value)] = -1
            return b""
        at = self._calls[_index(value)] = len(self._calls)
        return self._chunks.call(at, tool.get("name") or "", tool.get("toolUseId") or "")

    def _delta(self, value: dict[str, Any]) -> bytes:
        delta, index = value.get("delta") or {}, _index(value)
        if isinstance(text := delta.get("text"), str) and text:
            return self._chunks.delta({"content": text})
        if isinstance(tool := delta.get("toolUse"), dict) and tool.get("input"):
            at = self._calls.get(index, -1)
            return (
                self._chunks.delta({"content": tool["input"]}) if at < 0 else self._chunks.arguments(at, tool["input"])
            )
        if isinstance(thought := delta.get("reasoningContent"), dict):
            return self._think(index, thought)
        return b""

    def _think(self, index: int, thought: dict[str, Any]) -> bytes:
        if "redactedContent" in thought:
            self._thoughts[index] = {"type": "redacted_thinking", "data": thought["redactedContent"]}
            return b""
        kept = self._thoughts.setdefault(index, {"type": "thinking", "thinking": "", "signature": ""})
        kept["signature"] += thought.get("signature") or ""
        text = thought.get("text") or ""
        kept["thinking"] += text
        return self._chunks.delta({"reasoning_content": text}) if text else b""

    def _stop(self, value: dict[str, Any]) -> bytes:
        finish = finish_of(value.get("stopReason"), streaming=True)
        if finish is None:
            return b""
        self._stopped = True
        if finish == "tool_calls" and -1 in self._calls.values():
            finish = "stop"
        return self._chunks.delta({}, finish)


def _index(value: dict[str, Any]) -> int:
    found = value.get("contentBlockIndex")
    return found if isinstance(found, int) else 0
