"""A route's parts in the client's own API: what chat has no words for reaches a provider that speaks it."""

import base64
import itertools
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from tests.gateway.conftest import KEY, live, quick
from tests.gateway.doors import ApiStack, apis

from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback, ToolRules
from pilothouse.domain.table import Live
from pilothouse.gateway.replay import rebuild_record

__all__ = ["apis"]
CLAUDE, OPENAI, PLAIN = ModelRef("claude", "small"), ModelRef("openai", "small"), ModelRef("plain", "small")
MARK = {"type": "ephemeral"}
LOOK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look it up.",
        "parameters": {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
    },
}
SHAPES: dict[str, dict[str, Any]] = {
    "system": {"system": Template("Be brief.")},
    "prompt": {"prompt": Template("Q: {{ input }}")},
    "params": {"params": {"max_tokens": 9, "temperature": 0.5}},
    "tools": {"tools": [LOOK]},
    "all": {
        "system": Template("Of {{ input }}."),
        "prompt": Template("Q: {{ input }}"),
        "params": {"max_completion_tokens": 9, "top_p": 0.5},
        "tools": [LOOK],
    },
}


def sent(stack: ApiStack, n: int = 0) -> Any:
    return msgspec.json.decode(base64.b64decode(stack.provider.received[n].body_b64))


def paths(stack: ApiStack) -> list[str]:
    return [received.path for received in stack.provider.received]


def claude(stack: ApiStack, **parts: Any) -> Live:
    return stack.route(stable=live(3, **({"model": CLAUDE, "policy": quick()} | parts)))


def message(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "answer", "max_tokens": 50, "messages": [{"role": "user", "content": content}]} | more


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s1"}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "r"}
TALK: dict[str, Any] = {
    "model": "answer",
    "max_tokens": 50,
    "system": [{"type": "text", "text": "C.", "cache_control": MARK}],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "metadata": {"user_id": "u"},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "look", "cache_control": MARK}]},
        {"role": "assistant", "content": [THOUGHT, {"type": "tool_use", "id": "t1", "name": "look", "input": {}}]},
        {"role": "user", "content": [RESULT | {"cache_control": MARK}]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_shaped_message_is_sent_as_one_and_can_be_sent_again(apis: ApiStack, shape: str, stream: bool) -> None:
    apis.script("rules: [{reply: 'ok {input}', thinking: hmm}]")
    release = claude(apis, **SHAPES[shape])
    reply = await apis.post(TALK | {"stream": stream}, "/v1/messages")
    data = bytes(await reply.bytes())
    assert reply.status == 200 and paths(apis) == ["/v1/messages"]
    assert b"thinking" in data and (b"message_stop" in data) == stream
    got = sent(apis)
    assert got["messages"][1:] == TALK["messages"][1:]  # thoughts, results and the marks of the cache
    system = got["system"] if isinstance(got["system"], list) else []
    assert system[-1] == TALK["system"][0]
    if "system" in SHAPES[shape]:
        assert len(system) == 2 and system[0]["type"] == "text"
    if "prompt" in SHAPES[shape]:
        first = [{"type": "text", "text": "Q: look", "cache_control": MARK}]
        assert got["messages"][0] == {"role": "user", "content": first}
    record = apis.record
    assert (record.api, record.outcome) == ("messages", "success")
    body = base64.b64decode(apis.provider.received[0].body_b64)
    assert rebuild_record(record, release) == body and bytes_hash(body) == record.upstream_hash


async def test_the_parts_are_in_messages_words(apis: ApiStack) -> None:
    params = {"max_tokens": 9, "temperature": 1.5, "top_p": 0.5, "stop": "END", "top_k": 3}
    claude(apis, params=params, tools=[LOOK, {"name": "own", "input_schema": {}}], system=Template("S."))
    await apis.post(message("x", temperature=0.1, system="C.", stop_sequences=["A"]), "/v1/messages")
    got = sent(apis)
    assert (got["max_tokens"], got["temperature"], got["top_p"], got["top_k"]) == (9, 1.0, 0.5, 3)
    assert got["stop_sequences"] == ["END"]
    assert got["system"] == [{"type": "text", "text": "S."}, {"type": "text", "text": "C."}]
    function = LOOK["function"]
    assert got["tools"] == [
        {"name": "look", "description": "Look it up.", "input_schema": function["parameters"]},
        {"name": "own", "input_schema": {}},
    ]


async def test_beside_thinking_the_route_sends_nothing_that_is_refused_there(apis: ApiStack) -> None:
    claude(apis, params={"temperature": 0.3, "max_tokens": 100})
    await apis.post(message("x", thinking={"type": "enabled", "budget_tokens": 1024}), "/v1/messages")
    assert "temperature" not in sent(apis) and sent(apis)["max_tokens"] == 1124


async def test_pictures_and_results_stay_beside_the_prompt(apis: ApiStack) -> None:
    claude(apis, prompt=Template("Q: {{ input }}"))
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    await apis.post(
        message([picture, {"type": "text", "text": "a"}, RESULT, {"type": "text", "text": "b"}]), "/v1/messages"
    )
    assert sent(apis)["messages"][-1]["content"] == [RESULT, {"type": "text", "text": "Q: ab"}, picture]


@pytest.mark.parametrize("turns", [1, 2, 5])
async def test_a_growing_conversation_keeps_its_prefix(apis: ApiStack, turns: int) -> None:
    claude(apis, system=Template("S."), tools=[LOOK], params={"temperature": 0.2})
    said: list[dict[str, Any]] = []
    for i in range(turns):
        said.append({"role": "user", "content": [{"type": "text", "text": f"q{i} ü", "cache_control": MARK}]})
        await apis.post(
            {"model": "answer", "max_tokens": 5, "system": "C", "tools": [], "messages": said}, "/v1/messages"
        )
        said.append({"role": "assistant", "content": f"a{i}"})
    bodies = [base64.b64decode(r.body_b64) for r in apis.provider.received]
    for before, after in itertools.pairwise(bodies):
        assert after.startswith(before[: before.rindex(b"}]}]") + 1])  # up to the last message's end


CHAT_ONLY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a schema": ({"schema": {"type": "object"}}, {}),
    "a parameter": ({"params": {"seed": 1}}, {}),
    "the conversation in the template": ({"prompt": Template("{% for m in messages %}{{ m.role }}{% endfor %}")}, {}),
    "a stream that goes on elsewhere": ({"system": Template("S"), "policy": quick(cut="continue")}, {"stream": True}),
    "a tool that is no function": ({"tools": [{"type": "custom", "name": "x"}]}, {}),
}


