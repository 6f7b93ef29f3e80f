"""OpenTelemetry's own instrumentation of the OpenAI SDK; in `rag` and `agent` the app's steps have spans of their own.

With OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental it speaks the newest conventions, else those of 1.30.
"""

import json
import sys

import asked
import openai
import openai_calls
from opentelemetry import _logs, metrics
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

tracer = asked.traced().get_tracer("corpus")
logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
_logs.set_logger_provider(logs)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
OpenAIInstrumentor().instrument()
client = openai.OpenAI(max_retries=0)
name = sys.argv[1]
COMMON = {"gen_ai.conversation.id": asked.SESSION, "user.id": asked.USER}

if name == "rag":
    with tracer.start_as_current_span("answer", attributes=COMMON):
        asking = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "handbook"}
        with tracer.start_as_current_span("retrieval handbook", attributes=asking) as span:
            client.embeddings.create(model=asked.EMBEDDING_MODEL, input=[asked.QUESTION])
            found = [{"id": i, "score": score} for i, _, score in asked.DOCUMENTS]
            span.set_attribute("gen_ai.retrieval.documents", json.dumps(found))
        openai_calls.rag_answer(client, asked.DOCUMENTS)
elif name == "agent":
    about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "forecaster"} | COMMON
    with tracer.start_as_current_span("invoke_agent forecaster", attributes=about) as agent:
        messages: list[object] = [{"role": "user", "content": asked.AGENT}]
        said = openai_calls.agent_step(client, messages)
        for wanted in said.tool_calls or ():
            running = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_weather"}
            with tracer.start_as_current_span("execute_tool get_weather", attributes=running):
                messages.append(openai_calls.tool_result(wanted, asked.get_weather(**openai_calls.arguments(wanted))))
        openai_calls.agent_step(client, messages)
        agent.set_attributes({"gen_ai.usage.input_tokens": 165, "gen_ai.usage.output_tokens": 25})  # of both turns
else:
    openai_calls.call(name, client)
