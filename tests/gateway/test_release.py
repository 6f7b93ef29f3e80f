"""Which release answers, and that its record says enough to send the same body again."""

import asyncio
import base64
import itertools
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import SECRET, Stack, live, quick

from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.wires import GenerateRequest
from pilothouse.gateway.replay import rebuild, rebuild_record
from pilothouse.gateway.resolve import in_canary
from pilothouse.providers.openai import Assembly, events, whole_events


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_session_stays_on_its_side_and_a_growing_share_only_adds(salt: str, session: str, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert in_canary(salt, session, low) == in_canary(salt, session, low)
    assert not in_canary(salt, session, low) or in_canary(salt, session, high)
    assert not in_canary(salt, session, 0.0)
    assert in_canary(salt, session, 1.0)


@given(st.floats(0.05, 0.95), st.text(max_size=8))
def test_the_share_is_the_share_of_sessions(share: float, salt: str) -> None:
    n = sum(in_canary(salt, f"session-{i}", share) for i in range(2_000))
    assert abs(n / 2_000 - share) < 0.06  # five standard errors


async def test_a_canary_gets_its_share_by_session(stack: Stack) -> None:
    stack.script("rules: [{match: {anywhere: new}, reply: from new}, {reply: from old}]")
    new = live(2, system=Template("new"), policy=quick())
    stack.route(stable=live(1, policy=quick()), canary=new, share=0.5, salt="s")
    sides: dict[str, set[str]] = {}
    for i in range(24):
        session = f"u{i % 8}"
        how: dict[str, Any] = [{"user": session}, {"metadata": {"session_id": session}}, {}][i % 3]
        body = {"model": "answer", "messages": [{"role": "user", "content": "x"}]} | how
        reply = await stack.post(body, **({} if how else {"x_pilothouse_session": session}))
        sides.setdefault(session, set()).add(reply.get_header("x-pilothouse-release") or "")
    assert all(len(seen) == 1 for seen in sides.values())
    assert {next(iter(s)) for s in sides.values()} == {"1", "2"}
    count = Counter((r.release, r.canary) for r in stack.records)
    assert set(count) == {(1, False), (2, True)}
    assert {r.manifest for r in stack.records if r.canary} == {new.hash}


async def test_a_request_ends_on_the_table_it_began_with(stack: Stack) -> None:
    stack.script("rules: [{latency: 0.2, reply: slow}]")
    stack.route(stable=live(1, policy=quick()))
    asking = asyncio.ensure_future(stack.ask())
    while not stack.provider.received:  # noqa: ASYNC110  # what is awaited is set by a socket, not by an event of ours
        await asyncio.sleep(0.01)
    stack.entries = {}
    stack.revision = 2
    assert (await asking).get_header("x-pilothouse-release") == "1"
    assert stack.record.table_revision == 1


BODIES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "plain ü \u2028"}]},
    {"messages": [{"role": "user", "content": "s"}], "stream": True, "seed": 12345678901234567890, "x": 1.50},
    {"messages": [{"role": "user", "content": "s"}], "stream": True, "stream_options": {"include_usage": True}},
    {"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "p"}]}]},
    {"prompt": {"variables": {"more": "v"}}, "messages": [{"role": "user", "content": "q"}]},
]


@pytest.mark.parametrize("model", ["answer", "pinned", "shaped", "fake/small"])
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
async def test_a_record_sends_the_same_bytes_again(stack: Stack, model: str, body: dict[str, Any]) -> None:
    stack.script("rules: [{match: {schema: true}, json: {}}]")
    prompt = Template("Q: {{ input }} {{ more | default('-') }} {{ messages | length }}")
    release = live(3, system=Template("S"), prompt=prompt, params={"b": 1, "a": {"z": 1, "y": 2}}, policy=quick())
    stack.route("answer", release)
    stack.route("pinned", release, pinned_model="openai/else")
    shaped = stack.route("shaped", live(4, prompt=prompt, schema={"type": "object"}, policy=quick()))
    reply = await stack.post({"model": model} | body)
    assert reply.status == 200, await reply.text()
    await reply.bytes()
    sent = base64.b64decode(stack.provider.received[0].body_b64)
    record = msgspec.json.decode(msgspec.json.encode(stack.record), type=type(stack.record))
    of = {"answer": release, "pinned": release, "shaped": shaped, "fake/small": None}[model]
    assert rebuild_record(record, of) == sent
    assert bytes_hash(sent) == record.upstream_hash and record.upstream_redacted_hash == ""


async def test_a_redacted_record_sends_the_redacted_bytes(stack: Stack) -> None:
    release = stack.route(stable=live(prompt=Template("Q: {{ input }}"), policy=quick()))
    await stack.ask(f"i am {SECRET}")
    record = stack.record
    assert record.payload is not None
    again = rebuild(record.payload.request, release, record.route)
    assert bytes_hash(again) == record.upstream_redacted_hash
    sent = base64.b64decode(stack.provider.received[0].body_b64)
    assert again == sent.replace(SECRET.encode(), b"[EMAIL]")


async def test_an_odd_inline_body_is_sent_again_too(stack: Stack) -> None:
    odd = (
        b'{"messages":[{"role":"user","content":"{\\"model\\": \\"x\\"}","model":"y"}],'
        b'"model":"fake\\/small","stream":true}'
    )
    reply = await stack.post(odd)
    assert reply.status == 200
    sent = base64.b64decode(stack.provider.received[0].body_b64)
    assert msgspec.json.decode(sent)["messages"][0]["model"] == "y"
    assert msgspec.json.decode(sent)["model"] == "small"
    assert rebuild_record(stack.record, None) == sent


async def test_generate_runs_any_release_and_records_its_source(stack: Stack) -> None:
    stack.script("rules: [{reply: 'about {input}'}]")
    release = live(9, prompt=Template("{{ input }}!"), policy=quick())
    body = {"messages": [{"role": "user", "content": "tea"}]}
    request = GenerateRequest(route="answer", env="dev", live=release, body=body, app="a", tier="high")
    reply = await stack.gateway.generate(request)
    assert (reply.text, reply.error, reply.outcome) == ("about tea!", "", "success")
    record = stack.record
    assert reply.request_id == record.id
    assert (record.source, record.release, record.route, record.tier) == ("eval", 9, "answer", "high")
    stack.script("rules: [{status: 500}]")
    failed = await stack.gateway.generate(request)
    assert (failed.text, failed.error, failed.outcome) == ("", "server_error", "failed")
    missing = msgspec.structs.replace(request, live=live(model=ModelRef("nobody", "x")))
    assert (await stack.gateway.generate(missing)).error == "unknown_provider"
    assert len(stack.records) == 3


CHUNK = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":null}]}\n\n'
STREAM = b"".join(CHUNK % i for i in range(9)) + (
    b': a comment\n\nevent: x\r\ndata: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n'
    b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_cut_anywhere_is_put_together_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assembly, rest = Assembly(), b""
    for start, end in itertools.pairwise(edges):
        rest += STREAM[start:end]
        at = whole_events(rest)
        assembly.add(rest[:at])
        rest = rest[at:]
    assert rest == b"" and assembly.done
    completion = assembly.finished()
    assert completion.text == "012345678" and completion.finish_reason == "stop"
    assert len(list(events(STREAM))) == 11
