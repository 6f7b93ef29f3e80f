"""The watch over a stream: early where the answer is lost, silent where it may still be right."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.gateway.coerce import coerce
from pilothouse.gateway.extract import find
from pilothouse.gateway.repair import NOT_JSON, decode
from pilothouse.gateway.watch import Watch

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["invoice", "inquiry"]},
        "n": {"type": "integer", "minimum": 0, "maximum": 10},
        "name": {"type": "string", "maxLength": 5, "minLength": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "minItems": 1},
        "at": {"$ref": "#/$defs/place"},
        "ok": {"type": "boolean"},
        "who": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
    "required": ["kind"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False}},
}
CHECK = jsonschema_rs.validator_for(SCHEMA)


def seen(text: str, *, lenient: bool = False, schema: Any = SCHEMA) -> tuple[str, str] | None:
    """How much of the text had arrived when the watch spoke, and what it said."""
    watch = Watch(schema, lenient=lenient)
    return next(((text[: i + 1], why) for i, c in enumerate(text) if (why := watch.feed(c))), None)


@pytest.mark.parametrize(
    ("until", "rest", "says"),
    [
        ("[", "1]", "found an array"),
        ('"', 'a"', "found a string"),
        ("H", "ere it is: {}", "not JSON"),
        ('{"colour"', ": 1}", "not allowed"),
        ('{"kind": "inx', 'yz"}', "not in the list"),
        ('{"kind": "inv"', "}", "not in the list"),
        ('{"kind": "\\u0078', '"}', "not in the list"),
        ('{"n": "', '1"}', "found a string"),
        ('{"n": 11,', "", "beyond maximum 10"),
        ('{"n": -1}', "", "beyond minimum 0"),
        ('{"n": 1.5 ', "}", "found a number"),
        ('{"name": "Joseph', 'ine"}', "more than 5 characters"),
        ('{"name": ""', "}", "at least 1"),
        ('{"tags": ["a", "b", "', 'c"]}', "more than 2 items"),
        ('{"tags": []', "}", "at least 1"),
        ('{"tags": [1', "]}", "/tags/0: found a number"),
        ('{"at": {"y"', ": 1}}", "not allowed"),
        ('{"at": {"x": true}', "}", "found a boolean"),
        ('{"who": [', "]}", "/who: found an array"),
        ('{"n": 1}', "", "without “kind”"),
        ('{"n": 1, "n"', ": 2}", "twice"),
        ('{"n": 01,', "", "not JSON"),
        ('{"n" 1', "", "not JSON"),
        ('{"n": Na', "N}", "not JSON"),
        ('{"name": "\\x', '"}', "not JSON"),
        ('{"name": "\\ud83dx', '"}', "not JSON"),
        ('{"kind": "invoice"} a', "nd", "more text"),
    ],
)  # fmt: skip
def test_a_lost_answer_is_seen_at_the_character_that_loses_it(until: str, rest: str, says: str) -> None:
    found = seen(until + rest + " ")
    assert found is not None
    assert found[0] == until and says in found[1]


@pytest.mark.parametrize("text", [
    "not a word of JSON " * 200, '{"colour"', '{"kind": "invx', '{"name": "Josephine', '{"n": "twelve" ', '{"at": [',
    "```json\n[", '<think>{"colour": 1}</think>{"colour"', '{"n": 11,', '{"tags": ["a","b","c"',
])  # fmt: skip
def test_a_lenient_watch_still_sees_what_cannot_be_mended(text: str) -> None:
    assert seen(text, lenient=True) is not None


@pytest.mark.parametrize("text", [
    '{"n": "7", "kind": "INVOICE"}', "{'kind': 'invoice'}",
    '{"kind": "invoice",}', '{"tags": "one", "kind": "invoice"}',
    'Here it is: {"kind": "invoice"}',
    '```json\n{"kind": "invoice"}\n```', '<think>{"x"</think>{"kind": "invoice"} bye',
    '{"name": 12, "kind": "invoice"}', '{"ok": "true", "kind": "invoice"}', '{"name": "a\nb", "kind": "inquiry"}',
])  # fmt: skip
def test_a_lenient_watch_leaves_what_can_be_mended(text: str) -> None:
    assert seen(text, lenient=True) is None


def test_the_size_of_the_pieces_makes_no_difference() -> None:
    text = '{"kind": "invoice", "name": "\\ud83d\\ude00é\\n", "n": 10, '
    text += '"tags": ["a", "\\u0062"], "ok": true, "at": {"x": -1.5e1}}'
    assert CHECK.is_valid(json.loads(text))
    for size in (1, 2, 3, 7, 1_000):
        watch = Watch(SCHEMA)
        assert [watch.feed(text[i : i + size]) for i in range(0, len(text), size)] == [None] * -(-len(text) // size)
        assert watch.feed("x") and watch.feed("y")  # and a reason is final


def test_a_schema_that_is_not_understood_is_not_judged() -> None:
    for schema in (
        {"$schema": "http://example.org/my-dialect", "type": "object"},
        {"if": {"type": "object"}, "then": False},
    ):
        assert seen('["a"]', schema=schema) is None
    inner = {
        "type": "array",
        "items": {"$ref": "#/$defs/a"},
        "$defs": {"a": {"type": "null"}, "b": {"$id": "http://x/"}},
    }
    assert seen("[1]", schema=inner) is None
    old = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": "#/definitions/a",
        "type": "null",
        "definitions": {"a": {}},
    }
    assert seen("[1]", schema=old) is None and jsonschema_rs.validator_for(old).is_valid([1])
    assert seen("[[[[1]]]]", schema={"anyOf": [{"$ref": "#"}, {"items": {"$ref": "#"}}]}) is None


def test_the_work_is_linear() -> None:
    """Every character is looked at once: the steps taken for ten times the text are ten times as many."""

    class Counting(Watch):
        steps = 0

        def _grow(self, piece: str) -> None:
            self.steps += len(piece)
            super()._grow(piece)

    counts = []
    for size in (1_000, 10_000):
        watch = Counting({"type": "array"})
        for c in json.dumps(["abcdefghij"] * size):
            watch.feed(c)
        counts.append(watch.steps)
    assert counts == [10_000, 100_000]


scalars = st.sampled_from([0, 1, -1, 1.0, 1.5, 2**60, "", "a", "ab", "A", "1", "true", "é😀", True, False, None])
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("abc"), v, max_size=3), max_leaves=6
)
types = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from("abc")
    lists = st.lists(inner, min_size=1, max_size=3)
    return st.fixed_dictionaries({}, optional={
        "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
        "enum": st.lists(values, min_size=1, max_size=3),
        "const": values,
        "properties": st.dictionaries(names, inner, max_size=3),
        "additionalProperties": inner,
        "patternProperties": st.dictionaries(names, inner, max_size=1),
        "required": st.lists(names, max_size=2, unique=True),
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "maxItems": st.integers(0, 2), "minItems": st.integers(0, 2),
        "maxLength": st.integers(0, 2), "minLength": st.integers(0, 2),
        "minimum": st.integers(-1, 1), "maximum": st.integers(-1, 1),
        "exclusiveMinimum": st.integers(-1, 1), "exclusiveMaximum": st.floats(-1, 1),
        "anyOf": lists, "oneOf": lists, "allOf": lists, "not": inner, "if": inner, "then": inner,
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/$defs/missing", "#x"]),
    })  # fmt: skip


schemas = st.recursive(st.booleans() | st.builds(dict), _schemas, max_leaves=6)


def compiled(schema: Any) -> Any | None:
    try:
        return jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None


def valid(check: Any, value: Any) -> bool:
    return bool(check.is_valid(value))


def whole(schema: Any, a: Any) -> Any:
    """A schema that others inside it can refer to; `$ref: "#"` only where it is beside something that ends."""
    return schema if isinstance(schema, bool) else {**schema, "$defs": {"a": a}}


@settings(max_examples=500)
@given(schemas, st.booleans() | st.builds(dict, type=types), values)
def test_no_false_alarm_for_any_schema_and_value(schema: Any, a: Any, value: Any) -> None:
    """Of a value that is valid nothing is said at any prefix, in JSON as it is and in JSON that will be mended."""
    schema = whole(schema, a)
    check = compiled(schema) if '"$ref": "#"' not in json.dumps(schema) else None
    if check is None or not valid(check, value):
        return
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert seen(text + "\n", schema=schema) is None
        assert seen(text + "\n", schema=schema, lenient=True) is None
    for around in ("```json\n{}\n```", "<think>[1]</think>{}", "It is: {} so"):
        assert seen(around.replace("{}", json.dumps(value)), schema=schema, lenient=True) is None


@settings(max_examples=500)
@given(schemas, values)
def test_no_false_alarm_for_what_will_be_mended(schema: Any, value: Any) -> None:
    """Whatever repair and coercion make valid, a lenient watch lets pass."""
    if isinstance(schema, bool) or "$ref" in json.dumps(schema) or (check := compiled(schema)) is None:
        return
    for text in (json.dumps(value), repr(value)):
        found = find(text, close=True)
        mended = text if decode(text) is not NOT_JSON else found.text
        if mended and coerce(mended, check, schema) is not None:
            assert seen(text + " ", schema=schema, lenient=True) is None, schema
