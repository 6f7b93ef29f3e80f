"""Providers that fail, and clients that leave: retries, fallbacks, timeouts, cut streams; one record each."""

import asyncio
import base64
import socket
from email.utils import formatdate

import msgspec
import pytest
from tests.gateway.conftest import IDLE_SOON, KEY, Stack, live, quick

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback, Retry, Timeouts
from pilothouse.domain.table import Price
from pilothouse.gateway.retry import backoff_s
from pilothouse.gateway.steps import error_class
from pilothouse.providers.failures import retry_after_s

OTHER = ModelRef("fake", "other")


async def error_of(reply: object) -> tuple[int, str]:
    return reply.status, (await reply.json())["error"]["code"]  # type: ignore[attr-defined]


async def test_a_failure_is_retried_before_the_first_byte(stack: Stack) -> None:
    stack.script("rules: [{match: {attempt: 1}, status: 500}, {reply: fine}]")
    stack.route()
    reply = await stack.ask()
    assert reply.status == 200 and reply.get_header("x-pilothouse-attempts") == "2"
    record = stack.record
    assert record.outcome == "success"
    first, second = record.attempts
    assert (first.kind, first.status, first.error_type, first.delivered) == ("primary", 500, "server_error", False)
    assert (second.kind, second.status, second.error_type, second.delivered) == ("retry", 200, "", True)
    assert second.backoff_ms >= 5 and record.stages["queue"] == second.backoff_ms
    assert first.tokens is None and record.tokens == second.tokens


async def test_retry_after_is_honoured_up_and_passed_down(stack: Stack) -> None:
    stack.script("rules: [{match: {attempt: 1}, status: 429, retry_after: 0.2}, {status: 429, retry_after: 7}]")
    stack.route()
    reply = await stack.ask()
    assert await error_of(reply) == (429, "rate_limit")
    assert reply.get_header("retry-after") == "7"
    record = stack.record
    assert [a.retry_after_s for a in record.attempts] == [0.2, 7.0]
    assert record.attempts[1].backoff_ms >= 200
    assert record.error_type == "rate_limit"


async def test_a_wait_beyond_the_total_timeout_is_not_begun(stack: Stack) -> None:
    stack.script("rules: [{status: 429, retry_after: 60}]")
    stack.route()
    assert await error_of(await stack.ask()) == (429, "rate_limit")
    assert len(stack.record.attempts) == 1 and stack.record.duration_ms < 1_000


async def test_a_rejected_request_is_not_retried(stack: Stack) -> None:
    stack.script("rules: [{status: 422, error: too clever}]")
    stack.route(stable=live(policy=quick(fallback=(Fallback(static="no", on=("error",)),))))
    reply = await stack.ask()
    assert await error_of(reply) == (422, "upstream_rejected")
    assert "too clever" in (await reply.json())["error"]["message"]
    assert len(stack.record.attempts) == 1


async def test_our_own_credentials_refused_is_not_the_clients_fault(stack: Stack) -> None:
    stack.script("rules: [{status: 401, error: 'bad key sk-123'}]")
    reply = await stack.ask(model="openai/gpt")
    assert await error_of(reply) == (502, "upstream_credentials")
    assert "sk-123" not in await reply.text()


async def test_fallbacks_in_order_by_class(stack: Stack) -> None:
    stack.script("rules: [{match: {model: small}, status: 500}, {match: {model: other}, reply: backup}]")
    steps = (
        Fallback(static="limited", on=("rate_limit",)),
        Fallback(model=ModelRef("gone", "x"), on=("server_error",)),
        Fallback(model=OTHER, on=("error",)),
    )
    stack.route(stable=live(policy=quick(fallback=steps, retry=Retry(1))))
    reply = await stack.ask()
    assert (await reply.json())["choices"][0]["message"]["content"] == "backup"
    record = stack.record
    assert record.outcome == "fallback" and reply.get_header("x-pilothouse-outcome") == "fallback"
    assert [(a.kind, a.provider, a.error_type) for a in record.attempts] == [
        ("primary", "fake", "server_error"),
        ("fallback", "gone", "connect_failed"),
        ("fallback", "fake", ""),
    ]
    assert (record.provider, record.served_model) == ("fake", "other")


