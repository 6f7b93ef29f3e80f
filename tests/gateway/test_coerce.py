"""Coercion toward the schema, and the sentences that explain what is wrong."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.gateway.coerce import coerce
from pilothouse.gateway.explain import explained, reask_messages

SCHEMA = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "b": {"type": ["boolean", "null"]},
        "e": {"enum": ["Open", "Closed", 3]},
        "l": {"type": "array", "items": {"type": "string"}},
        "s": {"type": "string"},
        "z": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/thing"}]},
        "free": {},
    },
    "additionalProperties": False,
    "$defs": {"thing": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}},
}
CHECK = jsonschema_rs.validator_for(SCHEMA)


def coerced(text: str, schema: dict[str, Any]) -> tuple[str, list[str]] | None:
    return coerce(text, jsonschema_rs.validator_for(schema), schema)


@pytest.mark.parametrize(
    ("text", "result", "places"),
    [
        ('{"n": "12"}', '{"n":12}', ["/n"]),
        ('{"n": "-0"}', '{"n":-0}', ["/n"]),
        ('{"x": "1.50"}', '{"x":1.50}', ["/x"]),
        ('{"b": "true", "n": "1"}', '{"b":true,"n":1}', ["/b", "/n"]),
        ('{"b": "null"}', '{"b":null}', ["/b"]),
        ('{"e": "open"}', '{"e":"Open"}', ["/e"]),
        ('{"e": "3"}', '{"e":3}', ["/e"]),
        ('{"l": "one"}', '{"l":["one"]}', ["/l"]),
        ('{"l": [1, "two"]}', '{"l":["1","two"]}', ["/l/0"]),
        ('{"l": 5}', '{"l":["5"]}', ["/l", "/l/0"]),
        ('{"s": 123456789012345678901234567890}', '{"s":"123456789012345678901234567890"}', ["/s"]),
        ('{"n": "1", "x": 1.10, "s": "1"}', '{"n":1,"x":1.10,"s":"1"}', ["/n"]),
        ('{"z": {"id": "7"}}', '{"z":{"id":7}}', ["/z/id"]),
    ],
)
def test_what_means_the_right_thing_gets_its_type(text: str, result: str, places: list[str]) -> None:
    assert coerced(text, SCHEMA) == (result, places)


@pytest.mark.parametrize(
    "text",
    [
        '{"n": "007"}', '{"n": "+5"}', '{"n": "1,234"}', '{"n": " 1"}', '{"n": "1.5"}', '{"n": 1.5}', '{"n": ""}',
        '{"n": "0x10"}', '{"x": "NaN"}', '{"x": "1e400"}', '{"b": "yes"}', '{"b": 1}', '{"s": true}', '{"s": null}',
        '{"e": "opened"}', '{"e": ["Open"]}', '{"l": null}', '{"l": {"a": 1}}', '{"n": "1", "extra": 1}',
        '{"z": {"id": "x"}}', '{"z": "none"}', '{"n": [1]}',
    ],
)  # fmt: skip
def test_nothing_is_guessed_and_nothing_is_half_done(text: str) -> None:
    assert coerced(text, SCHEMA) is None


def test_of_two_readings_neither_is_taken() -> None:
    assert coerced('"1"', {"type": ["array", "integer"]}) is None
    assert coerced('"OPEN"', {"enum": ["open", "Open"]}) is None
    assert coerced('"1"', {"anyOf": [{"type": "integer"}, {"type": "array"}]}) is None
    assert coerced('"1"', {"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}) == ("1", [""])


def test_null_is_put_only_where_the_schema_names_it() -> None:
    named = SCHEMA | {"required": ["b", "z"]}
    assert coerced("{}", named) == ('{"b":null,"z":null}', ["/b", "/z"])
    for required in ("n", "free", "unknown"):
        assert coerced("{}", SCHEMA | {"required": [required]}) is None


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "q"]), st.sampled_from(
    [0, "1", "x", "true", True, None, 1.5, "open", [], ["a", 1], {"id": "3"}, {"id": 1}, {}, "null"]
)))  # fmt: skip
def test_what_is_valid_stays_and_what_comes_out_is_valid(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    made = coerce(text, CHECK, SCHEMA)
    if CHECK.is_valid(value):
        assert made == (text, [])
        return
    if made is None:
        return
    after = json.loads(made[0])
    assert CHECK.is_valid(after) and made[1]
    touched = {place.split("/")[1] for place in made[1]}
    assert {k: v for k, v in after.items() if k not in touched} == {k: v for k, v in value.items() if k not in touched}


SENTENCES: list[tuple[dict[str, Any], Any, str]] = [
    ({"type": "integer"}, "x", "/: found a string, allowed is an integer"),
    ({"type": ["integer", "null"]}, True, "/: found a boolean, allowed is null or an integer"),
    ({"enum": ["a", "b"]}, "c", '/: found a string that is not in the list, allowed is one of "a", "b"'),
    ({"const": 5}, 6, "/: found an integer of another value, allowed is only 5"),
    ({"required": ["a"]}, {}, "/: found no key “a”, allowed is only an object with “a”"),
    ({"properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, "/: found the key “b”, allowed is only “a”"),
    ({"items": {"minimum": 3}}, [4, 2], "/1: found an integer, allowed is a number of at least 3"),
    ({"exclusiveMaximum": 3}, 3, "/: found an integer, allowed is a number below 3"),
    ({"multipleOf": 3}, 4, "/: found an integer, allowed is a multiple of 3"),
    ({"maxLength": 2}, "abc", "/: found a string of 3 characters, allowed is at most 2 characters"),
    ({"pattern": "^a"}, "b", "/: found a string of another form, allowed is a string that matches /^a/"),
    ({"minItems": 1}, [], "/: found an array of 0 items, allowed is at least 1 items"),
    ({"maxProperties": 0}, {"a": 1}, "/: found an object of 1 keys, allowed is at most 0 keys"),
    ({"uniqueItems": True}, [1, 1], "/: found an array with an item twice, allowed is an array without equal items"),
    (
        {"contains": {"const": 1}},
        [],
        "/: found an array without the item that is asked for, allowed is an array that contains it",
    ),
    ({"not": {"type": "null"}}, None, '/: found null, allowed is anything that does not fit {"type":"null"}'),
    ({"properties": {"a": False}}, {"a": 1}, "/a: found an integer, allowed is nothing at this place"),
    (
        {"propertyNames": {"maxLength": 1}},
        {"ab": 1},
        "/: found a key that is not allowed, allowed is a key that is at most 1 characters",
    ),
    ({"unevaluatedProperties": False}, {"a": 1}, "/: found the key “a”, allowed is none beside those described"),
    ({"prefixItems": [{}], "items": False}, [1, 2], "/1: found an integer, allowed is nothing at this place"),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 5, "/: found an integer, allowed is a string or null"),
    (
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        1,
        "/: found an integer that fits several alternatives, allowed is one that fits exactly one of them",
    ),
]


@pytest.mark.parametrize(("schema", "value", "sentence"), SENTENCES)
def test_each_error_is_one_sentence_with_place_found_and_allowed(
    schema: dict[str, Any], value: Any, sentence: str
) -> None:
    assert explained(jsonschema_rs.validator_for(schema).iter_errors(value), schema) == [sentence]


def test_the_alternative_that_was_meant_is_explained() -> None:
    def shape(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": "object", "properties": {"kind": {"const": kind}, **fields}, "required": ["kind", *fields]}

    schema = {
        "anyOf": [
            {"type": "null"},
            shape("a", x={"type": "string"}),
            shape("b", y={"type": "string"}, z={"type": "null"}),
        ]
    }
    check = jsonschema_rs.validator_for(schema)
    assert explained(check.iter_errors({"kind": "b", "y": 1, "z": None}), schema) == [
        "/y: found an integer, allowed is a string"
    ]
    assert explained(check.iter_errors({"kind": "a", "y": ""}), schema) == [
        "/: found no key “x”, allowed is only an object with “x”"
    ]


def test_the_record_never_holds_a_value_and_the_model_is_told_it() -> None:
    schema = {"properties": {"mail": {"type": "string", "maxLength": 3}, "n": {"enum": [1]}}}
    check = jsonschema_rs.validator_for(schema)
    value = {"mail": "ann@example.org", "n": "ann@example.org"}
    assert "ann@" not in str(explained(check.iter_errors(value), schema))
    loud = explained(check.iter_errors(value), schema, quote=True)
    assert all("ann@" in sentence for sentence in loud)
    said = reask_messages(json.dumps(value), loud, schema)
    assert [m["role"] for m in said] == ["assistant", "user"]
    assert "/mail" in said[1]["content"] and '"maxLength":3' in said[1]["content"]
    assert "maxLength" not in reask_messages("x", [], {"maxLength": 3, "description": "d" * 5_000})[1]["content"]