@pytest.mark.parametrize("case", CHAT_ONLY)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_what_has_no_native_word_is_said_in_chat(apis: ApiStack, case: str, path: str) -> None:
    apis.script("rules: [{match: {schema: true}, json: {}}]")
    parts, more = CHAT_ONLY[case]
    release = apis.route(stable=live(3, **({"policy": quick()} | parts)))
    body = {"input": "x"} if path.endswith("responses") else message("x")
    reply = await apis.post(body | {"model": "answer"} | more, path)
    await reply.bytes()
    assert reply.status == 200, await reply.text()
    assert paths(apis) == ["/v1/chat/completions"]
    assert bytes_hash(rebuild_record(apis.record, release)) == apis.record.upstream_hash


async def test_the_word_messages_alone_is_no_look_at_them(apis: ApiStack) -> None:
    claude(apis, system=Template("You answer messages."))
    await apis.post(message("x"), "/v1/messages")
    assert paths(apis) == ["/v1/messages"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_fallback_that_speaks_chat_gets_chat(apis: ApiStack, path: str) -> None:
    apis.script("rules: [{match: {attempt: 1, model: small}, status: 500}, {reply: 'of {input}'}]")
    step = Fallback(on=("error",), model=ModelRef("plain", "other"))
    model = CLAUDE if path.endswith("messages") else OPENAI
    parts = {"system": Template("S."), "prompt": Template("Q: {{ input }}"), "params": {"max_tokens": 9}}
    apis.route(stable=live(3, model=model, **parts, policy=quick(fallback=(step,), retry=quick().retry.__class__(1))))
    body = {"input": "x"} if path.endswith("responses") else message("x")
    reply = await apis.post(body | {"model": "answer"}, path)
    assert b"of Q: x" in bytes(await reply.bytes())
    assert paths(apis) == [path, "/v1/chat/completions"]
    assert sent(apis, 1)["messages"] == [{"role": "system", "content": "S."}, {"role": "user", "content": "Q: x"}]
    assert apis.record.outcome == "fallback"


async def test_a_missing_variable_is_the_clients_error(apis: ApiStack) -> None:
    claude(apis, system=Template("Be {{ how }}.", variables=("how",)))
    reply = await apis.post(message("x"), "/v1/messages")
    assert (reply.status, (await reply.json())["error"]["code"]) == (400, "missing_prompt_variable")
    assert paths(apis) == []


# OpenAI's responses


async def test_the_parts_are_in_responses_words(apis: ApiStack) -> None:
    apis.script("rules: [{reply: ok}]")
    params = {"max_tokens": 9, "temperature": 0.5, "reasoning_effort": "low", "verbosity": "low"}
    parts = {
        "system": Template("Be {{ how }}."),
        "prompt": Template("Q: {{ input }}"),
        "params": params,
        "tools": [LOOK],
    }
    release = apis.route(stable=live(3, model=OPENAI, policy=quick(), **parts))
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
    picture = {"type": "input_image", "image_url": "https://example.org/a.png"}
    items: list[Any] = [
        {"role": "user", "content": "a"},
        thought,
        {"role": "user", "content": [{"type": "input_text", "text": "noon"}, picture]},
    ]
    async with openai.AsyncOpenAI(base_url=apis.url + "/v1", api_key=KEY, max_retries=0) as sdk:
        response = await sdk.responses.create(
            prompt={"id": "answer", "variables": {"how": "brief"}},
            instructions="C.",
            input=items,
            previous_response_id="resp_0",
            reasoning={"summary": "auto"},
        )
    assert response.output_text == "ok"
    assert paths(apis) == ["/v1/responses"]
    assert sent(apis) == {
        "model": "small",
        "instructions": "Be brief.\n\nC.",
        "input": [*items[:2], {"role": "user", "content": [{"type": "input_text", "text": "Q: noon"}, picture]}],
        "previous_response_id": "resp_0",
        "reasoning": {"summary": "auto", "effort": "low"},
        "text": {"verbosity": "low"},
        "max_output_tokens": 9,
        "temperature": 0.5,
        "tools": [{"type": "function", "strict": False, **LOOK["function"]}],
    }
    assert bytes_hash(rebuild_record(apis.record, release)) == apis.record.upstream_hash


async def test_a_shorter_conversation_is_said_in_chat(apis: ApiStack) -> None:
    apis.script("rules: [{match: {attempt: 1, anywhere: old}, refuse: context_window}, {reply: ok}]")
    policy = quick(fallback=(Fallback(on=("context_window",), trim=1),))
    apis.route(stable=live(3, model=OPENAI, system=Template("S."), policy=policy))
    items = [
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    reply = await apis.post({"model": "answer", "input": items}, "/v1/responses")
    assert reply.status == 200, await reply.text()
    assert sent(apis, 1)["messages"] == [{"role": "system", "content": "S."}, {"role": "user", "content": "c"}]


# Tool calls are checked in whatever form they come


WRONG = "{reply: '', tool_calls: [{name: look, arguments: {p: 1}}]}"
RIGHT = "{reply: '', tool_calls: [{name: look, arguments: {q: a}}]}"


@pytest.mark.parametrize(("model", "path"), [(CLAUDE, "/v1/messages"), (OPENAI, "/v1/responses")])
async def test_an_invalid_call_is_never_a_success(apis: ApiStack, model: ModelRef, path: str) -> None:
    apis.script(f"rules: [{WRONG}]")
    apis.route(stable=live(3, model=model, tools=[LOOK], policy=quick()))
    apis.route("lax", live(4, model=model, tools=[LOOK], policy=quick(tools=ToolRules(check=False))))
    body = message("x") | {"input": "x"} if path.endswith("responses") else message("x")
    reply = await apis.post(body, path)
    assert (reply.status, (await reply.json())["error"]["code"]) == (422, "invalid_tool_call")
    assert (await apis.post(body | {"model": "lax"}, path)).status == 200
    apis.script(f"rules: [{RIGHT}]")
    assert (await apis.post(body, path)).status == 200
    first, _, last = (record.validation for record in apis.records)
    assert first is not None and not first.ok and last is not None and last.ok


@pytest.mark.parametrize(("model", "path"), [(CLAUDE, "/v1/messages"), (OPENAI, "/v1/responses")])
async def test_a_call_is_asked_for_again_in_chat(apis: ApiStack, model: ModelRef, path: str) -> None:
    apis.script(f"rules: [{{times: 1, {WRONG[1:]}, {RIGHT}]")
    apis.route(stable=live(3, model=model, tools=[LOOK], policy=quick(invalid=("reask", "error"))))
    body = {"input": "x"} if path.endswith("responses") else message("x")
    reply = await apis.post(body | {"model": "answer"}, path)
    assert reply.status == 200, await reply.text()
    assert [a.kind for a in apis.record.attempts] == ["primary", "reask"]
    said = msgspec.json.encode(sent(apis, 1)).decode()
    assert "not valid" in said


async def test_a_raw_models_call_is_noted(apis: ApiStack) -> None:
    apis.script(f"rules: [{WRONG}]")
    tool = {"name": "look", "input_schema": LOOK["function"]["parameters"]}
    async with anthropic.AsyncAnthropic(base_url=apis.url, api_key=KEY, max_retries=0) as sdk:
        await sdk.messages.create(**message("x", model="claude/small", tools=[tool]))
        await sdk.messages.create(
            **message("x", model="claude/small", tools=[tool, {"type": "web_search_20250305", "name": "web_search"}])
        )
    first, second = (record.validation for record in apis.records)
    assert first is not None and first.delivered_invalid
    assert second is None  # a provider's own tool is called out of our sight


# When an answer was made


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_translated_answer_says_when_it_was_made(apis: ApiStack, path: str, stream: bool) -> None:
    body = {"model": "claude/small", "stream": stream}
    body |= {"input": "x"} if path.endswith("responses") else {"messages": [{"role": "user", "content": "x"}]}
    data = bytes(await (await apis.post(body, path)).bytes())
    made = apis.record.ts_us // 1_000_000
    name = "created_at" if path.endswith("responses") else "created"
    assert f'"{name}":{made}'.encode() in data and f'"{name}":0'.encode() not in data
