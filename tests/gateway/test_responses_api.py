"""OpenAI's responses: native bytes, translation both ways, and OpenAI's own SDK as the client."""

import base64
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import KEY, live, quick
from tests.gateway.doors import ApiStack, apis
from tests.gateway.streams import chat_chunks, completions, cut, told

from pilothouse.domain.errors import BadRequest, ServerError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.gateway.apis.responses import RESPONSES_API
from pilothouse.gateway.apis.responses_answer import ResponsesSpeaker
from pilothouse.gateway.apis.responses_request import to_chat
from pilothouse.gateway.replay import rebuild_record
from pilothouse.gateway.types import Incoming
from pilothouse.providers.openai import events
from pilothouse.providers.responses import RESPONSES

__all__ = ["apis"]
MODELS = ["plain/small", "openai/small"]
TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}


def client(stack: ApiStack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=stack.url + "/v1", api_key=KEY, max_retries=0)


def sent(stack: ApiStack, n: int = 0) -> Any:
    return msgspec.json.decode(base64.b64decode(stack.provider.received[n].body_b64))


@pytest.mark.parametrize("model", MODELS)
async def test_the_sdk_gets_a_response_whole_and_as_a_stream(apis: ApiStack, model: str) -> None:
    apis.script(
        "rules: [{reply: 'It is {input}.', usage: {prompt: 20, completion: 9, cached: 5, reasoning: 2}, chunk_size: 3}]"
    )
    async with client(apis) as sdk:
        whole = await sdk.responses.create(model=model, input="noon", metadata={"segment": "eu"})
        async with sdk.responses.stream(model=model, input="noon") as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            streamed = await stream.get_final_response()
    assert deltas == ["It ", "is ", "noo", "n."]
    for response in (whole, streamed):
        assert response.output_text == "It is noon."
        assert response.status == "completed"
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens) == (20, 5)
        assert (response.usage.output_tokens, response.usage.output_tokens_details.reasoning_tokens) == (9, 2)
    assert apis.records[0].segment == "eu"
    for record in apis.records:
        assert (record.api, record.outcome) == ("responses", "success")
        assert (record.preview_in, record.preview_out) == ("noon", "It is noon.")
        assert record.tokens is not None
        assert (record.tokens.input, record.tokens.cache_read, record.tokens.reasoning) == (20, 5, 2)
        assert bytes_hash(rebuild_record(record, None)) == record.upstream_hash


@pytest.mark.parametrize("model", MODELS)
async def test_function_calls_and_their_outputs_go_there_and_back(apis: ApiStack, model: str) -> None:
    apis.script(
        "rules: [{match: {contains: noon}, tool_calls: [{name: look, arguments: {q: 'a b'}}, {name: look}],"
        " chunk_size: 3}, {reply: done}]"
    )
    async with client(apis) as sdk:
        async with sdk.responses.stream(model=model, input="noon", tools=[TOOL]) as stream:
            seen = [event async for event in stream]
            first = await stream.get_final_response()
        calls = [item for item in first.output if item.type == "function_call"]
        assert [(c.name, c.arguments) for c in calls] == [("look", '{"q":"a b"}'), ("look", "{}")]
        deltas = [e.delta for e in seen if e.type == "response.function_call_arguments.delta" and e.output_index == 0]
        assert deltas == ['{"q', '":"', "a b", '"}']  # as the provider cut it
        numbers = [e.sequence_number for e in seen if hasattr(e, "sequence_number")]
        assert numbers == sorted(set(numbers))
        given_back: Any = [item.model_dump(exclude_none=True) for item in first.output]
        outputs = [{"type": "function_call_output", "call_id": c.call_id, "output": c.name} for c in calls]
        said: Any = [{"role": "user", "content": "look"}, *given_back, *outputs, {"role": "user", "content": "so?"}]
        second = await sdk.responses.create(model=model, input=said, tools=[TOOL])
    assert second.output_text == "done"
    if model == "plain/small":
        messages = sent(apis, 1)["messages"]
        assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool", "user"]
        assert [c["id"] for c in messages[1]["tool_calls"]] == [m["tool_call_id"] for m in messages[2:4]]


