"""Spans of every dialect in our own terms, and nothing sensitive left in them."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.record import Document, SpanRecord, Tokens
from pilothouse.domain.wires import Redacted
from pilothouse.telemetry.normalise import DROPPED, INCONSISTENT, MAX_ATTRIBUTES, Normaliser
from pilothouse.telemetry.spans import Event, OtlpSpan

END_US = 1_750_000_000_250_000


def blank(text: str) -> Redacted:
    """A redaction simple enough to be seen through: every SECRET goes."""
    n = text.count("SECRET")
    return Redacted(text=text.replace("SECRET", "[X]"), classes={"x": n} if n else {}, secrets=n)


def broken(text: str) -> Redacted:
    raise PilothouseError("redaction failed", code="redaction_failed")


NORMALISER = Normaliser(redact=blank, redact_json=blank, pseudonym=lambda v: f"<{len(v)}>" if v else "")


def record(attributes: dict[str, Any], *, normaliser: Normaliser = NORMALISER, **fields: Any) -> SpanRecord:
    env = {k: fields.pop(k) for k in ("env", "default_env") if k in fields}
    base: dict[str, Any] = {"trace_id": "01" * 16, "span_id": "02" * 8, "name": "work", "kind": 3}
    times = {"start_ns": END_US * 1_000 - 250_000_000, "end_ns": END_US * 1_000}
    return normaliser.span(OtlpSpan(**{**base, **times, "attributes": attributes, **fields}), **env)


def test_ids_times_and_names_are_kept() -> None:
    found = record({}, parent_span_id="03" * 8, resource={"service.name": "docs", "service.version": "2"}, scope="lib")
    assert (found.trace_id, found.span_id, found.parent_span_id) == ("01" * 16, "02" * 8, "03" * 8)
    assert (found.ts_us, found.duration_ms, found.name, found.app) == (END_US - 250_000, 250.0, "work", "docs")
    assert found.attributes == {"service.version": "2", "otel.scope.name": "lib"}
    assert (found.operation, found.stage, found.tokens, found.documents, found.payload) == ("", "", None, None, None)
    assert found.redaction is not None
    assert found.redaction.status == "clean"


OLDEST = {
    "gen_ai.system": "openai",
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 30,
    "gen_ai.usage.cache_read_input_tokens": 40,
    "gen_ai.usage.reasoning_tokens": 10,
    "gen_ai.usage.cache_creation_input_tokens": 5,
}
MIDDLE = {
    "gen_ai.provider.name": "openai",
    "gen_ai.operation.name": "chat",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 30,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.cache_creation.input_tokens": 5,
    "gen_ai.usage.reasoning.output_tokens": 10,
}
NEWEST = {k.replace("cache_creation", "cache_write"): v for k, v in MIDDLE.items()}
INFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 30,
    "llm.token_count.prompt_details.cache_read": 40,
    "llm.token_count.prompt_details.cache_write": 5,
    "llm.token_count.completion_details.reasoning": 10,
}
LLMETRY = {
    "llm.request.type": "chat",
    "gen_ai.system": "openai",
    "llm.usage.prompt_tokens": "100",
    "llm.usage.completion_tokens": "30",
    "llm.usage.cache_read_input_tokens": "40",
    "llm.usage.cache_creation_input_tokens": "5",
    "gen_ai.usage.reasoning_tokens": 10,
}


@pytest.mark.parametrize("said", [OLDEST, MIDDLE, NEWEST, INFERENCE, LLMETRY])
def test_every_generation_and_dialect_gives_the_same_record(said: dict[str, Any]) -> None:
    found = record(said)
    assert (found.operation, found.stage, found.provider) == ("chat", "model", "openai")
    assert found.tokens == Tokens(input_uncached=55, cache_read=40, cache_write=5, output_text=20, reasoning=10)
    assert (found.tokens.input, found.tokens.output) == (100, 30)
    assert INCONSISTENT not in found.attributes


@given(st.lists(st.none() | st.integers(0, 10**6), min_size=5, max_size=5))
def test_buckets_are_disjoint_and_sum_to_the_totals_or_say_so(counts: list[int | None]) -> None:
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens", "reasoning_tokens")
    said = {f"gen_ai.usage.{n}": c for n, c in zip(names, counts, strict=True) if c is not None}
    found = record(said)
    if not said:
        assert found.tokens is None
        return
    assert found.tokens is not None
    assert min(msgspec.structs.astuple(found.tokens)[:5]) >= 0
    if INCONSISTENT not in found.attributes:
        assert found.tokens.input == said.get("gen_ai.usage.input_tokens", found.tokens.input)
        assert found.tokens.output == said.get("gen_ai.usage.output_tokens", found.tokens.output)
    else:
        cached = (counts[2] or 0) + (counts[3] or 0)
        assert (counts[0] or 0) < cached or (counts[1] or 0) < (counts[4] or 0)


@pytest.mark.parametrize("value", [-1, "many", 1.5, True, None, "1e3", 2**70])
def test_a_count_that_is_none_is_unknown_and_not_zero(value: Any) -> None:
    assert record({"gen_ai.usage.input_tokens": value}).tokens is None


@pytest.mark.parametrize("operation", ["invoke_agent", "invoke_workflow"])
def test_spans_that_sum_up_their_children_have_no_tokens(operation: str) -> None:
    assert record({**MIDDLE, "gen_ai.operation.name": operation}).tokens is None


@pytest.mark.parametrize(
    ("attributes", "operation", "stage"),
    [
        ({"gen_ai.operation.name": "retrieval"}, "retrieval", "retrieval"),
        ({"gen_ai.operation.name": "embeddings"}, "embeddings", "retrieval"),
        ({"gen_ai.operation.name": "execute_tool"}, "execute_tool", "tool"),
        ({"gen_ai.operation.name": "generate_content"}, "generate_content", "model"),
        ({"gen_ai.operation.name": "brand_new"}, "brand_new", ""),
        ({"openinference.span.kind": "RETRIEVER"}, "retrieval", "retrieval"),
        ({"openinference.span.kind": "RERANKER"}, "rerank", "retrieval"),
        ({"openinference.span.kind": "TOOL"}, "execute_tool", "tool"),
        ({"openinference.span.kind": "CHAIN"}, "invoke_workflow", ""),
        ({"openinference.span.kind": "NEW"}, "", ""),
        ({"traceloop.span.kind": "tool"}, "execute_tool", "tool"),
        ({"traceloop.span.kind": "workflow"}, "invoke_workflow", ""),
        ({"mcp.method.name": "tools/call"}, "execute_tool", "tool"),
        ({"db.vector.query.top_k": 5}, "retrieval", "retrieval"),
        ({"pilothouse.stage": "postprocessing", "gen_ai.operation.name": "chat"}, "chat", "postprocessing"),
        ({"pilothouse.stage": "preprocessing"}, "", "preprocessing"),
        ({"pilothouse.stage": "nonsense", "gen_ai.operation.name": "chat"}, "chat", "model"),
    ],
)
def test_operations_and_stages(attributes: dict[str, Any], operation: str, stage: str) -> None:
    found = record(attributes)
    assert (found.operation, found.stage) == (operation, stage)


def test_waiting_in_a_queue_is_a_stage() -> None:
    assert record({"messaging.system": "kafka"}, kind=5).stage == "queue"


def test_route_index_models_and_environment() -> None:
    found = record(
        {
            "pilothouse.route": "docs-answer",
            "gen_ai.data_source.id": "docs",
            "pilothouse.index.version": "v7",
            "gen_ai.request.model": "gpt-5",
            "gen_ai.response.model": "gpt-5-2026",
            "gen_ai.response.id": "r1",
            "gen_ai.system": "az.ai.openai",
        },
        resource={"deployment.environment.name": "production"},
    )
    assert (found.route, found.index_name, found.index_version) == ("docs-answer", "docs", "v7")
    assert (found.request_model, found.response_model, found.response_id) == ("gpt-5", "gpt-5-2026", "r1")
    assert (found.provider, found.env) == ("azure.ai.openai", "prod")


def test_a_keys_environment_goes_before_what_the_span_says() -> None:
    said = {"deployment.environment": "prod"}
    assert record(said, env="staging").env == "staging"
    assert record(said, default_env="dev").env == "prod"
    assert record({}, default_env="dev").env == "dev"
    assert record({"pilothouse.route": "on-span"}, resource={"pilothouse.route": "on-resource"}).route == "on-span"


def test_users_and_sessions_are_pseudonyms_everywhere() -> None:
    found = record({"session.id": "s-1", "user.id": "bob", "enduser.id": "bob", "gen_ai.conversation.id": "c"})
    assert (found.session, found.user) == ("<3>", "<3>")
    assert "bob" not in str(found)


def test_errors_have_a_type() -> None:
    raised = [Event(name="exception", attributes={"exception.type": "KeyError", "exception.message": "'x'"})]
    assert record({"error.type": "timeout"}, status=2).error_type == "timeout"
    assert record({}, status=2, status_message="it broke").error_type == "_OTHER"
    assert record({}, status=2, events=raised).error_type == "KeyError"
    assert record({}, status=1).error_type == ""
    found = record({}, status=2, status_message="it broke", events=raised)
    assert (found.status, found.attributes["otel.status_description"]) == ("error", "it broke")
    assert found.attributes["exception.message"] == "'x'"


def test_documents_of_the_conventions() -> None:
    listed = [
        {"id": "a", "score": 0.9, "metadata": {"source_updated_at": "2025-06-15T15:06:40.250Z"}},
        {"id": "b", "score": "0.5", "age_s": 60},
        {"id": 7, "score": None, "metadata": '{"updated_at": 1749999990250}'},
        "bare",
    ]
    wanted = [
        Document(id="a", score=0.9, age_s=0.0),
        Document(id="b", score=0.5, age_s=60.0),
        Document(id="7", score=None, age_s=10.0),
        Document(id="bare"),
    ]
    for value in (listed, json.dumps(listed)):
        found = record({"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.documents": value})
        assert found.documents == wanted
        assert found.attributes == {"gen_ai.operation.name": "retrieval"}


def test_documents_of_openinference() -> None:
    prefix = "retrieval.documents"
    found = record(
        {
            "openinference.span.kind": "RETRIEVER",
            f"{prefix}.1.document.id": "b",
            f"{prefix}.0.document.id": "a",
            f"{prefix}.0.document.score": 0.25,
            f"{prefix}.0.document.content": "text",
            f"{prefix}.0.document.metadata": '{"last_modified": "2025-06-15 15:05:40.250"}',
        }
    )
    assert found.documents == [Document(id="a", score=0.25, age_s=60.0), Document(id="b")]


def test_finding_nothing_is_not_the_same_as_saying_nothing() -> None:
    assert record({"gen_ai.retrieval.documents": "[]"}).documents == []
    assert record({"gen_ai.operation.name": "retrieval"}).documents is None


@pytest.mark.parametrize("value", ["{", "null", 5, "[1,", {"a": 1}])
def test_documents_that_are_none_are_unknown(value: Any) -> None:
    assert record({"gen_ai.retrieval.documents": value}).documents is None


MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": "First"}, {"type": "text", "content": "second?"}]}]


@pytest.mark.parametrize(
    "said",
    [
        {"gen_ai.input.messages": json.dumps(MESSAGES), "gen_ai.output.messages": [{"role": "a", "content": "Yes."}]},
        {"gen_ai.input.messages": MESSAGES, "gen_ai.output.messages": json.dumps([{"content": "Yes."}])},
        {
            "llm.input_messages.0.message.role": "system",
            "llm.input_messages.0.message.content": "Be brief",
            "llm.input_messages.1.message.content": "First second?",
            "llm.output_messages.0.message.content": "Yes.",
            "input.value": "{}",
        },
        {
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": "First second?",
            "gen_ai.completion.0.content": "Yes.",
        },
        {"input.value": "First second?", "output.value": "Yes."},
        {"traceloop.entity.input": "First\n second?", "traceloop.entity.output": '{"result": "Yes."}'},
    ],
)
def test_content_becomes_payload_and_preview_and_no_attribute(said: dict[str, Any]) -> None:
    found = record({**said, "gen_ai.prompt.name": "kept"})
    assert (found.preview_in, found.preview_out) == ("First second?", "Yes.")
    assert found.payload is not None
    assert "econd?" in found.payload.request
    assert found.attributes == {"gen_ai.prompt.name": "kept"}


def test_content_in_span_events() -> None:
    events = [
        Event(name="gen_ai.user.message", attributes={"content": "Hello?"}),
        Event(name="gen_ai.choice", attributes={"index": 0, "message": '{"content": "Hi."}'}),
    ]
    found = record({}, events=events)
    assert (found.preview_in, found.preview_out) == ("Hello?", "Hi.")
    details = Event(name="gen_ai.client.inference.operation.details", attributes={"gen_ai.input.messages": MESSAGES})
    assert record({}, events=[details]).preview_in == "First second?"


def test_system_instructions_are_kept_with_the_input() -> None:
    found = record({"gen_ai.system_instructions": '[{"content": "Be brief"}]', "gen_ai.input.messages": MESSAGES})
    assert found.preview_in == "First second?"
    assert found.payload is not None
    assert "Be brief" in found.payload.request


def test_every_text_is_redacted() -> None:
    found = record(
        {
            "a.SECRET": "x",
            "b": ["SECRET", 1],
            "gen_ai.operation.name": "SECRET",
            "gen_ai.request.model": "SECRET",
            "pilothouse.route": "SECRET",
            "gen_ai.retrieval.documents": [{"id": "SECRET"}],
            "input.value": '{"q": "SECRET"}',
            "output.value": "SECRET",
        },
        name="SECRET",
        status=2,
        status_message="SECRET",
        scope="SECRET",
        resource={"service.name": "SECRET", "deployment.environment": "SECRET"},
        events=[Event(name="exception", attributes={"exception.type": "SECRET", "exception.message": "SECRET"})],
    )
    assert "SECRET" not in msgspec.json.encode(found).decode()
    assert found.redaction is not None
    assert found.redaction.status == "redacted"
    assert found.redaction.secrets == found.redaction.classes["x"] >= 12


def test_where_redaction_fails_only_our_own_words_stay() -> None:
    said = {**MIDDLE, "input.value": "SECRET", "pilothouse.route": "SECRET", "user.id": "bob", "odd": "SECRET"}
    said["gen_ai.retrieval.documents"] = [{"id": "SECRET", "score": 1.0}]
    failing = msgspec.structs.replace(NORMALISER, redact=broken, redact_json=broken)
    found = record(said, normaliser=failing, name="SECRET", env="prod", status=2)
    assert "SECRET" not in msgspec.json.encode(found).decode()
    assert found.redaction is not None
    assert (found.redaction.status, found.redaction.reason) == ("blocked", "redaction failed")
    assert (found.operation, found.stage, found.env, found.status, found.user) == (
        "chat",
        "model",
        "prod",
        "error",
        "<3>",
    )
    assert found.tokens is not None
    assert found.documents == [Document(id="", score=1.0)]
    assert found.payload is None


def test_attributes_are_bounded_and_the_rest_counted() -> None:
    found = record({f"k{i}": "v" for i in range(200)} | {"big": "x"}, dropped=3)
    assert len(found.attributes) == MAX_ATTRIBUTES + 1
    assert found.attributes[DROPPED] == str(201 - MAX_ATTRIBUTES + 3)
    long = record({"long": "y" * 10_000}).attributes["long"]
    assert len(long) == 2048
    assert long.endswith("…")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [*MIDDLE, *INFERENCE, *LLMETRY, "gen_ai.retrieval.documents", "retrieval.documents.0.document.metadata",
     "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.prompt.0.content", "gen_ai.system_instructions",
     "user.id", "session.id", "pilothouse.stage", "pilothouse.route", "deployment.environment", "input.value", "odd"]
)  # fmt: skip


@given(st.dictionaries(KEYS, ANY, max_size=8), st.dictionaries(KEYS, ANY, max_size=4))
def test_no_attribute_breaks_it_and_the_record_can_be_written(attributes: dict[str, Any], of: dict[str, Any]) -> None:
    found = record(attributes, events=[Event(name="gen_ai.choice", attributes=of)], resource=of)
    again = msgspec.json.decode(msgspec.json.encode(found), type=SpanRecord)
    assert again.trace_id == found.trace_id
