"""Attempts over real sockets: client deadlines, retry and cost caps, trims, hedges, deployments, second chances."""

import asyncio
import base64
from typing import Any

import msgspec
import pytest
from tests.gateway.conftest import KEY, Stack, live, quick

from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Balance, Breaker, Caps, Deployment, Fallback, Hedge, Policy, Retry, Timeouts
from pilothouse.domain.table import Price

SMALL, OTHER = ModelRef("fake", "small"), ModelRef("fake", "other")


async def said(reply: Any) -> str:
    return str((await reply.json())["choices"][0]["message"]["content"])


async def code_of(reply: Any) -> tuple[int, str]:
    return reply.status, (await reply.json())["error"]["code"]


def bodies(stack: Stack) -> list[Any]:
    return [msgspec.json.decode(base64.b64decode(one.body_b64)) for one in stack.provider.received]


def kinds(stack: Stack, at: int = -1) -> list[str]:
    return [a.kind for a in stack.records[at].attempts]


async def until(condition: Any, within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # what is awaited is set by sockets, not by an event of ours
            await asyncio.sleep(0.01)


ASKED = {"model": "answer", "messages": [{"role": "user", "content": "hello"}]}


# --- deadlines


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x_pilothouse_timeout", "0.3"),
        ("x_pilothouse_timeout", "300ms"),
        ("x_stainless_timeout", "0.3"),
        ("x_stainless_read_timeout", "0.3"),
        ("request_timeout", "0.3"),
        ("grpc_timeout", "300m"),
    ],
)
async def test_the_answer_comes_within_the_clients_own_time(stack: Stack, header: str, value: str) -> None:
    stack.script("rules: [{fault: stall_head}]")
    stack.route(stable=live(policy=quick(timeout=Timeouts(total=30.0), retry=Retry(3))))
    reply = await stack.post(ASKED, **{header: value})
    assert await code_of(reply) == (504, "timeout_total")
    assert 200 <= stack.record.duration_ms < 1_000 and len(stack.record.attempts) == 1


async def test_a_read_timeout_bounds_a_streams_beginning_and_not_its_length(stack: Stack) -> None:
    stack.script("rules: [{reply: 'abcdefghijklmnopqrst', chunk_size: 1, chunk_delay: 0.04}]")
    stack.route(stable=live(policy=quick(timeout=Timeouts(total=30.0))))
    reply = await stack.post(ASKED | {"stream": True}, x_stainless_read_timeout="0.3")
    assert (await reply.text()).endswith("[DONE]\n\n") and stack.record.duration_ms > 500
    stack.script("rules: [{first_token: 5, reply: late}]")
    reply = await stack.post(ASKED | {"stream": True}, x_stainless_read_timeout="0.3")
    assert await code_of(reply) == (504, "timeout_total") and stack.records[1].duration_ms < 1_000


async def test_no_retry_is_begun_that_cannot_end_in_the_clients_time(stack: Stack) -> None:
    stack.script("rules: [{status: 429, retry_after: 1}]")
    stack.route(stable=live(policy=quick(timeout=Timeouts(total=30.0), retry=Retry(5))))
    reply = await stack.post(ASKED, x_pilothouse_timeout="0.5")
    assert reply.status == 429 and reply.get_header("retry-after") == "1"
    assert len(stack.record.attempts) == 1


# --- retries


async def test_an_outage_spends_the_retry_budget_and_no_more(stack: Stack) -> None:
    stack.script("rules: [{status: 500}]")
    stack.route(stable=live(policy=quick(retry=Retry(2, backoff=0.0, budget=0.1), breaker=Breaker(failures=0))))
    for _ in range(30):
        assert (await stack.ask()).status == 502
    retried = sum(len(r.attempts) - 1 for r in stack.records)
    assert retried == 10 + 3 - 1  # ten in hand, then a tenth of the requests; the last tenth is not whole
    assert "pilothouse_retries_refused_total 18" in stack.gateway.attempts.metrics()


async def test_the_cap_on_calls_ends_the_chain(stack: Stack) -> None:
    stack.script("rules: [{status: 500}]")
    steps = tuple(Fallback(model=ModelRef("fake", f"m{i}")) for i in range(5))
    stack.route(stable=live(policy=quick(retry=Retry(3, backoff=0.0), fallback=steps, caps=Caps(attempts=4))))
    assert await code_of(await stack.ask()) == (429, "attempts_cap")
    assert kinds(stack) == ["primary", "retry", "retry", "fallback"]


async def test_a_cost_cap_is_answered_by_a_cheaper_model_only_where_it_is_named(stack: Stack) -> None:
    stack.script("rules: [{match: {model: other}, reply: cheap}]")
    for on, status in ((("cost_cap",), 200), (("error",), 429)):
        policy = quick(caps=Caps(cost=0.01), fallback=(Fallback(model=OTHER, on=on),))  # type: ignore[arg-type]
        stack.route(stable=live(policy=policy))
        stack.more = {
            "prices": {"fake/small": Price(input=1e6, output=1e6), "fake/other": Price(input=0.1, output=0.1)}
        }
        reply = await stack.ask()
        assert reply.status == status
    assert [len(r.attempts) for r in stack.records] == [1, 0]
    assert stack.records[0].outcome == "fallback" and stack.records[1].error_type == "cost_cap"


