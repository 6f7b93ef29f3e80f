"""OpenAI's responses dialect."""

from typing import Any

from pilothouse.providers.script import Rule
from pilothouse.providers.shapes.chat import OpenAI
from pilothouse.providers.shapes.shape import CREATED, Said, encode, inputs, sse


class Responses(OpenAI):
    """`responses`."""

    def asked(self, body: dict[str, Any], path: str) -> dict[str, Any]:  # noqa: ARG002
        """The input as messages, the text format as chat's."""
        system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
        shape = (body.get("text") or {}).get("format")
        out = body | {"messages": [*system, *inputs(body.get("input"))]}
        return out | ({"response_format": shape} if isinstance(shape, dict) else {})

    def whole(self, said: Said) -> Any:
        """A response."""
        return self._response(said, self._items(said), self._status(said))

    def events(self, said: Said) -> list[bytes]:
        """Created, items with their deltas, completed."""
        values: list[dict[str, Any]] = [
            {"type": "response.created", "response": self._response(said, [], "in_progress")},
            {"type": "response.in_progress", "response": self._response(said, [], "in_progress")},
        ]
        for index, item in enumerate(self._items(said)):
            values += self._item_events(said, index, item)
        if said.rule.fault not in ("no_done", "no_finish"):  # its end marker says why it ended
            status = self._status(said)
            kind = "response.incomplete" if status == "incomplete" else "response.completed"
            values.append({"type": kind, "response": self._response(said, self._items(said), status)})
        return [sse(value | {"sequence_number": n}, value["type"]) for n, value in enumerate(values)]

    def _item_events(self, said: Said, index: int, item: dict[str, Any]) -> list[dict[str, Any]]:
        at = {"output_index": index, "item_id": item["id"]}
        kind = item["type"]
        empty: dict[str, Any] = {"content": []} if kind == "message" else {}
        begun = item | {"status": "in_progress"} | ({"arguments": ""} if kind == "function_call" else empty)
        out: list[dict[str, Any]] = [{"type": "response.output_item.added", "output_index": index, "item": begun}]
        if kind == "message":
            part = item["content"][0]
            inner = at | {"content_index": 0}
            out.append({"type": "response.content_part.added", **inner, "part": part | {"text": ""}})
            out += [
                {"type": "response.output_text.delta", **inner, "delta": piece, "logprobs": []}
                for piece in said.pieces(part["text"])
            ]
            out.append({"type": "response.output_text.done", **inner, "text": part["text"], "logprobs": []})
            out.append({"type": "response.content_part.done", **inner, "part": part})
        elif kind == "function_call":
            out += [
                {"type": "response.function_call_arguments.delta", **at, "delta": piece}
                for piece in said.pieces(item["arguments"])
            ]
            done = {"arguments": item["arguments"], "name": item["name"]}
            out.append({"type": "response.function_call_arguments.done", **at, **done})
        else:
            text = item["summary"][0]["text"]
            inner = at | {"summary_index": 0}
            out += [
                {"type": "response.reasoning_summary_text.delta", **inner, "delta": piece}
                for piece in said.pieces(text)
            ]
            out.append({"type": "response.reasoning_summary_text.done", **inner, "text": text})
        out.append({"type": "response.output_item.done", "output_index": index, "item": item})
        return out

    def error_event(self, rule: Rule) -> bytes:
        """`event: error`."""
        said = self.failure(rule).body["error"]
        if rule.refuse is None:
            said = {"message": "overloaded", "code": "server_error"}
        value = {"type": "error", "code": said.get("code"), "message": said["message"], "param": None}
        return sse(value | {"sequence_number": 0}, "error")

    def _items(self, said: Said) -> list[dict[str, Any]]:
        n = said.serial
        out: list[dict[str, Any]] = []
        if said.rule.thinking:
            summary = [{"type": "summary_text", "text": said.rule.thinking}]
            out.append({"type": "reasoning", "id": f"rs_{n}", "summary": summary, "status": "completed"})
        if said.text or not said.rule.tool_calls:
            part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
            message = {"type": "message", "id": f"msg_{n}", "status": "completed", "role": "assistant"}
            out.append(message | {"content": [part]})
        for i, call in enumerate(said.rule.tool_calls):
            made = {"type": "function_call", "id": f"fc_{n}_{i}", "call_id": f"call_{i}", "status": "completed"}
            out.append(made | {"name": call.name, "arguments": encode(call.arguments).decode()})
        return out

    def _status(self, said: Said) -> str:
        if said.rule.fault == "no_finish":
            return "in_progress"
        return "incomplete" if said.finish in ("length", "content_filter") else "completed"

    def _response(self, said: Said, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
        asked = said.body
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(said.finish)
        return {
            "id": f"resp_{said.serial}",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": asked.get("instructions"),
            "metadata": asked.get("metadata") or {},
            "model": said.model,
            "output": output,
            "parallel_tool_calls": asked.get("parallel_tool_calls", True),
            "previous_response_id": asked.get("previous_response_id"),
            "temperature": asked.get("temperature", 1.0),
            "tool_choice": asked.get("tool_choice", "auto"),
            "tools": asked.get("tools") or [],
            "top_p": asked.get("top_p", 1.0),
            "text": asked.get("text") or {"format": {"type": "text"}},
            "usage": _usage(said) if status != "in_progress" else None,
        }


def _usage(said: Said) -> dict[str, Any] | None:
    counts = said.counts
    if counts is None:
        return None
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.completion,
    }
