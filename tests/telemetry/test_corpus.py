"""Spans of the field's real instrumentations through a running receiver: what each call was, used and cost.

What is expected comes from the provider's script (corpus/script.yaml) and the makers' prices, not from our own code.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.server.ingest_process import JSON, Process, running, table

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.record import MetricRecord, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import Loader

pytestmark = pytest.mark.process

CORPUS = Path(__file__).parent / "corpus"
RULES: list[dict[str, Any]] = yaml.safe_load((CORPUS / "script.yaml").read_text())["rules"]
CAPTURES = sorted(f"{file.parent.name}/{file.stem}" for file in CORPUS.glob("captured/*/*.json"))
EMBEDDING = "text-embedding-3-small"
ASKED = {  # scenario → of each call the words by which its rule of the script is found
    "chat": ["Say hello"],
    "stream": ["Count to three"],
    "tools": ["weather in Paris"],
    "usage": ["long document"],
    "embeddings": [EMBEDDING],
    "rag": [EMBEDDING, "steep"],
    "agent": ["weather in Rome", "sunny, 21"],
}
PRICES = {  # USD a million tokens: input, cache read, cache write, output
    "gpt-4o-mini": (0.15, 0.075, 0.0, 0.60),
    "gpt-5-mini": (0.25, 0.025, 0.0, 2.0),
    "claude-sonnet-4-5": (3.0, 0.30, 3.75, 15.0),
    EMBEDDING: (0.02, 0.0, 0.0, 0.0),
}
UNSAID = {  # usage that an instrumentation does not send, so that nobody can know it
    "openai_v2": {"cached", "reasoning"},
    "openai_v2_latest": {"cached", "reasoning"},
    "openllmetry_langchain": {"reasoning"},
    "vercel_7": {"reasoning"},
}
# The usage of embeddings: LangChain's tracers have no spans of them, LlamaIndex's no tokens.
EMBEDDED = {"openllmetry_langchain": 0, "openinference_langchain": 0, "langsmith": 0, "openinference_llamaindex": 0,
            "openllmetry_both": 2}  # fmt: skip
SDKS_OWN = "com.anthropic.sdk.python"  # the Anthropic SDK traces its calls itself, beside or inside what instruments it
# Langfuse never tells the response's id, LangChain's tracers not of a stream: there only `traceparent` does.
UNTOLD_OF_STREAMS = ("openllmetry_langchain", "openinference_langchain", "openinference_llamaindex", "langsmith")
NO_USER = {  # calls that are not told, or have no way to tell, whose they are
    "openai_v2", "openai_v2_latest", "openllmetry_openai", "openllmetry_anthropic", "openllmetry_both",
    "openinference_anthropic", "pydantic_ai", "mlflow", "vercel_7",
}  # fmt: skip
NO_ENV = {"langsmith"}  # its exporter sends no resource
DIALECTS = {"openai_v2": "genai", "openai_v2_latest": "genai", "pydantic_ai": "pydantic_ai", "vercel_7": "genai"}

Call = tuple[str, str, str, Tokens, float]  # operation, stage, model, tokens, USD


def rule(words: str, claude: bool) -> dict[str, Any]:
    """The script's first that answers `words`."""
    return next(
        one for one in RULES if words in one["match"].values() and claude == ("claude" in one.get("served_model", ""))
    )


def expected(instrumentation: str, words: str) -> Call:
    """One call, as the provider counted it, less what this instrumentation does not say."""
    found = rule(words, instrumentation.endswith("anthropic"))
    used, unsaid = found["usage"], UNSAID.get(instrumentation, set())
    cached = 0 if "cached" in unsaid else used.get("cached", 0)
    reasoning = 0 if "reasoning" in unsaid else used.get("reasoning", 0)
    written, output = used.get("cache_write", 0), used.get("completion", 0)
    tokens = Tokens(
        input_uncached=used["prompt"] - cached - written,
        cache_read=cached, cache_write=written, output_text=output - reasoning, reasoning=reasoning,
    )  # fmt: skip
    model = found.get("served_model", EMBEDDING)
    rates = next(prices for name, prices in PRICES.items() if model.startswith(name))
    amounts = (tokens.input_uncached, cached, written, output)
    usd = sum(n * rate for n, rate in zip(amounts, rates, strict=True)) / 1e6
    return ("embeddings", "retrieval", EMBEDDING, tokens, usd) if words == EMBEDDING else (
        "chat", "model", model, tokens, usd
    )  # fmt: skip


def calls_of(capture: str) -> list[Call]:
    instrumentation, _, scenario = capture.partition("/")
    asked = ASKED[scenario]
    if EMBEDDING in asked:
        asked = [EMBEDDING] * EMBEDDED.get(instrumentation, 1) + [words for words in asked if words != EMBEDDING]
    return [expected(instrumentation, words) for words in asked]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("corpus"), table(anonymous=True)) as process:
        yield process


def send(receiver: Process, capture: str) -> dict[str, list[Any]]:
    """Everything of one capture through the door; the lines of the journal that it became."""
    before = len(receiver.journal())
    told: dict[str, Any] = json.loads((CORPUS / "captured" / f"{capture}.json").read_text())
    for signal, body in told.items():
        status, _, answer = receiver.post(json.dumps(body).encode(), {"content-type": JSON}, f"/v1/{signal}")
        assert (status, json.loads(answer)) == (200, {})
    new = len(receiver.journal()) - before
    kinds = [line["kind"] for line in receiver.journal()][-new:]
    return {kind: receiver.lines(kind)[-kinds.count(kind) :] for kind in set(kinds)}


