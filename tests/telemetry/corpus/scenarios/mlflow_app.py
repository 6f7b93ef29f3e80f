"""MLflow's tracing: autologging of the OpenAI SDK, and its decorator for the app's own steps."""

import sys

import asked
import mlflow
import openai
import openai_calls
from mlflow.entities import Document, SpanType

mlflow.openai.autolog()
client = openai.OpenAI(max_retries=0)


def known() -> None:
    """The trace's session and user."""
    mlflow.update_current_trace(metadata={"mlflow.trace.session": asked.SESSION, "mlflow.trace.user": asked.USER})


@mlflow.trace(span_type=SpanType.RETRIEVER)
def retrieve(question: str) -> list[Document]:
    """What is found."""
    client.embeddings.create(model=asked.EMBEDDING_MODEL, input=[question])
    return [Document(page_content=text, id=i, metadata={"score": score}) for i, text, score in asked.DOCUMENTS]


@mlflow.trace(span_type=SpanType.CHAIN)
def answer(question: str) -> None:
    """From the documents."""
    known()
    retrieve(question)
    openai_calls.rag_answer(client, asked.DOCUMENTS)


@mlflow.trace(span_type=SpanType.TOOL, name="get_weather")
def weather(city: str) -> str:
    """The weather of a city."""
    return asked.get_weather(city)


@mlflow.trace(span_type=SpanType.AGENT, name="forecaster")
def agent(question: str) -> str:
    """Two turns with a tool between them."""
    known()
    messages: list[object] = [{"role": "user", "content": question}]
    said = openai_calls.agent_step(client, messages)
    calls = said.tool_calls or ()
    messages.extend(openai_calls.tool_result(wanted, weather(**openai_calls.arguments(wanted))) for wanted in calls)
    return str(openai_calls.agent_step(client, messages).content)


name = sys.argv[1]
if name == "rag":
    answer(asked.QUESTION)
elif name == "agent":
    agent(asked.AGENT)
else:
    openai_calls.call(name, client)
mlflow.flush_trace_async_logging()
