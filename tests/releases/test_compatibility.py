"""What callers would not survive: schema, tools and prompt of a candidate against what was seen of them."""

import msgspec
import pytest

from pilothouse.domain.callers import Callers
from pilothouse.domain.manifest import Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.releases.compatibility import compare

SCHEMA = {
    "type": "object",
    "required": ["answer", "kind"],
    "properties": {
        "answer": {"type": "string"},
        "kind": {"enum": ["refund", "other"]},
        "note": {"type": "string"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
    },
}
SEEN = Callers(
    total=900,
    sample=100,
    prompted=100,
    variables={"question": 100, "tone": 40},
    objects=100,
    fields={"/answer": 100, "/kind": 100, "/note": 7, "/items": 5, "/items/*/sku": 5},
    values={"/kind": {"other": 98, "refund": 2}},
    called={"search": 12},
    own_tools={"lookup": 3},
    formats={msgspec.json.encode({"type": "object", "properties": {"city": {"type": "string"}}}).decode(): 9},
)


def manifest(schema=None, tools=None, variables=("question",)):
    return Manifest(
        model=ModelRef("p", "m"), prompt=Template(text="x", variables=variables), schema=schema, tools=tools
    )


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": sorted(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def edited(**change):
    properties = {**SCHEMA["properties"], **change.pop("properties", {})}
    return {**SCHEMA, "properties": {k: v for k, v in properties.items() if v is not None}, **change}


def found(before, after, callers=SEEN):
    return [(str(one).split(",")[0], one.n, one.breaks) for one in compare(before, after, callers)]


@pytest.mark.parametrize(
    ("after", "said", "n"),
    [
        (edited(properties={"answer": None}, required=["kind"]), "schema/answer: required field removed", 100),
        (
            edited(properties={"answer": None, "reply": {"type": "string"}}, required=["kind", "reply"]),
            "schema/answer: required field removed",
            100,
        ),
        (edited(required=["kind"]), "schema/answer: required becomes optional", 100),
        (edited(properties={"note": None}), "schema/note: field removed", 7),
        (edited(properties={"kind": {"enum": ["other"]}}), "schema/kind: enum loses refund", 2),
        (edited(properties={"kind": {"enum": ["refund", "other", "spam"]}}), "schema/kind: enum gains spam", 0),
        (edited(properties={"answer": {"type": ["string", "null"]}}),
         "schema/answer: type string becomes null or string", 100),
        (
            edited(properties={"items": {"type": "array", "items": {"type": "object", "properties": {}}}}),
            "schema/items/*/sku: field removed",
            5,
        ),
        (None, "schema: the schema is gone: JSON becomes text", 100),
    ],
)  # fmt: skip
def test_a_schema_that_readers_would_miss(after, said, n):
    assert found(manifest(SCHEMA), manifest(after)) == [(said, n, n > 0)]


@pytest.mark.parametrize(
    "after",
    [
        SCHEMA,
        edited(properties={"more": {"type": "string"}}),
        edited(properties={"answer": {"type": "string", "maxLength": 9}}),
        edited(required=["answer", "kind", "note"]),
    ],
)
def test_a_schema_that_only_promises_more(after):
    assert found(manifest(SCHEMA), manifest(after)) == []


def test_a_rename_is_guessed():
    after = edited(properties={"answer": None, "reply": {"type": "string"}}, required=["kind", "reply"])
    (only,) = compare(manifest(SCHEMA), manifest(after), SEEN)
    assert only.what == "required field removed, perhaps renamed to reply"


def test_nobody_seen_breaks_nothing_and_is_worth_a_look():
    (only,) = compare(manifest(SCHEMA), manifest(edited(required=["kind"])), Callers())
    assert (only.breaks, str(only)) == (
        False,
        "schema/answer: required becomes optional, no caller seen that relies on it",
    )


def test_text_that_becomes_json_and_a_format_of_ones_own():
    callers = msgspec.structs.replace(SEEN, objects=60)
    said = found(manifest(), manifest(SCHEMA), callers)
    assert said == [
        ("schema: text becomes JSON", 40, True),
        ("schema/city: callers' own response_format is replaced: field removed", 9, True),
    ]


def test_tools_that_were_called_and_tools_that_were_not():
    before = manifest(tools=[tool("search", query={"type": "string"}), tool("idle")])
    assert found(before, manifest(tools=[tool("idle")])) == [("tools[search]: tool removed that is called", 12, True)]
    assert found(before, manifest(tools=[tool("search", query={"type": "string"})])) == [
        ("tools[idle]: tool removed", 0, False)
    ]
    narrower = manifest(tools=[tool("search", query={"type": "integer"}), tool("idle")])
    assert found(before, narrower) == [("tools[search]/query: type string becomes integer", 12, True)]
    assert [one[0] for one in found(before, manifest())] == [
        "tools[search]: tool removed that is called",
        "tools[idle]: tool removed",
    ]


def test_tools_of_callers_that_a_release_replaces():
    said = found(manifest(), manifest(tools=[tool("search")]))
    assert said == [("tools[lookup]: callers' own tools are replaced", 3, True)]


def test_a_variable_that_some_do_not_send():
    after = manifest(variables=("question", "tone", "input"))
    assert found(manifest(), after) == [("prompt.tone: a variable that is not sent", 60, True)]
