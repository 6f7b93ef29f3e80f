"""The Langfuse SDK: its drop-in for the OpenAI SDK, and its decorator for the app's own steps."""

import sys

import asked
import openai_calls
from langfuse import Langfuse, observe, propagate_attributes
from langfuse.openai import OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

langfuse = Langfuse(public_key="pk-corpus", secret_key="sk-corpus", span_exporter=OTLPSpanExporter())
client = OpenAI(max_retries=0)


@observe(as_type="retriever")
def retrieve(question: str) -> list[dict[str, object]]:
    """What is found."""
    client.embeddings.create(model=asked.EMBEDDING_MODEL, input=[question])
    return [{"id": i, "text": text, "score": score} for i, text, score in asked.DOCUMENTS]


@observe
def answer(question: str) -> None:
    """From the documents."""
    retrieve(question)
    openai_calls.rag_answer(client, asked.DOCUMENTS)


@observe(as_type="tool", name="get_weather")
def weather(city: str) -> str:
    """The weather of a city."""
    return asked.get_weather(city)


@observe(as_type="agent", name="forecaster")
def agent(question: str) -> str:
    """Two turns with a tool between them."""
    messages: list[object] = [{"role": "user", "content": question}]
    said = openai_calls.agent_step(client, messages)
    calls = said.tool_calls or ()
    messages.extend(openai_calls.tool_result(wanted, weather(**openai_calls.arguments(wanted))) for wanted in calls)
    return str(openai_calls.agent_step(client, messages).content)


name = sys.argv[1]
with propagate_attributes(session_id=asked.SESSION, user_id=asked.USER, tags=["corpus"]):
    if name == "rag":
        answer(asked.QUESTION)
    elif name == "agent":
        agent(asked.AGENT)
    else:
        openai_calls.call(name, client)
langfuse.flush()
