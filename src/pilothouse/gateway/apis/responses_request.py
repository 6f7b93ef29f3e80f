"""A request of OpenAI's responses, said in chat. Raises BadRequest (`unsupported_parameter`) for what cannot be.

Left out because they change no answer's meaning: `store` and `metadata` (chat stores nothing; our record keeps the
labels), reasoning of earlier answers and its summaries, `include: [reasoning.encrypted_content]`.
"""

from typing import Any

from pilothouse.gateway.apis.unsaid import only, unsaid
from pilothouse.gateway.parse import bad

_KNOWN = frozenset(
    (
        "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
        "max_output_tokens", "temperature", "top_p", "stream", "stream_options", "metadata", "user", "store", "include",
        "truncation", "safety_identifier", "prompt_cache_key", "service_tier", "prompt", "top_logprobs",
    )
)  # fmt: skip
_SAME = (
    "temperature", "top_p", "stream", "user", "parallel_tool_calls", "safety_identifier", "prompt_cache_key",
    "service_tier", "prompt",
)  # fmt: skip
_DROPPED = frozenset(("reasoning.encrypted_content",))
_TEXTS = frozenset(("input_text", "output_text", "text"))
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
Json = dict[str, Any]


def to_chat(body: Json) -> Json:
    """The body in chat form."""
    _refuse(body)
    chat: Json = {"model": body.get("model"), "messages": _messages(body)}
    chat |= {name: body[name] for name in _SAME if body.get(name) is not None}
    if body.get("max_output_tokens") is not None:
        chat["max_completion_tokens"] = body["max_output_tokens"]
    if body.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(body["tools"])]
        if body.get("tool_choice") is not None:
            chat["tool_choice"] = _tool_choice(body["tool_choice"])
    if effort := (body.get("reasoning") or {}).get("effort"):
        chat["reasoning_effort"] = effort
    text: Json = body.get("text") or {}
    if text.get("verbosity"):
        chat["verbosity"] = text["verbosity"]
    if text.get("format"):
        chat["response_format"] = _format(text["format"])
    return chat


def _refuse(body: Json) -> None:
    only("responses", body, _KNOWN)
    if body.get("truncation") not in (None, "disabled"):
        raise unsaid("responses", "truncation")
    if body.get("top_logprobs"):
        raise unsaid("responses", "top_logprobs")
    for i, name in enumerate(body.get("include") or ()):
        if name not in _DROPPED:
            raise unsaid("responses", f"include[{i}]", str(name))


def _messages(body: Json) -> list[Json]:
    said = body.get("instructions")
    out: list[Json] = [{"role": "system", "content": said}] if said else []
    given = body.get("input")
    if isinstance(given, str):
        return [*out, {"role": "user", "content": given}]
    for i, item in enumerate(given or ()):
        _item(item, f"input[{i}]", out)
    return out


def _item(item: Json, where: str, out: list[Json]) -> None:
    match item.get("type") or ("message" if "role" in item else None):
        case "message":
            out.append(_message(item, where))
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if not out or out[-1]["role"] != "assistant":
                out.append({"role": "assistant", "content": None})
            out[-1].setdefault("tool_calls", []).append(call)
        case "function_call_output":
            said = _content(item.get("output"), f"{where}.output", plain=True)
            out.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": said})
        case "reasoning":
            pass  # chat has no place for thoughts of earlier answers
        case other:
            raise unsaid("responses", where, f"an item of type {other}")


def _message(item: Json, where: str) -> Json:
    role = _ROLES.get(str(item.get("role")))
    if role is None:
        raise bad("a message's role is missing or unknown", f"{where}.role", f"use one of {sorted(_ROLES)}")
    return {"role": role, "content": _content(item.get("content"), f"{where}.content", plain=role != "user")}


def _content(content: Any, where: str, *, plain: bool) -> str | list[Json]:
    """Parts in chat's shape; one part of text alone as a string. `plain`: nothing but text can be said there."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise bad("a message's content is neither text nor parts", where, "send a string, or parts")
    parts = [_part(part, f"{where}[{i}]", plain=plain) for i, part in enumerate(content)]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _part(part: Any, where: str, *, plain: bool) -> Json:
    if not isinstance(part, dict):
        raise bad("a part is not an object", where, "send {type, …}")
    kind = part.get("type")
    if kind in _TEXTS:
        return {"type": "text", "text": part.get("text") or ""}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal") or ""}
    if not plain and kind == "input_image" and part.get("image_url"):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"]} | detail}
    if not plain and kind == "input_file" and part.get("file_data"):
        return {"type": "file", "file": {k: part[k] for k in ("filename", "file_data") if part.get(k)}}
    if not plain and kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise unsaid("responses", where, f"a part of type {kind}")


def _tool(tool: Any, where: str) -> Json:
    kind = tool.get("type") if isinstance(tool, dict) else tool
    if kind != "function":
        raise unsaid("responses", where, f"the provider's own tool {kind}")
    function = {k: tool[k] for k in ("name", "description", "parameters", "strict") if tool.get(k) is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    raise unsaid("responses", "tool_choice", f"of type {choice.get('type') if isinstance(choice, dict) else choice}")


def _format(shape: Json) -> Json:
    if shape.get("type") != "json_schema":
        return {"type": shape.get("type")}
    names = ("name", "description", "schema", "strict")
    return {"type": "json_schema", "json_schema": {k: shape[k] for k in names if shape.get(k) is not None}}
