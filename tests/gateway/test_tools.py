"""Tool calls: what is wrong with them is found, mended where that is low risk, and never delivered as a success."""

import json
from typing import Any

import msgspec
import pytest
from tests.gateway.conftest import Stack, live, quick

from pilothouse.domain.policy import ToolRules
from pilothouse.gateway.tools import check_calls, check_messages, reask_calls, repair_arguments, toolbox
from pilothouse.providers.openai import Message

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
PING: dict[str, Any] = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object"}}}
TOOLS = [WEATHER, PING]
GOOD = '{"city": "Oslo", "days": 3}'
RULES = ToolRules()


def call(name: str = "weather", arguments: str = GOOD, call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asked(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation in which these calls were made and answered."""
    results = [{"role": "tool", "tool_call_id": c["id"], "content": "ok"} for c in calls]
    return [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": list(calls)}, *results]


CASES: list[tuple[list[Any], Any, Any, list[Any], list[tuple[str, str]]]] = [
    ([call()], None, None, [], []),
    ([call("wether")], None, None, [], [("name", "allowed is one of ping, weather")]),
    ([call(arguments="{")], None, None, [], [("arguments", "not JSON")]),
    ([call(arguments='{"days": 3}')], None, None, [], [("arguments", "no key “city”")]),
    ([call(arguments='{"city": "x", "unit": "C"}')], None, None, [], [("arguments", "the key “unit”")]),
    ([call(arguments='{"city": "x", "days": 9}')], None, None, [], [("arguments", "at most 7")]),
    ([call(arguments='{"city": "a", "city": "b"}')], None, None, [], [("arguments", "not JSON")]),
    ([call(), call()], None, None, [], [("id", "same id")]),
    ([call(call_id="")], None, None, [], [("id", "no id")]),
    ([call(), call("ping", "{}", "c2")], None, False, [], [("parallel", "at most 1")]),
    ([call(), call("ping", "{}", "c2")], None, True, [], []),
    ([call()], "none", None, [], [("choice", "tool_choice is none")]),
    ([], "required", None, [], [("choice", "a call of a tool")]),
    ([], "auto", None, [], []),
    ([call("ping", "{}")], {"type": "function", "function": {"name": "weather"}}, None, [], [("name", "weather")]),
    ([], {"type": "tool", "name": "weather"}, None, [], [("choice", "of “weather”")]),
    ([call()], {"type": "any", "disable_parallel_tool_use": True}, None, [], []),
    (
        [call()],
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [PING]}},
        None,
        [],
        [("name", "allowed is one of ping")],
    ),
    ([call()], None, None, asked(*(call(call_id=f"d{i}") for i in range(3))), []),
    ([call()], None, None, asked(*(call(call_id=f"d{i}") for i in range(4))), [("loop", "5th time")]),
    (
        [call(arguments='{"days":3,"city":"Oslo"}')],
        None,
        None,
        [{"role": "assistant", "content": [{"type": "tool_use", "id": f"t{i}", "name": "weather", "input": {"city": "Oslo", "days": 3}}]} for i in range(4)],  # noqa: E501
        [("loop", "5th time")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("calls", "choice", "parallel", "messages", "faults"), CASES)
def test_each_fault_is_found(calls: Any, choice: Any, parallel: Any, messages: Any, faults: list[Any]) -> None:
    errors = check_calls(calls, toolbox(TOOLS, choice, parallel), messages, RULES)
    assert [e.fault for e in errors] == [fault for fault, _ in faults]
    assert all(says in e.what for e, (_, says) in zip(errors, faults, strict=True))
    assert all(e.where.startswith("/tool_calls") for e in errors)


@pytest.mark.parametrize("tool", [
    {"name": "weather", "input_schema": WEATHER["function"]["parameters"]},
    {"type": "function", "name": "weather", "parameters": WEATHER["function"]["parameters"]},
])  # fmt: skip
def test_the_other_shapes_of_declarations_are_read(tool: dict[str, Any]) -> None:
    box = toolbox([tool, {"type": "web_search"}])
    assert box.has_schemas and [e.fault for e in check_calls([call(arguments="{}")], box, [], RULES)] == ["arguments"]


def test_a_tool_whose_schema_cannot_be_used_takes_anything() -> None:
    box = toolbox([{"type": "function", "function": {"name": "weather", "parameters": {"type": 5}}}])
    assert check_calls([call()], box, [], RULES) == []


def test_the_conversation_itself_is_looked_at() -> None:
    good = asked(call(), call("ping", "{}", "c2"))
    assert check_messages(good) == []
    assert check_messages([*good, {"role": "user", "content": [{"type": "text", "text": "x"}]}]) == []
    assert [e.where for e in check_messages([*good[:-1], {"role": "user", "content": "?"}])] == ["/messages/3"]
    assert [e.fault for e in check_messages([*good, good[-1]])] == ["id"]
    block = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "ping", "input": {}}]}
    assert check_messages([block, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]) == []
    assert [e.fault for e in check_messages([{"role": "tool", "tool_call_id": "zz"}])] == ["id"]


@pytest.mark.parametrize(("arguments", "names", "result"), [
    ("{'city': 'Oslo'}", ["single_quotes"], {"city": "Oslo"}),
    ('{"city": "Oslo",}', ["trailing_comma"], {"city": "Oslo"}),
    ('{"city": Oslo}', [], None),
    ('{"city": "Os', [], None),
    ("[1]", [], None),
])  # fmt: skip
def test_arguments_are_mended_by_the_low_risk_repairs_alone(arguments: str, names: list[str], result: Any) -> None:
    calls = [call(arguments=arguments)]
    assert repair_arguments(calls, toolbox(TOOLS), close=True) == names
    assert calls[0]["function"]["arguments"] == arguments if result is None else True
    assert result is None or json.loads(calls[0]["function"]["arguments"]) == result


def test_no_arguments_are_an_empty_object_where_that_is_valid() -> None:
    calls = [call("ping", ""), call("weather", "", "c2")]
    assert repair_arguments(calls, toolbox(TOOLS), close=True) == ["empty_arguments"]
    assert [c["function"]["arguments"] for c in calls] == ["{}", ""]


def test_the_model_is_told_at_its_own_call() -> None:
    calls = [call(arguments='{"city": 5}'), call("ping", "{}", "c2")]
    errors = check_calls(calls, toolbox(TOOLS), [], RULES)
    said = reask_calls(Message(tool_calls=calls), errors)
    assert [(m["role"], m.get("tool_call_id")) for m in said] == [("assistant", None), ("tool", "c1"), ("tool", "c2")]
    assert "found 5, allowed is a string" in said[1]["content"]
    broken = [call(arguments="{'city'"), call(call_id="")]
    said = reask_calls(Message(tool_calls=broken), check_calls(broken, toolbox(TOOLS), [], RULES))
    assert [m["role"] for m in said] == ["user"] and "{'city'" in said[0]["content"]


async def answer(stack: Stack, calls: list[dict[str, Any]], body: Any = None, **parts: Any) -> tuple[int, Any]:
    stack.script(msgspec.json.encode({"rules": [{"reply": "", "tool_calls": calls}]}).decode())
    parts = {"policy": quick(), "tools": TOOLS} | parts
    stack.route(stable=live(**parts))
    reply = await stack.ask(**(body or {}))
    return reply.status, await reply.json()


async def test_a_valid_call_passes_untouched(stack: Stack) -> None:
    status, body = await answer(stack, [{"name": "weather", "arguments": {"city": "Oslo"}}])
    assert status == 200 and body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    validation = stack.record.validation
    assert validation is not None and validation.ok and validation.first_ok and validation.stages == ["tools"]


async def test_an_invalid_call_is_a_typed_error(stack: Stack) -> None:
    status, body = await answer(stack, [{"name": "weather", "arguments": {"town": "Oslo"}}])
    assert status == 422 and body["error"]["code"] == "invalid_tool_call"
    assert "the key “town”" in body["error"]["message"]
    record = stack.record
    assert record.error_type == "invalid_tool_call" and record.validation is not None and not record.validation.ok
    assert "Oslo" not in record.validation.error


async def test_the_rules_may_be_off(stack: Stack) -> None:
    status, _ = await answer(stack, [{"name": "unknown"}], policy=quick(tools=ToolRules(check=False)))
    assert status == 200 and stack.record.validation is None


async def test_a_raw_model_is_noted_and_not_refused(stack: Stack) -> None:
    stack.script("rules: [{reply: '', tool_calls: [{name: unknown}]}]")
    reply = await stack.post({"model": "fake/small", "messages": [{"role": "user", "content": "x"}], "tools": TOOLS})
    assert reply.status == 200
    validation = stack.record.validation
    assert validation is not None and validation.delivered_invalid and "no tool “unknown”" in validation.error
