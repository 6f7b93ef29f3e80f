"""A request of Anthropic's messages, said in chat. Raises BadRequest (`unsupported_parameter`) for what cannot be.

Left out because they change no answer's meaning: `cache_control`, `service_tier`, thoughts of earlier answers (chat has
no place for them), whether a tool's result is an error (its text says so).
"""

from typing import Any

import msgspec

from pilothouse.gateway.apis.unsaid import only, unsaid
from pilothouse.gateway.parse import bad

_KNOWN = frozenset(
    (
        "model", "messages", "max_tokens", "system", "stop_sequences", "stream", "temperature", "top_p", "tools",
        "tool_choice", "metadata", "thinking", "output_config", "service_tier", "cache_control",
    )
)  # fmt: skip
_SAME = ("temperature", "top_p", "stream")
_EFFORTS = {"max": "xhigh"}
_encode = msgspec.json.Encoder().encode
Json = dict[str, Any]


def to_chat(body: Json) -> Json:
    """The body in chat form."""
    only("messages", body, _KNOWN)
    chat: Json = {"model": body["model"], "messages": _system(body.get("system")) + _messages(body["messages"])}
    chat |= {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("max_tokens") is not None:
        chat["max_completion_tokens"] = body["max_tokens"]
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(body["tools"])]
        chat |= _tool_choice(body.get("tool_choice"))
    user = (body.get("metadata") or {}).get("user_id")
    if user:
        chat["user"] = user
    return chat | _thinking(body.get("thinking") or {}) | _output(body.get("output_config") or {})


def _system(system: Any) -> list[Json]:
    if not system:
        return []
    if isinstance(system, str):
        return [{"role": "system", "content": system}]
    text = "\n\n".join(_text(block, f"system[{i}]") for i, block in enumerate(system))
    return [{"role": "system", "content": text}]


def _messages(messages: list[Json]) -> list[Json]:
    out: list[Json] = []
    for i, message in enumerate(messages):
        where, content = f"messages[{i}]", message.get("content")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise bad("a message's content is neither text nor blocks", f"{where}.content", "send a string, or blocks")
        if message.get("role") == "user":
            out += _user(blocks, where)
        elif message.get("role") == "assistant":
            out.append(_assistant(blocks, where))
        else:
            raise bad("a message's role is neither user nor assistant", f"{where}.role", "put it in `system`")
    if out and out[-1]["role"] == "assistant":
        raise unsaid("messages", f"messages[{len(messages) - 1}]", "chat continues no beginning of an answer")
    return out


def _user(blocks: list[Json], where: str) -> list[Json]:
    """Results of tools are messages of their own in chat; what stands between them is the user's."""
    out: list[Json] = []
    parts: list[Json] = []

    def flush() -> None:
        if parts:
            alone = len(parts) == 1 and parts[0]["type"] == "text"
            out.append({"role": "user", "content": parts[0]["text"] if alone else parts.copy()})
            parts.clear()

    for i, block in enumerate(blocks):
        at = f"{where}.content[{i}]"
        if block.get("type") == "tool_result":
            flush()
            said = _result(block.get("content"), at)
            out.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": said})
        else:
            parts.append(_part(block, at))
    flush()
    return out or [{"role": "user", "content": ""}]


def _part(block: Json, where: str) -> Json:
    source = block.get("source")
    source = source if isinstance(source, dict) else {}
    data = f"data:{source.get('media_type')};base64,{source.get('data')}"
    match block.get("type"), source.get("type"):
        case "text", _:
            return {"type": "text", "text": _text(block, where)}
        case "image", "base64":
            return {"type": "image_url", "image_url": {"url": data}}
        case "image", "url":
            return {"type": "image_url", "image_url": {"url": source.get("url")}}
        case "document", "base64":
            return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": data}}
        case "document", "text":
            return {"type": "text", "text": str(source.get("data") or "")}
    raise unsaid("messages", where, f"a block of type {block.get('type')}")


def _text(block: Any, where: str) -> str:
    if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
        raise unsaid("messages", where, "not a block of text")
    text: str = block["text"]
    return text


def _result(content: Any, where: str) -> str | list[Json]:
    if content is None or isinstance(content, str):
        return content or ""
    texts = [_text(block, f"{where}.content[{i}]") for i, block in enumerate(content)]
    return texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def _assistant(blocks: list[Json], where: str) -> Json:
    texts: list[str] = []
    calls: list[Json] = []
    for i, block in enumerate(blocks):
        kind = block.get("type")
        if kind == "tool_use":
            function = {"name": block.get("name"), "arguments": _encode(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind == "text":
            texts.append(_text(block, f"{where}.content[{i}]"))
        elif kind not in ("thinking", "redacted_thinking"):
            raise unsaid("messages", f"{where}.content[{i}]", f"a block of type {kind}")
    message: Json = {"role": "assistant", "content": "".join(texts) if texts or not calls else None}
    return message | ({"tool_calls": calls} if calls else {})


def _tool(tool: Any, where: str) -> Json:
    if not isinstance(tool, dict) or tool.get("type") not in (None, "custom"):
        kind = tool.get("type") if isinstance(tool, dict) else tool
        raise unsaid("messages", where, f"the provider's own tool {kind}")
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {"type": "object"}}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: Any) -> Json:
    if not isinstance(choice, dict):
        return {}
    said: Json = {}
    match choice.get("type"):
        case "auto" | "none":
            said["tool_choice"] = choice["type"]
        case "any":
            said["tool_choice"] = "required"
        case "tool":
            said["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
        case other:
            raise unsaid("messages", "tool_choice", f"of type {other}")
    if choice.get("disable_parallel_tool_use"):
        said["parallel_tool_calls"] = False
    return said


def _thinking(thinking: Json) -> Json:
    """A budget of thought as an effort: chat knows no budget."""
    if thinking.get("type") != "enabled":
        return {}
    budget = thinking.get("budget_tokens") or 0
    return {"reasoning_effort": "low" if budget < 4096 else "medium" if budget < 16_384 else "high"}


def _output(config: Json) -> Json:
    said: Json = {}
    if config.get("effort"):
        said["reasoning_effort"] = _EFFORTS.get(config["effort"], config["effort"])
    shape = config.get("format")
    if isinstance(shape, dict):
        if shape.get("type") != "json_schema":
            raise unsaid("messages", "output_config.format", f"of type {shape.get('type')}")
        schema = {"name": "output", "schema": shape.get("schema"), "strict": True}
        said["response_format"] = {"type": "json_schema", "json_schema": schema}
    return said
