"""Anthropic's dialect: messages and count_tokens."""

from typing import Any

from pilothouse.providers.script import Rule, text_of
from pilothouse.providers.shapes.shape import Failure, Said, Sse, encode, sse

_REFUSED: dict[str, tuple[int, str, str]] = {  # status, type, message
    "context_window": (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
    "content_filter": (400, "invalid_request_error", "Output blocked by content filtering policy"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "rate_limit": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "quota": (400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    "credentials": (401, "authentication_error", "invalid x-api-key"),
}
_TYPES = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}
_STOP = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class Messages(Sse):
    """`messages`."""

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:  # noqa: ARG002
        """The system text as a message of its own, the output format as chat's."""
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        messages = body.get("messages")
        out = body | {"messages": [*system, *(messages if isinstance(messages, list) else [])]}
        config = body.get("output_config") or {}
        return out | ({"response_format": config["format"]} if isinstance(config.get("format"), dict) else {})

    def whole(self, said: Said) -> Any:
        """A message."""
        head = self._head(said)
        return head | {"content": self._blocks(said), "stop_reason": self._stop(said), "usage": _usage(said)}

    def events(self, said: Said) -> list[bytes]:
        """Message start, blocks, message delta, message stop; with a ping."""
        usage = _usage(said)
        start = self._head(said) | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
        out = [sse({"type": "message_start", "message": start}, "message_start"), sse({"type": "ping"}, "ping")]
        for index, block in enumerate(self._blocks(said)):
            out += self._block_events(said, index, block)
        delta = {"stop_reason": self._stop(said), "stop_sequence": None}
        last = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
        out.append(sse(last, "message_delta"))
        if said.rule.fault != "no_done":
            out.append(sse({"type": "message_stop"}, "message_stop"))
        return out

    def _block_events(self, said: Said, index: int, block: dict[str, Any]) -> list[bytes]:
        kind = block["type"]
        if kind == "thinking":
            begun: dict[str, Any] = {"type": kind, "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in said.pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        elif kind == "tool_use":
            begun = block | {"input": {}}
            pieces = said.pieces(encode(block["input"]).decode())
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        else:
            begun = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in said.pieces(block["text"])]
        name = "content_block_delta"
        out = [sse({"type": "content_block_start", "index": index, "content_block": begun}, "content_block_start")]
        out += [sse({"type": name, "index": index, "delta": delta}, name) for delta in deltas]
        return [*out, sse({"type": "content_block_stop", "index": index}, "content_block_stop")]

    def failure(self, rule: Rule) -> Failure:
        """An error of the API."""
        if rule.refuse is None:
            status = rule.status if rule.status != 200 else 500
            kind, message = _TYPES.get(status, "api_error"), rule.error
        else:
            status, kind, message = _REFUSED[rule.refuse]
        return Failure(status, {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})

    def error_event(self, rule: Rule) -> bytes:
        """`event: error`."""
        if rule.refuse is None:
            return sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "error")
        return sse(self.failure(rule).body, "error")

    def _head(self, said: Said) -> dict[str, Any]:
        return {
            "id": f"msg_{said.serial}",
            "type": "message",
            "role": "assistant",
            "model": said.model,
            "stop_sequence": None,
        }

    def _stop(self, said: Said) -> str | None:
        return _STOP.get(said.finish, said.finish) or None

    def _blocks(self, said: Said) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        if said.rule.thinking:
            out.append({"type": "thinking", "thinking": said.rule.thinking, "signature": "c2lnbmVk"})
        if said.text:
            out.append({"type": "text", "text": said.text})
        for i, call in enumerate(said.rule.tool_calls):
            out.append({"type": "tool_use", "id": f"toolu_{i}", "name": call.name, "input": call.arguments})
        return out


def _usage(said: Said) -> dict[str, Any]:
    """Disjoint counts; zeros where there are none, since the dialect demands numbers."""
    counts = said.counts
    if counts is None:
        return {"input_tokens": 0, "output_tokens": 0}
    out: dict[str, Any] = {
        "input_tokens": counts.uncached,
        "cache_creation_input_tokens": counts.cache_write,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.completion,
    }
    if counts.cache_write:
        out["cache_creation"] = {"ephemeral_5m_input_tokens": counts.cache_write, "ephemeral_1h_input_tokens": 0}
    if counts.reasoning:
        out["output_tokens_details"] = {"thinking_tokens": counts.reasoning}
    return out


class CountTokens(Messages):
    """`messages/count_tokens`."""

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:
        """As messages, never streamed."""
        return super().asked(body, path) | {"stream": False}

    def whole(self, said: Said) -> Any:
        """A quarter of the characters."""
        if said.rule.usage is not None and said.counts is not None:
            return {"input_tokens": said.counts.prompt}
        text = "".join(text_of(m.get("content")) for m in said.body.get("messages") or [] if isinstance(m, dict))
        return {"input_tokens": (len(text) + len(text_of(said.body.get("system")))) // 4 + 4}
