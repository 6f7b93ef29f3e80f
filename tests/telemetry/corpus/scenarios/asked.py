"""What every scenario asks and is told: the same words in every library, so that the same usage is scripted."""

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

MODEL = "gpt-4o-mini"
THINKING_MODEL = "gpt-5-mini"
CLAUDE = "claude-sonnet-4-5"
EMBEDDING_MODEL = "text-embedding-3-small"
HELLO = "Say hello."
COUNT = "Count to three."
WEATHER = "What is the weather in Paris?"
THINK = "Think about the long document."
AGENT = "Use your tool: what is the weather in Rome?"
QUESTION = "How long does tea steep?"
DOCUMENTS = [("doc-tea", "Tea steeps for three minutes.", 0.9), ("doc-pot", "A pot holds a litre.", 0.4)]
SESSION, USER = "session-1", "user-1"
BASE_URL = os.environ["OPENAI_BASE_URL"]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def get_weather(city: str) -> str:
    """The weather of a city."""
    return "sunny, 21 degrees"


def traced() -> TracerProvider:
    """A tracer provider that exports to where OTEL_EXPORTER_OTLP_ENDPOINT says; it flushes when the process ends."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