async def test_native_bytes_go_unchanged_both_ways(apis: ApiStack) -> None:
    apis.script("rules: [{reply: hello, chunk_size: 2}]")
    body = b'{ "model" : "openai/small",  "input": "x", "stream": true, "previous_response_id": "resp_0" }'
    data = bytes(await (await apis.post(body, "/v1/responses", openai_beta="x=1")).bytes())
    got = base64.b64decode(apis.provider.received[0].body_b64)
    assert got == body.replace(b'"openai/small"', b'"small"')
    assert apis.provider.received[0].headers["openai-beta"] == "x=1"
    assert apis.provider.received[0].headers["content-type"] == "application/json"
    builder = apis.client.post(f"http://127.0.0.1:{apis.provider.port}/v1/responses").body_bytes(got)
    direct = bytes(await (await builder.build().send()).bytes())
    assert [e for e in events(data) if b'"response":' not in e and b"item" not in e[:40]] == [
        e.replace(b"_2", b"_1") for e in events(direct) if b'"response":' not in e and b"item" not in e[:40]
    ]


async def test_structured_output_is_parsed_by_the_sdk(apis: ApiStack) -> None:
    class Answer(openai.BaseModel):
        a: int

    apis.script("rules: [{match: {schema: true}, json: {a: 1}}]")
    async with client(apis) as sdk:
        response = await sdk.responses.parse(model="plain/small", input="x", text_format=Answer)
    assert response.output_parsed == Answer(a=1)
    assert sent(apis)["response_format"]["type"] == "json_schema"


async def test_a_route_that_shapes_its_requests_is_asked_in_chat_where_that_is_all_its_provider_speaks(
    apis: ApiStack,
) -> None:
    apis.script("rules: [{reply: ok}]")
    model = ModelRef("plain", "small")
    stable = live(3, model=model, system=Template("Be {{ how }}."), params={"temperature": 0.1}, policy=quick())
    apis.route(stable=stable)
    async with client(apis) as sdk:
        prompt: Any = {"id": "answer", "variables": {"how": "brief"}}
        response = await sdk.responses.create(prompt=prompt, input="noon", max_output_tokens=7)
    assert response.output_text == "ok"
    assert sent(apis)["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "noon"}]
    assert (sent(apis)["max_completion_tokens"], sent(apis)["temperature"]) == (7, 0.1)
    assert bytes_hash(rebuild_record(apis.record, stable)) == apis.record.upstream_hash


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["cut", "no_done", "error_event", "garbage"])
async def test_a_broken_stream_ends_in_an_error_event(apis: ApiStack, model: str, fault: str) -> None:
    apis.script(f"rules: [{{reply: 'one two three four', fault: {fault}, chunk_size: 2}}]")
    reply = await apis.post({"model": model, "input": "x", "stream": True}, "/v1/responses")
    data = bytes(await reply.bytes())
    assert b"event: response.completed" not in data
    last = msgspec.json.decode(list(events(data))[-1])
    assert last["type"] == "error"
    assert last["code"] == apis.record.error_type
    assert apis.record.outcome == "failed"
    assert apis.record.preview_out.startswith("one two")


async def test_stored_responses_go_through(apis: ApiStack) -> None:
    async with client(apis) as sdk:
        await sdk.responses.retrieve("resp_1", extra_headers={"x-pilothouse-route": "openai/small"})
        await sdk.responses.delete("resp_1", extra_headers={"x-pilothouse-route": "openai/small"})
    assert [(r.method, r.path) for r in apis.provider.received] == [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
    ]
    assert [(r.api, r.outcome) for r in apis.records] == [("/v1/responses/resp_1", "success")] * 2


# Requests


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "c"}, "conversation"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0]"),
    ],
)
def test_what_chat_cannot_say_is_refused_by_name(more: dict[str, Any], where: str) -> None:
    with pytest.raises(BadRequest) as refused:
        to_chat({"model": "m", "input": "x"} | more)
    assert (refused.value.kind, refused.value.where) == ("unsupported_parameter", where)


