"""Structured output: validation, the low-risk repairs, and what policy does with what is still invalid."""

import base64
import json

import msgspec
import pytest
from tests.gateway.conftest import Stack, live, quick

from pilothouse.domain.errors import InvalidOutput
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback
from pilothouse.domain.record import Record
from pilothouse.gateway.extract import find
from pilothouse.gateway.types import Parsed, Rendered, Resolved
from pilothouse.gateway.validate import accept
from pilothouse.providers.openai import Choice, Completion, Message

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ann", "age": 31}'

REPAIRS = [
    ("<think>{not this}</think>" + GOOD, ["think_tags"], GOOD),
    (f"```json\n{GOOD}\n```", ["fence"], GOOD),
    (f"Sure! Here it is: {GOOD} Anything else?", ["prose"], GOOD),
    (f'First {{"name": "no"}} then {GOOD}', ["prose"], GOOD),
    ('{"name": "Ann", "age": 31,}', ["trailing_comma"], GOOD),
    ('{"a": True, "b": None, "c": "None, True"}', ["python_literals"], '{"a": true, "b": null, "c": "None, True"}'),
    ("{'name': 'Ann\\'s \"cat\"', 'age': 31}", ["single_quotes"], '{"name": "Ann\'s \\"cat\\"", "age": 31}'),
    ("{'say': 'it's fine'}", ["single_quotes"], '{"say": "it\'s fine"}'),
    ('{"name": "Ann", "list": [1, {"a": 2', ["closers"], '{"name": "Ann", "list": [1, {"a": 2}]}'),
    ("Here:\n```\n{'name': 'Ann', 'age': 31,}\n```", ["fence", "prose", "single_quotes", "trailing_comma"], GOOD),
]


@pytest.mark.parametrize(("text", "names", "result"), REPAIRS)
def test_each_repair_is_named_and_exact(text: str, names: list[str], result: str) -> None:
    found = find(text, close=True)
    assert list(found.repairs) == names
    assert json.loads(found.text) == json.loads(result)


@pytest.mark.parametrize(
    "text",
    [
        "I cannot help with that.",
        "",
        '{"a": 1, "b":',
        '{"a": "unfinished',
        "{a: 1}",
        '{"a": NaN}',
        '{"price": 1,234}',
        "{]",
    ],
)
def test_nothing_is_guessed(text: str) -> None:
    assert find(text, close=True).text == ""


def test_a_truncated_value_is_not_closed() -> None:
    assert find('{"a": [1, 2', close=False).text == ""


async def ask(
    stack: Stack, reply: str, invalid: tuple[str, ...] = ("repair", "error"), **more: object
) -> tuple[int, dict]:  # type: ignore[type-arg]
    stack.script(msgspec.json.encode({"rules": [{"reply": reply} | more]}).decode())
    stack.route(stable=live(schema=SCHEMA, policy=quick(invalid=invalid)))
    answer = await stack.ask()
    return answer.status, await answer.json()


async def test_the_schema_is_sent_and_a_valid_answer_passes_unchanged(stack: Stack) -> None:
    status, body = await ask(stack, GOOD)
    assert status == 200 and body["choices"][0]["message"]["content"] == GOOD
    validation = stack.record.validation
    assert validation is not None and validation.first_ok and validation.ok and validation.repairs == []
    assert stack.record.payload is not None
    sent = msgspec.json.decode(base64.b64decode(stack.provider.received[0].body_b64))
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }


async def test_a_repaired_answer_is_delivered_repaired(stack: Stack) -> None:
    status, body = await ask(stack, f"```json\n{GOOD}\n```")
    assert status == 200 and body["choices"][0]["message"]["content"] == GOOD
    validation = stack.record.validation
    assert validation is not None
    assert (validation.first_ok, validation.ok, validation.repairs) == (False, True, ["fence"])


INVALID = [
    ("no json at all", ["repair", "error"], "the output is not JSON", [], []),
    (f"```\n{GOOD}\n```", ["error"], "the output is not JSON", [], []),
    ('{"name": "Ann"}', ["repair", "error"], "/", ["/age"], []),
    ('{"name": "Ann", "age": "thirty"}', ["repair", "error"], "/age", [], ["/age"]),
    ('{"name": "Ann", "age": -1}', ["repair", "error"], "/age", [], ["/age"]),
]


@pytest.mark.parametrize(("text", "invalid", "says", "missing", "mismatched"), INVALID)
async def test_an_invalid_answer_is_a_typed_error(
    stack: Stack, text: str, invalid: list[str], says: str, missing: list[str], mismatched: list[str]
) -> None:
    status, body = await ask(stack, text, tuple(invalid))
    assert (status, body["error"]["code"], body["error"]["type"]) == (422, "invalid_output", "invalid_output_error")
    record = stack.record
    assert record.outcome == "failed" and record.error_type == "invalid_output"
    validation = record.validation
    assert validation is not None and not validation.ok and not validation.delivered_invalid
    assert says in validation.error
    assert (validation.missing, validation.mismatched) == (missing, mismatched)
    assert record.attempts[0].tokens is not None and not record.attempts[0].delivered


async def test_output_cut_by_max_tokens_fails_fast(stack: Stack) -> None:
    status, body = await ask(stack, '{"name": "Ann", "age": 31', finish_reason="length")
    assert status == 422 and "max_tokens" in body["error"]["message"]
    assert body["error"]["code"] == "output_truncated"
    assert stack.record.validation is not None and stack.record.validation.stages == ["exact", "truncated"]


