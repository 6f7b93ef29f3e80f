"""What native answers become in chat: whole, streamed, cut at every byte, with every reason to end."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.dialects import TRANSLATED, Pieces, assembled, drained, entry

from pilothouse.domain.errors import ContentFilter, CutStream, RateLimited, ServerError, UpstreamError
from pilothouse.domain.record import Tokens
from pilothouse.providers.bedrock.eventstream import encode as frame
from pilothouse.providers.chat import CHAT
from pilothouse.providers.openai import Completion
from pilothouse.providers.registry import wire_of
from pilothouse.providers.script import Rule, load
from pilothouse.providers.shapes.bedrock import Converse, event
from pilothouse.providers.shapes.chat import Chat
from pilothouse.providers.shapes.gemini import Gemini
from pilothouse.providers.shapes.messages import Messages
from pilothouse.providers.shapes.shape import Counts, Said, Shape, sse

SHAPES: dict[str, Shape] = {"openai": Chat(), "anthropic": Messages(), "gemini": Gemini(), "bedrock": Converse()}
RULE = (
    "{reply: 'Hello “wörld”, bye', thinking: hm hm, chunk_size: 5, "
    "tool_calls: [{name: f, arguments: {a: [1, ü]}}, {name: g}]}"
)


def rule(text: str) -> Rule:
    return load(f"rules: [{text}]".encode(), "test").rules[0]


def spoken(text: str = RULE) -> Said:
    asked = rule(text)
    counts = Counts(100, 20, 30, 5, 0)
    body = {"stream_options": {"include_usage": True}}
    return Said(asked, body, 1, "m-1", asked.reply if isinstance(asked.reply, str) else "", counts)


def native(kind: str, text: str = RULE) -> bytes:
    return b"".join(SHAPES[kind].events(spoken(text)))


def whole(kind: str, value: Any) -> Completion:
    """By way of the bytes that a client would get."""
    body = msgspec.json.encode(value)
    return CHAT.read(wire_of(entry(kind, "http://h")).chat_whole(body))


def shown(completion: Completion) -> Any:
    """What must not depend on how an answer came."""
    calls = [
        (call["function"]["name"], msgspec.json.decode(call["function"]["arguments"] or "{}"))
        for call in (completion.choices[0].message.tool_calls or [] if completion.choices[0].message else [])
    ]
    message = completion.choices[0].message
    thinking = message.reasoning_content if message else None
    return completion.text, thinking, calls, completion.finish_reason, completion.tokens()


@pytest.mark.parametrize("kind", SHAPES)
async def test_whole_and_streamed_are_the_same_answer(kind: str) -> None:
    answer = whole(kind, SHAPES[kind].whole(spoken()))
    assert shown(answer) == shown(await assembled(kind, native(kind)))
    assert answer.text == "Hello “wörld”, bye" and answer.finish_reason == "tool_calls"
    assert shown(answer)[2] == [("f", {"a": [1, "ü"]}), ("g", {})]
    reasoning = 0 if kind == "bedrock" else 5  # Bedrock does not say how much of the output is thinking
    assert answer.tokens() == Tokens(70, 30, 0, 20 - reasoning, reasoning)


@pytest.mark.parametrize("kind", SHAPES)
async def test_a_stream_cut_at_any_byte_is_cut_or_whole(kind: str) -> None:
    """It is never taken for a complete one that says less; where the provider's last words alone are missing, it is
    complete."""
    data = native(kind)
    expected = shown(await assembled(kind, data))
    complete = []
    for at in range(len(data)):
        try:
            found = shown(await assembled(kind, data[:at]))
        except UpstreamError as error:
            # Half a chunk is read as one here; the relay passes on whole events only.
            assert error.kind == "cut_stream" or (kind == "openai" and error.kind == "malformed_stream"), (at, error)
            continue
        complete.append(at)
        assert found[:-1] == expected[:-1], at
    assert all(len(data) - at < 400 for at in complete)  # no more than usage and the last blank line


@pytest.mark.parametrize("kind", SHAPES)
async def test_a_stream_in_two_pieces_anywhere_and_byte_by_byte(kind: str) -> None:
    data = native(kind)
    expected = shown(await assembled(kind, data))
    for at in range(0, len(data), 3):
        assert shown(await assembled(kind, data[:at], data[at:])) == expected
    assert shown(await assembled(kind, *(data[i : i + 1] for i in range(len(data))))) == expected


@pytest.mark.parametrize("kind", TRANSLATED)
async def test_a_broken_connection_stays_one(kind: str) -> None:
    flow = wire_of(entry(kind, "http://h")).chat_stream(Pieces(native(kind)[:-40], cut=True))
    with pytest.raises(CutStream):
        await drained(flow)


@pytest.mark.parametrize("kind", TRANSLATED)
@pytest.mark.parametrize("fault", ["no_done", "no_finish"])
async def test_a_stream_without_its_end_is_cut(kind: str, fault: str) -> None:
    with pytest.raises(CutStream):
        await assembled(kind, native(kind, f"{{reply: some words, fault: {fault}}}"))


@pytest.mark.parametrize("kind", TRANSLATED)
async def test_what_was_said_before_an_error_is_given_out_first(kind: str) -> None:
    shape = SHAPES[kind]
    asked = rule("{reply: some words, refuse: rate_limit, fault: error_event}")
    events = shape.events(spoken("{reply: some words, chunk_size: 3}"))
    data = b"".join([*events[:-3], shape.error_event(asked), *events[-3:]])
    flow = wire_of(entry(kind, "http://h")).chat_stream(Pieces(data))
    first = await flow.read()
    assert first is not None and b"som" in first and b"[DONE]" not in first
    with pytest.raises(RateLimited):
        await flow.read()
    assert await flow.read() is None


@pytest.mark.parametrize("kind", TRANSLATED)
async def test_garbage_in_a_stream_is_a_malformed_one(kind: str) -> None:
    shape = SHAPES[kind]
    events = shape.events(spoken("{reply: some words}"))
    with pytest.raises(ServerError) as caught:
        await assembled(kind, b"".join([*events[:-2], shape.garbage(), *events[-2:]]))
    assert caught.value.kind == "malformed_stream"


FINISH = [
    ("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"),
]  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("reason", "finish"), FINISH)
async def test_reasons_to_end(kind: str, reason: str, finish: str) -> None:
    text = f"{{reply: words, finish_reason: {reason}}}"
    answer = whole(kind, SHAPES[kind].whole(spoken(text)))
    assert (answer.finish_reason, answer.refused) == (finish, finish == "content_filter")
    assert shown(await assembled(kind, native(kind, text))) == shown(answer)


@pytest.mark.parametrize("kind", TRANSLATED)
@pytest.mark.parametrize("body", [b"{}", b"[]", b"{not json", b'{"x": 1}', b"null", b'"text"'])
def test_what_is_no_answer_is_an_error(kind: str, body: bytes) -> None:
    with pytest.raises(ServerError) as caught:
        wire_of(entry(kind, "http://h")).chat_whole(body)
    assert caught.value.kind == "malformed_response"


@pytest.mark.parametrize("kind", SHAPES)
async def test_the_tool_that_stands_for_a_json_answer_is_its_text(kind: str) -> None:
    if kind in ("openai", "gemini"):
        return  # hold a model to a schema themselves
    text = "{tool_calls: [{name: pilothouse_json, arguments: {a: 1}}]}"
    answer = whole(kind, SHAPES[kind].whole(spoken(text)))
    assert shown(answer)[:4] == ('{"a":1}', None, [], "stop")
    assert shown(await assembled(kind, native(kind, text)))[:4] == ('{"a":1}', None, [], "stop")


# Anthropic: documented answers


async def test_an_anthropic_stream_as_documented() -> None:
    usage = {"input_tokens": 25, "cache_creation_input_tokens": 8, "cache_read_input_tokens": 4, "output_tokens": 1,
             "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 5}}  # fmt: skip
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "usage": usage}
    deltas = [
        {"type": "message_start", "message": start},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "zzz"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "server_tool_use", "id": "s", "name": "web"},
        },
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "citations_delta", "citation": {}}},
        {"type": "something_new", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}, "usage": {"output_tokens": 15}},
        {"type": "message_stop"},
    ]
    data = b"".join(sse(delta, str(delta["type"])) for delta in deltas)
    completion = await assembled("anthropic", data)
    assert (completion.id, completion.model, completion.text) == ("msg_1", "claude-x", "Hi")
    assert completion.finish_reason == "stop" and completion.choices[0].message is not None
    assert completion.choices[0].message.tool_calls is None
    tokens = completion.tokens()
    assert tokens is not None and tokens.of_which is not None
    assert (tokens.input_uncached, tokens.cache_read, tokens.cache_write, tokens.output) == (25, 4, 8, 15)
    assert tokens.of_which.cache_write_1h == 5
    raw = await drained(wire_of(entry("anthropic")).chat_stream(Pieces(data)))
    assert b": ping\n\n" in raw and b'"thinking_blocks":[{"type":"redacted_thinking","data":"zzz"}]' in raw
    assert raw.endswith(b"data: [DONE]\n\n") and raw.count(b'"role"') == 1


def test_thinking_can_be_sent_back() -> None:
    wire = wire_of(entry("anthropic"))
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Hi"}]
    body = {"id": "1", "model": "c", "type": "message", "content": blocks, "stop_reason": "end_turn"}
    message = msgspec.json.decode(wire.chat_whole(msgspec.json.encode(body)))["choices"][0]["message"]
    assert message["reasoning_content"] == "hm" and message["thinking_blocks"] == blocks[:1]


# Gemini: documented answers


def gemini(**more: Any) -> Any:
    return {"candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}, "finishReason": "STOP", **more}]}


def test_gemini_blocks_a_prompt() -> None:
    body = msgspec.json.encode({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {}})
    with pytest.raises(ContentFilter, match="PROHIBITED_CONTENT"):
        wire_of(entry("gemini")).chat_whole(body)


@pytest.mark.parametrize("reason", ["RECITATION", "SPII", "BLOCKLIST", "IMAGE_SAFETY"])
def test_gemini_breaks_an_answer_off(reason: str) -> None:
    assert whole("gemini", gemini(finishReason=reason)).refused
    assert whole("gemini", {"candidates": [{"finishReason": reason}]}).refused  # without any content


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "OTHER", "FINISH_REASON_UNSPECIFIED"])
async def test_gemini_gives_up(reason: str) -> None:
    with pytest.raises(ServerError, match=reason) as caught:
        whole("gemini", gemini(finishReason=reason, finishMessage="why"))
    assert caught.value.kind == "error_in_answer"
    with pytest.raises(ServerError, match="why"):
        await assembled("gemini", sse(gemini(finishReason=reason, finishMessage="why")))


async def test_gemini_candidates_and_signatures() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "sig"}
    first = {"candidates": [{"content": {"parts": [{"text": "A"}, call]}, "index": 0}], "responseId": "r"}
    second = {"candidates": [{"content": {"parts": [{"text": "B"}]}, "index": 1, "finishReason": "STOP"}]}
    data = sse(first) + sse(second)
    with pytest.raises(CutStream):  # the first candidate has no end
        await assembled("gemini", data)
    last = {"candidates": [{"index": 0, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 3,
            "candidatesTokenCount": 2, "totalTokenCount": 5}}  # fmt: skip
    completion = await assembled("gemini", data + sse(last))
    assert [choice.finish_reason for choice in completion.choices] == ["tool_calls", "stop"]
    assert completion.tokens() == Tokens(3, 0, 0, 2, 0)
    raw = await drained(wire_of(entry("gemini")).chat_stream(Pieces(data + sse(last))))
    assert b'"extra_content":{"google":{"thought_signature":"sig"}}' in raw


async def test_gemini_says_errors_inside_a_stream() -> None:
    error = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    with pytest.raises(RateLimited):
        await assembled("gemini", sse(gemini()) + sse(error))


# Bedrock


def test_bedrock_says_why_it_has_no_answer() -> None:
    wire = wire_of(entry("bedrock", "http://h"))
    with pytest.raises(ServerError, match="oops"):
        wire.chat_whole(b'{"message": "oops"}')
    malformed = {"output": {"message": {"content": []}}, "stopReason": "malformed_tool_use"}
    with pytest.raises(ServerError, match="malformed_tool_use"):
        wire.chat_whole(msgspec.json.encode(malformed))


@pytest.mark.parametrize(
    ("name", "error"), [("throttlingException", RateLimited), ("internalServerException", ServerError)]
)
async def test_bedrock_exceptions_in_a_stream(name: str, error: type[UpstreamError]) -> None:
    exception = frame({":message-type": "exception", ":exception-type": name}, b'{"message": "m"}')
    with pytest.raises(error):
        await assembled("bedrock", event("messageStart", {"role": "assistant"}) + exception)
    other = frame({":message-type": "error", ":error-code": name, ":error-message": "m"}, b"")
    with pytest.raises(error):
        await assembled("bedrock", other)


async def test_bedrock_is_complete_without_its_metadata() -> None:
    data = b"".join(SHAPES["bedrock"].events(spoken())[:-1])
    completion = await assembled("bedrock", data)
    assert completion.finish_reason == "tool_calls" and completion.tokens() is None


async def test_bedrock_names_an_answer_by_its_request() -> None:
    data = native("bedrock")
    flow = wire_of(entry("bedrock", "http://h")).chat_stream(Pieces(data, headers={"x-amzn-requestid": "abc"}))
    assert b'"id":"abc"' in await drained(flow)


@given(st.sampled_from(TRANSLATED), st.lists(st.binary(max_size=40), max_size=6))
async def test_any_bytes_are_a_stream_or_an_error(kind: str, pieces: list[bytes]) -> None:
    start = native(kind)[:200]
    with pytest.raises(UpstreamError):
        await assembled(kind, start, *pieces)
