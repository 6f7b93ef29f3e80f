"""A route's parts said in the client's own API: so that what chat has no words for (`cache_control`, thoughts, items by
id) reaches a provider that speaks this API too.

Fields that no part touches keep their own bytes, and what a part adds stands before or in place of the client's, never
between: equal prefixes stay equal, and the provider's prompt cache finds them. None where a part has no native word,
or the policy asks for what is done in chat alone; the request is then said in chat.
"""

import functools
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox
import msgspec

from pilothouse.domain.manifest import Manifest, Template
from pilothouse.gateway.types import Parsed, Resolved

Json = dict[str, Any]
Expand = Callable[[Template, Json, str], str]
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_jinja = jinja2.sandbox.ImmutableSandboxedEnvironment(autoescape=False)
_OURS = frozenset(("model", "messages", "stream"))
_TEXTS = frozenset(("input_text", "output_text", "text"))
_SAMPLING = ("temperature", "top_p", "top_k")
_LIMITS = ("max_tokens", "max_completion_tokens")
_RESPONSES_SAME = frozenset(
    (
        "temperature", "top_p", "user", "parallel_tool_calls", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "service_tier",
    )
)  # fmt: skip


class _Unsaid(Exception):
    """A part has no native word."""


def shaped(resolved: Resolved, expand: Expand) -> Json | None:
    """The body's fields but its model, with the route's parts; raises BadRequest as `expand` does."""
    parsed, manifest = resolved.parsed, resolved.live.manifest
    say = _APIS.get(parsed.api)
    # An answer is held to its schema, and a broken stream goes on elsewhere, in chat alone.
    if say is None or manifest.schema is not None or (parsed.stream and manifest.policy.cut == "continue"):
        return None
    if any(part is not None and "messages" in _names(part.text) for part in (manifest.prompt, manifest.system)):
        return None  # the template looks at the conversation, which it knows in chat's form
    try:
        return say(parsed, manifest, expand)
    except _Unsaid:
        return None


@functools.lru_cache(maxsize=2048)
def _names(text: str) -> frozenset[str]:
    """The variables that a template speaks of; none of one that cannot be read, which `expand` refuses."""
    try:
        return frozenset(jinja2.meta.find_undeclared_variables(_jinja.parse(text)))
    except jinja2.TemplateSyntaxError:
        return frozenset()


def _text_blocks(content: Any) -> str:
    """The text of a content, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _Unsaid
    if any(block.get("type") in _TEXTS and not isinstance(block.get("text"), str) for block in content):
        raise _Unsaid
    return "".join(block["text"] for block in content if block.get("type") in _TEXTS)


# Anthropic's messages


def _messages(parsed: Parsed, manifest: Manifest, expand: Expand) -> Json:
    fields: Json = {k: v for k, v in _raw(parsed.raw).items() if k != "model"}
    _messages_params(manifest.params, parsed.body, fields)
    if manifest.tools is not None:
        fields["tools"] = [_messages_tool(tool) for tool in _tools(manifest)]
    if manifest.prompt is None and manifest.system is None:
        return fields
    at = next((i for i in range(len(parsed.messages) - 1, -1, -1) if _asks(parsed.messages[i])), None)
    if at is None:
        raise _Unsaid
    asked = parsed.messages[at].get("content")
    variables = {"input": _text_blocks(asked)} | (parsed.variables or {})
    if manifest.prompt is not None:
        said: list[Any] = list(_raws(fields["messages"]))
        said[at] = parsed.messages[at] | {"content": _asked(expand(manifest.prompt, variables, "prompt"), asked)}
        fields["messages"] = said
    if manifest.system is not None:
        fields["system"] = _system(expand(manifest.system, variables, "system"), parsed.body, fields)
    return fields


def _asks(message: Json) -> bool:
    """Whether a message says something of the user's own, not the results of tools alone."""
    content = message.get("content")
    if message.get("role") != "user":
        return False
    return not (isinstance(content, list) and content and all(map(_is_result, content)))


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _asked(text: str, content: Any) -> Any:
    """The rendered prompt in place of the text blocks: results stay before it, everything else behind it, and the mark
    of the cache that the text had is on it."""
    if isinstance(content, str):
        return text
    block: Json = {"type": "text", "text": text}
    texts = [b for b in content if b.get("type") == "text"]
    marks = [b["cache_control"] for b in texts if b.get("cache_control")]
    if marks:
        block["cache_control"] = marks[-1]
    others = [b for b in content if b.get("type") not in ("text", "tool_result")]
    return [*filter(_is_result, content), block, *others]


def _system(text: str, body: Json, fields: Json) -> Any:
    """The route's text before the client's, as a block of its own, and the client's blocks as they came."""
    given = body.get("system")
    if not given:
        return text
    if isinstance(given, str):
        return [{"type": "text", "text": text}, {"type": "text", "text": given}]
    if not isinstance(given, list):
        raise _Unsaid
    return [{"type": "text", "text": text}, *_raws(fields["system"])]


