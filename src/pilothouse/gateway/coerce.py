"""Schema-guided coercion: a value that means the right thing in the wrong type is given the type that its schema asks.

"1" → 1 where only an integer or number may stand, "true" → true, 5 → "5" where only a string may stand, a scalar →
[scalar] where only an array may stand, an enum's value in another case → that value, an absent required property whose
schema names null → null. Where two readings are possible nothing is done; either the whole value fits afterwards or
nothing was changed. Numbers keep their digits.
"""

import copy
import itertools
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec

from pilothouse.gateway.explain import Schema, pointer, schema_of

ROUNDS_MAX = 4  # a coercion may bring out the next error; each round validates once
ERRORS_MAX = 64
BRANCHES_MAX = 32
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")
_BOOLEANS = {"true": True, "True": True, "false": False, "False": False}
Path = list[Any]
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder().decode


def _number(digits: str) -> int | Decimal:
    return Decimal(digits) if digits == "-0" or len(digits) > 18 else int(digits)


_exact = json.JSONDecoder(parse_float=Decimal, parse_int=_number).decode


def coerce(text: str, check: Any, schema: Schema) -> tuple[str, list[str]] | None:
    """The JSON `text` made to fit, with the pointers of what was changed; None where it cannot be, or not surely."""
    tree = {"": _exact(text)}  # in a holder, so that the whole can be replaced like any part
    changed: dict[str, None] = {}
    for _ in range(ROUNDS_MAX):
        errors = list(itertools.islice(check.iter_errors(_decode(text)), ERRORS_MAX))
        if not errors:
            return text, list(changed)
        edits = _edits(tree, errors, schema)
        if edits is None:
            return None
        for path, value in edits:
            _put(tree, path, value)
            changed[pointer(path)] = None
        text = _encode(tree[""]).decode()
    return None


def _edits(tree: Any, errors: list[Any], schema: Schema) -> list[tuple[Path, Any]] | None:
    """One edit for each place that has an error; None where an error has none, or two that differ."""
    found: dict[str, tuple[Path, Any]] = {}
    for error in errors:
        edits = list(_edit(tree, error, schema))
        if not edits:
            return None
        for path, value in edits:
            before = found.setdefault(pointer(path), (path, value))
            if not _same(before[1], value):
                return None
    return list(found.values())


def _edit(tree: Any, error: Any, schema: Schema) -> Iterator[tuple[Path, Any]]:
    """The edits that this error asks for; none where there is none, or no single one."""
    path, name, wanted = list(error.instance_path), error.kind.name, error.kind.value
    if name == "required":
        if _names_null(schema_of(error, schema).get("properties", {}).get(wanted), schema):
            yield [*path, wanted], None
        return
    if name in ("anyOf", "oneOf"):
        yield from _alternative(tree, error, schema)
        return
    here = _at(tree, path)
    made: list[Any] = []
    if name == "type":
        made = [value for kind in wanted for value in _of_type(here, kind)]
    elif name in ("enum", "const"):
        made = _of_list(here, wanted if name == "enum" else [wanted])
    if made and all(_same(made[0], value) for value in made):
        yield path, made[0]


def _of_type(value: Any, kind: str) -> Iterator[Any]:
    """`value` as `kind`, where that is what it says."""
    if kind == "array":
        if value is not None and not isinstance(value, list | dict):
            yield [value]
    elif isinstance(value, str):
        if kind == "boolean" and value in _BOOLEANS:
            yield _BOOLEANS[value]
        elif kind == "null" and value == "null":
            yield None
        elif (kind == "integer" and _INTEGER.fullmatch(value)) or (kind == "number" and _NUMBER.fullmatch(value)):
            yield Decimal(value)
    elif kind == "string" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        yield _encode(value).decode()


def _of_list(value: Any, options: list[Any]) -> list[Any]:
    """The options that `value` is in another case, or in quotes."""
    if not isinstance(value, str):
        return []
    folded = value.casefold()
    strings = [o for o in options if isinstance(o, str) and o.casefold() == folded]
    return strings or [o for o in options if not isinstance(o, str | list | dict) and _encode(o).decode() == value]


def _alternative(tree: Any, error: Any, schema: Schema) -> Iterator[tuple[Path, Any]]:
    """The edits of the only alternative that they can make fit; of several whose result is the same, of the first."""
    ways: list[list[tuple[Path, Any]]] = []
    results: list[bytes] = []
    path = list(error.instance_path)
    for branch in list(getattr(error.kind, "context", None) or [])[:BRANCHES_MAX]:
        edits = _edits(tree, list(branch)[:ERRORS_MAX], schema) if branch else None
        if not edits:
            continue
        trial = copy.deepcopy(tree)
        for place, value in edits:
            _put(trial, place, value)
        ways.append(edits)
        results.append(_encode(_at(trial, path)))
    if ways and len(set(results)) == 1:
        yield from ways[0]


def _names_null(schema: Any, root: Schema, depth: int = 0) -> bool:
    """Whether a schema says in so many words that null may stand there."""
    if not isinstance(schema, dict) or depth > 8:
        return False
    types = schema.get("type")
    if "type" in schema:
        return types == "null" or (isinstance(types, list) and "null" in types)
    if "enum" in schema:
        return isinstance(schema["enum"], list) and None in schema["enum"]
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref.startswith("#/"):
        return _names_null(_resolved(root, ref), root, depth + 1)
    branches = [*(schema.get("anyOf") or ()), *(schema.get("oneOf") or ())]
    return any(_names_null(branch, root, depth + 1) for branch in branches)


def _resolved(root: Schema, ref: str) -> Any:
    node: Any = root
    for part in ref[2:].split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _at(tree: Any, path: Path) -> Any:
    node = tree[""]
    for step in path:
        node = node[step]
    return node


def _put(tree: Any, path: Path, value: Any) -> None:
    node, steps = tree, ["", *path]
    for step in steps[:-1]:
        node = node[step]
    node[steps[-1]] = value
