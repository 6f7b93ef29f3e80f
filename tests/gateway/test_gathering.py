"""A stream that is held to a schema: gathered, and given up at the character that loses it."""

import base64
from typing import Any

import msgspec
import pytest
from tests.gateway.conftest import Stack, live, quick
from tests.gateway.doors import ApiStack, apis

from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback, Retry
from pilothouse.gateway.replay import rebuild_record
from pilothouse.providers.openai import Assembly

__all__ = ["apis"]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "words": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
GOOD = '{"a": 1, "words": "ü"}'
LONG = '{"b": 1, "words": "' + "word " * 400 + '"}'  # lost at its third character
SLOW = f"{{times: 1, reply: '{LONG}', chunk_size: 5, chunk_delay: 0.01, usage: {{prompt: 9, completion: 400}}}}"


def sent(stack: Stack, n: int = 0) -> Any:
    return msgspec.json.decode(base64.b64decode(stack.provider.received[n].body_b64))


def text(data: bytes) -> str:
    assembly = Assembly()
    assembly.add(data)
    return assembly.finished().text


@pytest.mark.parametrize("provider", ["fake", "plain", "claude"])
async def test_a_valid_stream_is_delivered_and_can_be_asked_for_again(apis: ApiStack, provider: str) -> None:
    apis.script(f"rules: [{{reply: '{GOOD}', chunk_size: 3, usage: {{prompt: 9, completion: 7, cached: 2}}}}]")
    release = apis.route(stable=live(3, model=ModelRef(provider, "small"), schema=SCHEMA, policy=quick()))
    reply = await apis.ask(stream=True, stream_options={"include_usage": True})
    data = bytes(await reply.bytes())
    assert text(data) == GOOD and b'"usage"' in data
    assert sent(apis)["stream"] is True
    record = apis.record
    assert (record.outcome, len(record.attempts)) == ("success", 1)
    assert record.validation is not None and record.validation.first_ok
    assert record.tokens is not None and (record.tokens.input, record.tokens.output) == (9, 7)
    assert not record.tokens.estimated
    assert bytes_hash(rebuild_record(record, release)) == record.upstream_hash
    assert not apis.provider.received[0].closed


