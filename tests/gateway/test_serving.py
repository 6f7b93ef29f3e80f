"""The happy paths and the refusals, from a client's socket to the record."""

import asyncio
import base64

import msgspec
import openai
import pytest
from tests.gateway.conftest import KEY, SECRET, Stack, live, quick

from pilothouse.domain.hashing import bytes_hash, content_hash
from pilothouse.domain.manifest import PARTS, IndexRef, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.record import ScoreRecord
from pilothouse.domain.table import Price


def sent(stack: Stack, n: int = 0) -> bytes:
    return base64.b64decode(stack.provider.received[n].body_b64)


async def test_a_route_answers_and_leaves_one_record(stack: Stack) -> None:
    stack.script("rules: [{reply: 'It is {input}.', usage: {prompt: 20, completion: 9, cached: 5, reasoning: 2}}]")
    stack.more = {"prices": {"fake/small": Price(input=1.0, output=10.0, cache_read=0.1)}}
    release = stack.route(
        stable=live(
            7,
            system=Template("You speak to {{ input|length }} letters."),
            prompt=Template("Q: {{ input }}"),
            params={"temperature": 0.3},
            index=IndexRef("docs", "v1"),
            policy=quick(),
        )
    )
    reply = await stack.ask("noon", temperature=1.5, user="u-1", metadata={"team": "red", "segment": "eu"})
    assert reply.status == 200
    body = await reply.json()
    assert body["choices"][0]["message"]["content"] == "It is Q: noon."
    record = stack.record
    assert reply.get_header("x-pilothouse-request-id") == record.id
    assert reply.get_header("x-pilothouse-release") == "7"
    assert reply.get_header("x-pilothouse-outcome") == "success"
    assert reply.get_header("x-pilothouse-attempts") == "1"
    cost = (15 * 1.0 + 5 * 0.1 + 9 * 10.0) / 1e6
    assert float(reply.get_header("x-pilothouse-cost-usd") or "") == pytest.approx(cost)
    assert msgspec.json.decode(sent(stack)) == {
        "model": "small",
        "temperature": 0.3,
        "user": "u-1",
        "messages": [
            {"role": "system", "content": "You speak to 4 letters."},
            {"role": "user", "content": "Q: noon"},
        ],
    }
    assert record.upstream_hash == bytes_hash(sent(stack))
    assert (record.route, record.env, record.release, record.app) == ("answer", "dev", 7, "tests")
    assert record.parts == release.parts and set(record.parts) == set(PARTS)
    assert record.manifest == release.hash
    assert (record.status, record.outcome, record.error_type) == (200, "success", "")
    assert record.tokens is not None
    tokens = record.tokens
    assert (tokens.input_uncached, tokens.cache_read, tokens.output_text, tokens.reasoning) == (15, 5, 7, 2)
    assert (record.cost_usd, record.cost_source) == (pytest.approx(cost), "config")
    assert record.served_model == "small" and record.fingerprint == "fp_scripted"
    assert record.attempts[0].finish_reason == "stop" and record.attempts[0].delivered
    assert record.user and record.user != "u-1" and record.session == record.user
    assert (record.labels, record.segment) == ({"team": "red"}, "eu")
    assert record.redaction is not None and record.redaction.status == "clean"
    assert record.payload is not None and record.preview_in == "noon" and record.preview_out == "It is Q: noon."
    assert sum(record.stages.values()) == pytest.approx(record.duration_ms, rel=0.05)


async def test_a_raw_model_passes_through_as_an_inline_manifest(stack: Stack) -> None:
    raw = (
        b'{ "messages":[{"role":"user","content":"caf\\u00e9"}],\n "model" : "openai/gpt-4o-mini", "x_new": [1, 2.0] }'
    )
    reply = await stack.post(raw)
    assert reply.status == 200
    assert sent(stack) == raw.replace(b'"openai/gpt-4o-mini"', b'"gpt-4o-mini"')
    assert stack.provider.received[0].headers["authorization"] == "Bearer value of env://KEY"
    record = stack.record
    assert record.inline and record.release is None
    assert record.parts["model"] == content_hash(ModelRef("openai", "gpt-4o-mini"))
    assert record.cost_source == "genai-prices" and record.cost_usd is not None and record.cost_usd > 0


async def test_an_unpriced_model_costs_nothing_known(stack: Stack) -> None:
    stack.route()
    reply = await stack.ask()
    assert reply.get_header("x-pilothouse-cost-usd") == "unknown"
    assert stack.record.cost_usd is None and stack.record.tokens is not None


