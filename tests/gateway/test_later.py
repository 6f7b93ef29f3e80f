"""Answers that come later, and requests that are handed to people."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.gateway.conftest import KEY, Stack, live, quick

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import NotFound, ServerError
from pilothouse.domain.policy import Breaker, Fallback, Retry
from pilothouse.gateway.calls import Calls
from pilothouse.gateway.later import Kept, Later, allowed
from pilothouse.providers.script import load
from pilothouse.providers.scripted import ScriptedProvider

BAD_AT_FIRST = "rules: [{times: 2, status: 500}, {reply: at last}]"


async def fetch(stack: Stack, path: str, key: str = KEY) -> Any:
    return await stack.client.get(stack.url + path).header("authorization", f"Bearer {key}").build().send()


async def waited(stack: Stack, path: str) -> Any:
    async with asyncio.timeout(10):
        while (reply := await fetch(stack, path)).status == 202:  # noqa: ASYNC110  # a client that polls
            await asyncio.sleep(0.02)
    return reply


def delayed(**policy: Any) -> Any:
    step = Fallback(delayed=8.0, outcome="degraded")
    given = {"retry": Retry(1, backoff=0.001), "fallback": (step,), "breaker": Breaker(failures=0)} | policy
    return live(policy=quick(**given))


@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_comes_later_with_a_record_of_its_own(stack: Stack, stream: bool) -> None:
    stack.script(BAD_AT_FIRST)
    stack.route(stable=delayed())
    reply = await stack.ask(stream=stream)
    assert reply.status == 202 and reply.get_header("retry-after") == "2"
    told = await reply.json()
    assert told["status"] == "pending" and told["poll"] == f"/v1/delayed/{told['id']}"
    later = await waited(stack, told["poll"])
    assert later.status == 200 and "at last" in await later.text()
    assert later.get_header("x-pilothouse-outcome") == "success"
    first, second = stack.records
    assert (first.outcome, first.status, first.delayed, first.error_type) == ("degraded", 202, False, "")
    assert (second.outcome, second.status, second.delayed, second.trace_id) == ("success", 200, True, first.trace_id)
    assert [a.kind for a in second.attempts] == ["primary", "retry"]
    assert (await fetch(stack, told["poll"])).status == 200  # as often as it is asked for


async def test_nobody_else_can_read_it_and_the_disk_does_not_say_it(stack: Stack, tmp_path: Path) -> None:
    stack.script("rules: [{times: 1, status: 500}, {reply: a secret of ana}]")
    stack.route(stable=delayed())
    told = await (await stack.ask()).json()
    assert "a secret of ana" in await (await waited(stack, told["poll"])).text()
    stack.edge._gateway.authenticate = lambda _header, _table: stack.authenticate(f"Bearer {KEY}", _table)
    assert (await fetch(stack, told["poll"], key="ph_dev_other")).status == 404
    assert (await fetch(stack, told["poll"] + "x")).status == 404
    (kept,) = (tmp_path / "delayed").iterdir()
    data = kept.read_bytes()
    assert b"secret" not in data and told["id"].encode() not in data and told["id"] not in kept.name
    assert kept.stat().st_mode & 0o777 == 0o600


async def test_what_never_comes_is_an_error_in_the_end(stack: Stack) -> None:
    stack.script("rules: [{status: 500}]")
    stack.route(stable=delayed(fallback=(Fallback(delayed=0.3, outcome="degraded"),)))
    told = await (await stack.ask()).json()
    later = await waited(stack, told["poll"])
    assert later.status == 502 and (await later.json())["error"]["code"] == "server_error"
    assert (stack.records[1].outcome, stack.records[1].delayed) == ("failed", True)


async def test_a_webhook_is_told_only_where_policy_names_its_host(stack: Stack) -> None:
    hook = ScriptedProvider()
    await hook.start()
    for hosts in ((f"127.0.0.1:{hook.port}",), ()):
        stack.script("rules: [{times: 1, status: 500}, {reply: at last}]")
        stack.route(stable=delayed(webhooks=hosts))
        body = {"model": "answer", "messages": [{"role": "user", "content": str(hosts)}]}
        reply = await stack.post(body, x_pilothouse_webhook=f"http://127.0.0.1:{hook.port}/v1/chat/completions")
        told = await reply.json()
        await waited(stack, told["poll"])
        async with asyncio.timeout(5):
            while stack.gateway.later.pending:  # noqa: ASYNC110  # its webhook comes last
                await asyncio.sleep(0.01)
        if hosts:
            (got,) = hook.received
            sent = msgspec.json.decode(base64.b64decode(got.body_b64))
            assert sent["id"] == told["id"] and sent["body"]["choices"][0]["message"]["content"] == "at last"
    assert len(hook.received) == 1
    await hook.close()


async def test_a_handed_over_request_says_so(stack: Stack) -> None:
    hook = ScriptedProvider()
    await hook.start()
    stack.script("rules: [{status: 500}]")
    url = f"http://127.0.0.1:{hook.port}/v1/chat/completions"
    step = Fallback(handoff=url, outcome="escalated")
    stack.route(stable=live(policy=quick(retry=Retry(1), fallback=(step, Fallback(static="A person will answer.")))))
    reply = await stack.ask("help me")
    assert (await reply.json())["choices"][0]["message"]["content"] == "A person will answer."
    assert (stack.record.outcome, stack.record.status) == ("escalated", 200)
    (got,) = hook.received
    sent = msgspec.json.decode(base64.b64decode(got.body_b64))
    assert sent["id"] == stack.record.id == got.headers["idempotency-key"]
    assert sent["error"]["code"] == "server_error" and sent["request"]["messages"][0]["content"] == "help me"
    stack.route(stable=live(policy=quick(retry=Retry(1), fallback=(step,))))
    alone = await stack.ask("help me", stream=True)
    assert alone.status == 202 and (await alone.json())["status"] == "escalated"
    assert stack.records[1].outcome == "escalated"
    await hook.close()


async def test_a_webhook_that_does_not_take_it_leaves_the_next_step(stack: Stack) -> None:
    hook = ScriptedProvider(load(b"rules: [{status: 500}]", "hook"))
    await hook.start()
    stack.script("rules: [{status: 500}]")
    for url in (f"http://127.0.0.1:{hook.port}/v1/chat/completions", "http://127.0.0.1:9/"):
        steps = (Fallback(handoff=url, outcome="escalated"), Fallback(static="sorry", outcome="degraded"))
        stack.route(stable=live(policy=quick(retry=Retry(1), fallback=steps)))
        assert (await stack.ask()).status == 200 and stack.records[-1].outcome == "degraded"
    await hook.close()


async def test_lost_work_and_old_answers(tmp_path: Path) -> None:
    clock = FrozenClock()
    later = Later(Calls(None, str, clock), clock, tmp_path / "delayed")  # type: ignore[arg-type]  # nothing is called
    later._reserve("lost", 5.0)
    later._keep("done", "Bearer x", Kept(200, [("a", "b")], b"body"))
    assert (await later.poll("lost", "Bearer x")).status == 202
    assert (await later.poll("done", "Bearer x")).body == b"body"
    with pytest.raises(NotFound):
        await later.poll("done", "Bearer y")
    clock.advance(16.0)
    with pytest.raises(ServerError, match="lost"):
        await later.poll("lost", "Bearer x")
    clock.advance(3600.0)
    for token in ("lost", "done", "../../etc/passwd"):
        with pytest.raises(NotFound):
            await later.poll(token, "Bearer x")
    later._reserve("new", 5.0)
    assert len(list((tmp_path / "delayed").iterdir())) == 1


@pytest.mark.parametrize(
    ("url", "yes"),
    [
        ("https://hooks.example.org/x", True),
        ("http://hooks.example.org:8080/x", False),
        ("https://other.example.org/x", False),
        ("https://hooks.example.org@evil.example/x", False),
        ("file:///etc/passwd", False),
        ("ftp://hooks.example.org/x", False),
        ("http://[", False),
    ],
)
def test_which_webhooks_are_allowed(url: str, yes: bool) -> None:
    assert allowed(url, ("hooks.example.org",)) is yes
