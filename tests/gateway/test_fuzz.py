"""Whatever comes in from outside, the readers of the request path answer with a value or an error of ours.

`PILOTHOUSE_FUZZ=50 pytest tests/gateway/test_fuzz.py` tries fifty times as many inputs.
"""

import os
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Live
from pilothouse.gateway.apis.named import APIS
from pilothouse.gateway.estimate import estimate, rough_tokens
from pilothouse.gateway.render import render
from pilothouse.gateway.types import Incoming, Resolved
from pilothouse.providers.chat import CHAT
from pilothouse.providers.embeddings import EMBEDDINGS, MODERATIONS
from pilothouse.providers.messages import MESSAGES
from pilothouse.providers.openai import events, whole_events
from pilothouse.providers.passing import ANY
from pilothouse.providers.responses import RESPONSES

N = int(os.environ.get("PILOTHOUSE_FUZZ", "1")) * 200
FORMS = {form.name: form for form in (CHAT, MESSAGES, RESPONSES, EMBEDDINGS, MODERATIONS, ANY)}
WORDS = (
    "model", "messages", "role", "user", "assistant", "system", "tool", "content", "text", "type", "input", "stream",
    "tools", "function", "name", "arguments", "tool_calls", "id", "prompt", "variables", "metadata", "response_format",
    "image_url", "url", "tool_use", "tool_result", "tool_use_id", "input_text", "function_call", "instructions",
    "max_tokens", "stop", "choices", "delta", "index", "finish_reason", "usage", "prompt_tokens", "completion_tokens",
    "message_start", "content_block_delta", "response.output_text.delta", "error", "message", "data", "embedding",
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner),
    max_leaves=20,
)
SEEDS: tuple[dict[str, Any], ...] = (
    {"model": "fake/m", "messages": [{"role": "user", "content": "hi"}], "stream": True},
    {"model": "fake/m", "max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    {"model": "fake/m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]},
    {"model": "fake/m", "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "messages": []},
)


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, ValueError):
        return b"{}"


mutated = st.tuples(st.sampled_from(SEEDS), st.dictionaries(st.sampled_from(WORDS), values, max_size=3)).map(
    lambda pair: _json(pair[0] | pair[1])
)
chopped = st.tuples(mutated, st.integers(0, 200), st.binary(max_size=6)).map(
    lambda three: three[0][: three[1]] + three[2] + three[0][three[1] :]
)
bodies = st.binary(max_size=80) | values.map(_json) | mutated | chopped


@pytest.mark.parametrize("name", APIS)
@settings(max_examples=N)
@given(body=bodies)
def test_a_body_is_read_and_rendered_or_refused(name: str, body: bytes) -> None:
    api = APIS[name]
    live = Live(1, Manifest(model=ModelRef("fake", "m")), {}, "h")
    try:
        parsed = api.parse(Incoming(body=body, path="/v1/x", header=lambda _name: None))
        to_chat = api.to_chat if api.translates else None
        for manifest in (live.manifest, Manifest(model=ModelRef("fake", "m"), params={"temperature": 0})):
            shaped = msgspec.structs.replace(live, manifest=manifest)
            rendered = render(Resolved(parsed, shaped, manifest.model, "r", inline=not manifest.params), to_chat)
            sent = rendered.upstream("m")
            assert isinstance(sent, bytes)
            if rendered.chat is not None:
                assert isinstance(rendered.chat().upstream("m"), bytes)
    except PilothouseError as error:
        assert api.error_body(error)
        assert api.error_event(error)


@settings(max_examples=N)
@given(body=bodies, said=st.text(max_size=40))
def test_tokens_are_estimated_for_any_body(body: bytes, said: str) -> None:
    assert rough_tokens(body) >= 0
    assert estimate(body, said).input >= 0


lines = st.one_of(
    values.map(lambda v: b"data: " + _json(v) + b"\n\n"),
    st.sampled_from((b"data: [DONE]\n\n", b": ping\n\n", b"\n\n", b"\r\n\r\n", b"event: message_stop\n", b"data:\n\n")),
    st.binary(max_size=30),
    st.sampled_from(WORDS).map(lambda w: f'event: {w}\ndata: {{"type":"{w}"}}\n\n'.encode()),
)
streams = st.lists(lines, max_size=12).map(b"".join)


@settings(max_examples=N)
@given(data=streams, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_the_splitter_gives_the_same_events_however_a_stream_arrives(data: bytes, cuts: list[int]) -> None:
    end = whole_events(data)
    assert 0 <= end <= len(data)
    at_once = list(events(data[:end]))
    rest, in_pieces, before = b"", [], 0
    for cut in [*sorted(cuts), len(data)]:
        piece, before = data[before:cut], max(before, cut)
        rest += piece
        whole = whole_events(rest)
        in_pieces += list(events(rest[:whole]))
        rest = rest[whole:]
    assert in_pieces == at_once


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=N)
@given(data=streams, body=bodies)
def test_answers_are_read_or_refused(name: str, data: bytes, body: bytes) -> None:
    form = FORMS[name]
    assembly = form.assembly()
    for read in (
        lambda: form.read(body),
        lambda: form.first(data),
        lambda: form.ends(data),
        lambda: form.without_usage(data),
        lambda: assembly.add(data[: whole_events(data)]),
        assembly.finished,
    ):
        try:
            read()
        except PilothouseError as error:
            assert error.kind
    completion = assembly.completion()
    tokens = completion.tokens()
    assert tokens is None or min(tokens.input_uncached, tokens.output_text, tokens.cache_read, tokens.reasoning) >= 0
