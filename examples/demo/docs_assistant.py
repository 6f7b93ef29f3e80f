"""The first demo app: answers questions on Pilothouse from its own documentation.

    export OPENAI_BASE_URL=http://127.0.0.1:4000/v1 OPENAI_API_KEY=ph_…
    python docs_assistant.py "How often is the journal synced to disk?"

An ordinary app: the OpenAI SDK for the answer, OpenTelemetry for the steps. What makes it a Pilothouse app is the base
URL, the route's name in place of a model's, and the prompt's variables in place of a prompt.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from openai import OpenAI
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from retrieval import Hit, Index, as_prompt, sections

ROUTE = "docs-answer"
K = 1


@dataclass(frozen=True)
class Answer:
    """What the user reads, where it came from, and the id to send feedback for."""

    text: str
    sources: list[str]
    request_id: str


def tracing(endpoint: str, key: str, env: str = "prod") -> TracerProvider:
    """Spans go to Pilothouse's own receiver; `endpoint` is its base URL, usually http://127.0.0.1:4318."""
    resource = Resource.create({"service.name": "docs-assistant", "deployment.environment.name": env})
    provider = TracerProvider(resource=resource)
    headers = {"authorization": f"Bearer {key}"}
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", headers=headers)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
    return provider


class Assistant:
    """Retrieves, asks, and says where the answer stands."""

    def __init__(self, client: OpenAI, index: Index, tracer: trace.Tracer) -> None:
        self._client = client
        self._index = index
        self._tracer = tracer

    def ask(self, question: str, session: str = "") -> Answer:
        """Answer `question`; raises the OpenAI SDK's errors."""
        with self._tracer.start_as_current_span("invoke_agent docs-assistant") as root:
            root.set_attribute("gen_ai.operation.name", "invoke_agent")
            root.set_attribute("pilothouse.route", ROUTE)
            with self._tracer.start_as_current_span("normalise question") as span:
                span.set_attribute("pilothouse.stage", "preprocessing")
                span.set_attribute("pilothouse.route", ROUTE)
                query = " ".join(question.split())
            hits = self._retrieve(query)
            headers: dict[str, str] = {}
            propagate.inject(headers)
            reply = self._client.chat.completions.with_raw_response.create(
                model=ROUTE,
                messages=[{"role": "user", "content": question}],
                user=session or "demo",
                extra_headers=headers,
                extra_body={"prompt": {"variables": {"question": question, "documents": as_prompt(hits)}}},
            )
            with self._tracer.start_as_current_span("cite sources") as span:
                span.set_attribute("pilothouse.stage", "postprocessing")
                span.set_attribute("pilothouse.route", ROUTE)
                text = reply.parse().choices[0].message.content or ""
                sources = [hit.section.id for hit in hits]
        return Answer(text, sources, reply.headers.get("x-pilothouse-request-id", ""))

    def _retrieve(self, query: str) -> list[Hit]:
        with self._tracer.start_as_current_span("retrieval docs") as span:
            hits = self._index.search(query, K)
            now = time.time()  # noqa: TID251  # an app's own clock
            documents = [
                {"id": hit.section.id, "score": hit.score, "age_s": round(now - hit.section.updated_at)} for hit in hits
            ]
            span.set_attribute("gen_ai.operation.name", "retrieval")
            span.set_attribute("gen_ai.data_source.id", "docs")
            span.set_attribute("pilothouse.index.version", self._index.version)
            span.set_attribute("pilothouse.route", ROUTE)
            span.set_attribute("gen_ai.retrieval.documents", json.dumps(documents))
        return hits


def main() -> None:
    """Answer one question on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--docs", type=Path, default=Path(__file__).resolve().parent.parent.parent / "docs")
    parser.add_argument("--otlp", default="http://127.0.0.1:4318")
    options = parser.parse_args()
    provider = tracing(options.otlp, os.environ.get("OPENAI_API_KEY", ""))
    assistant = Assistant(OpenAI(), Index(sections(options.docs)), provider.get_tracer("docs-assistant"))
    answer = assistant.ask(options.question)
    provider.shutdown()
    print(answer.text)
    print("from", ", ".join(answer.sources), " request", answer.request_id)


if __name__ == "__main__":
    main()