async def test_missing_usage_is_estimated_and_marked(stack: Stack) -> None:
    stack.script("rules: [{reply: one two three, usage: none}]")
    stack.route()
    await stack.ask()
    tokens = stack.record.tokens
    assert tokens is not None and tokens.estimated
    assert tokens.output_text == 3 and tokens.input_uncached > 0


async def test_a_stream_is_passed_on_byte_for_byte(stack: Stack) -> None:
    stack.script("rules: [{reply: 'a longer answer in pieces', chunk_size: 4}]")
    stack.route()
    reply = await stack.ask(stream=True)
    body = (await reply.bytes()).to_bytes()
    assert reply.get_header("content-type") == "text/event-stream; charset=utf-8"
    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in body  # we asked the provider for it, the client did not
    assert msgspec.json.decode(sent(stack))["stream_options"] == {"include_usage": True}
    record = stack.record
    assert record.stream and record.ttft_ms is not None and record.tokens is not None
    assert not record.tokens.estimated
    assert record.preview_out == "a longer answer in pieces"
    assert record.payload is not None
    assert msgspec.json.decode(record.payload.response)["content"] == "a longer answer in pieces"


async def test_a_client_that_asks_for_usage_in_a_stream_gets_it(stack: Stack) -> None:
    reply = await stack.ask(model="fake/small", stream=True, stream_options={"include_usage": True})
    assert b'"usage":{"prompt_tokens"' in (await reply.bytes()).to_bytes()


async def test_the_openai_sdk_is_a_client(stack: Stack) -> None:
    stack.script(
        """
        rules:
        - {match: {contains: weather}, tool_calls: [{name: look_up, arguments: {city: Oslo}}], chunk_size: 3}
        - {reply: 'Hello there'}
        """
    )
    stack.route()
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=KEY) as client:
        ask = [{"role": "user", "content": "hi"}]
        whole = await client.chat.completions.create(model="answer", messages=ask)  # type: ignore[call-overload]
        assert whole.choices[0].message.content == "Hello there"
        stream = await client.chat.completions.create(model="answer", messages=ask, stream=True)  # type: ignore[call-overload]
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        assert text == "Hello there"
        ask = [{"role": "user", "content": "weather?"}]
        whole = await client.chat.completions.create(model="answer", messages=ask, tools=tools)  # type: ignore[call-overload]
        assert whole.choices[0].message.tool_calls[0].function.name == "look_up"
        stream = await client.chat.completions.create(model="answer", messages=ask, tools=tools, stream=True)  # type: ignore[call-overload]
        arguments = ""
        async for chunk in stream:
            for call in chunk.choices[0].delta.tool_calls or []:
                arguments += call.function.arguments or ""
        assert arguments == '{"city":"Oslo"}'
        assert {m.id async for m in client.models.list()} == {"answer", "fake/*", "gone/*", "openai/*"}
        with pytest.raises(openai.NotFoundError) as error:
            await client.chat.completions.create(model="anser", messages=ask)  # type: ignore[call-overload]
        assert "did you mean answer?" in str(error.value)
    assert len(stack.records) == 5
    assert [r.attempts[0].finish_reason for r in stack.records[2:4]] == ["tool_calls", "tool_calls"]


async def test_prompt_variables_history_and_the_clients_own_system_message(stack: Stack) -> None:
    prompt = Template("{{ question }} about {{ topic }}", variables=("question", "topic"))
    stack.route(stable=live(system=Template("Be brief."), prompt=prompt, policy=quick()))
    reply = await stack.post(
        {
            "model": "answer",
            "prompt": {"id": "answer", "variables": {"question": "why", "topic": "ships"}},
            "messages": [
                {"role": "system", "content": "mine"},
                {"role": "user", "content": "before"},
                {"role": "assistant", "content": "then"},
                {"role": "user", "content": "now"},
            ],
        }
    )
    assert reply.status == 200
    assert [(m["role"], m["content"]) for m in msgspec.json.decode(sent(stack))["messages"]] == [
        ("system", "Be brief."),
        ("system", "mine"),
        ("user", "before"),
        ("assistant", "then"),
        ("user", "why about ships"),
    ]
    only = await stack.post({"prompt": {"id": "answer", "variables": {"question": "why", "topic": "ships"}}})
    assert only.status == 200  # the prompt's id names the route, and its variables are the message


