"""Does a whole answer meet the route's JSON Schema, as it is or after the repairs that policy allows?

An answer that does not is never delivered as a success: InvalidOutput sends it back to retries and fallbacks, and in
the end to the client as a typed error (422 invalid_output).
"""

from typing import Any

import jsonschema_rs
import msgspec

from pilothouse.domain.errors import ConfigError, InvalidOutput
from pilothouse.domain.record import Record, Validation
from pilothouse.gateway.repair import NOT_JSON, decode, repair
from pilothouse.gateway.types import Accepted, Rendered
from pilothouse.providers.openai import Choice, Completion, text_of

_ERRORS_MAX = 20  # errors looked at for missing and mismatched fields
_LIST = {"oneOf", "anyOf"}
_MISMATCH = frozenset(("type", "enum", "const", "format", "pattern", "minimum", "maximum", "minLength", "maxLength"))


_compiled: dict[str, Any] = {}  # schema part hash → validator
_COMPILED_MAX = 1024


def validator(schema: dict[str, Any], schema_hash: str) -> Any:
    """The compiled schema, kept by its part hash; raises ConfigError where it is none."""
    kept = _compiled.get(schema_hash)
    if kept is None:
        try:
            kept = jsonschema_rs.validator_for(schema)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise ConfigError(f"the release's schema is not a JSON Schema: {error}", code="bad_schema") from error
        if len(_compiled) >= _COMPILED_MAX:
            _compiled.clear()
        _compiled[schema_hash] = kept
    return kept


def accept(rendered: Rendered, record: Record, body: bytes, completion: Completion) -> Accepted:
    """The answer as it may be delivered; raises InvalidOutput. `record.validation` says what became of it."""
    live = rendered.resolved.live
    schema = live.manifest.schema
    if schema is None or completion.refused or _calls_tools(completion):
        return Accepted(body, completion)
    check = validator(schema, live.parts["schema"])
    before = record.validation
    result = Validation(first_ok=before is None, ok=True, retried=before.retried + 1 if before else 0)
    record.validation = result
    changed = False
    for choice in completion.choices:
        changed |= _choice(choice, check, "repair" in live.manifest.policy.invalid, result)
    return Accepted(_rewritten(body, completion) if changed else body, completion)


def _calls_tools(completion: Completion) -> bool:
    message = completion.choices[0].message
    return bool(message and message.tool_calls and not message.content)


def _choice(choice: Choice, check: Any, may_repair: bool, result: Validation) -> bool:
    """Check one alternative and mend it where that is allowed; whether its content changed."""
    text = text_of(choice.message.content) if choice.message else ""
    value = decode(text)
    if value is not NOT_JSON and check.is_valid(value):
        return False
    result.first_ok = False
    if choice.finish_reason == "length":
        raise _invalid(result, "the output is cut off: the model reached max_tokens", "raise `max_tokens`")
    names: list[str] = []
    if value is NOT_JSON and may_repair:
        text, names = repair(text, truncated=False)
        value = decode(text)
    if value is NOT_JSON:
        raise _invalid(result, "the output is not JSON", "ask for JSON in the prompt, or allow `repair`")
    errors = [e for e, _ in zip(check.iter_errors(value), range(_ERRORS_MAX), strict=False)]
    if errors:
        _fields(errors, result)
        raise _invalid(result, explain(errors[0], value), "see the record's validation")
    result.repairs += names
    if choice.message is not None:
        choice.message.content = text
    return True


def _invalid(result: Validation, what: str, hint: str) -> InvalidOutput:
    result.ok = False
    result.error = what
    return InvalidOutput(f"the model's output does not meet the route's schema: {what}", where="output", hint=hint)


def _pointer(path: list[Any]) -> str:
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in path)


def _fields(errors: list[Any], result: Validation) -> None:
    """Which required fields are absent, and which are of a wrong type or value, as JSON pointers."""
    for error in errors:
        kind, at = error.kind.name, list(error.instance_path)
        if kind == "required":
            result.missing.append(_pointer([*at, str(error.kind.property).strip('"')]))
        elif kind in _MISMATCH:
            result.mismatched.append(_pointer(at))


def explain(error: Any, value: Any) -> str:
    """One sentence about the first error; of alternatives, about the one that the output's own fields chose."""
    if error.kind.name in _LIST:
        inner = _chosen(error)
        if inner is not None:
            return explain(inner, value)
    at = _pointer(list(error.instance_path)) or "/"
    return f"{at}: {error.message}"


def _chosen(error: Any) -> Any | None:
    """The error of the alternative that was meant: the one whose `const` or `enum` keys agree, or else the nearest."""
    branches = [list(branch) for branch in getattr(error.kind, "context", None) or [] if branch]
    if not branches:
        return None

    def misses(branch: list[Any]) -> tuple[int, int]:
        return sum(1 for e in branch if e.kind.name in ("const", "enum", "type")), len(branch)

    return min(branches, key=misses)[0]


def _rewritten(body: bytes, completion: Completion) -> bytes:
    """The body with the mended contents."""
    whole = msgspec.json.decode(body)
    for raw, choice in zip(whole["choices"], completion.choices, strict=True):
        if choice.message is not None:
            raw["message"]["content"] = choice.message.content
    return msgspec.json.encode(whole)
