"""A chat request as a request for Bedrock's Converse, by way of Anthropic's messages, whose blocks it resembles."""

import re
from typing import Any

from pilothouse.providers.anthropic.request import in_words, to_messages, unsayable

_ANTHROPIC = re.compile(r"(^|[./])(anthropic|claude)")
_FORCED = re.compile(r"(^|[./])(anthropic|claude|amazon\.nova)")  # models that can be made to call one tool
_KNOB = ("top_k", "thinking", "output_config")  # fields of Anthropic's own, which Converse passes on


def to_converse(body: dict[str, Any]) -> dict[str, Any]:
    """The body for `converse` and `converse-stream`; raises BadRequest where it cannot be said."""
    model = str(body.get("model", ""))
    said = to_messages(_adapted(body, model))
    out: dict[str, Any] = {"messages": [_turn(turn) for turn in said["messages"]]}
    system = said.get("system")
    if system:
        out["system"] = _blocks([{"type": "text", "text": system}] if isinstance(system, str) else system)
    inference = {"maxTokens": said["max_tokens"]} if _limited(body) or _ANTHROPIC.search(model) else {}
    for name, theirs in (("temperature", "temperature"), ("top_p", "topP"), ("stop_sequences", "stopSequences")):
        if name in said:
            inference[theirs] = said[name]
    if inference:
        out["inferenceConfig"] = inference
    if tools := _tools(said, out["messages"]):
        out["toolConfig"] = tools
    extra = {name: said[name] for name in _KNOB if name in said}
    if extra and _ANTHROPIC.search(model):
        out["additionalModelRequestFields"] = extra
    if isinstance(guard := body.get("guardrailConfig"), dict):
        out["guardrailConfig"] = guard
    return out


def _limited(body: dict[str, Any]) -> bool:
    return bool(body.get("max_completion_tokens") or body.get("max_tokens"))


def _adapted(body: dict[str, Any], model: str) -> dict[str, Any]:
    """Without what only Anthropic's own API takes: its output format, and thinking for other makers' models."""
    out = dict(body)
    if not _ANTHROPIC.search(model):
        for name in ("reasoning_effort", "thinking"):
            out.pop(name, None)
    wanted = out.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        declared = dict(wanted.get("json_schema") or {})
        declared.pop("strict", None)
        out["response_format"] = {"type": "json_schema", "json_schema": declared}
        if not _FORCED.search(model):
            told = {"role": "system", "content": in_words(declared.get("schema") or {"type": "object"})}
            out["messages"] = [*out["messages"], told]
            out.pop("response_format")
    return out


def _turn(turn: dict[str, Any]) -> dict[str, Any]:
    return {"role": turn["role"], "content": _blocks(turn["content"])}


def _blocks(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for block in content:
        out.append(_block(block))
        if block.get("cache_control"):
            out.append(_cache_point(block["cache_control"]))
    return out


def _cache_point(control: Any) -> dict[str, Any]:
    hour = isinstance(control, dict) and control.get("ttl") == "1h"
    return {"cachePoint": {"type": "default"} | ({"ttl": "1h"} if hour else {})}


def _block(block: dict[str, Any]) -> dict[str, Any]:
    match block["type"]:
        case "text":
            return {"text": block["text"]}
        case "image":
            kind, data = _inline(block)
            return {"image": {"format": kind.partition("/")[2], "source": {"bytes": data}}}
        case "document":
            kind, data = _inline(block)
            name = re.sub(r"[^\w ()\[\]-]+", "-", str(block.get("title") or "document"))
            made = kind.partition("/")[2]
            return {"document": {"format": {"plain": "txt"}.get(made, made), "name": name, "source": {"bytes": data}}}
        case "tool_use":
            return {"toolUse": {"toolUseId": block["id"], "name": block["name"], "input": block["input"]}}
        case "tool_result":
            return {"toolResult": _result(block)}
        case "thinking":
            thought = {"text": block.get("thinking", ""), "signature": block.get("signature", "")}
            return {"reasoningContent": {"reasoningText": thought}}
        case "redacted_thinking":
            return {"reasoningContent": {"redactedContent": block.get("data", "")}}
    raise unsayable(f"a content block of type “{block['type']}”")


def _inline(block: dict[str, Any]) -> tuple[str, str]:
    source = block.get("source") or {}
    if source.get("type") != "base64":
        raise unsayable("an image or a file by its address", hint="send it as a data URL")
    return str(source.get("media_type", "")), str(source.get("data", ""))


def _result(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content") or ""
    made = [{"text": content}] if isinstance(content, str) else _blocks(content)
    out: dict[str, Any] = {"toolUseId": block["tool_use_id"], "content": made}
    return out | ({"status": "error"} if block.get("is_error") else {})


def _tools(said: dict[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    choice = said.get("tool_choice") or {}
    if choice.get("type") == "none":
        if any("toolUse" in block or "toolResult" in block for turn in messages for block in turn["content"]):
            raise unsayable("`tool_choice: none` after tool calls")
        return {}
    tools: list[dict[str, Any]] = []
    for tool in said.get("tools") or []:
        tools.append({"toolSpec": _spec(tool)})
        if tool.get("cache_control"):
            tools.append(_cache_point(tool["cache_control"]))
    if not tools:
        return {}
    out: dict[str, Any] = {"tools": tools}
    if choice.get("type") == "any":
        out["toolChoice"] = {"any": {}}
    elif choice.get("type") == "tool":
        out["toolChoice"] = {"tool": {"name": choice["name"]}}
    return out


def _spec(tool: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": tool["name"], "inputSchema": {"json": tool["input_schema"]}}
    return spec | ({"description": tool["description"]} if tool.get("description") else {})
