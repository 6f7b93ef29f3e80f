"""Streams through the guardrails: nothing planted leaves before its verdict, and nothing else is changed."""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilothouse.domain.errors import GuardrailBlocked
from pilothouse.domain.policy import Guard
from pilothouse.domain.record import GuardHit
from pilothouse.gateway.guards.engine import Guards
from pilothouse.gateway.guards.holdback import HELD_MAX, Holdback
from pilothouse.gateway.guards.stream import GuardedStream
from pilothouse.security.detect import Detector

DETECT = Detector()
SECRETS = (
    "sk-ant-api03-Zx81kQ0vT4mB7nL2pR9sW5yC3dF6gH8jK1aE4uI7oP0",
    "ghp_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
    "AKIAQYLPMN5HXXXPZ2QB",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx7Vn2k\n9Q8hTz1LmP0\n-----END RSA PRIVATE KEY-----",
)
PERSONAL = (
    "bob.miller@example.com",
    "4111 1111 1111 1111",
    "5555-5555-5555-4444",
    "GB82 WEST 1234 5698 7654 32",
    "078-05-1120",
    "93.184.216.34",
)
WORDS = ("the", "answer", "is", "Please", "note", "42", "NASA", "größer", "über", "明日", "e.g.", "I", "(see", "below)",
         "-", "then", "A4", "1,200", "“quoted”", "ok?", "https://example.com/a?b=1", "\n\n")  # fmt: skip
