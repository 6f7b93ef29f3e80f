"""What is wrong with an output, in one sentence each: the place, what was found there, what is allowed.

What stands in the record and goes to the client names the kind of what was found (“a string”), never the value: the
value may be personal, and redaction looks at bodies. The model that is asked again is told the value: it is its own.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

FOUND_MAX = 80  # characters of a value that are quoted to the model
ALLOWED_MAX = 20  # values of an enum that are listed
SCHEMA_MAX = 4_000  # characters of a schema that is short enough to be said again
TEXT_MAX = 16_000  # characters of its own output that the model is shown
ERRORS_MAX = 10  # sentences in one message
_LISTS = frozenset(("anyOf", "oneOf"))
_CHOOSES = frozenset(("const", "enum", "type"))
_TYPES = {
    "string": "a string", "integer": "an integer", "number": "a number", "boolean": "true or false", "null": "null",
    "array": "an array", "object": "an object",
}  # fmt: skip

Schema = Mapping[str, Any]


def pointer(path: Iterable[Any]) -> str:
    """The JSON pointer (RFC 6901) of a path; empty for the whole."""
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in path)


def schema_of(error: Any, schema: Schema) -> Schema:
    """The schema object whose keyword the error is about; empty where it cannot be told."""
    node: Any = schema
    for step in error.schema_path[:-1]:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return {}
    return node if isinstance(node, dict) else {}


def kind_of(value: Any) -> str:
    """A value's kind in words."""
    if isinstance(value, bool):
        return "a boolean"
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    return "an integer" if isinstance(value, int) else "a number"


def explain(error: Any, schema: Schema, *, quote: bool = False) -> str:
    """One sentence; of alternatives, about the one that the output's own fields chose. `quote`: with the value."""
    while error.kind.name in _LISTS:
        inner = _chosen(error)
        if inner is None:
            break
        error = inner
    name, value = error.kind.name, error.kind.value
    found, allowed = _CASES.get(name, _other)(error, value, schema_of(error, schema))
    found = found or kind_of(error.instance)
    if quote and not isinstance(error.instance, dict | list):
        found = _quoted(error.instance)
    place = pointer(error.instance_path) or "/"
    return f"{place}: found {found}, allowed is {allowed}"


def explained(errors: Iterable[Any], schema: Schema, *, quote: bool = False) -> list[str]:
    """The sentences of several errors, each once."""
    return list(dict.fromkeys(explain(error, schema, quote=quote) for error in errors))[:ERRORS_MAX]


def _chosen(error: Any) -> Any | None:
    """The error of the alternative that was meant: the one whose `const`, `enum` and `type` agree, or the nearest.

    None where no alternative is nearer than the others: all of them are to be named then.
    """
    branches = [list(branch) for branch in getattr(error.kind, "context", None) or [] if branch]
    if not branches or all(_whole(branch, error) for branch in branches):
        return None
    here = list(error.instance_path)

    def misses(branch: list[Any]) -> tuple[bool, int, int]:
        wrong = [e for e in branch if e.kind.name in _CHOOSES]
        return any(list(e.instance_path) == here for e in wrong), len(wrong), len(branch)

    return min(branches, key=misses)[0]


def _whole(branch: list[Any], error: Any) -> bool:
    """Whether this alternative is refused for the kind of the value as a whole, before any of its fields."""
    return len(branch) == 1 and branch[0].kind.name in _CHOOSES and branch[0].instance_path == error.instance_path


