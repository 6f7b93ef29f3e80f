"""Every translated kind of provider through the whole gateway: a chat client, a native upstream, one record."""

from typing import Any

import pytest
from tests.gateway.conftest import Stack, live, quick

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback
from pilothouse.domain.record import Tokens
from pilothouse.domain.table import ProviderEntry, Table

KINDS = ("anthropic", "gemini", "bedrock")
MODELS = {
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "bedrock": "us.anthropic.claude-3-5-haiku-20241022-v1:0",
}
SCRIPT = "rules: [{reply: 'You said: {input}', usage: {prompt: 100, completion: 20, cached: 30}}]"


def answering(stack: Stack, kind: str, **policy: Any) -> None:
    """The route `answer` on a provider of that kind, which is the scripted one."""
    options = {"region": "us-east-1", "access_key": "env://A", "secret_key": "env://B"} if kind == "bedrock" else {}
    provider = ProviderEntry("p", kind, f"http://127.0.0.1:{stack.provider.port}", "", options)
    table = stack.table()
    stack.gateway.table = lambda: Table(1, 1, stack.entries, {}, table.providers | {"p": provider})
    stack.route(stable=live(model=ModelRef("p", MODELS[kind]), policy=quick(**policy)))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_chat_client_whole_and_streamed(stack: Stack, kind: str) -> None:
    stack.script(SCRIPT)
    answering(stack, kind)
    reply = await stack.ask("tea")
    body = await reply.json()
    assert reply.status == 200 and body["choices"][0]["message"]["content"] == "You said: tea"
    assert body["usage"]["prompt_tokens"] == 100 and body["usage"]["prompt_tokens_details"]["cached_tokens"] == 30
    streamed = await (await stack.ask("tea", stream=True)).text()
    assert streamed.endswith("data: [DONE]\n\n") and '"usage"' not in streamed
    for record in stack.records:
        assert record.outcome == "success" and record.tokens == Tokens(70, 30, 0, 20, 0)
        assert record.cost_source == "genai-prices" and record.cost_usd is not None and record.cost_usd > 0
    sent = stack.provider.received[-1]
    if kind == "bedrock":
        assert sent.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=value of env://A/")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_overloaded_provider_is_retried_and_no_credit_is_not(stack: Stack, kind: str) -> None:
    stack.script("rules: [{refuse: overloaded, times: 1}, {reply: at last}]")
    answering(stack, kind)
    assert (await stack.ask()).status == 200
    assert stack.records[-1].attempts[0].error_type in ("overloaded", "server_error")
    stack.script("rules: [{refuse: quota}]")
    reply = await stack.ask()
    assert reply.status == 429 and (await reply.json())["error"]["code"] == "insufficient_quota"
    assert len(stack.records[-1].attempts) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_inside_a_stream_never_looks_complete(stack: Stack, kind: str) -> None:
    stack.script("rules: [{reply: some words that go on, fault: error_event}]")
    answering(stack, kind, cut="error")
    text = await (await stack.ask(stream=True)).text()
    assert '"error"' in text and "[DONE]" not in text
    assert stack.record.outcome == "failed"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_prompt_that_is_too_long_goes_to_the_fallback_for_it(stack: Stack, kind: str) -> None:
    stack.script("rules: [{match: {model: '" + MODELS[kind] + "'}, refuse: context_window}, {reply: a longer model}]")
    answering(stack, kind, fallback=(Fallback(model=ModelRef("fake", "long"), on=("context_window",)),))
    body = await (await stack.ask()).json()
    assert body["choices"][0]["message"]["content"] == "a longer model"
    assert [a.error_type for a in stack.record.attempts] == ["context_length_exceeded", ""]
    assert stack.record.outcome == "fallback"
