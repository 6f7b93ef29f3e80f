"""Gemini's answers as chat completions, whole and streaming.

Its streams have no end marker: one is complete when every candidate has its finishReason and the connection ends
well. A prompt that Gemini blocks is the error ContentFilter; an answer that it breaks off ends with `content_filter`.
"""

from typing import Any, NoReturn

import msgspec

from pilothouse.domain.errors import ContentFilter, ServerError
from pilothouse.providers.failures import failure_within
from pilothouse.providers.openai import DONE
from pilothouse.providers.translated import SseTranslator, summed
from pilothouse.providers.usage import InputDetails, OutputDetails, Usage

_FINISH = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "LANGUAGE": "content_filter",
}
_encode = msgspec.json.Encoder().encode


class _Modality(msgspec.Struct):
    modality: str = ""
    token_count: int | None = msgspec.field(default=None, name="tokenCount")


class GeminiUsage(msgspec.Struct, rename="camel"):
    """What Gemini counted: cached tokens within the prompt's, thoughts beside the candidates'."""

    prompt_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Modality] = []
    candidates_tokens_details: list[_Modality] = []

    def inclusive(self) -> Usage | None:
        """As chat counts; None where Gemini counted nothing."""
        if self.prompt_token_count is None:
            return None
        prompt = self.prompt_token_count + (self.tool_use_prompt_token_count or 0)
        thoughts, total = self.thoughts_token_count or 0, self.total_token_count
        visible = self.candidates_token_count
        if visible is None:
            visible = max((total or 0) - prompt - thoughts, 0)
        elif thoughts and total is not None and total == prompt + visible:
            visible = max(visible - thoughts, 0)  # the candidates' count holds the thoughts here
        read = InputDetails(self.cached_content_token_count, audio_tokens=_audio(self.prompt_tokens_details))
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=visible + thoughts,
            prompt_tokens_details=read,
            completion_tokens_details=OutputDetails(thoughts, _audio(self.candidates_tokens_details)),
        )


def _audio(counted: list[_Modality]) -> int | None:
    return sum(one.token_count or 0 for one in counted if one.modality == "AUDIO") or None


class _Content(msgspec.Struct):
    parts: list[dict[str, Any]] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str = ""
    index: int = 0


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class Response(msgspec.Struct, rename="camel"):
    """A whole answer, or one event of a stream."""

    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: GeminiUsage | None = None
    model_version: str = ""
    response_id: str = ""
    error: Any = None


_response = msgspec.json.Decoder(Response).decode


def _read(data: bytes, *, streaming: bool) -> Response:
    try:
        response = _response(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ServerError(
            f"the provider's answer is not one of generateContent: {error}",
            code="malformed_stream" if streaming else "malformed_response",
            upstream_status=200,
        ) from error
    if response.error is not None:
        raise failure_within({"error": response.error}, streaming=streaming)
    blocked = response.prompt_feedback.block_reason if response.prompt_feedback else None
    if blocked and not response.candidates:
        raise ContentFilter(
            f"the provider's content filter refused the request: {blocked}",
            hint="see the provider's policy, or add a fallback `on: [content_filter]` to the route",
            upstream_status=200,
        )
    return response


def whole(body: bytes, now_us: int) -> bytes:
    """An answer of generateContent as a chat completion; raises ServerError or ContentFilter."""
    response = _read(body, streaming=False)
    if not response.candidates:
        raise ServerError("the provider's answer has no candidates", code="malformed_response", upstream_status=200)
    choices = [_choice(candidate, response.response_id) for candidate in response.candidates]
    out: dict[str, Any] = {
        "id": response.response_id,
        "object": "chat.completion",
        "created": now_us // 1_000_000,
        "model": response.model_version,
        "choices": choices,
    }
    usage = response.usage_metadata.inclusive() if response.usage_metadata else None
    return _encode(out | ({"usage": summed(usage)} if usage is not None else {}))


def _choice(candidate: _Candidate, name: str) -> dict[str, Any]:
    text: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in (candidate.content.parts or []) if candidate.content else []:
        if isinstance(part.get("functionCall"), dict):
            calls.append(_call(part, name, len(calls)))
        elif isinstance(part.get("text"), str):
            (thoughts if part.get("thought") else text).append(part["text"])
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text) if text or not calls else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    finish = _finish(candidate, called=bool(calls), streaming=False)
    return {"index": candidate.index, "message": message, "finish_reason": finish}


def _call(part: dict[str, Any], name: str, index: int) -> dict[str, Any]:
    asked = part["functionCall"]
    call: dict[str, Any] = {
        "id": asked.get("id") or f"call_{name or 'g'}_{index}",
        "type": "function",
        "function": {"name": asked.get("name") or "", "arguments": _encode(asked.get("args") or {}).decode()},
    }
    signature = part.get("thoughtSignature")
    return call | ({"extra_content": {"google": {"thought_signature": signature}}} if signature else {})


def _finish(candidate: _Candidate, *, called: bool, streaming: bool) -> str | None:
    """Why it ended, in chat's words; raises ServerError where Gemini gave up (MALFORMED_FUNCTION_CALL, OTHER …)."""
    reason = candidate.finish_reason
    if not reason:
        return None
    finish = _FINISH.get(reason)
    if finish is None:
        _gave_up(reason, candidate.finish_message, streaming=streaming)
    return "tool_calls" if called and finish == "stop" else finish


def _gave_up(reason: str, message: str, *, streaming: bool) -> NoReturn:
    raise ServerError(
        f"the provider ended its answer with {reason}{f': {message}' if message else ''}",
        hint="retries and fallbacks follow the route's policy",
        code="stream_error" if streaming else "error_in_answer",
        upstream_status=200,
    )


class GeminiTranslator(SseTranslator):
    """A stream of generateContent → chat chunks. See `Translator`."""

    def __init__(self, now_us: int) -> None:
        super().__init__(now_us)
        self._usage: Usage | None = None
        self._calls: dict[int, int] = {}  # candidate → its tool calls so far
        self._open: dict[int, bool] = {}  # candidate → whether it goes on

    def event(self, event: bytes) -> bytes:
        """Chat events, or nothing."""
        response = _read(event, streaming=True)
        self.chunks.name = self.chunks.name or response.response_id
        self.chunks.model = self.chunks.model or response.model_version
        if response.usage_metadata is not None:
            self._usage = response.usage_metadata.inclusive() or self._usage
        return b"".join(self._candidate(candidate) for candidate in response.candidates)

    def end(self) -> bytes:
        """Usage and [DONE] where every candidate is finished."""
        out = self.last()
        if not self._open or any(self._open.values()):
            return out
        return out + self.chunks.usage(self._usage) + DONE

    def _candidate(self, candidate: _Candidate) -> bytes:
        index = candidate.index
        out: list[bytes] = []
        for part in (candidate.content.parts or []) if candidate.content else []:
            if isinstance(part.get("functionCall"), dict):
                at = self._calls[index] = self._calls.get(index, -1) + 1
                call = {"index": at} | _call(part, self.chunks.name, at)
                out.append(self.chunks.delta({"tool_calls": [call]}, index=index))
            elif isinstance(text := part.get("text"), str) and text:
                name = "reasoning_content" if part.get("thought") else "content"
                out.append(self.chunks.delta({name: text}, index=index))
        finish = _finish(candidate, called=index in self._calls, streaming=True)
        self._open[index] = finish is None and self._open.get(index, True)
        if finish is not None:
            out.append(self.chunks.delta({}, finish, index))
        return b"".join(out)