@pytest.mark.parametrize(
    ("script", "error", "served"),
    [
        ("rules: [{status: 500}]", "server_error", ""),
        ("rules: [{status: 429}]", "rate_limit", ""),
        ("rules: [{fault: drop}]", "server_error", ""),
        ("rules: [{reply: '{', finish_reason: length, served_model: small-2026}]", "output_truncated", "small-2026"),
    ],
)
async def test_a_failed_request_says_whom_it_asked(stack: Stack, script: str, error: str, served: str) -> None:
    stack.script(script)
    once = {"retry": Retry(1), "invalid": ("fallback", "error")}
    stack.route(stable=live(schema={"type": "object"}, policy=quick(**once)))
    await stack.ask()
    record = stack.record
    assert (record.outcome, record.error_type, record.attempts[0].served_model) == ("failed", error, served)
    assert (record.provider, record.asked_model, record.served_model) == ("fake", "small", "")
    to_nobody = (Fallback(model=ModelRef("gone", "x"), on=("error", "invalid_output")),)
    stack.route(stable=live(schema={"type": "object"}, policy=quick(fallback=to_nobody, **once)))
    await stack.ask()
    await stack.ask(model="nobody/nothing")
    fell, refused = stack.records[1:]
    assert (fell.provider, fell.asked_model) == ("gone", "x")
    assert (refused.provider, refused.asked_model, refused.attempts) == ("", "", [])


async def test_a_static_answer_is_the_last_resort(stack: Stack) -> None:
    stack.script("rules: [{fault: drop}]")
    step = Fallback(static="A person will call.", on=("error",), outcome="escalated")
    stack.route(stable=live(policy=quick(fallback=(step,), retry=Retry(1))))
    reply = await stack.ask()
    assert reply.status == 200
    assert (await reply.json())["choices"][0]["message"]["content"] == "A person will call."
    assert stack.record.outcome == "escalated" and stack.record.preview_out == "A person will call."
    stream = await stack.ask(stream=True)
    body = await stream.text()
    assert "A person will call." in body and body.endswith("data: [DONE]\n\n")


async def test_every_billed_attempt_is_charged(stack: Stack) -> None:
    stack.script("rules: [{match: {attempt: 1}, reply: nope}, {json: {n: 1}}]")
    stack.more = {"prices": {"fake/small": Price(input=1.0, output=1.0)}}
    schema = {"type": "object", "required": ["n"]}
    stack.route(stable=live(schema=schema, policy=quick(invalid=("repair", "retry", "error"))))
    assert (await stack.ask()).status == 200
    record = stack.record
    costs = [a.cost_usd for a in record.attempts]
    assert len(costs) == 2 and all(costs) and record.cost_usd == pytest.approx(sum(c or 0 for c in costs))
    assert [a.delivered for a in record.attempts] == [False, True]


