"""Anthropic's messages: native bytes, translation both ways, and Anthropic's own SDK as the client."""

import base64
from typing import Any

import anthropic
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import KEY, live, quick
from tests.gateway.doors import ApiStack, apis
from tests.gateway.streams import chat_chunks, completions, cut, told

from pilothouse.domain.errors import BadRequest, InvalidOutput
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.gateway.apis.messages import MESSAGES_API
from pilothouse.gateway.apis.messages_answer import MessagesSpeaker
from pilothouse.gateway.apis.messages_request import to_chat
from pilothouse.gateway.replay import rebuild_record
from pilothouse.gateway.types import Incoming
from pilothouse.providers.anthropic.request import to_messages
from pilothouse.providers.messages import MESSAGES

__all__ = ["apis"]
TOOL = {"name": "look", "description": "Look it up.", "input_schema": {"type": "object", "properties": {}}}
CALLS = (
    "rules: [{reply: 'Let me see.', tool_calls: [{name: look, arguments: {q: 'a b'}}, {name: look}], chunk_size: 3}]"
)


def client(stack: ApiStack) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=stack.url, api_key=KEY, max_retries=0)


def sent(stack: ApiStack, n: int = 0) -> Any:
    return msgspec.json.decode(base64.b64decode(stack.provider.received[n].body_b64))


