"""Every text in a JSON body, whatever API it belongs to: nothing is skipped because its field is new to us.

Left out are the short values of fields that hold no text (`role`, `type`, ids), and the bytes of images and files.
JSON inside a string (a tool call's arguments) is looked at as what it says.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from pilothouse.gateway.guards.protocol import ToolCall

Path = tuple[str | int, ...]
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_NO_TEXT = frozenset(
    (
        "role", "type", "id", "object", "model", "status", "call_id", "tool_call_id", "tool_use_id", "item_id",
        "response_id", "previous_response_id", "media_type", "mime_type", "format", "encoding_format", "detail",
        "phase", "finish_reason", "stop_reason", "native_finish_reason", "service_tier", "system_fingerprint",
        "tool_choice", "reasoning_effort", "effort", "verbosity", "truncation", "session_id", "cache_control",
        "obfuscation",
    )
)  # fmt: skip
_NO_NUMBER = frozenset(("created", "created_at", "completed_at", "expires_at", "seed", "sequence_number"))
_SHORT = 128  # characters: a longer value of such a field is looked at all the same
_LONG = 10**8  # from here on a number may be a card or an account
_BYTES = re.compile(r"(?:data:[\w/+.;=-]{0,128};base64,)?[A-Za-z0-9+/=_-]{1024,}")  # no credential is as long
_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]*")
_SEALED = frozenset(("signature", "encrypted_content", "thought_signature"))  # a provider's own, for itself alone
_DEPTH = 200


def texts(value: Any, path: Path = (), role: str = "") -> Iterator[tuple[Path, str, str]]:
    """Path, text and the role of the message it is in, for each text in `value`, in order."""
    if len(path) > _DEPTH:
        raise RecursionError("nested too deeply")
    if isinstance(value, dict):
        said = value.get("role")
        role = said if isinstance(said, str) else role
        for key, item in value.items():
            if isinstance(item, dict | list) or not _no_text(key, item):
                yield from texts(item, (*path, key), role)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from texts(item, (*path, at), role)
    elif isinstance(value, str):
        yield path, value, role
    elif isinstance(value, int) and abs(value) >= _LONG:
        yield path, str(value), role


def _no_text(key: str, item: Any) -> bool:
    if not isinstance(item, str):
        return key in _NO_NUMBER
    if key in _NO_TEXT:
        return len(item) <= _SHORT
    if key in _SEALED:
        return _BASE64.fullmatch(item) is not None
    return len(item) > 1024 and _BYTES.fullmatch(item) is not None


def inner(text: str) -> Any:
    """The object or list that `text` is as JSON; None where it is neither."""
    if not text[:1] or text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def outer(value: Any) -> str:
    """`inner`, back again."""
    return _encode(value).decode()


def replaced(value: Any, changes: dict[Path, str]) -> Any:
    """A copy of `value` with other texts at these paths; what lies beside the paths is shared, not copied."""
    if not changes:
        return value
    if () in changes:
        return changes[()]
    copy: Any = list(value) if isinstance(value, list) else dict(value)
    below: dict[str | int, dict[Path, str]] = {}
    for path, text in changes.items():
        below.setdefault(path[0], {})[path[1:]] = text
    for key, inside in below.items():
        copy[key] = replaced(value[key], inside)
    return copy


def tool_names(body: Any) -> tuple[str, ...]:
    """The tools that a request declares, in any API's form."""
    declared = body.get("tools") if isinstance(body, dict) else None
    found: list[str] = []
    for tool in declared if isinstance(declared, list) else ():
        if isinstance(tool, dict):
            function = tool.get("function")
            name = function.get("name") if isinstance(function, dict) else tool.get("name", tool.get("type"))
            found.append(str(name))
    functions = body.get("functions") if isinstance(body, dict) else None
    old = functions if isinstance(functions, list) else []
    return (*found, *(str(f.get("name")) if isinstance(f, dict) else "" for f in old))


def tool_calls(value: Any) -> Iterator[ToolCall]:
    """The tool calls in an answer, in any API's form."""
    if isinstance(value, list):
        for item in value:
            yield from tool_calls(item)
    elif isinstance(value, dict):
        call = _call(value)
        if call is not None:
            yield call
            return
        for item in value.values():
            yield from tool_calls(item)


def _call(value: dict[str, Any]) -> ToolCall | None:
    for key in ("function", "function_call"):  # chat, and what it was before tools
        function = value.get(key)
        if isinstance(function, dict) and "arguments" in function:
            return ToolCall(str(function.get("name")), _arguments(function["arguments"]))
    kind = value.get("type")
    if isinstance(kind, str) and kind.endswith(("_call", "tool_use")):  # responses, messages
        given = value.get("arguments", value.get("input"))
        return ToolCall(str(value.get("name", kind)), _arguments(given))
    return None


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else outer(value)