def model(record: SpanRecord) -> str:
    return record.response_model or record.request_model


def same(found: Call, wanted: Call) -> bool:
    """Equal; a library that knows only the model it asked for (streams of some) says its name without a date."""
    return (
        found[:2] == wanted[:2]
        and wanted[2].startswith(found[2])
        and found[3] == wanted[3]
        and found[4] == pytest.approx(wanted[4], rel=1e-9)
    )


def counted(spans: list[SpanRecord], root: Path) -> list[SpanRecord]:
    """Of the spans those that count, once they are loaded."""
    segment = root / "ingest-0" / "1750000000000000-1-1.ndjson"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"".join(msgspec.json.encode(span) + b"\n" for span in spans))
    store = TelemetryStore(":memory:")
    assert Loader(root, store, SystemClock()).load_once().lines == len(spans)
    counting = set(store.rows("SELECT trace_id, span_id FROM spans WHERE coalesce(counted_by, '') = ''"))
    store.close()
    return [span for span in spans if (span.trace_id, span.span_id) in counting]


@pytest.mark.parametrize("capture", CAPTURES)
def test_each_call_is_understood_and_counted_once(receiver: Process, capture: str, tmp_path: Path) -> None:
    instrumentation, _, _ = capture.partition("/")
    spans: list[SpanRecord] = send(receiver, capture)["span"]
    wanted = calls_of(capture)
    found = [
        (s.operation, s.stage, model(s), s.tokens, s.cost_usd or 0.0)
        for s in counted(spans, tmp_path) if s.tokens is not None
    ]  # fmt: skip
    assert len(found) == len(wanted)
    for one in wanted:
        match = next((call for call in found if same(call, one)), None)
        assert match is not None, f"{one} is not among {found}"
        found.remove(match)

    untold = instrumentation == "langfuse" or (instrumentation in UNTOLD_OF_STREAMS and capture.endswith("/stream"))
    told = {s.span_id: s.response_id for s in spans if s.operation == "chat"}  # LlamaIndex: on the span around
    assert untold or all(told[s.span_id] or told.get(s.parent_span_id) for s in spans if s.tokens and s.span_id in told)
    own = [s for s in spans if s.attributes.get("otel.scope.name") != SDKS_OWN]
    assert {s.release for s in own} == {"2026.11.1"}
    assert {s.env for s in own} == ({"dev"} if instrumentation in NO_ENV else {"staging"})
    dialect = DIALECTS.get(instrumentation, instrumentation.partition("_")[0])
    assert {s.dialect for s in own if s.operation} == {dialect}
    assert instrumentation in NO_USER or all(s.session and s.user for s in own if s.tokens)
    assert {s.status for s in spans} <= {"unset", "ok"}
    assert not [
        s for s in spans if s.stage not in ("", "model", "retrieval", "tool", "preprocessing", "postprocessing")
    ]


@pytest.mark.parametrize("capture", [name for name in CAPTURES if name.endswith("/rag")])
def test_what_was_retrieved_is_known(receiver: Process, capture: str) -> None:
    spans: list[SpanRecord] = send(receiver, capture)["span"]
    found = [s for s in spans if s.documents]
    if capture.partition("/")[0] in ("pydantic_ai", "vercel_6", "vercel_7"):  # they have no word for it
        assert not found
        return
    assert {(s.operation, s.stage) for s in found} == {("retrieval", "retrieval")}
    (documents,) = {tuple((d.id, d.score) for d in s.documents or ()) for s in found}
    assert len(documents) == 2
    if "llamaindex" not in capture:  # which names its nodes itself
        assert [name for name, _ in documents] == ["doc-tea", "doc-pot"]
    if not any(name in capture for name in ("langchain", "langsmith", "both")):  # LangChain's retrievers give no score
        assert documents[0][1] is not None
        assert documents[1][1] is not None
        assert documents[0][1] > documents[1][1]


@pytest.mark.parametrize("capture", [name for name in CAPTURES if name.endswith("/agent")])
def test_an_agents_steps_are_one_trace(receiver: Process, capture: str) -> None:
    spans: list[SpanRecord] = send(receiver, capture)["span"]
    assert len({s.trace_id for s in spans}) == 1
    (root,) = [s for s in spans if not s.parent_span_id]
    assert (root.operation in ("invoke_agent", "invoke_workflow"), root.tokens) == (True, None)
    tools = [s for s in spans if s.stage == "tool"]
    assert [s.operation for s in tools] == ["execute_tool"]
    assert "get_weather" in (tools[0].name, tools[0].attributes.get("gen_ai.tool.name", ""))
    assert sum(s.tokens.input for s in spans if s.tokens) == 70 + 95
    assert sum(s.tokens.output for s in spans if s.tokens) == 16 + 9


def test_the_metrics_of_the_instrumentation_are_kept(receiver: Process) -> None:
    found: list[MetricRecord] = send(receiver, "openai_v2_latest/chat")["metric"]
    assert {point.name for point in found} == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


def test_every_instrumentation_of_the_field_is_there() -> None:
    held = {name.partition("/")[0] for name in CAPTURES}
    assert held == {
        "openai_v2", "openai_v2_latest", "openllmetry_openai", "openllmetry_anthropic", "openllmetry_langchain",
        "openllmetry_both", "openinference_openai", "openinference_anthropic", "openinference_langchain",
        "openinference_llamaindex", "pydantic_ai", "langsmith", "langfuse", "mlflow", "vercel_6", "vercel_7",
    }  # fmt: skip
    assert all((CORPUS / "captured" / f"{name}.json").stat().st_size > 2_000 for name in CAPTURES)
