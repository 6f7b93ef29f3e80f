"""Streams that break off: what the client sees by `cut`, and one well-formed stream out of several at every cut."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import IDLE_SOON, Stack, live, quick

from pilothouse.domain.errors import CutStream
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Caps, Fallback, Retry, Timeouts
from pilothouse.domain.record import Tokens
from pilothouse.domain.table import Price
from pilothouse.gateway.splice import GO_ON, Splice

OTHER, THIRD = ModelRef("fake", "other"), ModelRef("fake", "third")
SAID = "some words to be broken off"
FAULTS = ("cut", "reset", "stall_mid", "garbage", "error_event", "no_finish")


def events(body: str) -> list[Any]:
    return [
        msgspec.json.decode(event.removeprefix("data: "))
        for event in body.split("\n\n")
        if event and event != "data: [DONE]"
    ]


def text_of(chunks: list[Any]) -> str:
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))


def well_formed(body: str) -> list[Any]:
    """The chunks of a stream that is one: one id, one role, one finish, one [DONE] at its end."""
    assert body.count("[DONE]") == 1 and body.endswith("data: [DONE]\n\n")
    chunks = events(body)
    assert len({(c["id"], c["model"], c["created"], c.get("system_fingerprint")) for c in chunks}) == 1
    choices = [choice for c in chunks for choice in c["choices"]]
    assert sum("role" in choice["delta"] for choice in choices) == 1
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    assert choices[-1]["finish_reason"] == "stop"
    return chunks


def script(fault: str, rest: str = " and mended", **more: Any) -> str:
    rules = [
        {"match": {"model": "small"}, "fault": fault, "reply": SAID, "chunk_size": 3},
        {"match": {"model": "other"}, "reply": rest, "chunk_size": 3} | more,
    ]
    return msgspec.json.encode({"rules": rules}).decode()


async def sent(stack: Stack, at: int) -> Any:
    return msgspec.json.decode(base64.b64decode(stack.provider.received[at].body_b64))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_broken_stream_goes_on_at_the_fallback(stack: Stack, fault: str) -> None:
    stack.script(script(fault))
    stack.more = {"prices": {"fake/small": Price(input=1.0, output=1.0), "fake/other": Price(input=1.0, output=1.0)}}
    to_other = (Fallback(model=OTHER, on=("cut_stream",)),)
    policy = quick(cut="continue", timeout=IDLE_SOON, retry=Retry(1), fallback=to_other)
    stack.route(stable=live(policy=policy))
    body = await (await stack.ask(stream=True, stream_options={"include_usage": True})).text()
    chunks = well_formed(body)
    text = text_of(chunks)
    assert text.endswith(" and mended") and SAID.startswith(text.removesuffix(" and mended"))
    record = stack.record
    assert (record.outcome, record.status, record.stream_end, record.error_type) == ("fallback", 200, "continued", "")
    first, second = record.attempts
    assert (first.kind, first.delivered, first.error_type != "") == ("primary", True, True)
    assert (second.kind, second.delivered, second.error_type) == ("continue", True, "")
    assert first.tokens is not None and second.tokens is not None
    assert first.tokens.estimated == (fault != "no_finish")
    assert record.preview_out == text and record.cost_usd == pytest.approx(
        (first.cost_usd or 0) + (second.cost_usd or 0)
    )
    (usage,) = [c["usage"] for c in chunks if c.get("usage")]
    assert usage["prompt_tokens"] == first.tokens.input + second.tokens.input
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    asked = (await sent(stack, 1))["messages"]
    assert asked[-2] == {"role": "assistant", "content": text.removesuffix(" and mended")}
    assert asked[-1] == {"role": "user", "content": GO_ON}


async def test_without_a_fallback_it_goes_on_once_at_the_same_model(stack: Stack) -> None:
    stack.script("rules: [{times: 1, fault: cut, reply: 'some words', chunk_size: 2}, {reply: ' more', chunk_size: 2}]")
    stack.route(stable=live(policy=quick(cut="continue", retry=Retry(1))))
    well_formed(await (await stack.ask(stream=True)).text())
    assert [a.kind for a in stack.record.attempts] == ["primary", "continue"] and stack.record.outcome == "success"
    stack.script("rules: [{fault: cut, reply: 'some words', chunk_size: 2}]")
    body = await (await stack.ask("again", stream=True)).text()
    assert "cut_stream" in body and "[DONE]" not in body
    assert [a.kind for a in stack.records[1].attempts] == ["primary", "continue"]
    assert (stack.records[1].stream_end, stack.records[1].outcome) == ("error", "failed")


async def test_it_goes_on_as_often_as_there_are_fallbacks(stack: Stack) -> None:
    rules = [
        {"match": {"model": "small"}, "fault": "cut", "reply": "one two ", "chunk_size": 2},
        {"match": {"model": "other"}, "fault": "cut", "reply": "three four ", "chunk_size": 2},
        {"match": {"model": "third"}, "reply": "five", "chunk_size": 2},
    ]
    stack.script(msgspec.json.encode({"rules": rules}).decode())
    steps = (Fallback(model=ModelRef("gone", "x")), Fallback(model=OTHER), Fallback(model=THIRD))
    stack.route(stable=live(policy=quick(cut="continue", retry=Retry(1), fallback=steps)))
    text = text_of(well_formed(await (await stack.ask(stream=True)).text()))
    assert text.startswith("one") and text.endswith("five")
    assert [(a.kind, a.delivered) for a in stack.record.attempts] == [
        ("primary", True), ("continue", False), ("continue", True), ("continue", True),
    ]  # fmt: skip
    third = (await sent(stack, 2))["messages"]
    assert third[-2]["content"] == text.removesuffix("five")


async def test_a_missing_end_marker_alone_is_no_reason_to_ask_again(stack: Stack) -> None:
    stack.script("rules: [{fault: no_done, reply: all of it}]")
    stack.route(stable=live(policy=quick(cut="continue", fallback=(Fallback(model=OTHER),))))
    assert text_of(well_formed(await (await stack.ask(stream=True)).text())) == "all of it"
    assert len(stack.record.attempts) == 1 and stack.record.stream_end == "complete"


async def test_tool_calls_are_not_continued(stack: Stack) -> None:
    calls = [{"name": "look", "arguments": {"order": "a long number 1234567"}}]
    stack.script(msgspec.json.encode({"rules": [{"fault": "cut", "tool_calls": calls, "chunk_size": 3}]}).decode())
    stack.route(stable=live(policy=quick(cut="continue", fallback=(Fallback(model=OTHER),))))
    body = await (await stack.ask(stream=True)).text()
    assert "cut_stream" in body and "[DONE]" not in body
    assert len(stack.record.attempts) == 1 and stack.record.stream_end == "error"


async def test_caps_hold_for_continuations(stack: Stack) -> None:
    stack.script(script("cut"))
    policy = quick(cut="continue", fallback=(Fallback(model=OTHER),), caps=Caps(attempts=1))
    stack.route(stable=live(policy=policy))
    assert "cut_stream" in await (await stack.ask(stream=True)).text()
    assert len(stack.provider.received) == 1


@pytest.mark.parametrize("fault", ["cut", "stall_mid", "garbage", "error_event"])
async def test_error_and_restart_end_in_an_explicit_error(stack: Stack, fault: str) -> None:
    for cut in ("error", "restart"):
        stack.script(script(fault))
        stack.route(stable=live(policy=quick(cut=cut, timeout=IDLE_SOON, fallback=(Fallback(model=OTHER),))))
        body = await (await stack.ask(stream=True)).text()
        assert "[DONE]" not in body and "error" in events(body)[-1]
        assert "not json" not in body and "overloaded" not in "".join(body.split("\n\n")[:-2])
        assert stack.records[-1].stream_end == "error" and len(stack.records[-1].attempts) == 1


async def test_what_broke_before_its_first_token_starts_again_silently(stack: Stack) -> None:
    stack.script("rules: [{times: 1, fault: cut_before}, {reply: fine}]")
    stack.route(stable=live(policy=quick(cut="restart")))
    assert text_of(well_formed(await (await stack.ask(stream=True)).text())) == "fine"
    assert stack.record.stream_end == "restarted" and [a.kind for a in stack.record.attempts] == ["primary", "retry"]
    stack.script("rules: [{times: 1, fault: cut_before}, {reply: fine}]")
    stack.route(stable=live(policy=quick(cut="error")))
    assert (await stack.ask("other", stream=True)).status == 502


async def test_a_complete_stream_says_so(stack: Stack) -> None:
    stack.script("rules: [{reply: fine}]")
    stack.route(stable=live(policy=quick(cut="continue")))
    plain = await (await stack.ask(stream=True)).text()
    stack.route(stable=live(policy=quick(cut="error")))
    again = await (await stack.ask(stream=True)).text()
    assert plain.replace("chatcmpl-1", "chatcmpl-2") == again  # bytes go through as they came
    assert [r.stream_end for r in stack.records] == ["complete", "complete"]


async def test_the_total_holds_over_all_parts(stack: Stack) -> None:
    stack.script(script("cut", rest="x" * 200, chunk_delay=0.05))
    timeouts = Timeouts(first_token=0.4, idle=0.4, total=0.8)
    stack.route(stable=live(policy=quick(cut="continue", timeout=timeouts, fallback=(Fallback(model=OTHER),))))
    body = await (await stack.ask(stream=True)).text()
    assert "timeout_total" in body and "[DONE]" not in body
    assert stack.record.error_type == "timeout_total"
    assert [a.error_type for a in stack.record.attempts] == ["cut_stream", "timeout_total"]


# --- every cut point


class Given:
    """A flow of given blocks, that ends as told: with an error, or with its last block."""

    def __init__(self, blocks: list[bytes], error: CutStream | None = None) -> None:
        self.status, self.headers, self.held = 200, {}, b""
        self.closed = False
        self._blocks, self._error = list(blocks), error

    async def read(self) -> bytes | None:
        if self._blocks:
            return self._blocks.pop(0)
        if self._error is not None:
            raise self._error
        return None

    async def rest(self, limit: int = 0) -> bytes:  # noqa: ARG002  # Flow's signature
        return b""

    def enough(self) -> None: ...

    async def close(self) -> None:
        self.closed = True


def stream(name: str, words: list[str]) -> bytes:
    head = {"id": name, "created": len(name), "model": f"model-{name}", "object": "chat.completion.chunk"}

    def event(choices: list[Any], **more: Any) -> bytes:
        return b"data: " + msgspec.json.encode(head | {"choices": choices} | more) + b"\n\n"

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return event([{"index": 0, "delta": delta, "finish_reason": finish}])

    out = chunk({"role": "assistant", "content": ""}) + b"".join(chunk({"content": word}) for word in words)
    usage = {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}
    return out + chunk({}, "stop") + event([], usage=usage) + b"data: [DONE]\n\n"


WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6), min_size=1)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


async def read_all(flow: Splice) -> bytes:
    out = b""
    while (data := await flow.read()) is not None:
        out += data
    return out


@given(words=WORDS, rest=WORDS, at=st.floats(0.0, 1.0), size=st.integers(1, 400), raises=st.booleans())
async def test_any_cut_makes_one_well_formed_stream(
    words: list[str], rest: list[str], at: float, size: int, raises: bool
) -> None:
    whole = stream("a", words)
    cut = whole[: int(at * len(whole))]
    seen: list[str] = []

    async def go_on(splice: Splice) -> Given:
        seen.append(splice.text)
        splice.used(Tokens(input_uncached=7, output_text=3))
        return Given(pieces(stream("bb", rest), size))

    first = Given(pieces(cut, size), CutStream("cut") if raises else None)
    body = (await read_all(Splice(first, 5.0, go_on))).decode()
    chunks = events(body)
    assert body.count("[DONE]") == 1 and body.endswith("data: [DONE]\n\n")
    assert len({(c["id"], c["model"], c["created"]) for c in chunks}) == 1
    choices = [choice for c in chunks for choice in c["choices"]]
    roles = sum("role" in choice["delta"] for choice in choices)
    assert roles == 1 if b"\n\n" in cut else roles <= 1
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    if seen:
        assert first.closed and "".join(words).startswith(seen[0])
        assert text_of(chunks) == seen[0] + "".join(rest)
        assert [c["usage"]["total_tokens"] for c in chunks if c.get("usage")] == [20 + len(rest)]
    else:
        assert text_of(chunks) == "".join(words)