# --- fallbacks


async def test_a_context_window_is_met_by_leaving_the_oldest_out(stack: Stack) -> None:
    too_long = "This model's maximum context length is 8192 tokens."
    rules = [{"match": {"anywhere": "oldest"}, "status": 400, "error": too_long}, {"reply": "short enough"}]
    stack.script(msgspec.json.encode({"rules": rules}).decode())
    stack.route(stable=live(policy=quick(fallback=(Fallback(trim=3, on=("context_window",), outcome="degraded"),))))
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "oldest"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
        {"role": "user", "content": "why?"},
    ]
    reply = await stack.post({"model": "answer", "messages": messages})
    assert await said(reply) == "short enough"
    assert bodies(stack)[1]["messages"] == [messages[0], *messages[2:]]  # the call stays with its result
    record = stack.record
    assert record.outcome == "degraded" and [a.trimmed for a in record.attempts] == [0, 1]
    assert record.attempts[0].error_type == "context_length_exceeded"


async def test_a_context_window_is_no_error_that_may_pass(stack: Stack) -> None:
    rules = [{"status": 400, "error": "This model's maximum context length is 8192 tokens."}]
    stack.script(msgspec.json.encode({"rules": rules}).decode())
    stack.route(stable=live(policy=quick(fallback=(Fallback(model=OTHER, on=("error",)),))))
    assert await code_of(await stack.ask()) == (400, "context_length_exceeded")
    assert len(stack.record.attempts) == 1


async def test_invalid_output_is_asked_for_once_more_with_its_errors(stack: Stack) -> None:
    stack.script("rules: [{match: {attempt: 1, anywhere: hello}, times: 1, json: {m: 1}}, {json: {n: 1}}]")
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    stack.route(stable=live(schema=schema, policy=quick(retry=Retry(1), invalid=("repair", "reask", "error"))))
    assert msgspec.json.decode(await said(await stack.ask())) == {"n": 1}
    assert kinds(stack) == ["primary", "reask"]
    first, second = (body["messages"] for body in bodies(stack))
    assert second[: len(first)] == first and len(second) > len(first)


# --- hedges


HEDGED = {"breaker": Breaker(failures=0), "retry": Retry(1)}


async def test_a_late_call_is_hedged_and_the_loser_let_go(stack: Stack) -> None:
    stack.script("rules: [{times: 1, fault: stall_head}, {reply: quick}]")
    policy = quick(hedge=Hedge(after=0.05, share=1.0), timeout=Timeouts(first_token=5.0, total=9.0), **HEDGED)
    stack.route(stable=live(policy=policy))
    stack.more = {"prices": {"fake/small": Price(input=1.0, output=1.0)}}
    assert await said(await stack.ask()) == "quick"
    record = stack.record
    lost, won = record.attempts
    assert (lost.kind, lost.cancelled, lost.delivered, lost.error_type) == ("primary", True, False, "cancelled")
    assert (won.kind, won.cancelled, won.delivered) == ("hedge", False, True)
    assert lost.tokens is not None and lost.tokens.estimated and lost.cost_usd  # what it was sent is charged
    assert record.outcome == "success" and record.cost_usd == pytest.approx(lost.cost_usd + (won.cost_usd or 0))
    await until(lambda: stack.provider.received[0].closed)


async def test_of_two_streams_the_first_token_wins(stack: Stack) -> None:
    stack.script("rules: [{times: 1, first_token: 9, reply: slow}, {reply: quick}]")
    policy = quick(hedge=Hedge(after=0.05, share=1.0), timeout=Timeouts(first_token=5.0, total=9.0), **HEDGED)
    stack.route(stable=live(policy=policy))
    body = await (await stack.ask(stream=True)).text()
    assert "quick" in body and body.endswith("[DONE]\n\n")
    lost, won = stack.record.attempts
    assert (lost.cancelled, lost.delivered, won.kind, won.delivered) == (True, False, "hedge", True)
    assert stack.record.stream_end == "complete"
    await until(lambda: stack.provider.received[0].closed)


async def test_the_first_call_may_still_win(stack: Stack) -> None:
    stack.script("rules: [{times: 1, latency: 0.15, reply: first}, {fault: stall_head}]")
    policy = quick(hedge=Hedge(after=0.05, share=1.0), timeout=Timeouts(first_token=5.0, total=9.0), **HEDGED)
    stack.route(stable=live(policy=policy))
    assert await said(await stack.ask()) == "first"
    assert [(a.kind, a.cancelled) for a in stack.record.attempts] == [("primary", False), ("hedge", True)]


async def test_two_failures_are_the_first_ones_error(stack: Stack) -> None:
    stack.script("rules: [{times: 1, latency: 0.15, status: 500}, {status: 429}]")
    policy = quick(hedge=Hedge(after=0.05, share=1.0), timeout=Timeouts(first_token=5.0, total=9.0), **HEDGED)
    stack.route(stable=live(policy=policy))
    assert await code_of(await stack.ask()) == (502, "server_error")
    assert [a.error_type for a in stack.record.attempts] == ["server_error", "rate_limit"]


