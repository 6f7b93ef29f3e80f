"""Does a whole answer meet the route's JSON Schema, and its tool calls theirs, as it is or after the allowed repairs?

    exact → (extract → repair) → schema → (coerce) → delivered, or InvalidOutput

An answer that does not is never delivered as a success: InvalidOutput sends it back to the re-ask, retries and
fallbacks, and in the end to the client as a typed error (422). Each stage that looked at the output is noted.
"""

import itertools
from typing import Any

import msgspec

from pilothouse.domain.errors import InvalidOutput
from pilothouse.domain.policy import Policy
from pilothouse.domain.record import Record, Validation
from pilothouse.gateway.coerce import coerce
from pilothouse.gateway.compiled import validator
from pilothouse.gateway.explain import explained, pointer, reask_messages
from pilothouse.gateway.extract import Found, find
from pilothouse.gateway.repair import NOT_JSON, decode, doubled_key
from pilothouse.gateway.tools import (
    Toolbox,
    ToolError,
    check_calls,
    check_messages,
    reask_calls,
    repair_arguments,
    toolbox,
)
from pilothouse.gateway.types import Rendered
from pilothouse.gateway.verdict import begin, invalid
from pilothouse.providers.openai import Choice, Completion, text_of

_ERRORS_MAX = 20  # errors looked at for missing and mismatched fields
_MISMATCH = frozenset(("type", "enum", "const", "format", "pattern", "minimum", "maximum", "minLength", "maxLength"))
_LISTED = frozenset(("enum", "const"))
_FINISHED = frozenset(("stop", "tool_calls", "end_turn", "tool_use"))  # the model said that it was done


class _Schema(msgspec.Struct, frozen=True):
    """The release's schema, compiled. `kinds`: the brackets that a value of its type opens with."""

    schema: dict[str, Any]
    check: Any
    kinds: str


def accept(
    rendered: Rendered, record: Record, body: bytes, completion: Completion, form: str = "chat"
) -> tuple[bytes, Completion]:
    """The answer as it may be delivered; raises InvalidOutput. `record.validation` says what became of it.

    `form`: the one that `body` is in. Only chat is mended; another form's bytes stay as the provider sent them.
    """
    resolved = rendered.resolved
    if completion.refused:
        return body, completion
    if resolved.inline:  # nobody declared a policy: the client's own request passes unchanged, and is noted
        note_calls(rendered, record, completion)
        return body, completion
    policy = resolved.live.manifest.policy
    result: Validation | None = None
    changed = False
    if resolved.live.manifest.schema is not None:
        result, changed = _structured(rendered, record, completion)
    box = _toolbox(rendered)
    if box is not None:
        asked = check_messages(resolved.parsed.messages)
        called = [c for c in completion.choices if box.least or (c.message and c.message.tool_calls)]
        if called or asked:
            result = result or begin(record)
            result.stages.append("tools")
            for choice in called:
                changed |= _calls(rendered, choice, box, result, mend=form == "chat" and "repair" in policy.invalid)
            # What is wrong with the client's own messages is noted, and for the provider to judge.
            result.error = result.error or (_said(asked[0]) if asked else "")
    return (_rewritten(body, completion) if changed else body), completion


def note_calls(rendered: Rendered, record: Record, completion: Completion) -> None:
    """Note what is wrong with tool calls that are delivered as they are: a stream's, or a raw model's."""
    box = None if completion.refused else _toolbox(rendered)
    if box is None:
        return
    errors = [e for choice in completion.choices for e in _errors(rendered, choice, box)]
    called = any(choice.message and choice.message.tool_calls for choice in completion.choices)
    if not called and not errors:
        return
    result = record.validation or begin(record)
    result.stages.append("tools")
    if errors:
        result.first_ok = result.ok = False
        result.delivered_invalid = True
        result.error = result.error or _said(errors[0])


def _structured(rendered: Rendered, record: Record, completion: Completion) -> tuple[Validation | None, bool]:
    """Hold the choices that are not tool calls to the release's schema; the note of it, and whether one changed."""
    live = rendered.resolved.live
    schema = live.manifest.schema
    if schema is None:
        return None, False
    choices = [c for c in completion.choices if not _only_calls(c)]
    if not choices:
        return None, False
    held = _Schema(schema, validator(schema, live.parts["schema"]), _kinds(schema))
    result = begin(record)
    changed = [_choice(choice, held, live.manifest.policy, result) for choice in choices]
    return result, any(changed)


def _only_calls(choice: Choice) -> bool:
    message = choice.message
    return bool(message and message.tool_calls and not message.content)


def _kinds(schema: dict[str, Any]) -> str:
    return {"object": "{", "array": "["}.get(str(schema.get("type")), "{[")


def _choice(choice: Choice, held: _Schema, policy: Policy, result: Validation) -> bool:
    """Check one alternative and mend it where that is allowed; whether its content changed."""
    text = text_of(choice.message.content) if choice.message else ""
    result.stages.append("exact")
    value = decode(text)
    if value is not NOT_JSON:
        result.stages.append("schema")
        if held.check.is_valid(value):
            return False
    result.first_ok = False
    if choice.finish_reason == "length":
        result.stages.append("truncated")
        said = "the output is cut off: the model reached max_tokens"
        raise invalid(result, said, "raise `max_tokens`, or ask for less", code="output_truncated")
    may_repair = "repair" in policy.invalid
    mended = text
    if value is NOT_JSON:
        found = _found(text, choice, held, result, may_repair=may_repair)
        mended, value = found.text, found.value
        if value is NOT_JSON:
            raise _not_json(text, found, held, policy, result)
        result.repairs += found.repairs
        result.stages.append("schema")
    if not held.check.is_valid(value):
        mended = _coerced(text, mended, value, held, policy, result)
    if choice.message is not None:
        choice.message.content = mended
    return True


