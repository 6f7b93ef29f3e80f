"""A chat request as a request for Anthropic's messages API.

Sampling hints that Anthropic does not have (seed, penalties, logit_bias) are left out; what would change the shape of
the answer (n > 1, logprobs, audio) is refused. `cache_control` is kept wherever a client puts it: on a part, a message
or a tool. Fields that only Anthropic knows (`thinking`, `top_k` …) go through.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from pilothouse.domain.errors import BadRequest

MAX_TOKENS = 8192  # where the request does not say: the API wants a number
JSON_TOOL = "pilothouse_json"  # the tool whose input is the answer of a request with a JSON Schema
_OLD = re.compile(r"claude-(2|instant|3-(opus|sonnet|haiku))")  # at most 4,096 output tokens
_SCHEMAS = re.compile(r"claude-[a-z]+-(4-[5-9]|[5-9])")  # take output_config.format
_ADAPTIVE = re.compile(r"claude-[a-z]+-(4-[6-9]|[5-9])")  # decide themselves how long to think
_EFFORT = {"minimal": 0, "none": 0, "low": 1024, "medium": 4096, "high": 16_384, "xhigh": 32_768}  # tokens to think
_OWN = (
    "thinking",
    "top_k",
    "container",
    "mcp_servers",
    "context_management",
    "output_config",
    "inference_geo",
    "speed",
)
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*;base64,(.*)", re.DOTALL)


def to_messages(body: dict[str, Any]) -> dict[str, Any]:
    """The body for `POST /v1/messages`; raises BadRequest where it cannot be said."""
    _refuse(body)
    model = str(body.get("model", ""))
    out: dict[str, Any] = {"model": model, "max_tokens": _max_tokens(body, model)}
    system, messages = _conversation(body.get("messages") or [])
    _tools(body, out)
    instruction = _format(body, out, model)
    if instruction:
        system.append({"type": "text", "text": instruction})
    if system:
        plain = all(block.keys() == {"type", "text"} for block in system)
        out["system"] = "\n\n".join(block["text"] for block in system) if plain else system
    out["messages"] = messages
    _sampling(body, out)
    _thinking(body, out, model)
    if body.get("stream"):
        out["stream"] = True
    return out


def unsayable(what: str, hint: str = "leave it out, or name a model whose provider takes it") -> BadRequest:
    """The error for a request that this provider has no words for."""
    return BadRequest(
        f"{what} cannot be said to this provider", where="request body", hint=hint, code="unsupported_parameter"
    )


def _refuse(body: dict[str, Any]) -> None:
    if (body.get("n") or 1) != 1:
        raise unsayable("`n` greater than 1")
    if body.get("logprobs"):
        raise unsayable("`logprobs`")
    if "audio" in (body.get("modalities") or ()):
        raise unsayable("audio output")


def _max_tokens(body: dict[str, Any], model: str) -> int:
    given: Any = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(given, int):
        return given
    return 4096 if _OLD.search(model) else MAX_TOKENS


def _sampling(body: dict[str, Any], out: dict[str, Any]) -> None:
    heat: Any = body.get("temperature")
    if isinstance(heat, int | float):
        out["temperature"] = min(heat, 1.0)  # chat goes up to 2
    if body.get("top_p") is not None:
        out["top_p"] = body["top_p"]
    stop = body.get("stop")
    sequences: list[Any] = [stop] if isinstance(stop, str) else stop or []
    if sequences := [one for one in sequences if isinstance(one, str) and one.strip()]:
        out["stop_sequences"] = sequences
    user = body.get("safety_identifier") or body.get("user")
    if isinstance(user, str) and user:
        out["metadata"] = {"user_id": user}
    out.update({name: body[name] for name in _OWN if body.get(name) is not None and name not in out})


def _thinking(body: dict[str, Any], out: dict[str, Any], model: str) -> None:
    effort = body.get("reasoning_effort")
    if "thinking" not in out and isinstance(effort, str) and (budget := _EFFORT.get(effort, 0)):
        if _ADAPTIVE.search(model):
            out["thinking"] = {"type": "adaptive"}
            out["output_config"] = {"effort": effort} | out.get("output_config", {})
        else:
            out["thinking"] = {"type": "enabled", "budget_tokens": budget}
    thinking = out.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") not in ("enabled", "adaptive"):
        return
    limit: Any = thinking.get("budget_tokens")
    if isinstance(limit, int) and out["max_tokens"] <= limit:
        out["max_tokens"] += limit  # the API refuses a limit that thinking alone would use up
    for name in ("temperature", "top_p", "top_k"):  # refused beside thinking
        out.pop(name, None)


# Tools and formats


def _tools(body: dict[str, Any], out: dict[str, Any]) -> None:
    tools: list[dict[str, Any]] = []
    for tool in body.get("tools") or []:
        if not isinstance(tool, dict) or tool.get("type") != "function":
            if isinstance(tool, dict) and "input_schema" in tool:
                tools.append(tool)  # already Anthropic's
                continue
            raise unsayable("a tool that is no function")
        function = tool.get("function") or {}
        made = {"name": function.get("name", ""), "input_schema": function.get("parameters") or {"type": "object"}}
        if function.get("description"):
            made["description"] = function["description"]
        cached = tool.get("cache_control") or function.get("cache_control")
        tools.append(made | ({"cache_control": cached} if cached else {}))
    if not tools:
        return
    out["tools"] = tools
    choice = _choice(body.get("tool_choice"))
    if body.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    if choice is not None:
        out["tool_choice"] = choice


def _choice(given: Any) -> dict[str, Any] | None:
    if given in ("auto", "none"):
        return {"type": given}
    if given == "required":
        return {"type": "any"}
    if isinstance(given, dict) and isinstance(function := given.get("function"), dict):
        return {"type": "tool", "name": function.get("name", "")}
    return None


def _format(body: dict[str, Any], out: dict[str, Any], model: str) -> str:
    """JSON output: natively, by a tool that must be called, or, where neither can be, by an instruction."""
    wanted = body.get("response_format")
    wanted = wanted if isinstance(wanted, dict) else {}
    kind = wanted.get("type")
    if kind == "json_object":
        return "Answer with one JSON object and nothing else."
    if kind != "json_schema":
        return ""
    declared = wanted.get("json_schema") or {}
    schema = declared.get("schema") or {"type": "object"}
    if declared.get("strict") and _SCHEMAS.search(model):
        out["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return ""
    if "tools" in out or body.get("thinking") or _EFFORT.get(str(body.get("reasoning_effort")), 0):
        return in_words(schema)
    what = declared.get("description") or "Gives the answer."
    out["tools"] = [{"name": JSON_TOOL, "description": what, "input_schema": schema}]
    out["tool_choice"] = {"type": "tool", "name": JSON_TOOL}
    return ""


def in_words(schema: dict[str, Any]) -> str:
    """The instruction for a model that cannot be held to a schema."""
    return f"Answer with JSON alone that meets this JSON Schema:\n{msgspec.json.encode(schema).decode()}"


# Messages


def _conversation(messages: Iterable[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System blocks, and the turns: neighbours of one role are one turn, tool results come first in theirs."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            system += _parts(message)
            continue
        if role == "assistant":
            said, content = "assistant", _assistant(message)
        elif role in ("tool", "function"):
            said, content = "user", [_result(message)]
        else:
            said, content = "user", _parts(message)
        if turns and turns[-1]["role"] == said:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": said, "content": content})
    if turns and turns[-1]["role"] == "assistant":
        _trim_end(turns[-1]["content"])
    for turn in turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return system, turns


def _trim_end(content: list[dict[str, Any]]) -> None:
    """An answer that is to be continued may not end in white space."""
    if content and content[-1]["type"] == "text":
        content[-1] = content[-1] | {"text": content[-1]["text"].rstrip()}
        if not content[-1]["text"]:
            content.pop()


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a message's content; empty texts, which the API refuses, are left out."""
    content = message.get("content")
    if isinstance(content, str):
        blocks = [{"type": "text", "text": content}] if content else []
    else:
        blocks = [block for part in content or [] if (block := _part(part)) is not None]
    cached = message.get("cache_control")
    if cached and blocks:
        blocks[-1] = blocks[-1] | {"cache_control": cached}
    return blocks