@pytest.mark.parametrize(
    ("fault", "stream", "code"),
    [
        ("stall_head", False, "timeout_total"),
        ("stall", False, "timeout_total"),
        ("stall_head", True, "timeout_first_token"),
        ("stall", True, "timeout_first_token"),
        ("drop", False, "server_error"),
        ("drop", True, "server_error"),
        ("cut_before", True, "cut_stream"),
        ("cut", False, "server_error"),
        ("reset", False, "server_error"),
        ("malformed", False, "malformed_response"),
    ],
)
async def test_faults_before_the_first_token(stack: Stack, fault: str, stream: bool, code: str) -> None:
    stack.script(f"rules: [{{fault: {fault}, reply: 'some words to be broken off'}}]")
    timeouts = Timeouts(connect=1.0, first_token=0.2, idle=0.2, total=0.5)
    stack.route(stable=live(policy=quick(timeout=timeouts, retry=Retry(1))))
    reply = await stack.ask(stream=stream)
    status, found = await error_of(reply)
    assert found == code and status in (502, 504)
    assert (stack.record.error_type, stack.record.outcome, stack.record.status) == (code, "failed", status)
    assert stack.record.attempts[0].error_type == code


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut", "cut_stream"),
        ("reset", "cut_stream"),
        ("no_done", "cut_stream"),
        ("no_finish", "cut_stream"),
        ("stall_mid", "timeout_idle"),
        ("garbage", "malformed_stream"),
        ("error_event", "stream_error"),
    ],
)
async def test_a_stream_that_breaks_ends_in_an_error_event_and_never_looks_complete(
    stack: Stack, fault: str, code: str
) -> None:
    stack.script(f"rules: [{{fault: {fault}, reply: 'some words to be broken off', chunk_size: 3}}]")
    stack.route(stable=live(policy=quick(timeout=IDLE_SOON)))
    reply = await stack.ask(stream=True)
    assert reply.status == 200
    body = await reply.text()
    assert "[DONE]" not in body
    events = [e.removeprefix("data: ") for e in body.split("\n\n") if e]
    assert msgspec.json.decode(events[-1])["error"]["code"] == code
    assert all(msgspec.json.decode(e) for e in events if "not json" not in e)
    record = stack.record
    assert (record.outcome, record.error_type, record.status) == ("failed", code, 200)
    assert record.attempts[0].delivered and record.attempts[0].error_type == code
    assert record.tokens is not None
    assert record.preview_out.startswith("some words")


async def test_a_connection_that_cannot_be_made(stack: Stack) -> None:
    assert await error_of(await stack.ask(model="gone/x")) == (502, "connect_failed")
    assert [a.kind for a in stack.record.attempts] == ["primary", "retry"]


async def test_a_connect_timeout_is_its_own(stack: Stack) -> None:
    with socket.socket() as full:  # listens, but its queue is full: the handshake never completes
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        timeouts = Timeouts(connect=0.2, first_token=2.0, total=3.0)
        stack.route(stable=live(model=ModelRef("full", "x"), policy=quick(timeout=timeouts, retry=Retry(1))))
        table = stack.table()
        full_provider = msgspec.structs.replace(table.providers["gone"], base_url=f"http://127.0.0.1:{address[1]}")
        table.providers["full"] = full_provider
        stack.gateway.table = lambda: table
        assert await error_of(await stack.ask()) == (502, "connect_failed")
        assert stack.record.duration_ms < 1_500
        for filler in fillers:
            filler.close()


async def test_a_slow_whole_answer_leaves_time_for_its_fallback(stack: Stack) -> None:
    stack.script("rules: [{match: {model: small}, fault: stall_head}, {reply: in time}]")
    timeouts = Timeouts(first_token=0.2, idle=0.2, total=1.0)
    step = Fallback(model=OTHER, on=("timeout",))
    stack.route(stable=live(policy=quick(timeout=timeouts, retry=Retry(1), fallback=(step,))))
    assert (await (await stack.ask()).json())["choices"][0]["message"]["content"] == "in time"
    record = stack.record
    assert record.outcome == "fallback" and record.attempts[0].error_type == "timeout_first_token"
    assert 400 < record.attempts[0].duration_ms < 900  # half of the total, not all of it


async def test_a_long_whole_answer_is_not_cut_at_the_first_token_timeout(stack: Stack) -> None:
    stack.script("rules: [{latency: 0.5, reply: slow but fine}]")
    stack.route(stable=live(policy=quick(timeout=Timeouts(first_token=0.2, total=2.0), retry=Retry(1))))
    assert (await stack.ask()).status == 200


async def test_a_stream_outlives_first_token_and_idle_but_not_total(stack: Stack) -> None:
    stack.script("rules: [{reply: 'abcdefghijklmnopqrstuvwxyz', chunk_size: 1, chunk_delay: 0.05}]")
    stack.route(stable=live(policy=quick(timeout=Timeouts(first_token=0.2, idle=0.2, total=0.6))))
    body = await (await stack.ask(stream=True)).text()
    assert "timeout_total" in body and "[DONE]" not in body
    assert stack.record.error_type == "timeout_total" and stack.record.preview_out.startswith("abc")


