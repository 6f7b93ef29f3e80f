"""An answer of any API in words, as a client that knows the API's specification reads it. Uses no code of ours."""

import json
import math
from typing import Any

_ENDINGS = {
    "chat": ("stop", "tool_calls"),
    "messages": ("end_turn", "tool_use"),
    "responses": ("completed",),
}


class Said:
    """What was read: the answer's text, its calls of tools, why it ended, its error."""

    def __init__(self) -> None:
        self.text = ""
        self.calls: dict[int, list[str]] = {}
        self.pieces = 0  # of arguments
        self.finish = ""
        self.error = ""
        self.done = False

    @property
    def all(self) -> str:
        """Text and calls."""
        return self.text + "".join(f"{name}({''.join(rest)})" for name, *rest in self.calls.values())


def answer(status: int, headers: dict[str, str], data: bytes, api: str, says: str | None) -> str:
    """`200 answer`, `200 stream: complete`, `429 rate_limit, Retry-After 7`. Asserts what the client must get."""
    if headers["content-type"].startswith("text/event-stream"):
        said, words = Said(), f"{status} stream: "
        for event in data.split(b"\n\n"):
            lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                assert not said.done and not said.error, f"an event after the end: {event!r}"
                _event(api, lines[0].removeprefix(b"data:").strip(), said)
        if said.error:
            assert not said.done
            words += f"error {said.error}"
        else:
            words += "complete" if said.done and said.finish else "NEITHER COMPLETE NOR AN ERROR"
        words += f", arguments in {said.pieces} pieces" if said.pieces else ""
    else:
        said, words = _whole(api, data), f"{status} "
        words += said.error or ("answer" if status == 200 else said.finish)
    if status == 200 and said.finish and said.finish not in _ENDINGS.get(api, (said.finish,)):
        words += f", finish {said.finish}"
    if says is not None:
        assert said.all == says, f"the client got {said.all!r}"
    if headers["x-pilothouse-cache"]:
        words += f", from the cache ({headers['x-pilothouse-cache']})"
    if headers["retry-after"]:
        words += f", Retry-After {_seconds(float(headers['retry-after']))}"
    return words


def _seconds(value: float) -> str:
    if value > 90:
        return "until the period ends"
    return f"{value:g}" if value < 8 else f"about {math.ceil(value / 30) * 30}"


def _event(api: str, data: bytes, said: Said) -> None:
    if data == b"[DONE]":
        said.done = True
        return
    value = json.loads(data)
    kind = value.get("type", "")
    if kind == "error" or (api == "chat" and "error" in value):
        error = value.get("error") or value
        said.error = error.get("code") or error.get("type")
    elif kind == "response.failed":
        said.error = value["response"]["error"]["code"]
    elif api == "chat":
        _chunk(value, said)
    elif api == "messages":
        _message_event(kind, value, said)
    else:
        _response_event(kind, value, said)


def _chunk(value: dict[str, Any], said: Said) -> None:
    for choice in value["choices"]:
        delta = choice.get("delta") or {}
        said.text += delta.get("content") or ""
        said.finish = choice.get("finish_reason") or said.finish
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            arguments = function.get("arguments") or ""
            said.calls.setdefault(call["index"], [function.get("name", "?")]).append(arguments)
            said.pieces += bool(arguments)


def _message_event(kind: str, value: dict[str, Any], said: Said) -> None:
    if kind == "content_block_start" and value["content_block"]["type"] == "tool_use":
        said.calls[value["index"]] = [value["content_block"]["name"]]
    elif kind == "content_block_delta":
        delta = value["delta"]
        said.text += delta.get("text", "")
        if delta["type"] == "input_json_delta":
            said.calls[value["index"]].append(delta["partial_json"])
            said.pieces += bool(delta["partial_json"])
    elif kind == "message_delta":
        said.finish = value["delta"].get("stop_reason") or ""
    elif kind == "message_stop":
        said.done = True


def _response_event(kind: str, value: dict[str, Any], said: Said) -> None:
    if kind == "response.output_text.delta":
        said.text += value["delta"]
    elif kind == "response.output_item.added" and value["item"]["type"] == "function_call":
        said.calls[value["output_index"]] = [value["item"]["name"]]
    elif kind == "response.function_call_arguments.delta":
        said.calls[value["output_index"]].append(value["delta"])
        said.pieces += 1
    elif kind in ("response.completed", "response.incomplete"):
        said.done, said.finish = True, value["response"]["status"]


def _whole(api: str, data: bytes) -> Said:
    said = Said()
    value = json.loads(data)
    if value.get("error"):
        said.error = value["error"].get("code") or value["error"]["type"]
    elif api == "chat" and "choices" in value:
        _chunk({"choices": [c | {"delta": _indexed(c["message"])} for c in value["choices"]]}, said)
        said.pieces = 0
    elif api == "messages" and "content" in value:
        said.finish = value["stop_reason"]
        for i, block in enumerate(value["content"]):
            said.text += block.get("text", "")
            if block["type"] == "tool_use":
                said.calls[i] = [block["name"], json.dumps(block["input"], separators=(",", ":"))]
    elif api == "responses" and "output" in value:
        said.finish = value["status"]
        for i, item in enumerate(value["output"]):
            said.text += "".join(part.get("text", "") for part in item.get("content") or ())
            if item["type"] == "function_call":
                said.calls[i] = [item["name"], item["arguments"]]
    else:
        said.finish = value.get("status", "")  # of an answer that comes later
        said.text = value.get("text", "")
    return said


def _indexed(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    return message | {"tool_calls": [{"index": i} | c for i, c in enumerate(calls)]} if calls else message