BOTH = (Guard("secrets", action="mask"), Guard("pii", action="mask"))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """A coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def guards(*rules: Guard) -> Guards:
    return Guards.compile(rules, DETECT)


def pieces(text: str, cuts: list[int]) -> list[str]:
    at = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(at)]


plain = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)
planted = st.lists(st.tuples(plain, st.sampled_from(SECRETS + PERSONAL)), min_size=1, max_size=4)
cuts = st.lists(st.integers(0, 10_000), max_size=60)


def through(rules: tuple[Guard, ...], parts: list[str]) -> tuple[list[str], list[GuardHit]]:
    hits: list[GuardHit] = []
    held = Holdback(guards(*rules).output_rails, hits)
    out = [run(held.feed(part)) for part in parts]
    return [*out, run(held.end())], hits


@given(st.one_of(plain, st.text(max_size=300)), cuts)
@settings(max_examples=150)
def test_without_findings_the_output_is_the_input(text: str, at: list[int]) -> None:
    if DETECT(text):
        return
    out, hits = through(BOTH, pieces(text, at))
    assert "".join(out) == text
    assert not hits


@given(planted, plain, cuts)
@settings(max_examples=300)
@example([("明日", SECRETS[0])], "明日", list(range(200)))
@example([("-", SECRETS[4])], "", list(range(200)))
@example([("I", PERSONAL[1]), ("", PERSONAL[1])], "then", list(range(200)))
@example([("then", PERSONAL[3])], "A4 42", list(range(200)))
def test_no_byte_of_a_planted_secret_leaves_wherever_the_text_is_cut(
    given_parts: list[tuple[str, str]], last: str, at: list[int]
) -> None:
    text = " then ".join([f"{words} then {secret}" for words, secret in given_parts] + [last])
    whole = run(guards(*BOTH).text(text, "output", []))
    out, hits = through(BOTH, pieces(text, at))
    said = "".join(out)
    assert said == whole  # every cut says the same as the whole text at once
    for _, secret in given_parts:
        assert secret not in said
    assert {hit.action for hit in hits} == {"mask"}
    assert all(secret not in str(hits) for _, secret in given_parts)


@given(planted, plain, cuts)
@settings(max_examples=150)
def test_a_block_comes_before_the_first_byte_of_what_is_blocked(
    given_parts: list[tuple[str, str]], last: str, at: list[int]
) -> None:
    text = " then ".join([f"{words} then {secret}" for words, secret in given_parts] + [last])
    first = text.index(given_parts[0][1])
    held = Holdback(guards(Guard("secrets"), Guard("pii")).output_rails, [])
    out = ""
    with pytest.raises(GuardrailBlocked) as refused:
        for part in pieces(text, at):
            out += run(held.feed(part))
        run(held.end())
    assert text.startswith(out)
    assert len(out) <= first
    assert refused.value.kind == "guardrail_output"
    assert given_parts[0][1] not in str(refused.value)


@given(
    st.sampled_from(["project falcon", "Straße", "merger"]),
    st.lists(st.sampled_from(["project", "falcon", "falcons", "Projekt", "strasse", "the merger", "x"]), max_size=12),
    cuts,
)
def test_topics_and_patterns_say_the_same_of_a_stream_as_of_the_whole(
    phrase: str, words: list[str], at: list[int]
) -> None:
    rules = (
        Guard("topics", action="mask", options={"deny": [phrase], "allow": ["project falcon heavy"]}),
        Guard("regex", action="mask", options={"named": {"order": "ORD-[0-9]{4,}"}}),
    )
    text = " ".join([*words, phrase.upper(), "ORD-123456", *words])
    out, _ = through(rules, pieces(text, at))
    assert "".join(out) == run(guards(*rules).text(text, "output", []))
    assert "ORD-1" not in "".join(out)


def test_little_is_held_back() -> None:
    """Prose leaves word by word: first text within the first words, not at the end."""
    held = Holdback(guards(*BOTH).output_rails, [])
    text = "The quick brown fox jumps over the lazy dog and then some more follows."
    waiting = 0
    most = 0
    for letter in text:
        waiting += 1 - len(run(held.feed(letter)))
        most = max(most, waiting)
    assert most <= len("follows.") + 1


def test_a_long_stream_says_the_same_in_little_memory() -> None:
    said_, text = [], " and then ".join(f"{' words' * 300} {secret}" for secret in (*SECRETS, *PERSONAL))
    held = Holdback(guards(*BOTH).output_rails, [])
    for at in range(0, len(text), 7):
        said_.append(run(held.feed(text[at : at + 7])))
        assert len(held._text) < 4000
    said_.append(run(held.end()))
    assert "".join(said_) == run(guards(*BOTH).text(text, "output", []))


def test_what_grows_without_end_is_blocked() -> None:
    held = Holdback(guards(Guard("secrets", action="mask")).output_rails, [])
    run(held.feed("-----BEGIN PRIVATE KEY-----\n"))
    with pytest.raises(GuardrailBlocked):
        for _ in range(HELD_MAX // 1000 + 2):
            assert run(held.feed("A" * 999 + "\n")) == ""


def test_a_guardrail_that_flags_holds_nothing_back() -> None:
    out, hits = through((Guard("pii", action="flag"),), ["bob@exam", "ple.com ", "ok"])
    assert out == ["bob@exam", "ple.com ", "ok", ""]
    assert hits == [GuardHit("pii", "output", "flag", "email")]


# --- events


def chat(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    body = {"id": "c1", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


async def passed(blocks: list[bytes], *rules: Guard, form: str = "chat") -> tuple[bytes, list[GuardHit]]:
    hits: list[GuardHit] = []
    stream = GuardedStream(guards(*rules), form, hits, "answer")
    out = b"".join([await stream.feed(block) for block in blocks]) + await stream.end()
    return out, hits


def events(data: bytes) -> list[dict[str, Any]]:
    found = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in found if line != b"[DONE]"]


def said(data: bytes, field: str = "content", index: int = 0) -> str:
    choices = [c for e in events(data) for c in e["choices"] if c["index"] == index]
    return "".join(c["delta"].get(field) or "" for c in choices)


async def test_a_masked_chat_stream_is_well_formed() -> None:
    secret = SECRETS[0]
    text = f"Your key is {secret} and that is all."
    blocks = [chat({"role": "assistant", "content": ""})]
    blocks += [chat({"content": text[i : i + 4]}) for i in range(0, len(text), 4)]
    usage = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    blocks += [chat({}, "stop"), usage, DONE]
    out, hits = await passed(blocks, *BOTH)
    assert said(out) == "Your key is [API_KEY] and that is all."
    assert out.endswith(chat({}, "stop") + usage + DONE)  # the end as it came, behind all text
    assert events(out)[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [e["choices"][0]["finish_reason"] for e in events(out)[:-2]] == [None] * (len(events(out)) - 2)
    assert hits == [GuardHit("secrets", "output", "mask", "api_key")]


async def test_each_choice_and_field_is_a_text_of_its_own() -> None:
    email = PERSONAL[0]
    blocks = []
    for i in range(0, len(email), 5):
        blocks.append(chat({"content": email[i : i + 5]}) + chat({"content": "safe "}, index=1))
        blocks.append(chat({"reasoning_content": email[i : i + 5]}, index=1))
    blocks += [chat({}, "stop") + chat({}, "stop", 1), DONE]
    out, _ = await passed(blocks, *BOTH)
    assert said(out) == "[EMAIL]"
    assert said(out, index=1) == "safe " * len(range(0, len(email), 5))
    assert said(out, "reasoning_content", 1) == "[EMAIL]"


async def test_text_in_the_event_that_ends_the_choice_is_judged_too() -> None:
    out, _ = await passed(
        [chat({"content": "mail bob.miller@exam"}), chat({"content": "ple.com"}, "stop"), DONE], *BOTH
    )
    assert said(out) == "mail [EMAIL]"
    assert events(out)[-1]["choices"][0]["finish_reason"] == "stop"


async def test_a_field_that_is_new_to_us_is_judged_all_the_same() -> None:
    out, _ = await passed(
        [chat({"thoughts": "bob.miller@exam"}), chat({"thoughts": "ple.com"}), chat({}, "stop")], *BOTH
    )
    assert said(out, "thoughts") == "[EMAIL]"
    parts = [
        chat({"annotations": [{"index": 0, "note": "bob.miller@"}]}),
        chat({"annotations": [{"note": "example.com"}]}),
    ]
    with pytest.raises(GuardrailBlocked):
        await passed([*parts, chat({}, "stop")], *BOTH)


def call(index: int, arguments: str, name: str = "", **more: Any) -> bytes:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return chat({"tool_calls": [{"index": index, "function": function} | more]})


async def test_tool_calls_are_judged_at_their_end_and_never_cut_anew() -> None:
    blocks = [
        call(0, "", "weather", id="c1"),
        call(0, '{"city": "Par'),
        call(0, 'is"}'),
        call(1, '{"a": 1}', "add", id="c2"),
    ]
    stream = GuardedStream(guards(Guard("tools", options={"allow": ["weather", "add"]})), "chat", [], "answer")
    assert [await stream.feed(b) for b in blocks] == [b"", b"", b"", b"".join(blocks[:3])]
    end = chat({}, "tool_calls") + DONE
    assert await stream.feed(end) == blocks[3] + end


async def test_a_denied_tool_call_never_begins() -> None:
    rule = Guard("tools", options={"deny": ["delete_all"], "max_calls": 2, "arguments": {"sql": "(?i)drop\\s+table"}})
    for blocks in (
        [call(0, "{}", "delete_all", id="c1")],
        [call(0, '{"q": "DROP  ', "sql", id="c1"), call(0, 'table x"}')],
        [call(i, "{}", "ok", id=f"c{i}") for i in range(3)],
    ):
        out = b""
        stream = GuardedStream(guards(rule), "chat", hits := [], "answer")
        with pytest.raises(GuardrailBlocked):
            for block in [*blocks, chat({}, "tool_calls")]:
                out += await stream.feed(block)
        assert b"delete_all" not in out
        assert b"table" not in out
        assert [h.action for h in hits] == ["block"]


async def test_a_secret_in_a_tool_calls_arguments_is_masked_within_its_events() -> None:
    arguments = json.dumps({"to": PERSONAL[0], "text": "hello"})
    blocks = [call(0, "", "send", id="c1"), *[call(0, arguments[i : i + 6]) for i in range(0, len(arguments), 6)]]
    out, _ = await passed([*blocks, chat({}, "tool_calls"), DONE], *BOTH)
    calls = [c["delta"]["tool_calls"][0] for e in events(out) for c in e["choices"] if "tool_calls" in c["delta"]]
    assert len(calls) == len(blocks)
    assert json.loads("".join(c["function"]["arguments"] for c in calls)) == {"to": "[EMAIL]", "text": "hello"}


def named(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + json.dumps({"type": kind} | more).encode() + b"\n\n"


async def test_the_messages_form() -> None:
    text = f"Write to {PERSONAL[0]} now."

    def delta(**of: Any) -> bytes:
        return named("content_block_delta", index=0, delta=of)

    blocks = [
        named("message_start", message={"id": "m", "role": "assistant", "content": []}),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *[delta(type="text_delta", text=text[i : i + 3]) for i in range(0, len(text), 3)],
        named("content_block_stop", index=0),
        named(
            "content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "send", "input": {}}
        ),
        named(
            "content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"to": "bob.miller@e'}
        ),
        named("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": 'xample.com"}'}),
        named("content_block_stop", index=1),
        named("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 3}),
        named("message_stop"),
    ]
    out, _ = await passed(blocks, *BOTH, form="messages")
    seen = events(out)
    assert "".join(e["delta"].get("text", "") for e in seen if "delta" in e) == "Write to [EMAIL] now."
    assert "".join(e["delta"].get("partial_json", "") for e in seen if "delta" in e) == '{"to":"[EMAIL]"}'
    kinds = [e["type"] for e in seen if e["type"] != "content_block_delta"]
    assert kinds == [e["type"] for e in events(b"".join(blocks)) if e["type"] != "content_block_delta"]
    assert out.count(b"event: ") == out.count(b"data: ")
    with pytest.raises(GuardrailBlocked):
        await passed(blocks, Guard("tools", options={"deny": ["send"]}), form="messages")


async def test_the_responses_form() -> None:
    text = f"Write to {PERSONAL[0]} now."
    part = {"item_id": "i", "output_index": 0, "content_index": 0}
    message = {"type": "message", "id": "i", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    item = {"type": "function_call", "id": "f", "call_id": "c", "name": "send", "arguments": ""}
    full = item | {"arguments": '{"to":"bob.miller@example.com"}'}
    blocks = [
        named("response.created", response={"id": "r", "output": []}),
        *[named("response.output_text.delta", **part, delta=text[i : i + 3]) for i in range(0, len(text), 3)],
        named("response.output_text.done", **part, text=text),
        named("response.output_item.done", output_index=0, item=message),
        named("response.output_item.added", output_index=1, item=item),
        named("response.function_call_arguments.delta", output_index=1, delta='{"to":"bob.miller'),
        named("response.function_call_arguments.delta", output_index=1, delta='@example.com"}'),
        named("response.function_call_arguments.done", output_index=1, arguments=full["arguments"]),
        named("response.output_item.done", output_index=1, item=full),
        named("response.completed", response={"id": "r", "output": [message, full]}),
    ]
    for number, block in enumerate(blocks):
        blocks[number] = block.replace(b"data: {", f'data: {{"sequence_number": {number}, '.encode())
    out, _ = await passed(blocks, *BOTH, form="responses")
    assert [e["sequence_number"] for e in events(out)] == list(range(len(events(out))))
    assert b"bob" not in out
    assert b"example.com" not in out
    seen = events(out)
    deltas = [e["delta"] for e in seen if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "Write to [EMAIL] now."
    done = [e["type"] for e in seen]
    assert done.index("response.output_text.done") > max(
        i for i, k in enumerate(done) if k == "response.output_text.delta"
    )
    assert seen[-1]["response"]["output"][0]["content"][0]["text"] == "Write to [EMAIL] now."
    assert seen[-1]["response"]["output"][1]["arguments"] == '{"to":"[EMAIL]"}'


@pytest.mark.parametrize("form", ["chat", "messages", "responses"])
@given(data=st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=6))
@settings(max_examples=60)
def test_no_event_breaks_it(form: str, data: list[bytes]) -> None:
    stream = GuardedStream(guards(*BOTH), form, [], "answer")
    block = b"".join(b"data: " + one + b"\n\n" for one in data) + b": ping\n\n"
    try:
        asyncio.run(stream.feed(block))
    except GuardrailBlocked:
        return


async def test_a_plugin_that_waits_too_long_blocks_the_stream(
    monkeypatch: pytest.MonkeyPatch, app: Callable[..., Any]
) -> None:
    rule = Guard(app("slow", "import asyncio\nasync def look(seen):\n    await asyncio.Event().wait()\n"),
                 options={"timeout": 0.01})  # fmt: skip
    hits: list[GuardHit] = []
    stream = GuardedStream(Guards.compile([rule], DETECT), "chat", hits, "answer")
    with pytest.raises(GuardrailBlocked) as failed:
        await stream.feed(chat({"content": "hello"}) + chat({}, "stop"))
    assert failed.value.kind == "guardrail_failed"
    assert hits == [GuardHit(rule.use, "output", "error", "TimeoutError")]


@pytest.fixture
def app(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`app(module, source)` writes a module of the app's own; its `module:look`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(module: str, source: str) -> str:
        (tmp_path / f"{module}.py").write_text(source)
        return f"{module}:look"

    return write