async def until(condition: object, within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  # what is awaited is set by sockets, not by an event of ours  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def leave(stack: Stack, stream: bool, after: bytes) -> None:
    """Ask on a raw socket, and hang up as soon as `after` has been read."""
    body = msgspec.json.encode({"model": "answer", "stream": stream, "messages": [{"role": "user", "content": "long"}]})
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    if after:
        await reader.readuntil(after)
    else:
        await until(lambda: stack.provider.received)
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_leaves_a_stream_is_recorded_and_the_provider_let_go(stack: Stack) -> None:
    stack.script("rules: [{reply: 'abcdefghijklmnopqrstuvwxyz', chunk_size: 1, chunk_delay: 0.1}]")
    stack.route()
    await leave(stack, True, b'"c"')
    await until(lambda: stack.records)
    record = stack.record
    assert (record.status, record.error_type, record.outcome) == (499, "client_closed_request", "failed")
    assert record.preview_out.startswith("abc") and record.tokens is not None and record.tokens.estimated
    assert record.attempts[0].error_type == "cancelled"
    await until(lambda: stack.provider.received[0].closed)
    assert stack.meters.in_flight == 0


async def test_a_client_that_leaves_before_the_answer_is_recorded(stack: Stack) -> None:
    stack.script("rules: [{fault: stall_head}]")
    stack.route()
    await leave(stack, False, b"")
    await until(lambda: stack.records)
    assert (stack.record.status, stack.record.error_type) == (499, "client_closed_request")
    assert stack.record.attempts[0].error_type == "cancelled"
    await until(lambda: stack.provider.received[0].closed)


async def test_shutdown_records_what_it_cuts_off(stack: Stack) -> None:
    stack.script("rules: [{fault: stall_head}]")
    stack.route()
    asking = asyncio.ensure_future(stack.ask())
    await until(lambda: stack.provider.received)
    assert await stack.edge.drain(0.05) == 1
    assert (stack.record.error_type, stack.record.status) == ("shutting_down", 503)
    assert await error_of(await asking) == (503, "shutting_down")


async def test_rate_limit_headers_are_kept(stack: Stack) -> None:
    stack.script("rules: [{headers: {x-ratelimit-limit-requests: '100', x-ratelimit-remaining-requests: '3'}}]")
    await stack.ask(model="fake/small")
    attempt = stack.record.attempts[0]
    assert (attempt.ratelimit_limit, attempt.ratelimit_remaining) == (100, 3)


async def test_a_sink_that_fails_never_fails_the_request(stack: Stack) -> None:
    def full(_line: object) -> None:
        raise OSError("disk full")

    stack.gateway.sink = full
    assert (await stack.ask(model="fake/small")).status == 200
    assert stack.gateway.unwritten == 1


def test_back_off_grows_and_respects_the_provider() -> None:
    policy = quick(retry=Retry(4, backoff=0.1))
    assert [backoff_s(policy.retry, n, None, 0.5) for n in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.4])
    assert backoff_s(policy.retry, 1, 3.0, 0.0) == 3.0
    assert backoff_s(policy.retry, 30, None, 1.0) == 30.0


def test_retry_after_is_a_number_or_a_date() -> None:
    now_us = 1_750_000_000_000_000
    assert retry_after_s("1.5", now_us) == 1.5
    assert retry_after_s(formatdate(1_750_000_010, usegmt=True), now_us) == pytest.approx(10.0)
    assert retry_after_s("nan", now_us) is None
    assert retry_after_s("soon", now_us) is None


def test_errors_that_nothing_can_mend_have_no_class() -> None:
    assert error_class(ValueError()) is None  # type: ignore[arg-type]
    assert base64.b64encode(b"") == b""