async def test_hedges_are_a_share_of_the_requests(stack: Stack) -> None:
    stack.script("rules: [{latency: 0.03}]")
    stack.route(stable=live(policy=quick(hedge=Hedge(after=0.005, share=0.1), **HEDGED)))
    for _ in range(20):
        assert (await stack.ask()).status == 200
    hedged = sum("hedge" in [a.kind for a in r.attempts] for r in stack.records)
    assert hedged == 2  # one in hand, and a tenth of nineteen more


async def test_a_quantile_needs_twenty_calls(stack: Stack) -> None:
    stack.route(stable=live(policy=quick(hedge=Hedge(quantile=0.5, share=1.0), **HEDGED)))
    for _ in range(20):
        await stack.ask()
    stack.script("rules: [{times: 1, fault: stall_head}, {reply: quick}]")
    assert await said(await stack.ask()) == "quick" and kinds(stack) == ["primary", "hedge"]
    assert all(kinds(stack, i) == ["primary"] for i in range(20))


async def test_a_client_that_leaves_takes_both_calls_with_it(stack: Stack) -> None:
    stack.script("rules: [{fault: stall_head}]")
    policy = quick(hedge=Hedge(after=0.02, share=1.0), timeout=Timeouts(first_token=5.0, total=9.0), **HEDGED)
    stack.route(stable=live(policy=policy))
    _, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    body = msgspec.json.encode(ASKED)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    await until(lambda: len(stack.provider.received) == 2)
    writer.close()
    await until(lambda: stack.records)
    assert stack.record.status == 499 and [a.cancelled for a in stack.record.attempts] == [True, True]
    await until(lambda: all(one.closed for one in stack.provider.received))


# --- deployments


def over(*names: str, by: Any = "weight", **weights: float) -> Balance:
    return Balance(tuple(Deployment(ModelRef("fake", n), weights.get(n, 1.0)) for n in names), by)


async def test_a_retry_goes_to_another_deployment_and_does_not_wait_for_the_first(stack: Stack) -> None:
    stack.script("rules: [{match: {model: a}, status: 429, retry_after: 60}, {match: {model: b}, reply: b}]")
    stack.route(stable=live(policy=quick(balance=over("a", "b"), retry=Retry(2, backoff=0.001))))
    for _ in range(12):
        assert await said(await stack.ask()) == "b"
    served = {tuple(a.model for a in r.attempts) for r in stack.records}
    assert served <= {("b",), ("a", "b")} and len(served) == 2
    # Five refusals, and its breaker keeps it out.
    assert sum(tuple(a.model for a in r.attempts) == ("a", "b") for r in stack.records) <= 5
    assert {r.outcome for r in stack.records} == {"success"}


async def test_weights_are_shares(stack: Stack) -> None:
    stack.route(stable=live(policy=quick(balance=over("a", "b", "c", a=3.0, b=1.0, c=0.0))))
    for _ in range(80):
        await stack.ask()
    count = [sum(r.attempts[0].model == name for r in stack.records) for name in "abc"]
    assert count[2] == 0 and 40 <= count[0] <= 75 and count[0] + count[1] == 80


async def test_load_prefers_the_quicker(stack: Stack) -> None:
    stack.script("rules: [{match: {model: a}, latency: 0.03}, {match: {model: b}, latency: 0.001}]")
    stack.route(stable=live(policy=quick(balance=over("a", "b", by="load"))))
    for _ in range(20):
        await stack.ask()
    assert sum(r.attempts[0].model == "b" for r in stack.records) >= 15


async def test_a_record_names_the_body_that_its_deployment_got(stack: Stack) -> None:
    stack.route(stable=live(policy=quick(balance=over("a"))))
    await stack.ask()
    assert stack.record.upstream_hash == bytes_hash(base64.b64decode(stack.provider.received[0].body_b64))


async def test_no_policy_means_defaults(stack: Stack) -> None:
    stack.route(stable=live(policy=Policy()))
    assert (await stack.ask()).status == 200 and stack.record.attempts[0].trimmed == 0


async def test_a_stale_answer_is_given_where_there_is_none_else(stack: Stack) -> None:
    stack.script("rules: [{times: 1, reply: from before}, {status: 500}]")
    stack.route(stable=live(policy=quick(retry=Retry(1), fallback=(Fallback(cached=60.0, outcome="degraded"),))))
    for stream in (False, True):
        stack.script("rules: [{times: 1, reply: from before}, {status: 500}]")
        first = await (await stack.ask(stream=stream)).text()
        reply = await stack.ask(stream=stream)
        assert await reply.text() == first and reply.get_header("x-pilothouse-cache") == "stale"
        record = stack.records[-1]
        assert (record.outcome, record.cache, record.status) == ("degraded", "stale", 200)
        assert record.attempts[0].error_type == "server_error" and record.preview_out == "from before"
    assert (await stack.ask("never asked")).status == 502