def asked(model: str, text: str = "noon", **more: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": text}]} | more


@pytest.mark.parametrize("model", ["plain/small", "claude/small"])
async def test_the_sdk_gets_a_message_whole_and_as_a_stream(apis: ApiStack, model: str) -> None:
    apis.script("rules: [{reply: 'It is {input}.', usage: {prompt: 20, completion: 9, cached: 5}, chunk_size: 3}]")
    async with client(apis) as sdk:
        whole = await sdk.messages.create(**asked(model))
        async with sdk.messages.stream(**asked(model)) as stream:
            streamed = await stream.get_final_message()
    for message in (whole, streamed):
        assert message.content[0].text == "It is noon."
        assert message.stop_reason == "end_turn"
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (15, 5, 9)
    for record in apis.records:
        assert (record.api, record.outcome, record.preview_in, record.preview_out) == (
            "messages",
            "success",
            "noon",
            "It is noon.",
        )
        assert record.tokens is not None
        assert (record.tokens.input_uncached, record.tokens.cache_read, record.tokens.output) == (15, 5, 9)
        assert bytes_hash(rebuild_record(record, None)) == record.upstream_hash
    assert apis.records[1].attempts[0].finish_reason == "stop"


@pytest.mark.parametrize("model", ["plain/small", "claude/small"])
async def test_tool_calls_arrive_delta_by_delta(apis: ApiStack, model: str) -> None:
    apis.script(CALLS)
    async with client(apis) as sdk, sdk.messages.stream(**asked(model, tools=[TOOL])) as stream:
        events = [event async for event in stream]
        message = await stream.get_final_message()
    assert [b.type for b in message.content] == ["text", "tool_use", "tool_use"]
    assert message.content[1].input == {"q": "a b"}
    assert message.content[2].input == {}
    assert message.stop_reason == "tool_use"
    pieces = [e.delta.partial_json for e in events if e.type == "content_block_delta" and e.delta.type != "text_delta"]
    whole = '{"q":"a b"}'
    assert pieces[: len(whole) // 3 + 1] == [
        whole[i : i + 3] for i in range(0, len(whole), 3)
    ]  # as the provider cut it


async def test_native_bytes_go_unchanged_both_ways(apis: ApiStack) -> None:
    apis.script("rules: [{reply: hello, chunk_size: 2, thinking: hmm}]")
    body = (
        b'{ "model" : "claude/small", "max_tokens": 5,  "messages": [{"role":"user","content":"x"}], "stream": true }'
    )
    reply = await apis.post(body, "/v1/messages", anthropic_beta="tools-2024", anthropic_version="2023-06-01")
    assert reply.get_header("content-type") == "text/event-stream; charset=utf-8"
    assert reply.get_header("request-id") == apis.record.id
    data = bytes(await reply.bytes())
    got = base64.b64decode(apis.provider.received[0].body_b64)
    assert got == body.replace(b'"claude/small"', b'"small"')
    headers = apis.provider.received[0].headers
    assert headers["anthropic-beta"] == "tools-2024"
    assert headers["x-api-key"] == "value of env://KEY"
    builder = apis.client.post(f"http://127.0.0.1:{apis.provider.port}/v1/messages").body_bytes(got)
    direct = bytes(await (await builder.build().send()).bytes())
    assert _numberless(data) == _numberless(direct)


def _numberless(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if b"message_start" not in line]


async def test_a_route_that_shapes_its_requests_is_asked_in_chat_where_that_is_all_its_provider_speaks(
    apis: ApiStack,
) -> None:
    apis.script("rules: [{reply: ok}]")
    model = ModelRef("plain", "small")
    stable = live(3, model=model, system=Template("Be brief."), params={"temperature": 0.1}, policy=quick())
    apis.route(stable=stable)
    async with client(apis) as sdk:
        message = await sdk.messages.create(**asked("answer", metadata={"user_id": "u-1"}))
    assert message.content[0].text == "ok"
    assert sent(apis)["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "noon"}]
    assert (sent(apis)["max_completion_tokens"], sent(apis)["temperature"], sent(apis)["user"]) == (100, 0.1, "u-1")
    record = apis.record
    assert record.user
    assert bytes_hash(rebuild_record(record, stable)) == record.upstream_hash


async def test_errors_have_anthropics_shape(apis: ApiStack) -> None:
    async with client(apis) as sdk:
        with pytest.raises(anthropic.NotFoundError) as missing:
            await sdk.messages.create(**asked("nobody"))
        with pytest.raises(anthropic.BadRequestError) as unsaid:
            await sdk.messages.create(**asked("plain/small"), extra_body={"top_k": 5})
    body: Any = missing.value.body
    assert (body["type"], body["error"]["type"], body["error"]["code"]) == ("error", "not_found_error", "unknown_route")
    assert "“nobody”" in body["error"]["message"]
    body = unsaid.value.body
    assert (body["error"]["code"], body["error"]["param"]) == ("unsupported_parameter", "top_k")
    bad = await apis.post(b"{", "/v1/messages")
    assert (bad.status, (await bad.json())["error"]["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("model", ["plain/small", "claude/small"])
@pytest.mark.parametrize("fault", ["cut", "no_done", "error_event", "garbage"])
async def test_a_broken_stream_ends_in_an_error_event(apis: ApiStack, model: str, fault: str) -> None:
    apis.script(f"rules: [{{reply: 'one two three four', fault: {fault}, chunk_size: 2}}]")
    reply = await apis.post(asked(model, stream=True), "/v1/messages")
    data = bytes(await reply.bytes())
    assert b"event: message_stop" not in data
    assert data.count(b"event: error\n") == 1
    assert data.rstrip().split(b"\n")[-2] == b"event: error"
    record = apis.record
    assert record.outcome == "failed"
    assert record.preview_out.startswith("one two")


async def test_a_translated_stream_without_a_finish_reason_never_looks_complete(apis: ApiStack) -> None:
    apis.script("rules: [{reply: one, fault: no_finish}]")
    data = bytes(await (await apis.post(asked("plain/small", stream=True), "/v1/messages")).bytes())
    assert b"event: message_stop" not in data
    assert b"event: error" in data


async def test_a_provider_that_counts_nothing_leaves_an_estimate(apis: ApiStack) -> None:
    apis.script("rules: [{reply: one, usage: none}]")
    await (await apis.post(asked("plain/small", stream=True), "/v1/messages")).bytes()
    tokens = apis.record.tokens
    assert tokens is not None
    assert tokens.estimated
    assert tokens.input > 0


async def test_tokens_are_counted_by_the_provider_or_by_us(apis: ApiStack) -> None:
    async with client(apis) as sdk:
        body = {"messages": [{"role": "user", "content": "one two three"}], "system": "Be brief."}
        native = await sdk.messages.count_tokens(model="claude/small", **body)
        ours = await sdk.messages.count_tokens(model="plain/small", **body)
    assert native.input_tokens > 0
    assert 6 < ours.input_tokens < 20  # 6 of text, and some around it
    assert [r.api for r in apis.records] == ["count_tokens", "count_tokens"]
    assert [len(r.attempts) for r in apis.records] == [1, 0]
    assert all(bytes_hash(rebuild_record(r, None)) == r.upstream_hash for r in apis.records[:1])


async def test_a_static_answer_and_one_checked_as_a_whole_are_streamed(apis: ApiStack) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    apis.route("checked", live(schema=schema, policy=quick()))
    apis.script("rules: [{json: {a: 1}}]")
    async with client(apis) as sdk, sdk.messages.stream(**asked("checked")) as stream:
        message = await stream.get_final_message()
    assert msgspec.json.decode(message.content[0].text) == {"a": 1}
    assert MESSAGES.read(MESSAGES_API.static("Later.", apis.record)).text == "Later."


# Requests: what chat → messages → chat keeps

words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=12).filter(str.strip)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{"role": "system", "content": draw(words)}] if draw(st.booleans()) else []
    serial = 0
    for _ in range(draw(st.integers(1, 3))):
        out.append({"role": "user", "content": draw(words)})
        message: dict[str, Any] = {"role": "assistant", "content": draw(words)}
        calls = []
        for _ in range(draw(st.integers(0, 2))):
            serial += 1
            arguments = msgspec.json.encode(draw(st.dictionaries(names, words, max_size=2))).decode()
            function = {"name": draw(names), "arguments": arguments}
            calls.append({"id": f"call_{serial}", "type": "function", "function": function})
        out.append(message | ({"tool_calls": calls} if calls else {}))
        out += [{"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in calls]
    return [*out, {"role": "user", "content": draw(words)}]


@given(messages=conversations())
def test_chat_said_as_messages_and_back_keeps_texts_calls_ids_and_order(messages: list[dict[str, Any]]) -> None:
    back = to_chat(to_messages({"model": "m", "messages": messages}))["messages"]
    assert _flat(back) == _flat(messages)


def _flat(messages: list[dict[str, Any]]) -> list[Any]:
    return [
        (
            m["role"],
            m.get("content"),
            m.get("tool_call_id"),
            [(c["id"], c["function"]) for c in m.get("tool_calls", [])],
        )
        for m in messages
    ]


def test_a_request_is_said_in_chat() -> None:
    body = {
        "model": "m",
        "max_tokens": 9,
        "system": [
            {"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "B"},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"q": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "r"},
                    {"type": "text", "text": "so?"},
                ],
            },
        ],
        "tools": [TOOL],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 5000},
        "stop_sequences": ["X"],
    }
    chat = to_chat(body)
    assert chat == {
        "model": "m",
        "max_completion_tokens": 9,
        "messages": [
            {"role": "system", "content": "A\n\nB"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"q":1}'}}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "r"},
            {"role": "user", "content": "so?"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "look", "parameters": TOOL["input_schema"], "description": "Look it up."},
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "reasoning_effort": "medium",
        "stop": ["X"],
    }


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"top_k": 5}, "top_k"),
        ({"container": "c"}, "container"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]}, "messages[1]"),
    ],
)
def test_what_chat_cannot_say_is_refused_by_name(more: dict[str, Any], where: str) -> None:
    with pytest.raises(BadRequest) as refused:
        to_chat(asked("m") | more)
    assert (refused.value.kind, refused.value.where) == ("unsupported_parameter", where)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": ["x"]}, "messages"),
        (asked("m", stream="yes"), "stream"),
        (asked("m", metadata=[]), "metadata"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body: dict[str, Any], where: str) -> None:
    with pytest.raises(BadRequest) as refused:
        MESSAGES_API.parse(Incoming(body=msgspec.json.encode(body)))
    assert refused.value.where == where


