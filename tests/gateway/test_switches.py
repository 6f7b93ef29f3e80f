"""Flags that choose what answers a request of the gateway, or switch it off; and what the record says of it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import MODEL, Stack, live, quick

from pilothouse.domain.flag import Compare, FlagEntry, FlagRule, Flow, Selects, Share
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import PARTS, Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback
from pilothouse.domain.record import MetricRecord
from pilothouse.gateway.replay import rebuild_record
from pilothouse.gateway.switches import with_part

SCRIPT = "rules: [{match: {anywhere: pirate}, reply: Arr}, {reply: Hello}]"
ON_OFF = {"on": True, "off": False}
PLAIN, PIRATE = Template("Be plain."), Template("Be a pirate.")


def selector(key: str = "s", part: str = "", **more: Any) -> FlagEntry:
    given = {
        "type": "integer",
        "variants": {"live": 0, "two": 2},
        "default": "live",
        "selects": Selects("answer", part),
    }
    return FlagEntry(**{"key": key, "salt": key} | given | more)


def flow(when: Any = None, **more: Any) -> FlagEntry:
    given = {"type": "boolean", "variants": ON_OFF, "default": "on", "off": "off", "flow": Flow("answer", when)}
    return FlagEntry(**{"key": "refunds", "salt": "refunds"} | given | more)


def put(stack: Stack, *flags: FlagEntry, policy: Any = None, **more: Any) -> None:
    """The route `answer` on release 1, release 2 selectable, under these flags."""
    stack.script(SCRIPT)
    one = live(1, system=PLAIN, policy=policy or quick())
    two = live(2, system=PIRATE, params={"temperature": 0.5}, policy=quick())
    stack.more["flags"] = {"dev": {flag.key: flag for flag in flags}}
    stack.route(stable=one, switches=tuple(flag.key for flag in flags), selectable={2: two}, **more)


def beta(serve: str = "two") -> tuple[FlagRule, ...]:
    return (FlagRule(when=Compare("labels.beta", "==", "yes"), serve=(Share(serve),)),)


async def test_a_flag_selects_a_release_by_the_requests_own_words(stack: Stack) -> None:
    put(stack, selector(rules=beta()))
    assert (await stack.ask()).get_header("x-pilothouse-release") == "1"
    assert (await stack.ask(metadata={"beta": "yes"})).get_header("x-pilothouse-release") == "2"
    plain, chosen = stack.records
    assert (plain.release, plain.flags) == (1, {})
    assert (chosen.release, chosen.flags, chosen.canary) == (2, {"s": "two"}, False)
    assert chosen.parts == stack.entries["answer@dev"].selectable[2].parts


async def test_a_part_alone_is_taken_and_the_record_can_be_made_again(stack: Stack) -> None:
    put(stack, selector(part="system", rules=beta()))
    reply = await stack.ask(metadata={"beta": "yes"})
    assert "Arr" in await reply.text()
    entry, record = stack.entries["answer@dev"], stack.record
    assert (record.release, record.flags) == (1, {"s": "two"})
    changed = {part for part in PARTS if record.parts[part] != entry.stable.parts[part]}
    assert changed == {"system"} and record.parts["system"] == entry.selectable[2].parts["system"]
    manifest = Manifest(model=MODEL, system=PIRATE, policy=quick())
    assert record.manifest == manifest.hash()
    again = rebuild_record(record, live(1, system=PIRATE, policy=quick()))
    assert bytes_hash(again) == record.upstream_hash


async def test_what_may_not_be_selected_leaves_the_pointer_as_it_is(stack: Stack) -> None:
    put(stack, selector(default="two"))
    stack.entries["answer@dev"] = msgspec.structs.replace(stack.entries["answer@dev"], selectable={})
    await stack.ask()
    assert (stack.record.release, stack.record.flags) == (1, {})


async def test_a_flag_goes_before_a_canary_and_a_pin_before_both(stack: Stack) -> None:
    canary = live(3, policy=quick())
    put(stack, selector(rules=beta()), canary=canary, share=1.0, salt="s", pinned_model="fake/pinned")
    await stack.ask()
    await stack.ask(metadata={"beta": "yes"})
    usual, chosen = stack.records
    assert (usual.release, usual.canary) == (3, True)
    assert (chosen.release, chosen.canary) == (2, False)
    assert {one.attempts[0].model for one in stack.records} == {"pinned"}
    assert usual.parts["model"] == chosen.parts["model"] != canary.parts["model"]


async def test_a_share_is_drawn_by_session_as_a_canarys_is(stack: Stack) -> None:
    put(stack, selector(rollout=(Share("two", 0.5),)))
    for _ in range(2):
        for i in range(20):
            await stack.ask(user=f"u{i}")
    first, second = stack.records[:20], stack.records[20:]
    assert [r.release for r in first] == [r.release for r in second]
    assert {r.release for r in first} == {1, 2}


@pytest.mark.parametrize(
    ("when", "more", "headers"),
    [
        (Compare("headers.x-tenant", "==", "acme"), {}, {"x_tenant": "acme"}),
        (Compare("flow", "==", "refunds"), {}, {"x_pilothouse_flow": "refunds"}),
        (Compare("flow", "==", "refunds"), {"metadata": {"flow": "refunds"}}, {}),
        (Compare("segment", "==", "free"), {"metadata": {"segment": "free"}}, {}),
        (Compare("user", "==", "u7"), {"user": "u7"}, {}),
        (Compare("key", "==", "k1"), {}, {}),
        (Compare("api", "==", "chat"), {}, {}),
        (Compare("app", "==", "tests"), {}, {}),
    ],
)
async def test_a_flow_that_is_off_is_refused_for_those_who_are_of_it(
    stack: Stack, when: Any, more: dict[str, Any], headers: dict[str, str]
) -> None:
    put(stack, flow(when, enabled=False, reason="incident 12"))
    body = {"model": "answer", "messages": [{"role": "user", "content": "x"}], **more}
    reply = await stack.post(body, **headers)
    error = msgspec.json.decode(await reply.bytes())["error"]
    assert (reply.status, error["code"]) == (403, "flow_off")
    assert "incident 12" in error["message"] and error["param"] == "refunds"
    assert (stack.record.flags, stack.record.error_type) == ({"refunds": "off"}, "flow_off")
    assert stack.record.attempts == []


async def test_who_is_not_of_the_flow_or_finds_it_on_is_answered(stack: Stack) -> None:
    put(stack, flow(Compare("flow", "==", "refunds"), enabled=False))
    assert (await stack.ask()).status == 200
    put(stack, flow())
    assert (await stack.ask()).status == 200
    assert [r.flags for r in stack.records] == [{}, {}]
    put(stack, flow(default="on", rules=(FlagRule(when=Compare("labels.beta", "==", "yes"), serve=(Share("off"),)),)))
    assert (await stack.ask(metadata={"beta": "yes"})).status == 403  # switched off for some, by a rule


async def test_a_flow_that_is_off_gets_the_routes_own_answer_for_that(stack: Stack) -> None:
    steps = (
        Fallback(model=ModelRef("fake", "other")),
        Fallback(static="Closed for now.", on=("guardrail",), outcome="degraded"),
    )
    put(stack, flow(enabled=False), policy=quick(fallback=steps))
    reply = await stack.ask()
    assert (reply.status, reply.get_header("x-pilothouse-outcome")) == (200, "degraded")
    assert "Closed for now." in await reply.text()
    record = stack.record
    assert (record.way, record.attempts, record.flags, record.cost_usd) == ("static", [], {"refunds": "off"}, None)
    streamed = await (await stack.ask(stream=True)).text()
    assert "Closed for now." in streamed and streamed.rstrip().endswith("[DONE]")


async def test_a_flow_that_is_off_is_handed_over(stack: Stack) -> None:
    stack.script("rules: [{reply: taken}]")
    hook = f"http://127.0.0.1:{stack.provider.port}/v1/chat/completions"
    steps = (Fallback(handoff=hook, outcome="escalated"), Fallback(static="A person will write to you."))
    put(stack, flow(enabled=False), policy=quick(fallback=steps))
    reply = await stack.ask()
    record = stack.record
    assert "A person will write to you." in await reply.text()
    assert (reply.status, record.outcome, record.way) == (200, "escalated", "handoff")


async def test_what_flags_decide_on_the_request_path_is_counted(stack: Stack) -> None:
    put(stack, flow(), selector(rules=beta()))
    await stack.ask()
    await stack.ask(metadata={"beta": "yes"})
    stack.edge.flags.write()
    points = [line for line in stack.lines if isinstance(line, MetricRecord)]
    counts = {(p.attributes["flag"], p.attributes["variant"]): p.value for p in points}
    assert counts == {("refunds", "on"): 2, ("s", "live"): 1, ("s", "two"): 1}


@given(st.sampled_from(PARTS), st.sampled_from(PARTS))
def test_composing_parts_gives_the_hashes_of_what_answers(a: str, b: str) -> None:
    one = live(1, system=PLAIN, policy=quick())
    two = live(2, system=PIRATE, prompt=Template("x"), params={"n": 1}, policy=quick(log="off"))
    made = with_part(with_part(one, two, a), two, b)
    assert made.release == 1
    assert made.parts == made.manifest.hashes()
    assert made.hash == made.manifest.hash()
    assert {part for part in PARTS if made.parts[part] == two.parts[part]} >= {a, b}