BAD = [
    (b"not json", 400, "malformed_body"),
    (b"[1]", 400, "malformed_body"),
    (b'{"messages":[]}', 400, "bad_request"),
    (b'{"model":"answer"}', 400, "bad_request"),
    (b'{"model":"answer","messages":[{"role":"wizard","content":"x"}]}', 400, "bad_request"),
    (b'{"model":"answer","messages":[{"role":"user","content":7}]}', 400, "bad_request"),
    (b'{"model":"answer","messages":[7]}', 400, "bad_request"),
    (b'{"model":"answer","stream":"yes","messages":[{"role":"user","content":"x"}]}', 400, "bad_request"),
    (b'{"model":"needs","messages":[{"role":"user","content":"x"}]}', 400, "missing_prompt_variable"),
    (b'{"model":"undeclared","messages":[{"role":"user","content":"x"}]}', 400, "missing_prompt_variable"),
    (b'{"model":"escape","messages":[{"role":"user","content":"x"}]}', 400, "bad_variable"),
    (b'{"model":"nowhere","messages":[{"role":"user","content":"x"}]}', 404, "unknown_route"),
    (b'{"model":"nobody/x","messages":[{"role":"user","content":"x"}]}', 404, "unknown_route"),
    (b'{"model":"off","messages":[{"role":"user","content":"x"}]}', 503, "route_disabled"),
    (b'\xff\xfe{"model"', 400, "malformed_body"),
    (b'{"a":' * 100_000, 400, "malformed_body"),
]


@pytest.mark.parametrize(("body", "status", "code"), BAD, ids=[f"{c}-{i}" for i, (_, _, c) in enumerate(BAD)])
async def test_what_cannot_be_served_is_explained_and_recorded(
    stack: Stack, body: bytes, status: int, code: str
) -> None:
    stack.route("needs", live(prompt=Template("{{ topic }}", variables=("topic",))))
    stack.route("undeclared", live(prompt=Template("{{ other }}")))
    stack.route("escape", live(prompt=Template("{{ ''.__class__.__mro__ }}")))
    stack.route("off", disabled=True, disabled_reason="drill")
    stack.route("answer")
    reply = await stack.post(body)
    error = (await reply.json())["error"]
    assert (reply.status, error["code"]) == (status, code)
    assert error["message"] and error["type"] and "hint" in error and "param" in error
    record = stack.record
    assert (record.status, record.outcome, record.error_type) == (status, "failed", code)
    assert reply.get_header("x-pilothouse-request-id") == record.id
    if code == "missing_prompt_variable":
        assert error["param"] in ("prompt.variables.topic", "prompt.variables.other")


async def test_a_wrong_key_is_refused_and_recorded(stack: Stack) -> None:
    stack.route()
    reply = await stack.post({"model": "answer", "messages": [{"role": "user", "content": "x"}]}, key="wrong")
    assert reply.status == 401
    assert (stack.record.status, stack.record.error_type) == (401, "invalid_api_key")
    assert stack.provider.received == []


async def test_an_oversized_body_is_refused_and_recorded(stack: Stack) -> None:
    reply = await stack.post(b"x" * ((10 << 20) + 1))
    assert reply.status == 413
    assert stack.record.error_type == "request_too_large"
    assert stack.record.payload is not None and stack.record.payload.request == ""


async def test_redaction_reaches_every_text_of_the_record(stack: Stack) -> None:
    stack.script(f"rules: [{{reply: 'write to {SECRET}'}}]")
    stack.route(stable=live(prompt=Template("Q: {{ input }}"), policy=quick()))
    escaped = SECRET.replace("@", "\\u0040").encode()
    body = b'{"model":"answer","messages":[{"role":"user","content":"i am %b"}],"metadata":{"by":"%b"}}' % (
        escaped,
        escaped,
    )
    reply = await stack.post(body)
    assert SECRET in (await reply.text())  # the client gets what the model said
    assert SECRET.encode() in sent(stack)
    line = msgspec.json.encode(stack.record)
    assert SECRET.encode() not in line and escaped not in line
    record = stack.record
    assert record.redaction is not None and record.redaction.status == "redacted"
    assert record.redaction.classes["email"] >= 2
    assert record.upstream_redacted_hash not in ("", record.upstream_hash)
    assert record.preview_in == "i am [EMAIL]"


async def test_failed_redaction_keeps_metadata_only(stack: Stack) -> None:
    stack.route()
    reply = await stack.ask("redaction must fail", metadata={"a": "b"})
    assert reply.status == 200
    record = stack.record
    assert record.redaction is not None
    assert (record.redaction.status, record.redaction.reason) == ("blocked", "RuntimeError")
    assert record.payload is None and record.preview_in == "" and record.labels == {}
    assert record.outcome == "success" and record.tokens is not None
    assert b"must fail" not in msgspec.json.encode(record)