async def test_an_alternative_is_explained_by_its_own_fields(stack: Stack) -> None:
    def tool(name: str, field: str) -> dict[str, object]:
        properties = {"tool": {"const": name}, field: {"type": "string"}}
        return {"type": "object", "properties": properties, "required": ["tool", field]}

    stack.script("rules: [{json: {tool: mail, to: [7]}}]")
    schema = {"oneOf": [tool("search", "query"), tool("mail", "to")]}
    stack.route(stable=live(schema=schema, policy=quick()))
    body = await (await stack.ask()).json()
    assert "/to" in body["error"]["message"] and "string" in body["error"]["message"]


async def test_retry_then_fallback_model_for_invalid_output(stack: Stack) -> None:
    stack.script("rules: [{match: {model: small}, reply: nope}, {match: {model: other}, json: {name: Bo, age: 2}}]")
    policy = quick(
        invalid=("repair", "retry", "fallback", "error"),
        fallback=(Fallback(model=ModelRef("fake", "other"), on=("invalid_output",)),),
    )
    stack.route(stable=live(schema=SCHEMA, policy=policy))
    reply = await stack.ask()
    assert reply.status == 200
    record = stack.record
    assert record.outcome == "fallback"
    assert [(a.kind, a.error_type) for a in record.attempts] == [
        ("primary", "invalid_output"),
        ("retry", "invalid_output"),
        ("fallback", ""),
    ]
    assert record.validation is not None
    assert (record.validation.first_ok, record.validation.ok, record.validation.retried) == (False, True, 2)


async def test_a_stream_with_a_schema_is_checked_whole_and_then_streamed(stack: Stack) -> None:
    stack.script(f"rules: [{{reply: 'Here: {GOOD}'}}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick()))
    reply = await stack.ask(stream=True)
    body = await reply.text()
    assert reply.get_header("content-type") == "text/event-stream; charset=utf-8"
    chunks = [msgspec.json.decode(e.removeprefix("data: ")) for e in body.split("\n\n")[:-2]]
    assert body.endswith("data: [DONE]\n\n")
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == GOOD
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert stack.record.stream and stack.record.validation is not None


async def test_an_invalid_stream_is_an_error_not_a_stream(stack: Stack) -> None:
    stack.script("rules: [{reply: nope}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick()))
    reply = await stack.ask(stream=True)
    assert reply.status == 422


async def test_a_refusal_by_the_filter_is_its_own_outcome(stack: Stack) -> None:
    status, _ = await ask(stack, "I cannot", finish_reason="content_filter")
    assert status == 200
    assert stack.record.outcome == "refused" and stack.record.validation is None


async def test_tool_calls_are_not_held_to_the_schema(stack: Stack) -> None:
    stack.script("rules: [{reply: '', tool_calls: [{name: f}]}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick()))
    assert (await stack.ask()).status == 200
    assert stack.record.validation is None and stack.record.outcome == "success"


async def test_a_refusal_in_words_is_not_a_value(stack: Stack) -> None:
    status, body = await ask(stack, "I'm sorry, but I can't help with that.")
    assert status == 422 and body["error"]["code"] == "output_refused"
    assert stack.record.validation is not None and stack.record.validation.stages == ["exact", "extract", "refusal"]


async def test_a_coerced_answer_is_delivered_coerced(stack: Stack) -> None:
    status, body = await ask(stack, "```\n{'name': 'Ann', 'age': '31'}\n```")
    assert status == 200 and body["choices"][0]["message"]["content"] == '{"name":"Ann","age":31}'
    validation = stack.record.validation
    assert validation is not None and validation.ok and not validation.first_ok
    assert validation.repairs == ["fence", "single_quotes", "coerce"] and validation.coerced == ["/age"]
    assert validation.stages == ["exact", "extract", "repair", "schema", "coerce"]
    assert validation.mismatched == ["/age"]


@pytest.mark.parametrize(
    "text", ['{"name": "Ann", "age": 31, "age": 32}', '{"name": "Ann", "age": NaN}', '{"name": "Ann", "age": 031}']
)
async def test_what_has_no_one_meaning_is_never_delivered(stack: Stack, text: str) -> None:
    status, body = await ask(stack, text)
    assert status == 422 and "not JSON" in body["error"]["message"]


def refused(text: str, finish: str = "stop", **policy: object) -> InvalidOutput:
    """The error that this answer raises."""
    parsed = Parsed(raw=b"", body={}, model="answer", messages=[{"role": "user", "content": "hi"}])
    resolved = Resolved(parsed, live(schema=SCHEMA, policy=quick(**policy)), ModelRef("fake", "small"), "answer")
    completion = Completion(choices=[Choice(message=Message(content=text), finish_reason=finish)])
    record = Record(id="r", ts_us=0, trace_id="t", span_id="s")
    with pytest.raises(InvalidOutput) as caught:
        accept(Rendered(resolved, b"", b"", False), record, b"{}", completion)
    return caught.value


def test_an_error_carries_what_asks_the_model_again() -> None:
    asking = ("repair", "reask", "error")
    said = refused('{"name": "Ann", "age": "many"}', invalid=asking).reask
    assert said is not None and [m["role"] for m in said] == ["assistant", "user"]
    assert '/age: found "many", allowed is an integer' in said[1]["content"] and '"minimum":0' in said[1]["content"]
    said = refused("Ann is 31", invalid=asking).reask
    assert said is not None and "no object in it" in said[1]["content"]
    for error in (
        refused("Ann is 31"),
        refused("I cannot do that.", invalid=asking),
        refused('{"name": "A', "length", invalid=asking),
    ):
        assert error.reask is None
