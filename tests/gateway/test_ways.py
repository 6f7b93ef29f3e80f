"""The record says by which way a fallback answered, and what an output lacked before it was asked for again."""

from typing import Any

import pytest
from tests.gateway.conftest import Stack, live, quick

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback, Retry
from pilothouse.providers.scripted import ScriptedProvider

OTHER = ModelRef("fake", "other")
LONG = [{"role": "user", "content": text} for text in ("oldest", "older", "newest")]
BROKEN = "rules: [{match: {model: other}, reply: from another}, {status: 500}]"
TOO_LONG = "rules: [{match: {anywhere: oldest}, status: 500}, {reply: short}]"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("step", "script", "way", "outcome"),
    [
        (Fallback(model=OTHER), BROKEN, "model", "fallback"),
        (Fallback(static="later"), BROKEN, "static", "fallback"),
        (Fallback(trim=1, on=("error",), outcome="degraded"), TOO_LONG, "trim", "degraded"),
        (
            Fallback(delayed=8.0, outcome="degraded"),
            "rules: [{times: 1, status: 500}, {reply: x}]",
            "delayed",
            "degraded",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 10 else "",
)
async def test_the_way_of_a_fallback(
    stack: Stack, step: Fallback, script: str, way: str, outcome: str, *, stream: bool
) -> None:
    stack.script(script)
    stack.route(stable=live(policy=quick(retry=Retry(1), fallback=(step,))))
    reply = await stack.post({"model": "answer", "messages": LONG, "stream": stream})
    await reply.text()
    assert reply.status in (200, 202)
    assert (stack.records[0].way, stack.records[0].outcome) == (way, outcome)


async def test_a_kept_answer_and_a_hand_off_are_ways(stack: Stack) -> None:
    hook = ScriptedProvider()
    await hook.start()
    url = f"http://127.0.0.1:{hook.port}/v1/chat/completions"
    steps = (Fallback(cached=60.0), Fallback(handoff=url, outcome="escalated"))
    stack.route(stable=live(policy=quick(retry=Retry(1), fallback=steps)))
    stack.script("rules: [{times: 1, reply: kept}, {status: 500}]")
    for text in ("known", "known", "unknown"):
        await stack.ask(text)
    assert [record.way for record in stack.records] == ["", "cached", "handoff"]
    await hook.close()


async def test_a_request_that_no_fallback_answered_has_no_way(stack: Stack) -> None:
    stack.script("rules: [{status: 500}]")
    stack.route(stable=live(policy=quick(retry=Retry(1), fallback=(Fallback(model=OTHER),))))
    assert (await stack.ask()).status == 502
    assert (stack.record.way, stack.record.outcome) == ("", "failed")


async def test_what_an_output_lacked_is_noted_after_the_next_one_has_it(stack: Stack) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "required": ["level", "n"],
        "properties": {"level": {"enum": ["low", "high"]}, "n": {"type": "integer"}},
    }
    stack.script("rules: [{times: 1, json: {level: severe}}, {json: {level: high, n: 1}}]")
    stack.route(stable=live(schema=schema, policy=quick(retry=Retry(1), invalid=("repair", "reask", "error"))))
    assert (await stack.ask()).status == 200
    found = stack.record.validation
    assert found is not None and found.ok and not found.first_ok and found.retried == 1
    assert (found.missing, found.mismatched, found.unlisted) == (["/n"], ["/level"], ["/level"])
