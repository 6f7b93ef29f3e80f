"""A pydantic-ai agent with a tool, with the instrumentation that it brings; `PROPAGATE` as for LangChain."""

import asyncio
import json
import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from pydantic_ai import Agent
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
if os.environ["PROPAGATE"]:
    HTTPX2ClientInstrumentor().instrument()
Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))


async def main() -> None:
    """One run."""
    agent = Agent(OpenAIChatModel(os.environ["MODEL"]), name="forecaster")

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}, 21 degrees"

    found = await agent.run("what is the weather in Rome?")
    print(json.dumps({"said": found.output}))


asyncio.run(main())
provider.force_flush()
