"""A chat request as a request for Gemini's generateContent.

JSON Schemas go as they are (`responseJsonSchema`, `parametersJsonSchema`). A model's thought signatures travel in a
tool call's `extra_content.google.thought_signature`, as in Google's own OpenAI-compatible API.
"""

import mimetypes
import re
from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest
from pilothouse.providers.anthropic.request import arguments, unsayable

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*;base64,(.*)", re.DOTALL)
_THIRD = re.compile(r"gemini-([3-9]|\d\d)")  # take thinkingLevel, and demand thought signatures
_BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576}
_LEVELS = {"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}
_UNSIGNED = "skip_thought_signature_validator"  # Google's word for a call that no Gemini model made
_CONFIG = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_OWN = {"safety_settings": "safetySettings", "cached_content": "cachedContent"}


def to_contents(body: dict[str, Any]) -> dict[str, Any]:
    """The body for generateContent; raises BadRequest where it cannot be said."""
    if body.get("logprobs"):
        raise unsayable("`logprobs`")
    if "audio" in (body.get("modalities") or ()):
        raise unsayable("audio output")
    third = _THIRD.search(str(body.get("model", ""))) is not None
    system, contents = _conversation(body.get("messages") or [], third=third)
    out: dict[str, Any] = {"contents": contents}
    if system:
        out["systemInstruction"] = {"parts": system}
    _tools(body, out)
    if config := _config(body, third=third):
        out["generationConfig"] = config
    for name, theirs in _OWN.items():
        if (value := body.get(name, body.get(theirs))) is not None:
            out[theirs] = value
    return out


def _config(body: dict[str, Any], *, third: bool) -> dict[str, Any]:
    out = {theirs: body[name] for name, theirs in _CONFIG.items() if body.get(name) is not None}
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit:
        out["maxOutputTokens"] = limit
    stop = body.get("stop")
    if stop:
        out["stopSequences"] = [stop] if isinstance(stop, str) else stop
    effort = body.get("reasoning_effort")
    if isinstance(effort, str) and effort in _BUDGETS:
        out["thinkingConfig"] = {"thinkingLevel": _LEVELS[effort]} if third else {"thinkingBudget": _BUDGETS[effort]}
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind in ("json_object", "json_schema"):
        out["responseMimeType"] = "application/json"
    if isinstance(wanted, dict) and kind == "json_schema":
        out["responseJsonSchema"] = (wanted.get("json_schema") or {}).get("schema") or {"type": "object"}
    return out


def _tools(body: dict[str, Any], out: dict[str, Any]) -> None:
    declared: list[dict[str, Any]] = []
    for tool in body.get("tools") or []:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict):
            raise unsayable("a tool that is no function")
        made: dict[str, Any] = {"name": function.get("name", "")}
        if function.get("description"):
            made["description"] = function["description"]
        if function.get("parameters"):
            made["parametersJsonSchema"] = function["parameters"]
        declared.append(made)
    if not declared:
        return
    out["tools"] = [{"functionDeclarations": declared}]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name", "")
        out["toolConfig"] = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}
    elif choice in ("none", "required"):
        out["toolConfig"] = {"functionCallingConfig": {"mode": "NONE" if choice == "none" else "ANY"}}


def _conversation(messages: list[Any], *, third: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System parts, and the turns; neighbours of one role are one turn."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # tool call → the function's name, which its result must say
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            system += _parts(message.get("content"))
            continue
        if role == "assistant":
            said, parts = "model", _model(message, names, third=third)
        elif role in ("tool", "function"):
            said, parts = "user", [_result(message, names)]
        else:
            said, parts = "user", _parts(message.get("content"))
        if turns and turns[-1]["role"] == said:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": said, "parts": parts})
    return system, turns


def _model(message: dict[str, Any], names: dict[str, str], *, third: bool) -> list[dict[str, Any]]:
    parts = _parts(message.get("content"))
    for i, call in enumerate(message.get("tool_calls") or []):
        function = call.get("function") or {}
        name = str(function.get("name") or "")
        names[str(call.get("id") or "")] = name
        part: dict[str, Any] = {"functionCall": {"name": name, "args": arguments(function.get("arguments"))}}
        google = (call.get("extra_content") or {}).get("google") or {}
        signature = google.get("thought_signature") or (_UNSIGNED if third and i == 0 else "")
        parts.append(part | ({"thoughtSignature": signature} if signature else {}))
    return parts


def _result(message: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    ident = str(message.get("tool_call_id") or "")
    name = message.get("name") or names.get(ident)
    if not name:
        raise BadRequest(
            f"the tool result “{ident}” belongs to no tool call before it",
            where="messages[].tool_call_id",
            hint="send the assistant's message with its tool_calls too",
        )
    content = message.get("content")
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in _parts(content))
    try:
        value = msgspec.json.decode(text) if text.strip().startswith("{") else None
    except msgspec.DecodeError:
        value = None
    return {"functionResponse": {"name": name, "response": value if isinstance(value, dict) else {"result": text}}}


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [made for part in content or [] if (made := _part(part)) is not None]


def _part(part: Any) -> dict[str, Any] | None:
    if isinstance(part, str):
        return {"text": part} if part else None
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get("text") or part.get("refusal") or ""
        return {"text": text} if text else None
    if kind == "image_url":
        image = part.get("image_url")
        return _media(image.get("url", "") if isinstance(image, dict) else str(image), "image/png")
    if kind == "input_audio":
        audio = part.get("input_audio") or {}
        return {"inlineData": {"mimeType": f"audio/{audio.get('format', 'wav')}", "data": audio.get("data", "")}}
    if kind == "file" and isinstance(data := (part.get("file") or {}).get("file_data"), str):
        return _media(data if data.startswith("data:") else f"data:application/pdf;base64,{data}", "application/pdf")
    raise unsayable(f"a content part of type “{kind}”")


def _media(url: str, kind: str) -> dict[str, Any]:
    found = _DATA_URL.fullmatch(url)
    if found is not None:
        return {"inlineData": {"mimeType": found[1] or kind, "data": found[2]}}
    if not url.startswith(("https://", "http://", "gs://")):
        raise unsayable("an image that is neither a data URL nor a web address")
    return {"fileData": {"mimeType": mimetypes.guess_type(url.partition("?")[0])[0] or kind, "fileUri": url}}