def _found(text: str, choice: Choice, held: _Schema, result: Validation, *, may_repair: bool) -> Found:
    """The value in a text that is not JSON as it stands."""
    key = doubled_key(text) if text[:1] == "{" else None
    if key:
        return Found(error=f"the output is not JSON that has one meaning: the key “{key[:80]}” is there twice")
    found = find(text, close=choice.finish_reason in _FINISHED, kinds=held.kinds)
    if not may_repair:
        return Found(error="the output is not JSON" if found.text else found.error, refused=found.refused)
    result.stages += found.stages
    return found


def _not_json(text: str, found: Found, held: _Schema, policy: Policy, result: Validation) -> InvalidOutput:
    if found.refused:
        return invalid(result, found.error, "see the output, and the prompt", code="output_refused")
    again = reask_messages(text, [found.error], held.schema) if "reask" in policy.invalid else None
    return invalid(result, found.error, "ask for JSON in the prompt, or allow `repair`", reask=again)


def _coerced(text: str, mended: str, value: Any, held: _Schema, policy: Policy, result: Validation) -> str:
    """The JSON with its fields in the types that the schema asks; raises InvalidOutput where that is not possible."""
    errors = list(itertools.islice(held.check.iter_errors(value), _ERRORS_MAX))
    _fields(errors, result)
    if "repair" in policy.invalid:
        result.stages.append("coerce")
        made = coerce(mended, held.check, held.schema)
        if made is not None:
            result.coerced += made[1]
            result.repairs.append("coerce")
            return made[0]
    again = None
    if "reask" in policy.invalid:
        again = reask_messages(text, explained(errors, held.schema, quote=True), held.schema)
    raise invalid(result, explained(errors, held.schema)[0], "see the record's validation", reask=again)


def _fields(errors: list[Any], result: Validation) -> None:
    """Which required fields are absent, and which are of a wrong type or value, as JSON pointers."""
    for error in errors:
        kind, at = error.kind.name, list(error.instance_path)
        if kind == "required":
            result.missing.append(pointer([*at, error.kind.value]))
        elif kind in _MISMATCH:
            result.mismatched.append(pointer(at))
            if kind in _LISTED:
                result.unlisted.append(pointer(at))


def _toolbox(rendered: Rendered) -> Toolbox | None:
    """The request's tools, where there is something to check them by."""
    resolved = rendered.resolved
    manifest, body = resolved.live.manifest, resolved.parsed.body
    declared = manifest.tools if manifest.tools is not None else body.get("tools")
    if not declared or not manifest.policy.tools.check or any(map(_hosted, declared)):
        return None
    said = body | manifest.params
    box = toolbox(declared, said.get("tool_choice"), said.get("parallel_tool_calls"))
    return box if box.has_schemas else None


def _hosted(tool: Any) -> bool:
    """Whether the provider runs this tool itself (web search …): its calls are not in the answer as calls."""
    return isinstance(tool, dict) and "function" not in tool and tool.get("type") not in (None, "custom", "function")


def _errors(rendered: Rendered, choice: Choice, box: Toolbox) -> list[ToolError]:
    message = choice.message
    calls = (message.tool_calls if message else None) or []
    parsed = rendered.resolved.parsed
    return check_calls(calls, box, parsed.messages, rendered.resolved.live.manifest.policy.tools)


def _said(error: ToolError) -> str:
    return f"{error.where}: {error.what}"


def _calls(rendered: Rendered, choice: Choice, box: Toolbox, result: Validation, *, mend: bool) -> bool:
    """Check one alternative's tool calls and mend their arguments where that is allowed; whether any changed."""
    errors = _errors(rendered, choice, box)
    if not errors:
        return False
    result.first_ok = False
    message = choice.message
    if choice.finish_reason == "length":
        result.stages.append("truncated")
        said = "the tool calls are cut off: the model reached max_tokens"
        raise _bad_call(result, said, "output_truncated", None)
    if mend and message and message.tool_calls:
        result.stages.append("repair")
        before = msgspec.json.encode(message.tool_calls)
        names = repair_arguments(message.tool_calls, box, close=choice.finish_reason in _FINISHED)
        errors = _errors(rendered, choice, box) if names else errors
        if not errors:
            result.repairs += names
            return True
        message.tool_calls = msgspec.json.decode(before)  # as the model said it, for the re-ask
    may_ask = "reask" in rendered.resolved.live.manifest.policy.invalid and message is not None
    raise _bad_call(result, _said(errors[0]), "invalid_tool_call", reask_calls(message, errors) if may_ask else None)


def _bad_call(result: Validation, what: str, code: str, reask: list[dict[str, Any]] | None) -> InvalidOutput:
    result.ok = False
    result.error = what
    hint = "see the record's validation, and the tools' schemas"
    return InvalidOutput(
        f"the model's tool calls are not valid: {what}", where="tool_calls", hint=hint, code=code, reask=reask
    )


def _rewritten(body: bytes, completion: Completion) -> bytes:
    """The body with the mended contents and arguments."""
    whole = msgspec.json.decode(body)
    for raw, choice in zip(whole["choices"], completion.choices, strict=True):
        if choice.message is not None:
            raw["message"]["content"] = choice.message.content
            if choice.message.tool_calls:
                raw["message"]["tool_calls"] = choice.message.tool_calls
    return msgspec.json.encode(whole)
