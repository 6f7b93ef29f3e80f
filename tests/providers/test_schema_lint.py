"""What providers' strict modes take, said when a release is made."""

from typing import Any

import pytest

from pilothouse.domain.errors import ConfigError
from pilothouse.providers.schema_lint import PROFILES, kind_of, lint

GOOD: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def deep(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        node = closed(a=node)
    return node


@pytest.mark.parametrize("kind", [k for k in PROFILES if PROFILES[k].name != "Gemini"])
def test_what_is_plain_is_taken_by_all(kind: str) -> None:
    assert lint(kind, GOOD, None) == ()


def test_gemini_does_not_enforce_closed_objects() -> None:
    assert [w.what for w in lint("gemini", GOOD, None)] == ["Gemini: “additionalProperties” is not enforced"]


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("openai", {"type": "object", "properties": {}, "required": []}, "", "without additionalProperties"),
    ("openai", {**GOOD, "required": ["name"]}, "", "“age” must be required"),
    ("openai", {"anyOf": [GOOD]}, "", "the whole must be an object"),
    ("openai", closed(a={"allOf": [{"type": "string"}]}), "/properties/a", "“allOf” is refused"),
    (
        "openai",
        closed(a={"type": "array", "items": {"type": "string", "minLength": 1}}),
        "/properties/a/items",
        "“minLength”",
    ),
    ("openai", closed(a={"type": "string", "format": "iri"}), "/properties/a", "the format “iri”"),
    ("openai", deep(12), "/properties/a" * 12, "nested 12 deep, taken are 10"),
    ("openai", closed(**{f"p{i}": {"type": "null"} for i in range(5_001)}), "", "5001 properties in all"),
    ("openai", closed(a={"enum": [str(i) for i in range(1_001)]}), "", "1001 enum values"),
    ("openai", closed(**{"a/b": {"not": {}}}), "/properties/a~1b", "“not” is refused"),
    ("anthropic", closed(a={"type": "integer", "minimum": 1}), "/properties/a", "“minimum” is refused"),
    ("anthropic", closed(a={"$ref": "#"}), "/properties/a", "contains itself"),
    (
        "anthropic",
        {**closed(a={"$ref": "#/$defs/t"}), "$defs": {"t": closed(t={"$ref": "#/$defs/t"})}},
        "/$defs/t/properties/t",
        "contains itself",
    ),
    ("gemini", {"type": "object", "properties": {"a": {"const": 1}}}, "/properties/a", "“const” is refused"),
    ("local", closed(a={"type": "array", "uniqueItems": True}), "/properties/a", "“uniqueItems” is not enforced"),
]


@pytest.mark.parametrize(("kind", "schema", "pointer", "says"), CASES)
def test_each_finding_has_its_place(kind: str, schema: dict[str, Any], pointer: str, says: str) -> None:
    found = lint(kind, schema, None)
    assert [(w.part, w.pointer) for w in found if says in w.what] == [("schema", pointer)]
    assert all(w.advice for w in found)


def test_tools_are_held_to_strict_mode_only_where_they_ask_for_it() -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    assert lint("openai", None, [{"type": "function", "function": function}]) == ()
    found = lint("openai", None, [{"type": "function", "function": {**function, "strict": True}}])
    assert [(w.part, w.pointer) for w in found] == [("tools", "/0/function/parameters")]


def test_an_unusable_schema_is_an_error_whatever_the_provider() -> None:
    for schema, tools in (({"type": 5}, None), ({"$ref": "http://example.org/x"}, None), (None, [{"name": "f", "input_schema": {"type": 5}}])):  # noqa: E501  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            lint("", schema, tools)
        assert caught.value.kind == "bad_schema"


def test_a_server_that_only_speaks_openai_has_no_profile() -> None:
    assert kind_of("openai", "http://127.0.0.1:8000/v1") == ""
    assert kind_of("openai", "") == kind_of("openai", "https://api.openai.com/v1") == "openai"
