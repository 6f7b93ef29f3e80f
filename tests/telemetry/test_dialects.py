"""Every dialect's own words, read from spans as its instrumentation sends them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.telemetry.test_normalise import END_US, NORMALISER, record

from pilothouse.domain.record import Document, SpanEvent, Tokens
from pilothouse.telemetry.dialects import DIALECTS
from pilothouse.telemetry.normalise import CUT, DROPPED, DROPPED_EVENTS, INCONSISTENT
from pilothouse.telemetry.spans import Event

START_NS = END_US * 1_000 - 250_000_000
SPLIT = Tokens(input_uncached=500, cache_read=1500, output_text=100, reasoning=200)
KIND, USAGE = "langfuse.observation.type", "langfuse.observation.usage_details"
OPENAI = {
    "prompt_tokens": 2000,
    "completion_tokens": 300,
    "prompt_tokens_details": {"cached_tokens": 1500},
    "completion_tokens_details": {"reasoning_tokens": 200},
}
RESPONSES = {
    "input_tokens": 2000,
    "output_tokens": 300,
    "input_tokens_details": {"cached_tokens": 1500},
    "output_tokens_details": {"reasoning_tokens": 200},
}
OWN = {"input": 500, "output": 100, "input_cached_tokens": 1500, "output_reasoning_tokens": 200}
VERCEL = {
    "ai.operationId": "ai.generateText.doGenerate",
    "gen_ai.system": "openai.chat",
    "ai.usage.inputTokens": 2000,
    "ai.usage.outputTokens": 300,
    "ai.usage.cachedInputTokens": 1500,
    "ai.usage.reasoningTokens": 200,
    "ai.response.text": "Tea.",
}
LANGSMITH = {"input_tokens": 2000, "output_tokens": 300, "input_token_details": {"cache_read": 1500},
             "output_token_details": {"reasoning": 200}}  # fmt: skip


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("langfuse", {KIND: "generation", USAGE: json.dumps(OPENAI)}),
        ("langfuse", {KIND: "generation", USAGE: json.dumps(OWN)}),
        ("langfuse", {KIND: '"generation"', USAGE: json.dumps(RESPONSES)}),
        ("vercel", VERCEL),
        ("langsmith", {"langsmith.span.kind": "llm", "langsmith.metadata.usage_metadata": json.dumps(LANGSMITH)}),
        ("openlit", {"gen_ai.operation.name": "chat", "gen_ai.usage.cost": 0.5, "gen_ai.usage.input_tokens": 2000,
                     "gen_ai.usage.output_tokens": 300, "gen_ai.usage.prompt_tokens_details.cached_tokens": 1500,
                     "gen_ai.usage.completion_tokens_details.reasoning_tokens": 200}),
    ],
)  # fmt: skip
def test_usage_of_every_shape_gives_disjoint_buckets(dialect: str, said: dict[str, Any]) -> None:
    found = record(said)
    assert (found.dialect, found.operation, found.stage) == (dialect, "chat", "model")
    assert found.tokens == SPLIT
    assert INCONSISTENT not in found.attributes


def test_mlflow_writes_everything_as_json() -> None:
    found = record(
        {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.llm.model": '"gpt-5-mini"',
            "mlflow.chat.tokenUsage": '{"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 4}',
            "mlflow.llm.cost": '{"total_cost": 0.25}',
        }
    )
    assert (found.dialect, found.operation, found.request_model) == ("mlflow", "chat", "gpt-5-mini")
    assert found.tokens == Tokens(input_uncached=6, cache_read=4, output_text=5)
    assert found.reported_cost_usd == 0.25


@pytest.mark.parametrize("name", ["ai.generateText", "ai.streamText", "ai.generateObject", "ai.embed", "ai.embedMany"])
def test_vercels_loops_count_nothing_of_what_their_steps_count(name: str) -> None:
    found = record({**VERCEL, "ai.operationId": name})
    assert found.tokens is None
    assert found.dialect == "vercel"
    assert record(VERCEL).provider == "openai"


def test_an_agents_sum_is_not_counted() -> None:
    said = {"gen_ai.operation.name": "invoke_agent", "gen_ai.aggregated_usage.input_tokens": 9, "operation.cost": 1.0}
    found = record(said, scope="pydantic-ai")
    assert (found.dialect, found.tokens, found.reported_cost_usd) == ("pydantic_ai", None, None)


def test_only_calls_to_models_are_priced() -> None:
    asked: list[tuple[str, str, int]] = []

    def price(provider: str, model: str, tokens: Tokens, ts_us: int) -> float | None:
        asked.append((provider, model, tokens.input))
        return 0.5 if model == "asked" else None

    priced = NORMALISER.__class__(NORMALISER.redact, NORMALISER.redact_json, NORMALISER.pseudonym, price)
    said = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "asked", "gen_ai.response.model": "served",
            "gen_ai.usage.input_tokens": 7}  # fmt: skip
    assert record({**said, "gen_ai.operation.name": "chat"}, normaliser=priced).cost_usd == 0.5
    assert asked == [("openai", "served", 7), ("openai", "asked", 7)]
    for aggregate in ("invoke_agent", "execute_tool", "retrieval"):
        assert record({**said, "gen_ai.operation.name": aggregate}, normaliser=priced).cost_usd is None


def test_the_time_to_the_first_token() -> None:
    assert record({"gen_ai.response.time_to_first_chunk": 0.125}).ttft_ms == 125
    assert record({"ai.response.msToFirstChunk": 80.5}).ttft_ms == 80.5
    chunk = Event(name="First Token Stream Event", attributes={}, time_ns=START_NS + 40_000_000)
    later = Event(name="First Token Stream Event", attributes={}, time_ns=START_NS + 90_000_000)
    found = record({"openinference.span.kind": "LLM"}, events=[later, chunk])
    assert (found.ttft_ms, found.events) == (40.0, [])
    instant = {"langfuse.observation.completion_start_time": '"2025-06-15T15:06:40.100Z"'}
    assert record(instant).ttft_ms == pytest.approx(100.0)


def test_why_it_ended_and_which_release_and_prompt() -> None:
    found = record(
        {
            "gen_ai.response.finish_reasons": ["stop", "length"],
            "langfuse.observation.prompt.name": "greet",
            "langfuse.observation.prompt.version": 3,
        },
        resource={"service.version": "2.1"},
    )
    assert (found.finish_reason, found.release, found.span_kind) == ("stop", "2.1", "client")
    assert (found.attributes["gen_ai.prompt.name"], found.attributes["gen_ai.prompt.version"]) == ("greet", "3")
    assert record({"gen_ai.output.messages": '[{"parts": [], "finish_reason": "length"}]'}).finish_reason == "length"


@pytest.mark.parametrize(
    "said",
    [
        {"ai.telemetry.metadata.userId": "bob", "ai.telemetry.metadata.sessionId": "s-1"},
        {"langsmith.metadata.user_id": "bob", "langsmith.metadata.session_id": "s-1"},
        {"lmnr.association.properties.user_id": "bob", "lmnr.association.properties.session_id": "s-1"},
        {"metadata": '{"user_id": "bob", "thread_id": "s-1", "kept": 1}'},
    ],
)
def test_nobody_is_named_in_any_dialect(said: dict[str, Any]) -> None:
    found = record(said)
    assert (found.user, found.session) == ("<3>", "<3>")
    assert "bob" not in str(found)


def test_a_retrievals_output_is_its_documents() -> None:
    listed = [{"id": "a", "score": 0.9}, {"id": "b"}]
    for said in (
        {"langfuse.observation.type": "retriever", "langfuse.observation.output": json.dumps(listed)},
        {"mlflow.spanType": '"RETRIEVER"', "mlflow.spanOutputs": json.dumps(listed)},
        {"langsmith.span.kind": "retriever", "gen_ai.operation.name": "embeddings",
         "gen_ai.completion": json.dumps({"documents": listed})},
    ):  # fmt: skip
        found = record(said)
        assert (found.operation, found.documents) == ("retrieval", [Document(id="a", score=0.9), Document(id="b")])


def test_events_are_kept_in_bounds_and_redacted_and_messages_are_content() -> None:
    raised = Event(
        name="exception", attributes={"exception.type": "E", "exception.message": "SECRET"}, time_ns=START_NS
    )
    said = Event(name="gen_ai.user.message", attributes={"content": "Hello?"}, time_ns=START_NS)
    found = record({}, events=[said, *[Event(name="tick", attributes={}) for _ in range(40)], raised])
    assert len(found.events) == 32
    assert found.events[-1] == SpanEvent(
        name="exception", attributes={"exception.type": "E", "exception.message": "[X]"}
    )
    assert found.attributes[DROPPED_EVENTS] == "9"
    assert found.preview_in == "Hello?"


def test_floods_and_giants_are_bounded_and_counted() -> None:
    found = record({f"k{n}": "v" for n in range(10_000)} | {"gen_ai.operation.name": "chat"})
    assert len(found.attributes) <= 130
    assert int(found.attributes[DROPPED]) == 10_001 - 128
    huge = record({"big": "y" * 10_000_000, "input.value": "x" * 10_000_000})
    assert huge.payload is not None
    assert len(huge.payload.request) <= 1 << 20
    assert len(huge.attributes["big"]) <= 2_048
    assert int(huge.attributes[CUT]) > 18_000_000
    record(
        {"input.value": "[" * 100_000, "gen_ai.prompt.0.content": {"a": float("nan")}, "lone": "\ud800", "\udfff": 1}
    )


def test_what_is_cut_is_redacted_to_its_edge() -> None:
    found = record({"long": "SECRET " * 20_000})
    assert "SECRET" not in str(found)
    assert len(found.attributes["long"]) <= 2_048


ALL_KEYS = sorted({key for dialect in DIALECTS for keys in dialect.fields.values() for key in keys}
                  | {key for d in DIALECTS for keys in d.tokens.values() for key in keys}
                  | {key for d in DIALECTS for key in (*d.input, *d.output, *d.also, *d.documents, *d.operations)}
                  | {row.key for d in DIALECTS for row in d.inside})  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ALL_KEYS), VALUES | VALUES.map(lambda v: json.dumps(v)), max_size=8))
def test_no_key_of_any_dialect_breaks_it(said: dict[str, Any]) -> None:
    found = record(said)
    assert json.dumps(found.attributes).encode()
    if found.tokens is not None:
        assert min(found.tokens.input_uncached, found.tokens.output_text, found.tokens.cache_read) >= 0