def test_a_request_is_said_in_chat() -> None:
    shape = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    said: list[dict[str, Any]] = [
        {"role": "developer", "content": "D"},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "u", "detail": "low"},
            ],
        },
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "let me"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "r"}]},
    ]
    body = {
        "model": "m",
        "instructions": "I",
        "input": said,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "look"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": shape, "verbosity": "low"},
        "store": True,
        "include": ["reasoning.encrypted_content"],
    }
    assert to_chat(body) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "I"},
            {"role": "system", "content": "D"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                ],
            },
            {
                "role": "assistant",
                "content": "let me",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "r"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "look", "parameters": TOOL["parameters"], "strict": False},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
        },
    }


@pytest.mark.parametrize(
    ("body", "where"),
    [({"input": "x"}, "model"), ({"model": "m", "input": 3}, "input"), ({"model": "m", "input": ["x"]}, "input")],
)
def test_a_body_that_is_no_request_is_refused(body: dict[str, Any], where: str) -> None:
    with pytest.raises(BadRequest) as refused:
        RESPONSES_API.parse(Incoming(body=msgspec.json.encode(body)))
    assert refused.value.where == where


# Answers: a stream says what the whole says


def last(data: bytes) -> Any:
    return msgspec.json.decode(list(events(data))[-1])["response"]


@given(completion=completions(), data=st.data())
async def test_a_stream_translated_is_the_whole_translated(completion: dict[str, Any], data: st.DataObject) -> None:
    parsed = RESPONSES_API.parse(Incoming(body=b'{"model":"m","input":"x","stream":true}'))
    body = RESPONSES_API.from_chat(msgspec.json.encode(completion), parsed)
    said = await told(cut(chat_chunks(completion), data), ResponsesSpeaker(parsed.body))
    assert last(said) == msgspec.json.decode(body)
    assert RESPONSES.ends(said)
    again = RESPONSES_API.as_stream(body, parsed)
    assert last(again) == msgspec.json.decode(body)
    for stream in (said, again):
        every = [msgspec.json.decode(e) for e in events(stream)]
        assert [e["sequence_number"] for e in every] == list(range(len(every)))
        done = [e["item"] for e in every if e["type"] == "response.output_item.done"]
        assert done == msgspec.json.decode(body)["output"]
        # What has gone by before the last event is what the last event says.
        assembly = RESPONSES.assembly()
        assembly.add(stream[: stream.rindex(b"event: response.")])
        so_far, whole = assembly.completion(), RESPONSES.read(body)
        assert so_far.choices[0].message == whole.choices[0].message


async def test_calls_said_at_once_are_an_error_rather_than_mixed_up() -> None:
    def call(index: int, **function: str) -> bytes:
        delta = {"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]}
        return b"data: " + msgspec.json.encode({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n"

    blocks = [call(0, name="a", arguments="{"), call(1, name="b"), call(0, arguments="}")]
    with pytest.raises(ServerError, match="two tool calls at once"):
        await told(blocks, ResponsesSpeaker({}))


async def test_a_call_whose_name_comes_late_waits_for_it() -> None:
    def call(more: dict[str, Any]) -> bytes:
        delta = {"tool_calls": [{"index": 0} | more]}
        return b"data: " + msgspec.json.encode({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n"

    blocks = [
        call({"id": "c"}),
        call({"function": {"arguments": "{"}}),
        call({"function": {"name": "a", "arguments": "}"}}),
    ]
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
    said = await told([*blocks, end], ResponsesSpeaker({}))
    assert [e["delta"] for e in map(msgspec.json.decode, events(said)) if "delta" in e] == ["{", "}"]
    assert last(said)["output"][0]["name"] == "a"


def test_an_answer_that_was_cut_off_says_so() -> None:
    parsed = RESPONSES_API.parse(Incoming(body=b'{"model":"m","input":"x"}'))
    body = b'{"id":"1","model":"m","choices":[{"message":{"content":"on"},"finish_reason":"length"}]}'
    said = msgspec.json.decode(RESPONSES_API.from_chat(body, parsed))
    assert (said["status"], said["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert said["usage"] is None
    assert RESPONSES.read(RESPONSES_API.from_chat(body, parsed)).finish_reason == "length"
