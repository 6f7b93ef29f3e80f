"""`python tests/telemetry/corpus/capture.py [INSTRUMENTATION …]`: run the real instrumentations, keep what they send.

Starts the scripted provider (script.yaml) and a receiver of OTLP/HTTP, runs every scenario in a process of its own, and
writes what came in as OTLP JSON to captured/INSTRUMENTATION/SCENARIO.json. README.md says how to set it up.
"""

import argparse
import base64
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
FIELD = str(ROOT / ".venv-capture" / "field" / "bin" / "python")
MLFLOW = str(ROOT / ".venv-capture" / "mlflow" / "bin" / "python")
LLAMAINDEX = str(ROOT / ".venv-capture" / "llamaindex" / "bin" / "python")
CALLS = ("chat", "stream", "tools", "usage", "embeddings")
FLOWS = ("chat", "stream", "tools", "usage", "rag", "agent")
EVERY = (*CALLS, "rag", "agent")
LATEST = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
}
LANGSMITH = {
    "LANGCHAIN_REVISION_ID": "2026.11.1",
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_OTEL_ENABLED": "true",
    "LANGSMITH_OTEL_ONLY": "true",
}
# Name → scenarios, command before the scenario's name, words after it, environment.
Plan = tuple[tuple[str, ...], list[str], list[str], dict[str, str]]
PLANS: dict[str, Plan] = {
    "openai_v2": (EVERY, [FIELD, "openai_v2.py"], [], {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}),
    "openai_v2_latest": (EVERY, [FIELD, "openai_v2.py"], [], LATEST),
    "openllmetry_openai": (CALLS, [FIELD, "openllmetry_openai.py"], [], {}),
    "openllmetry_anthropic": (CALLS[:4], [FIELD, "anthropic_calls.py"], ["openllmetry"], {}),
    "openllmetry_langchain": (FLOWS, [FIELD, "langchain_app.py"], ["openllmetry"], {}),
    "openllmetry_both": (("rag", "agent"), [FIELD, "langchain_app.py"], ["openllmetry", "openllmetry-openai"], {}),
    "openinference_openai": (CALLS, [FIELD, "openinference_openai.py"], [], {}),
    "openinference_anthropic": (CALLS[:4], [FIELD, "anthropic_calls.py"], ["openinference"], {}),
    "openinference_langchain": (FLOWS, [FIELD, "langchain_app.py"], ["openinference"], {}),
    "openinference_llamaindex": (EVERY, [LLAMAINDEX, "llamaindex_app.py"], [], {}),
    "pydantic_ai": (EVERY, [FIELD, "pydantic_ai_app.py"], [], {}),
    "langsmith": (FLOWS, [FIELD, "langchain_app.py"], ["langsmith"], LANGSMITH),
    "langfuse": (EVERY, [FIELD, "langfuse_app.py"], [], {"LANGFUSE_RELEASE": "2026.11.1"}),
    "mlflow": (EVERY, [MLFLOW, "mlflow_app.py"], [], {}),
    "vercel_6": (EVERY, ["node", "vercel.mjs"], ["6"], {}),
    "vercel_7": (EVERY, ["node", "vercel.mjs"], ["7"], {}),
}
KINDS: dict[str, tuple[str, str, type[Message]]] = {
    "/v1/traces": ("traces", "resourceSpans", ExportTraceServiceRequest),
    "/v1/logs": ("logs", "resourceLogs", ExportLogsServiceRequest),
    "/v1/metrics": ("metrics", "resourceMetrics", ExportMetricsServiceRequest),
}


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps every body, and answers that all is well."""

    kept: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        """An export."""
        length = self.headers["content-length"]
        body = self.rfile.read(int(length)) if length else b"".join(self.chunks())  # Node's exporter sends chunks
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        kind = self.headers["content-type"].partition(";")[0]
        if self.path in KINDS:
            self.kept.append((self.path, json.loads(body) if kind == "application/json" else told(self.path, body)))
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", "2" if kind == "application/json" else "0")
        self.end_headers()
        self.wfile.write(b"{}" if kind == "application/json" else b"")

    def chunks(self) -> Iterator[bytes]:
        """The parts of a body whose length is not told."""
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *args: Any) -> None:
        """Nothing."""


def told(path: str, body: bytes) -> dict[str, Any]:
    """OTLP JSON from OTLP protobuf: enums as numbers, ids in hex."""
    return dict(hexed(MessageToDict(KINDS[path][2].FromString(body), use_integers_for_enums=True)))


def hexed(value: Any) -> Any:
    """The same with ids as OTLP writes them, where protobuf's JSON has base64."""
    if isinstance(value, list):
        return [hexed(item) for item in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {k: base64.b64decode(v).hex() if k in ids else hexed(v) for k, v in value.items()}


@contextmanager
def provider() -> Iterator[str]:
    """The scripted provider; its address."""
    port = 18_431
    command = [sys.executable, "-m", "pilothouse.providers.scripted", "--port", str(port)]
    process = subprocess.Popen([*command, "--script", str(HERE / "script.yaml")], stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE)  # fmt: skip
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1)
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"the scripted provider ended: {process.communicate()}") from None
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def run(plan: Plan, scenario: str, service: str, base: str, otlp: str) -> dict[str, Any]:
    """What one scenario sent: {"traces": …, "logs": …, "metrics": …}, those that there are."""
    _, (program, script), words, more = plan
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(ROOT / ".venv-capture"),
        "OPENAI_BASE_URL": f"{base}/v1",
        "OPENAI_API_KEY": "sk-corpus",
        "ANTHROPIC_BASE_URL": base,
        "ANTHROPIC_API_KEY": "sk-corpus",
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{otlp}/v1/traces",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": service,
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=2026.11.1,deployment.environment.name=staging",
        "LANGSMITH_API_KEY": "ls-corpus",
        "LANGSMITH_ENDPOINT": otlp,
        "LANGFUSE_BASE_URL": otlp,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACELOOP_TELEMETRY": "false",
        "DO_NOT_TRACK": "1",
    }
    Receiver.kept.clear()
    done = subprocess.run(
        [program, str(HERE / "scenarios" / script), scenario, *words],
        env=environment | more, cwd=ROOT / ".venv-capture", capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode or os.environ.get("CAPTURE_DEBUG"):
        print(done.stdout[-2000:], done.stderr[-4000:], file=sys.stderr)
    found: dict[str, Any] = {}
    for path, body in Receiver.kept:
        name, field, _ = KINDS[path]
        found.setdefault(name, {field: []})[field].extend(body.get(field, []))
    return found


def main() -> None:
    """Capture what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="INSTRUMENTATION[/SCENARIO]")
    asked = parser.parse_args().names
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with provider() as base:
        for name, plan in PLANS.items():
            for scenario in plan[0]:
                if asked and name not in asked and f"{name}/{scenario}" not in asked:
                    continue
                found = run(plan, scenario, name, base, f"http://127.0.0.1:{server.server_port}")
                lists = [s["spans"] for r in found.get("traces", {}).get("resourceSpans", []) for s in r["scopeSpans"]]
                print(f"{name}/{scenario}: {sum(map(len, lists))} spans", flush=True)
                file = HERE / "captured" / name / f"{scenario}.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