@pytest.mark.parametrize(
    ("mode", "status", "payload"),
    [("full", "skipped", True), ("metadata", "skipped", False), ("off", "skipped", False)],
)
async def test_log_modes(stack: Stack, mode: str, status: str, payload: bool) -> None:
    stack.route(stable=live(policy=quick(log=mode)))
    await stack.ask(f"from {SECRET}", metadata={"a": "b"})
    record = stack.record
    assert record.redaction is not None and record.redaction.status == status
    assert (record.payload is not None) == payload
    assert (SECRET.encode() in msgspec.json.encode(record)) == (mode == "full")
    assert record.labels == ({} if mode == "off" else {"a": "b"})


async def test_what_is_kept_in_full_holds_personal_data_in_its_bodies_alone_and_no_credential(stack: Stack) -> None:
    key = "AKIAIOSFODNN7EXAMPLE"
    stack.script(f"rules: [{{reply: 'write to {SECRET}, not with {key}'}}]")
    release = live(prompt=Template("Q: {{ input }}"), policy=quick(log="full"))
    stack.route(stable=release)
    await stack.ask(f"from {SECRET} with {key}", metadata={"by": SECRET})
    record = stack.record
    assert record.payload is not None and record.redaction is not None
    assert SECRET in record.payload.request and SECRET in record.payload.response
    assert (record.redaction.status, record.redaction.reason) == ("redacted", "log mode full")
    assert record.redaction.secrets == 2
    assert key.encode() not in msgspec.json.encode(record.payload)
    record.payload = None
    assert SECRET.encode() not in msgspec.json.encode(record)
    assert record.preview_in.startswith("from [EMAIL]")
    assert record.upstream_redacted_hash not in ("", record.upstream_hash)


async def test_a_pinned_model_answers_and_is_named_in_the_record(stack: Stack) -> None:
    stack.route(pinned_model="openai/other")
    await stack.ask()
    assert msgspec.json.decode(sent(stack))["model"] == "other"
    assert stack.record.parts["model"] == content_hash(ModelRef("openai", "other"))
    assert stack.record.release == 1


async def test_trace_context_goes_in_and_through(stack: Stack) -> None:
    stack.route()
    trace, parent = "a" * 32, "b" * 16
    await stack.post(
        {"model": "answer", "messages": [{"role": "user", "content": "x"}]}, traceparent=f"00-{trace}-{parent}-01"
    )
    record = stack.record
    assert (record.trace_id, record.parent_span_id) == (trace, parent)
    assert stack.provider.received[0].headers["traceparent"] == f"00-{trace}-{record.span_id}-01"


async def test_feedback_becomes_a_score(stack: Stack) -> None:
    reply = await stack.post(
        {"request_id": "r1", "name": "helpful", "value": True, "comment": f"ask {SECRET}"}, path="/v1/feedback"
    )
    assert reply.status == 202
    line = stack.lines[0]
    assert isinstance(line, ScoreRecord)
    assert (line.request_id, line.name, line.value, line.env, line.comment) == (
        "r1",
        "helpful",
        1.0,
        "dev",
        "ask [EMAIL]",
    )
    assert (await stack.post({"request_id": "r1"}, path="/v1/feedback")).status == 400
    assert (await stack.post({"request_id": "r1", "score": 0.5, "x": 1}, path="/v1/feedback")).status == 400
    assert (await stack.post({"request_id": "r1", "score": 0.5}, path="/v1/feedback", key="no")).status == 401
    assert len(stack.lines) == 1


async def test_the_small_paths(stack: Stack) -> None:
    async def get(path: str, method: str = "GET") -> tuple[int, str]:
        reply = await stack.client.request(method, stack.url + path).build().send()
        return reply.status, await reply.text()

    assert await get("/healthz") == (200, "ok\n")
    assert (await get("/readyz"))[0] == 200
    stack.revision = 0
    assert (await get("/readyz"))[0] == 503
    assert (await get("/healthz", "HEAD"))[0] == 200
    assert (await get("/v1/chat/completions"))[0] == 405
    assert (await get("/nothing"))[0] == 404
    stack.route()
    await asyncio.gather(*(stack.ask() for _ in range(3)))
    stack.meters.observe(stack.records[0])
    text = (await get("/metrics"))[1]
    assert 'pilothouse_requests_total{env="dev",route="answer",outcome="success"} 1' in text
    assert "pilothouse_in_flight 0" in text


async def test_many_at_once_leave_one_record_each(stack: Stack) -> None:
    stack.route()
    replies = await asyncio.gather(*(stack.ask(f"q{i}", stream=i % 2 == 0) for i in range(60)))
    assert {r.status for r in replies} == {200}
    assert len({r.id for r in stack.records}) == len(stack.records) == 60
