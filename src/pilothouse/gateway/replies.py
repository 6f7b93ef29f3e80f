"""What the client reads: OpenAI's shapes for errors, static answers and streams, and our own headers."""

from typing import Any

import msgspec

from pilothouse.domain.errors import GuardrailBlocked, InvalidOutput, PilothouseError, RequestError, UpstreamError
from pilothouse.domain.record import Record
from pilothouse.gateway.types import Headers
from pilothouse.providers.openai import DONE, Completion

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
_encode = msgspec.json.Encoder().encode
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def status_of(error: PilothouseError) -> int:
    """The HTTP status that the client gets. A provider's 4xx is passed on, unless it is about our own credentials."""
    if isinstance(error, GuardrailBlocked) and error.output:
        return 422
    upstream = error.upstream_status if isinstance(error, UpstreamError) else 0
    if error.status == 400 and upstream:
        return 502 if upstream in (401, 403, 407) or not 400 <= upstream < 500 else upstream
    return error.status


def error_body(error: PilothouseError) -> bytes:
    """OpenAI's error object, with a stable `code` and a hint."""
    status = status_of(error)
    if isinstance(error, InvalidOutput):
        kind = "invalid_output_error"
    elif isinstance(error, RequestError) or 400 <= status < 500:
        kind = _TYPES.get(status, "invalid_request_error")
    else:
        kind = "upstream_error" if isinstance(error, UpstreamError) else "server_error"
    said = {
        "message": f"{error.what} — {error.hint}" if error.hint else error.what,  # SDKs show the message alone
        "type": kind,
        "param": error.where or None,
        "code": error.kind,
        "hint": error.hint or None,
    }
    return _encode({"error": said})


def error_event(error: PilothouseError) -> bytes:
    """The explicit end of a stream that broke: never followed by [DONE]."""
    return b"data: " + error_body(error) + b"\n\n"


def headers(record: Record, content_type: str) -> Headers:
    """The headers of every response. In a stream the outcome is the one so far, and the cost is not known yet."""
    release = "inline" if record.inline else ("" if record.release is None else str(record.release))
    return [
        ("content-type", content_type),
        ("x-pilothouse-request-id", record.id),
        ("x-pilothouse-release", release),
        ("x-pilothouse-outcome", record.outcome),
        ("x-pilothouse-attempts", str(len(record.attempts))),
        ("x-pilothouse-cost-usd", "unknown" if record.cost_usd is None else f"{record.cost_usd:.9f}"),
    ]


def static_body(text: str, record: Record) -> bytes:
    """A static answer in the form of a completion. It used no tokens."""
    return _encode(
        {
            "id": f"chatcmpl-{record.id}",
            "object": "chat.completion",
            "created": record.ts_us // 1_000_000,
            "model": record.route,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }
    )


def as_stream(body: bytes, *, usage: bool) -> bytes:
    """A whole completion as the events of a stream: for answers that had to be checked as a whole first."""
    whole: dict[str, Any] = msgspec.json.decode(body)
    head = {k: whole[k] for k in ("id", "created", "model", "system_fingerprint") if whole.get(k) is not None}
    head["object"] = "chat.completion.chunk"
    out: list[bytes] = []

    def event(choices: list[Any], **more: Any) -> None:
        out.append(b"data: " + _encode(head | {"choices": choices} | more) + b"\n\n")

    for choice in whole["choices"]:
        message = choice.get("message") or {}
        delta = {k: v for k, v in message.items() if v is not None}
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": i} | call for i, call in enumerate(delta["tool_calls"])]
        index = choice.get("index", 0)
        event([{"index": index, "delta": delta, "finish_reason": None}])
        event([{"index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}])
    if usage and whole.get("usage") is not None:
        event([], usage=whole["usage"])
    return b"".join(out) + DONE


def assembled(completion: Completion) -> bytes:
    """The message of a stream as one JSON object, for the record."""
    choice = completion.choices[0] if completion.choices else None
    message = choice.message if choice else None
    kept: dict[str, Any] = {"role": "assistant", "content": message.content if message else ""}
    if message is not None:
        more = {
            "refusal": message.refusal,
            "tool_calls": message.tool_calls,
            "reasoning_content": message.reasoning_content,
        }
        kept |= {k: v for k, v in more.items() if v}
    if len(completion.choices) > 1:
        kept["alternatives"] = [c.message.content for c in completion.choices[1:] if c.message]
    return _encode(kept)