async def test_what_is_lost_is_given_up_and_asked_for_again_at_once(stack: Stack) -> None:
    stack.script(f"rules: [{SLOW}, {{reply: '{GOOD}'}}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick(invalid=("reask", "error"))))
    reply = await stack.ask(stream=True)
    assert text(bytes(await reply.bytes())) == GOOD
    record = stack.record
    first, second = record.attempts
    assert (first.kind, first.error_type, second.kind) == ("primary", "invalid_output", "reask")
    assert stack.provider.received[0].closed  # the provider was told to stop
    assert first.tokens is not None and first.tokens.estimated
    assert 0 < first.tokens.output < 100 and first.tokens.input > 0  # of 400
    asked = sent(stack, 1)["messages"]
    assert asked[1]["role"] == "assistant" and len(asked[1]["content"]) < 100
    assert "/b: the key is not allowed" in asked[2]["content"]
    validation = record.validation
    assert validation is not None
    assert (validation.first_ok, validation.ok, validation.retried) == (False, True, 1)
    assert validation.stages[:2] == ["watch", "reask"]


async def test_a_fallback_answers_for_a_stream_that_was_given_up(stack: Stack) -> None:
    stack.script(f"rules: [{SLOW}, {{reply: '{GOOD}'}}]")
    step = Fallback(on=("invalid_output",), model=ModelRef("fake", "other"))
    policy = quick(invalid=("repair", "fallback"), fallback=(step,), retry=Retry(1))
    stack.route(stable=live(schema=SCHEMA, policy=policy))
    assert text(bytes(await (await stack.ask(stream=True)).bytes())) == GOOD
    assert [(a.kind, a.error_type) for a in stack.record.attempts] == [("primary", "invalid_output"), ("fallback", "")]
    assert stack.provider.received[0].closed


async def test_with_nothing_to_follow_it_is_a_typed_error(stack: Stack) -> None:
    stack.script(f"rules: [{SLOW}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick(invalid=("error",))))
    reply = await stack.ask(stream=True)
    assert (reply.status, (await reply.json())["error"]["code"]) == (422, "invalid_output")
    validation = stack.record.validation
    assert validation is not None and not validation.ok and "/b: the key is not allowed" in validation.error
    assert stack.gateway.upstream.aborted == 1


@pytest.mark.parametrize("reply", [f"```json\\n{GOOD}\\n```", f"Here it is: {GOOD}", GOOD[:-1] + ",}"])
async def test_what_can_be_mended_is_not_given_up(stack: Stack, reply: str) -> None:
    stack.script(f'rules: [{{reply: "{reply.replace(chr(34), chr(92) + chr(34))}", chunk_size: 2}}]')
    stack.route(stable=live(schema=SCHEMA, policy=quick()))
    found = await stack.ask(stream=True)
    assert msgspec.json.decode(text(bytes(await found.bytes()))) == msgspec.json.decode(GOOD)
    assert stack.record.validation is not None and stack.record.validation.repairs


@pytest.mark.parametrize("invalid", [("error",), ("repair", "error")])
async def test_a_refusal_in_words_is_still_told_apart(stack: Stack, invalid: Any) -> None:
    stack.script("rules: [{reply: 'I am sorry, but I cannot help with that.', chunk_size: 3}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick(invalid=invalid)))
    reply = await stack.ask(stream=True)
    assert (await reply.json())["error"]["code"] == "output_refused"


@pytest.mark.parametrize("more", [{"n": 2}, {"logprobs": True}])
async def test_what_cannot_be_gathered_is_asked_for_as_a_whole(stack: Stack, more: dict[str, Any]) -> None:
    stack.script(f"rules: [{{reply: '{GOOD}'}}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick()))
    assert (await stack.ask(stream=True, **more)).status == 200
    assert "stream" not in sent(stack)


async def test_a_whole_answer_is_asked_for_as_before(stack: Stack) -> None:
    stack.script(f"rules: [{{reply: '{GOOD}'}}]")
    stack.route(stable=live(schema=SCHEMA, policy=quick()))
    assert (await stack.ask()).status == 200
    assert "stream" not in sent(stack)


@pytest.mark.parametrize("fault", ["cut", "no_done", "no_finish", "error_event", "garbage", "stall_mid", "reset"])
async def test_a_stream_that_breaks_is_asked_for_again(stack: Stack, fault: str) -> None:
    stack.script(f"rules: [{{times: 1, reply: '{GOOD}', fault: {fault}, chunk_size: 3}}, {{reply: '{GOOD}'}}]")
    policy = quick(timeout=quick().timeout.__class__(connect=1.0, first_token=0.4, idle=0.4, total=0.8))
    stack.route(stable=live(schema=SCHEMA, policy=policy))
    reply = await stack.ask(stream=True)
    assert text(bytes(await reply.bytes())) == GOOD
    first, second = stack.record.attempts
    assert first.error_type and second.kind == "retry"
    assert first.tokens is not None  # what was written is charged: as the provider counted it, if it came so far
    assert first.tokens.estimated == (fault not in ("no_done", "no_finish"))


async def test_calls_are_gathered_whole(stack: Stack) -> None:
    stack.script("rules: [{reply: '', tool_calls: [{name: look, arguments: {q: a b}}, {name: look}], chunk_size: 2}]")
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    stack.route(stable=live(schema=SCHEMA, tools=[tool], policy=quick()))
    data = bytes(await (await stack.ask(stream=True)).bytes())
    assembly = Assembly()
    assembly.add(data)
    message = assembly.finished().choices[0].message
    assert message is not None and message.tool_calls is not None
    assert [c["function"]["arguments"] for c in message.tool_calls] == ['{"q":"a b"}', "{}"]


async def test_messages_and_responses_are_gathered_too(apis: ApiStack) -> None:
    apis.script(f"rules: [{SLOW}, {{reply: '{GOOD}', thinking: hm}}]")
    apis.route(stable=live(model=ModelRef("claude", "small"), schema=SCHEMA, policy=quick(invalid=("reask", "error"))))
    messages = [{"role": "user", "content": "x"}]
    body = {"model": "answer", "max_tokens": 50, "messages": messages, "stream": True}
    data = bytes(await (await apis.post(body, "/v1/messages")).bytes())
    assert b"message_stop" in data and apis.provider.received[0].closed
    assert [a.kind for a in apis.record.attempts] == ["primary", "reask"]
    reply = await apis.post({"model": "answer", "input": "x", "stream": True}, "/v1/responses")
    assert b"response.completed" in bytes(await reply.bytes())