def _part(part: Any) -> dict[str, Any] | None:
    if isinstance(part, str):
        return {"type": "text", "text": part} if part else None
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get("text") or part.get("refusal") or ""
        made: dict[str, Any] | None = {"type": "text", "text": text} if text else None
    elif kind == "image_url":
        image = part.get("image_url")
        made = {"type": "image", "source": _source(image.get("url", "") if isinstance(image, dict) else str(image))}
    elif kind == "file":
        made = _document(part.get("file") or {})
    elif kind in ("image", "document", "thinking", "redacted_thinking"):
        return dict(part)  # already Anthropic's
    else:
        raise unsayable(f"a content part of type “{kind}”")
    if made is not None and part.get("cache_control"):
        made["cache_control"] = part["cache_control"]
    return made


def _source(url: str) -> dict[str, Any]:
    found = _DATA_URL.fullmatch(url)
    if found is not None:
        return {"type": "base64", "media_type": found[1] or "image/png", "data": found[2]}
    if not url.startswith(("https://", "http://")):
        raise unsayable("an image that is neither a data URL nor a web address")
    return {"type": "url", "url": url}


def _document(file: dict[str, Any]) -> dict[str, Any]:
    data, name = file.get("file_data"), file.get("filename")
    if not isinstance(data, str):
        raise unsayable("a file named by id", hint="send its content as `file_data`")
    found = _DATA_URL.fullmatch(data)
    kind, content = (found[1] or "application/pdf", found[2]) if found else ("application/pdf", data)
    source = {"type": "base64", "media_type": kind, "data": content}
    return {"type": "document", "source": source} | ({"title": name} if name else {})


def _assistant(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Thinking first, then text, then the tool calls."""
    thoughts = [dict(block) for block in message.get("thinking_blocks") or [] if isinstance(block, dict)]
    blocks = thoughts + _parts({"content": message.get("content")})
    for call in message.get("tool_calls") or []:
        function = call.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": call.get("id") or "",
                "name": function.get("name") or "",
                "input": arguments(function.get("arguments")),
            }
        )
    cached = message.get("cache_control")
    if cached and blocks:
        blocks[-1] = blocks[-1] | {"cache_control": cached}
    return blocks


def arguments(text: Any) -> dict[str, Any]:
    """A tool call's arguments as an object; raises BadRequest where the client sends none."""
    if not text:
        return {}
    try:
        value = msgspec.json.decode(text) if isinstance(text, str) else text
    except msgspec.DecodeError:
        value = None
    if not isinstance(value, dict):
        raise BadRequest(
            "the arguments of a tool call are not a JSON object",
            where="messages[].tool_calls[].function.arguments",
            hint="send them as the model gave them",
        )
    return value


def _result(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    made: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.get("tool_call_id") or ""}
    if isinstance(content, str):
        made["content"] = content
    elif content:
        made["content"] = _parts({"content": content})
    if message.get("is_error"):
        made["is_error"] = True
    if message.get("cache_control"):
        made["cache_control"] = message["cache_control"]
    return made
