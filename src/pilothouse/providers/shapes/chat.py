"""OpenAI's dialects: chat completions, completions, embeddings, moderations, and whatever else stands under `/v1`."""

import array
import base64
import hashlib
from typing import Any

from pilothouse.providers.script import Rule
from pilothouse.providers.shapes.shape import CREATED, Failure, Said, Sse, encode, inputs, sse

_REFUSED: dict[str, tuple[int, str, str | None, str | None]] = {  # status, message, type, code
    "context_window": (
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "invalid_request_error",
        "context_length_exceeded",
    ),
    "content_filter": (
        400,
        "The response was filtered due to the prompt triggering the content management policy.",
        None,
        "content_filter",
    ),
    "overloaded": (503, "The engine is currently overloaded, please try again later", "server_error", None),
    "rate_limit": (429, "Rate limit reached for requests", "requests", "rate_limit_exceeded"),
    "quota": (
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "credentials": (401, "Incorrect API key provided", "invalid_request_error", "invalid_api_key"),
}


def openai_failure(rule: Rule) -> Failure:
    """An error of the OpenAI APIs."""
    if rule.refuse is None:
        status = rule.status if rule.status != 200 else 500
        return Failure(status, {"error": {"message": rule.error, "type": "scripted"}})
    status, message, kind, code = _REFUSED[rule.refuse]
    return Failure(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})


class OpenAI(Sse):
    """What the OpenAI dialects have in common."""

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:  # noqa: ARG002  # Gemini's and Bedrock's say the model
        """As it is."""
        return body

    def failure(self, rule: Rule) -> Failure:
        """See above."""
        return openai_failure(rule)

    def error_event(self, rule: Rule) -> bytes:
        """An error object as an event."""
        if rule.refuse is None:
            return sse({"error": {"message": "overloaded", "type": "server_error"}})
        return sse(self.failure(rule).body)


class Chat(OpenAI):
    """`chat/completions`."""

    def whole(self, said: Said) -> Any:
        """A completion."""
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
        if said.rule.thinking:
            message["reasoning_content"] = said.rule.thinking
        if said.rule.tool_calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{i}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": encode(call.arguments).decode()},
                }
                for i, call in enumerate(said.rule.tool_calls)
            ]
        choice = {"index": 0, "message": message, "finish_reason": said.finish or None}
        body = self._head(said, "chat.completion") | {"choices": [choice]}
        return body | ({"usage": chat_usage(said)} if said.counts is not None else {})

    def events(self, said: Said) -> list[bytes]:
        """Chunks."""
        head = self._head(said, "chat.completion.chunk")

        def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
            return sse(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        out = [event({"role": "assistant", "content": ""})]
        out += [event({"reasoning_content": piece}) for piece in said.pieces(said.rule.thinking or "")]
        out += [event({"content": piece}) for piece in said.pieces(said.text)]
        for i, call in enumerate(said.rule.tool_calls):
            begun = {
                "index": i,
                "id": f"call_{i}",
                "type": "function",
                "function": {"name": call.name, "arguments": ""},
            }
            out.append(event({"tool_calls": [begun]}))
            for piece in said.pieces(encode(call.arguments).decode()):
                out.append(event({"tool_calls": [{"index": i, "function": {"arguments": piece}}]}))
        if said.finish:
            out.append(event({}, said.finish))
        options = said.body.get("stream_options") or {}
        if options.get("include_usage") and said.counts is not None:
            out.append(sse(head | {"choices": [], "usage": chat_usage(said)}))
        if said.rule.fault != "no_done":
            out.append(b"data: [DONE]\n\n")
        return out

    def _head(self, said: Said, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{said.serial}",
            "created": CREATED,
            "model": said.model,
            "system_fingerprint": said.rule.fingerprint,
            "object": kind,
        }


def chat_usage(said: Said) -> dict[str, Any]:
    """Inclusive totals."""
    counts = said.counts
    if counts is None:
        return {}
    read: dict[str, int] = {"cached_tokens": counts.cached}
    if counts.cache_write:
        read["cache_write_tokens"] = counts.cache_write
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
        "prompt_tokens_details": read,
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    }


class Completions(OpenAI):
    """The old `completions`."""

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:  # noqa: ARG002
        """The prompt as a message."""
        return body | {"messages": inputs(body.get("prompt"))}

    def whole(self, said: Said) -> Any:
        """A text completion."""
        return self._body(said, said.text, said.finish or None) | {"usage": chat_usage(said)}

    def events(self, said: Said) -> list[bytes]:
        """Its chunks."""
        out = [sse(self._body(said, piece, None)) for piece in said.pieces(said.text)]
        out.append(sse(self._body(said, "", said.finish or None)))
        return out if said.rule.fault == "no_done" else [*out, b"data: [DONE]\n\n"]

    def _body(self, said: Said, text: str, finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        head = {"id": f"cmpl-{said.serial}", "object": "text_completion", "created": CREATED, "model": said.model}
        return head | {"choices": [choice]}


class Whole(OpenAI):
    """A dialect without streams."""

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:  # noqa: ARG002
        """The input as a message."""
        return {**body, "messages": inputs(body.get("input")), "stream": False}

    def events(self, said: Said) -> list[bytes]:  # noqa: ARG002
        """None."""
        return []


class Embeddings(Whole):
    """`embeddings`: unit vectors that depend on the text alone, `dimensions` long (8 where that is not said)."""

    def whole(self, said: Said) -> Any:
        """A vector for each input."""
        given = said.body.get("input")
        texts = given if isinstance(given, list) and given and isinstance(given[0], str) else [given]
        plain = said.body.get("encoding_format") != "base64"
        data = []
        for i, text in enumerate(texts):
            vector = _vector(str(text), int(said.body.get("dimensions") or 8))
            coded: Any = vector.tolist() if plain else base64.b64encode(vector.tobytes()).decode()
            data.append({"object": "embedding", "index": i, "embedding": coded})
        body: dict[str, Any] = {"object": "list", "data": data, "model": said.model}
        if said.counts is not None:
            body["usage"] = {"prompt_tokens": said.counts.prompt, "total_tokens": said.counts.prompt}
        return body


def _vector(text: str, size: int) -> "array.array[float]":
    raw = hashlib.shake_256(text.encode()).digest(size)
    values = [byte - 127.5 for byte in raw]
    length = sum(value * value for value in values) ** 0.5
    return array.array("f", [value / length for value in values])


class Moderations(Whole):
    """`moderations`: flagged where the rule's finish_reason is `content_filter`."""

    def whole(self, said: Said) -> Any:
        """One result."""
        flagged = said.rule.finish_reason == "content_filter"
        result = {
            "flagged": flagged,
            "categories": {"violence": flagged, "harassment": False},
            "category_scores": {"violence": 0.98 if flagged else 0.01, "harassment": 0.01},
        }
        return {"id": f"modr-{said.serial}", "model": said.model, "results": [result]}


class Echo(Whole):
    """Whatever else is asked under `/v1`."""

    def whole(self, said: Said) -> Any:
        """What was asked, and the rule's text."""
        body = {"id": f"echo-{said.serial}", "object": "scripted.echo", "model": said.model, "text": said.text}
        return body | ({"usage": chat_usage(said)} if said.counts is not None else {})