def _quoted(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= FOUND_MAX else text[:FOUND_MAX] + "…"


def _one_of(values: Iterable[Any]) -> str:
    shown = [_quoted(value) for value in values]
    more = f" or {len(shown) - ALLOWED_MAX} more" if len(shown) > ALLOWED_MAX else ""
    return ("one of " if len(shown) > 1 else "") + ", ".join(shown[:ALLOWED_MAX]) + more


def _types(types: Iterable[str]) -> str:
    return " or ".join(_TYPES.get(name, name) for name in types)


def _alternatives(error: Any, _value: Any, _schema: Schema) -> tuple[str, str]:
    branches = [list(branch) for branch in getattr(error.kind, "context", None) or []]
    if not any(branches):
        return f"{kind_of(error.instance)} that fits several alternatives", "one that fits exactly one of them"
    said = [_CASES[b[0].kind.name](b[0], b[0].kind.value, {})[1] for b in branches if b]
    return "", " or ".join(dict.fromkeys(said))


def _keys(names: Iterable[str]) -> str:
    return ", ".join(f"“{name[:FOUND_MAX]}”" for name in list(names)[:ALLOWED_MAX])


def _unexpected(error: Any, value: Any, schema: Schema) -> tuple[str, str]:
    if error.kind.name.endswith("Items"):
        return "more items", "only the items that are described"
    known = schema.get("properties")
    allowed = f"only {_keys(known)}" if known else "none beside those described"
    return f"the key {_keys(value)}", allowed


def _format(_error: Any, value: Any, _schema: Schema) -> tuple[str, str]:
    return "a string of another form", f"a string in the format {value}"


def _names(_error: Any, value: Any, schema: Schema) -> tuple[str, str]:
    inner = _CASES.get(value.kind.name, _other)(value, value.kind.value, schema)[1]
    return "a key that is not allowed", f"a key that is {inner}"


def _other(error: Any, _value: Any, _schema: Schema) -> tuple[str, str]:
    return "", f"what “{error.kind.name}” of the schema asks"


_Case = Callable[[Any, Any, Schema], tuple[str, str]]


def _limit(text: str, found: Callable[[Any], str] | None = None) -> _Case:
    """A case whose allowance is `text` with the keyword's value in it."""

    def case(error: Any, value: Any, _schema: Schema) -> tuple[str, str]:
        return (found(error.instance) if found else "", text.format(value))

    return case


def _characters(value: Any) -> str:
    return f"a string of {len(value)} characters"


def _items(value: Any) -> str:
    return f"an array of {len(value)} items"


def _properties(value: Any) -> str:
    return f"an object of {len(value)} keys"


_CASES: dict[str, _Case] = {
    "type": lambda _e, value, _s: ("", _types(value)),
    "enum": lambda e, value, _s: (f"{kind_of(e.instance)} that is not in the list", _one_of(value)),
    "const": lambda e, value, _s: (f"{kind_of(e.instance)} of another value", f"only {_quoted(value)}"),
    "required": lambda _e, value, _s: ("no key " + _keys([value]), f"only an object with {_keys([value])}"),
    "additionalProperties": _unexpected,
    "additionalItems": _unexpected,
    "unevaluatedProperties": _unexpected,
    "unevaluatedItems": _unexpected,
    "anyOf": _alternatives,
    "oneOf": _alternatives,
    "minimum": _limit("a number of at least {}"),
    "maximum": _limit("a number of at most {}"),
    "exclusiveMinimum": _limit("a number above {}"),
    "exclusiveMaximum": _limit("a number below {}"),
    "multipleOf": _limit("a multiple of {}"),
    "minLength": _limit("at least {} characters", _characters),
    "maxLength": _limit("at most {} characters", _characters),
    "minItems": _limit("at least {} items", _items),
    "maxItems": _limit("at most {} items", _items),
    "minProperties": _limit("at least {} keys", _properties),
    "maxProperties": _limit("at most {} keys", _properties),
    "pattern": lambda _e, value, _s: ("a string of another form", f"a string that matches /{value}/"),
    "format": _format,
    "uniqueItems": lambda _e, _v, _s: ("an array with an item twice", "an array without equal items"),
    "contains": lambda _e, _v, _s: ("an array without the item that is asked for", "an array that contains it"),
    "not": lambda _e, value, _s: ("", f"anything that does not fit {_quoted(value)}"),
    "falseSchema": lambda _e, _v, _s: ("", "nothing at this place"),
    "propertyNames": _names,
}


def reask_messages(text: str, errors: Iterable[str], schema: Schema | None) -> list[dict[str, Any]]:
    """Chat messages that ask for the output once more: the model's own, and what is wrong with it.

    The schema is said again where it is short.
    """
    said = text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "…"
    lines = ["Your answer does not meet the JSON Schema that it must meet:", *(f"- {error}" for error in errors)]
    if schema is not None:
        written = msgspec.json.encode(schema).decode()
        if len(written) <= SCHEMA_MAX:
            lines += ["The schema:", written]
    lines.append("Answer again with the corrected JSON value alone: no other words, no Markdown.")
    return [{"role": "assistant", "content": said}, {"role": "user", "content": "\n".join(lines)}]
