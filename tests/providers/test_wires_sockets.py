"""Every wire against the scripted provider, in its own dialect, over real sockets: answers, faults, errors, headers."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.providers.dialects import NOW_US, ask, entry

from pilothouse.domain.errors import (
    ContentFilter,
    ContextWindow,
    CutStream,
    QuotaExceeded,
    RateLimited,
    Rejected,
    ServerError,
    UpstreamError,
)
from pilothouse.domain.record import Tokens
from pilothouse.domain.table import ProviderEntry
from pilothouse.providers.chat import CHAT
from pilothouse.providers.form import Form
from pilothouse.providers.openai import Completion, whole_events
from pilothouse.providers.registry import wire_of
from pilothouse.providers.script import FAULTS, load
from pilothouse.providers.scripted import ScriptedProvider
from pilothouse.providers.upstream import Call, Upstream
from pilothouse.providers.wire import Flow

DIALECTS = [  # kind, form
    ("openai", "chat"), ("azure-openai", "chat"), ("anthropic", "chat"), ("gemini", "chat"), ("bedrock", "chat"),
    ("anthropic", "messages"), ("openai", "responses"),
]  # fmt: skip
USAGE = "usage: {prompt: 100, completion: 20, cached: 30, cache_write: 10, reasoning: 5}"


class Line:
    """A scripted provider and a client."""

    def __init__(self) -> None:
        self.provider = ScriptedProvider()
        self.upstream = Upstream()

    def script(self, text: str) -> None:
        self.provider.play(load(f"rules: [{text}]".encode(), "test"))

    def entry(self, kind: str) -> ProviderEntry:
        base = f"http://127.0.0.1:{self.provider.port}"
        if kind in ("openai", "scripted"):
            base += "/v1"
        return entry(kind, base, **({"region": "us-east-1"} if kind == "bedrock" else {}))

    def call(self, kind: str, form: str, *, stream: bool, **more: Any) -> Call:
        body: dict[str, Any] = {"model": "m", "stream": stream} | more
        if form == "responses":
            body["input"] = "tea please"
        else:
            body["messages"] = [{"role": "user", "content": "tea please"}]
        if form == "chat" and stream:
            body["stream_options"] = {"include_usage": True}
        if form == "messages":
            body["max_tokens"] = 100
        request = wire_of(self.entry(kind)).request(ask(self.entry(kind), body, form=form))
        return Call(request.url, request.headers, request.body, 2.0, request.method)

    async def ask(self, kind: str, form: str = "chat", *, stream: bool = False, **more: Any) -> Completion:
        """The completion, or the error that the gateway would see."""
        wire = wire_of(self.entry(kind))
        call = self.call(kind, form, stream=stream, **more)
        native: Form | None = wire.native.get(form)
        if not stream:
            reply = await self.upstream.whole(call)
            if reply.status != 200:
                raise wire.error(reply.status, reply.headers, reply.body, NOW_US)
            return (native or CHAT).read(reply.body if native else wire.chat_whole(reply.body))
        flow: Flow = await self.upstream.stream(call)
        try:
            if flow.status != 200:
                raise wire.error(flow.status, flow.headers, await flow.rest(), NOW_US)
            return await _read(flow if native else wire.chat_stream(flow), native or CHAT)
        finally:
            await flow.close()


async def _read(flow: Flow, form: Form) -> Completion:
    assembly, rest = form.assembly(), b""
    while (data := await flow.read()) is not None:
        rest += data
        end = whole_events(rest)
        assembly.add(rest[:end])
        rest = rest[end:]
    return assembly.finished()


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    await line.provider.start()
    yield line
    await line.upstream.close()
    await line.provider.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "form"), DIALECTS)
async def test_text_tools_thinking_and_usage(line: Line, kind: str, form: str, stream: bool) -> None:
    line.script(
        f"{{reply: 'You said: {{input}}', thinking: hm hm, tool_calls: [{{name: f, arguments: {{a: 1}}}}], {USAGE}}}"
    )
    answer = await line.ask(kind, form, stream=stream)
    message = answer.choices[0].message
    assert answer.text == "You said: tea please" and answer.finish_reason == "tool_calls"
    assert message is not None and message.tool_calls is not None
    assert message.tool_calls[0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    if form != "responses":
        assert message.reasoning_content == "hm hm"
    write = 10 if kind != "gemini" and form != "responses" else 0  # which have no such count
    reasoning = 5 if kind != "bedrock" else 0
    assert answer.tokens() == Tokens(70 - write, 30, write, 20 - reasoning, reasoning)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "form"), DIALECTS)
async def test_without_usage_nothing_is_made_up(line: Line, kind: str, form: str, stream: bool) -> None:
    line.script("{reply: words, usage: none}")
    assert (await line.ask(kind, form, stream=stream)).tokens() is None


REFUSED: list[tuple[str, type[UpstreamError]]] = [
    ("context_window", ContextWindow),
    ("content_filter", ContentFilter),
    ("overloaded", ServerError),
    ("rate_limit", RateLimited),
    ("quota", QuotaExceeded),
    ("credentials", Rejected),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "form"), DIALECTS)
@pytest.mark.parametrize(("refuse", "error"), REFUSED)
async def test_each_refusal_in_each_dialect(
    line: Line, kind: str, form: str, refuse: str, error: type[UpstreamError], stream: bool
) -> None:
    line.script(f"{{refuse: {refuse}, headers: {{retry-after-ms: '250'}}}}")
    with pytest.raises(UpstreamError) as caught:
        await line.ask(kind, form, stream=stream)
    assert type(caught.value) is error
    if refuse == "rate_limit":
        assert caught.value.retry_after_s == 0.25


@pytest.mark.parametrize(("kind", "form"), DIALECTS)
@pytest.mark.parametrize("refuse", [None, "overloaded", "rate_limit"])
async def test_the_providers_own_error_inside_a_stream(line: Line, kind: str, form: str, refuse: str | None) -> None:
    line.script(f"{{reply: some words, fault: error_event, refuse: {refuse or 'null'}}}")
    with pytest.raises(UpstreamError) as caught:
        await line.ask(kind, form, stream=True)
    assert type(caught.value) is (RateLimited if refuse == "rate_limit" else ServerError)


@pytest.mark.parametrize(("kind", "form"), DIALECTS)
async def test_an_error_with_status_200(line: Line, kind: str, form: str) -> None:
    line.script("{fault: error_body, error: Network connection lost}")
    with pytest.raises(ServerError):
        await line.ask(kind, form)
    line.script("{fault: error_body, error: Network connection lost}")
    with pytest.raises((ServerError, CutStream)):
        await line.ask(kind, form, stream=True)


BROKEN = {
    "cut": (ServerError, CutStream), "cut_before": (ServerError, CutStream), "reset": (ServerError, CutStream),
    "drop": (UpstreamError,), "garbage": (ServerError,), "malformed": (ServerError,),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "form"), DIALECTS)
@pytest.mark.parametrize("fault", BROKEN)
async def test_each_fault_in_each_dialect(line: Line, kind: str, form: str, fault: str, stream: bool) -> None:
    line.script(f"{{reply: some words that go on, fault: {fault}}}")
    with pytest.raises(BROKEN[fault]):
        await line.ask(kind, form, stream=stream)


@pytest.mark.parametrize("fault", ["no_done", "no_finish"])
@pytest.mark.parametrize(("kind", "form"), DIALECTS)
async def test_a_stream_that_only_seems_complete(line: Line, kind: str, form: str, fault: str) -> None:
    line.script(f"{{reply: some words, fault: {fault}}}")
    with pytest.raises(CutStream):
        await line.ask(kind, form, stream=True)


def test_every_fault_is_tried() -> None:
    timed = {"stall", "stall_head", "stall_mid"}  # tests/gateway has the timeouts
    assert set(BROKEN) | timed | {"error_event", "error_body", "no_done", "no_finish"} == set(FAULTS)


@pytest.mark.parametrize("status", [400, 429, 500, 503, 529])
@pytest.mark.parametrize(("kind", "form"), DIALECTS)
async def test_a_bare_status(line: Line, kind: str, form: str, status: int) -> None:
    line.script(f"{{status: {status}, error: because, retry_after: 2}}")
    with pytest.raises(UpstreamError, match="because") as caught:
        await line.ask(kind, form)
    assert caught.value.upstream_status == status
    assert caught.value.retry_after_s == (None if status == 400 else 2.0)


# What is not chat


async def whole(line: Line, kind: str, form: str, body: dict[str, Any], **more: Any) -> Any:
    provider = line.entry(kind)
    request = wire_of(provider).request(ask(provider, body, form=form, **more))
    reply = await line.upstream.whole(Call(request.url, request.headers, request.body, 2.0, request.method))
    assert reply.status == 200, reply.body
    return msgspec.json.decode(reply.body), wire_of(provider).native[form].read(reply.body)


@pytest.mark.parametrize("kind", ["openai", "gemini", "scripted"])
async def test_embeddings(line: Line, kind: str) -> None:
    body, read = await whole(line, kind, "embeddings", {"model": "e", "input": ["a", "b"], "dimensions": 4})
    first, second = (item["embedding"] for item in body["data"])
    assert len(first) == 4 and first != second and sum(x * x for x in first) == pytest.approx(1)
    assert read.tokens() is not None and read.tokens().output == 0
    coded, _ = await whole(
        line, kind, "embeddings", {"model": "e", "input": "a", "dimensions": 4, "encoding_format": "base64"}
    )
    assert len(base64.b64decode(coded["data"][0]["embedding"])) == 16


async def test_moderations(line: Line) -> None:
    assert (await whole(line, "openai", "moderations", {"model": "o", "input": "x"}))[0]["results"][0][
        "flagged"
    ] is False
    line.script("{finish_reason: content_filter}")
    body, read = await whole(line, "openai", "moderations", {"model": "o", "input": "x"})
    assert body["results"][0]["flagged"] is True and read.tokens() is None


async def test_count_tokens_and_anything_else(line: Line) -> None:
    count = {"model": "c", "messages": [{"role": "user", "content": "x" * 40}], "system": "y" * 40}
    body, _ = await whole(line, "anthropic", "any", count, path="/messages/count_tokens")
    assert body["input_tokens"] >= 20
    line.script(f"{{reply: words, {USAGE}}}")
    body, read = await whole(line, "openai", "any", {"model": "m"}, path="/rerank?x=1")
    assert body["text"] == "words" and read.tokens() == Tokens(60, 30, 10, 15, 5)
    body, read = await whole(line, "openai", "any", {"model": "m", "prompt": "p"}, path="/completions")
    assert read.text == "words" and line.provider.received[-1].path == "/v1/completions"
    await whole(line, "openai", "any", {}, path="/batches", method="GET")
    assert line.provider.received[-1].method == "GET"


async def test_rules_match_in_every_dialect(line: Line) -> None:
    line.provider.play(
        load(
            b"rules:\n- {match: {contains: tea, model: m, stream: false}, reply: found}\n- {reply: other}\n",
            "test",
        )
    )
    for kind, form in DIALECTS:
        assert (await line.ask(kind, form)).text == "found", (kind, form)
        assert (await line.ask(kind, form, stream=True)).text == "other", (kind, form)
        line.provider.play(line.provider.player.script)
    line.script("{match: {schema: true}, json: {a: 1}}")
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    assert (await line.ask("openai", response_format=shape)).text == '{"a":1}'
    assert (await line.ask("gemini", response_format=shape)).text == '{"a":1}'
    text = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    assert (await line.ask("openai", "responses", text=text)).text == '{"a":1}'