# Answers: a stream says what the whole says


@given(completion=completions(), thinking=st.booleans(), data=st.data())
async def test_a_stream_translated_is_the_whole_translated(
    completion: dict[str, Any], thinking: bool, data: st.DataObject
) -> None:
    body = asked("m") | ({"thinking": {"type": "adaptive"}} if thinking else {})
    parsed = MESSAGES_API.parse(Incoming(body=msgspec.json.encode(body)))
    whole = MESSAGES.read(MESSAGES_API.from_chat(msgspec.json.encode(completion), parsed))
    pieces = cut(chat_chunks(completion), data)
    said = await told(pieces, MessagesSpeaker(thinking=thinking))
    assembly = MESSAGES.assembly()
    assembly.add(said)
    assert assembly.finished() == whole
    assert MESSAGES.ends(said)
    again = MESSAGES.assembly()
    again.add(MESSAGES_API.as_stream(MESSAGES_API.from_chat(msgspec.json.encode(completion), parsed), parsed))
    assert again.finished() == whole


def test_arguments_that_are_no_object_are_no_tool_use() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"q":'}}
    message = {"content": None, "tool_calls": [call]}
    body = {"id": "1", "model": "m", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
    parsed = MESSAGES_API.parse(Incoming(body=msgspec.json.encode(asked("m"))))
    with pytest.raises(InvalidOutput):
        MESSAGES_API.from_chat(msgspec.json.encode(body), parsed)
