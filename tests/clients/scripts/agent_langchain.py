"""A LangChain agent with a tool, traced by INSTRUMENTATION; `PROPAGATE`: its HTTP client sends `traceparent`."""

import json
import os

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
if os.environ["PROPAGATE"]:
    HTTPX2ClientInstrumentor().instrument()
if os.environ["INSTRUMENTATION"] == "openllmetry":
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument()
if os.environ["INSTRUMENTATION"] == "openinference":
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument()
if os.environ["INSTRUMENTATION"] == "both":
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    LangChainInstrumentor().instrument()
    OpenAIInstrumentor().instrument()


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}, 21 degrees"


agent = create_agent(ChatOpenAI(model=os.environ["MODEL"], max_retries=0), [get_weather], name="forecaster")
found = agent.invoke({"messages": [{"role": "user", "content": "what is the weather in Rome?"}]})
provider.force_flush()
print(json.dumps({"said": found["messages"][-1].content}))