def _messages_params(params: Json, body: Json, fields: Json) -> None:
    params = {k: v for k, v in params.items() if k not in _OURS}
    for name, value in params.items():
        if name in _LIMITS and type(value) is int:
            fields["max_tokens"] = value
        elif name == "temperature" and isinstance(value, int | float):
            fields[name] = min(value, 1.0)  # chat goes up to 2
        elif name in ("top_p", "top_k", "thinking") and value is not None:
            fields[name] = value
        elif name == "stop" and value:
            fields["stop_sequences"] = [value] if isinstance(value, str) else value
        else:
            raise _Unsaid
    _beside_thinking(params, body, fields)


def _beside_thinking(params: Json, body: Json, fields: Json) -> None:
    """Leave out and raise what the API refuses beside thinking."""
    thinking = params.get("thinking") or body.get("thinking") or {}
    if not isinstance(thinking, dict) or thinking.get("type") not in ("enabled", "adaptive"):
        return
    for name in _SAMPLING:  # the client's own are its own
        if name in params or "thinking" in params:
            fields.pop(name, None)
    limit, most = thinking.get("budget_tokens"), fields.get("max_tokens")
    if isinstance(limit, int) and isinstance(most, int) and most <= limit:
        fields["max_tokens"] = most + limit  # thinking alone would use it up


def _tools(manifest: Manifest) -> list[Any]:
    """The route's tools; one that says nothing of any has no native word."""
    if not manifest.tools or not all(isinstance(tool, dict) for tool in manifest.tools):
        raise _Unsaid
    return manifest.tools


def _messages_tool(tool: Json) -> Json:
    function = tool.get("function")
    if "input_schema" in tool:
        return tool  # already Anthropic's
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise _Unsaid
    made = {"name": function.get("name", ""), "input_schema": function.get("parameters") or {"type": "object"}}
    if function.get("description"):
        made["description"] = function["description"]
    cached = tool.get("cache_control") or function.get("cache_control")
    return made | ({"cache_control": cached} if cached else {})


# OpenAI's responses


def _responses(parsed: Parsed, manifest: Manifest, expand: Expand) -> Json:
    fields: Json = {k: v for k, v in _raw(parsed.raw).items() if k not in ("model", "prompt")}
    _responses_params(manifest.params, parsed.body, fields)
    if manifest.tools is not None:
        fields["tools"] = [_responses_tool(tool) for tool in _tools(manifest)]
    if manifest.prompt is None and manifest.system is None:
        return fields
    client = parsed.body.get("instructions")
    if not isinstance(client, str | None):
        raise _Unsaid
    given = parsed.body.get("input")
    at = _last_asked(given) if isinstance(given, list) else None
    asked = given[at].get("content") if isinstance(given, list) and at is not None else given
    if not asked:
        raise _Unsaid
    variables = {"input": _text_blocks(asked)} | (parsed.variables or {})
    if manifest.prompt is not None:
        text = expand(manifest.prompt, variables, "prompt")
        fields["input"] = text
        if isinstance(given, list) and at is not None:
            items: list[Any] = list(_raws(_raw(parsed.raw)["input"]))
            items[at] = given[at] | {"content": _input(text, asked)}
            fields["input"] = items
    if manifest.system is not None:
        text = expand(manifest.system, variables, "system")
        fields["instructions"] = f"{text}\n\n{client}" if client else text
    return fields


def _last_asked(items: list[Json]) -> int:
    for i in range(len(items) - 1, -1, -1):
        if items[i].get("role") == "user" and items[i].get("type") in (None, "message"):
            return i
    raise _Unsaid


def _input(text: str, content: Any) -> Any:
    """The rendered prompt in place of the text parts."""
    others = [p for p in content if p.get("type") not in _TEXTS] if isinstance(content, list) else []
    return [{"type": "input_text", "text": text}, *others] if others else text


def _responses_params(params: Json, body: Json, fields: Json) -> None:
    for name, value in params.items():
        if name in _OURS:
            continue
        if value is None:
            raise _Unsaid
        if name in _LIMITS:
            fields["max_output_tokens"] = value
        elif name in _RESPONSES_SAME:
            fields[name] = value
        elif name == "reasoning_effort":
            fields["reasoning"] = (body.get("reasoning") or {}) | {"effort": value}
        elif name == "verbosity":
            fields["text"] = (body.get("text") or {}) | {"verbosity": value}
        else:
            raise _Unsaid


def _responses_tool(tool: Json) -> Json:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise _Unsaid
    # What chat does not hold to its schema unless told to, responses does unless told not to.
    return {"type": "function", "strict": False, **function}


_APIS: dict[str, Callable[[Parsed, Manifest, Expand], Json]] = {"messages": _messages, "responses": _responses}
