"""Secrets sent through every door and in every place of a request or a span are found nowhere on disk."""

import base64
import gzip
import json
import os
import signal
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.server.canaries_planted import Canaries

pytestmark = pytest.mark.process
App = Callable[..., Path]
NOW = "1795000000000000000"


@pytest.fixture
def backend() -> Iterator[tuple[str, list[bytes]]]:
    """Another OTLP backend: its address, and what it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def script(c: Canaries) -> str:
    """Errors and tool calls of the provider's own; everything else says back what it was asked."""
    rules: list[dict[str, Any]] = [
        {"match": {"contains": "FAIL"}, "status": 400, "error": c.text("provider error 400")},
        {"match": {"contains": "BROKEN"}, "status": 503, "error": c.text("provider error 503")},
        {"match": {"contains": "REFUSE"}, "refuse": "content_filter", "error": c.text("provider refusal")},
        {"match": {"contains": "GARBAGE", "stream": True}, "fault": "garbage", "reply": c.text("broken stream")},
        {"match": {"contains": "CUT", "stream": True}, "fault": "cut", "reply": c.text("cut stream") * 3},
        {"match": {"contains": "MALFORMED"}, "fault": "malformed", "reply": c.text("malformed answer")},
        {"match": {"contains": "EVENT", "stream": True}, "fault": "error_event", "error": c.text("error event")},
        {
            "match": {"contains": "TOOL"},
            "tool_calls": [{"name": "send", "arguments": {"to": c.text("tool arguments"), c.text("argument name"): 1}}],
        },
        {"match": {"contains": "THINK"}, "thinking": c.text("thinking"), "reply": "ok"},
        {"match": {"contains": "HEADERS"}, "headers": {"x-request-id": c.text("provider header")}, "reply": "ok"},
        {"match": {"contains": "MODEL"}, "served_model": c.text("served model"), "reply": "ok"},
        {"match": {"contains": "PRINT"}, "fingerprint": c.text("fingerprint"), "reply": "ok"},
        {"match": {"contains": "SCHEMA"}, "json": {"age": c.text("wrong value"), c.text("wrong field"): 1}},
        {"match": {"contains": "FINISH"}, "finish_reason": c.text("finish reason"), "reply": "ok"},
        {"reply": "You said: {input}", "chunk_size": 3},
    ]
    return json.dumps({"rules": rules})


def ask(one: Any, key: str, path: str, body: Any, **headers: str) -> None:
    """One request, whatever comes of it; strings go as they are."""
    sent = body if isinstance(body, str | bytes) else json.dumps(body)
    one.fetch("POST", one.gateway + path, sent, **{"authorization": f"Bearer {key}", **headers})


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "answer", "messages": [{"role": "user", "content": text}], **more}


def through_the_gateway(one: Any, key: str, c: Canaries) -> None:
    for api, body in (
        ("/chat/completions", said(c.text("chat"))),
        ("/responses", {"model": "answer", "input": c.text("responses")}),
        ("/messages", said(c.text("messages"), max_tokens=50)),
        ("/embeddings", {"model": "answer", "input": c.text("embeddings")}),
        ("/completions", {"model": "answer", "prompt": c.text("completions")}),
        ("/moderations", {"model": "answer", "input": c.text("moderations")}),
    ):
        ask(one, key, api, body)
        ask(one, key, api, body | {"stream": True})
    chat = "/chat/completions"
    for word in (
        "FAIL",
        "BROKEN",
        "REFUSE",
        "GARBAGE",
        "CUT",
        "MALFORMED",
        "EVENT",
        "TOOL",
        "THINK",
        "HEADERS",
        "MODEL",
        "FINISH",
        "PRINT",
    ):
        ask(one, key, chat, said(word))
        ask(one, key, chat, said(word, stream=True))
    ask(one, key, chat, said("x", metadata={c.text("label")[:64]: "1", "b": c.text("label value")}))
    ask(one, key, chat, said("x", metadata={"segment": c.text("segment"), "session_id": c.text("session label")}))
    fields = {"age": {"type": "integer", "enum": [1]}, c.text("field"): {"type": "string"}}
    wanted = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    ask(
        one,
        key,
        chat,
        said("SCHEMA", response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": wanted}}),
    )
    ask(one, key, chat, said("x") | {"model": "fake/" + c.text("raw model")})
    ask(one, key, chat, said("x", user=c.text("user")))
    ask(one, key, chat, said("x", model=c.text("model name")) | {"model": "answer " + c.text("model name")})
    ask(one, key, chat, said("x", nonsense=c.text("unknown field"), temperature=c.text("wrong type")))
    ask(one, key, chat, json.dumps(said(c.text("torn body")))[:-3])
    ask(one, key, chat, c.text("no JSON"))
    ask(one, key, chat, c.text("bad UTF-8").encode() + b"\xff\xfe")
    escaped = "".join(f"\\u{ord(ch):04x}" for ch in c.text("escaped"))
    ask(one, key, chat, '{"model":"answer","messages":[{"role":"user","content":"' + escaped + '"}]}')
    nested = json.dumps({"値": "：" + c.text("nested arguments"), "：" + c.text("nested name"): 1})
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": nested}}
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    told = {"role": "tool", "tool_call_id": "c1", "content": c.text("tool result")}
    ask(one, key, chat, {"model": "answer", "messages": [*turns, told]})
    tool = {"name": "send", "description": c.text("tool description"), "parameters": {"type": "object"}}
    ask(one, key, chat, said("x", tools=[{"type": "function", "function": tool}]))
    schema = {"name": "s", "schema": {"type": "object", "description": c.text("schema")}}
    ask(one, key, chat, said("x", response_format={"type": "json_schema", "json_schema": schema}))
    query = urllib.parse.quote(c.text("query"))
    ask(one, key, f"{chat}?key={query}&{query}=1", said("x"))
    ask(one, key, f"{chat}?broken={query}", "{")
    ask(one, key, "/" + urllib.parse.quote(c.text("path")), said("x"))
    for name in (
        "user-agent",
        "cookie",
        "x-request-id",
        "x-pilothouse-session",
        "x-pilothouse-timeout",
        "x-pilothouse-route",
        "x-pilothouse-cache",
        "x-pilothouse-priority",
        "x-pilothouse-segment",
        "idempotency-key",
        "traceparent",
        "tracestate",
        "baggage",
        "x-api-key",
        "openai-organization",
        "anthropic-beta",
        "referer",
        "x-pilothouse-webhook",
        "content-type",
    ):
        ask(one, key, chat, said("x"), **{name: c.text(f"header {name}")})
    ask(one, c.text("bad key").split()[1], chat, said("x"))
    ask(one, key, chat, said("x"), authorization=c.text("authorization"))
    score = {"request_id": c.text("score id"), "name": c.text("score name"), "value": 1, "comment": c.text("comment")}
    ask(one, key, "/feedback", score | {"label": c.text("score label")})


def attributes(**values: str) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]


def through_otlp(one: Any, key: str, c: Canaries, n: int = 0) -> None:
    """Every place of a span, a log record and a metric that takes words."""

    def text(place: str) -> str:
        return c.text(f"{place} {n}")

    resource = {
        "attributes": [
            *attributes(**{"service.name": text("service"), "host.name": text("host")}),
            *attributes(**{text("resource key"): "1", "deployment.environment": text("environment")}),
        ]
    }
    scope = {"name": text("scope name"), "version": text("scope version"), "attributes": attributes(a=text("scope"))}
    content = json.dumps([{"role": "user", "content": text("input messages"), "parts": [{"text": text("parts")}]}])
    asked = attributes(
        **{
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": text("model"),
            "gen_ai.system": text("system"),
            "gen_ai.input.messages": content,
            "gen_ai.output.messages": json.dumps([{"content": text("output")}]),
            "gen_ai.prompt.0.content": text("openllmetry prompt"),
            "llm.input_messages.0.message.content": text("openinference"),
            "input.value": text("input value"),
            "ai.prompt.messages": content,
            "langfuse.observation.input": text("langfuse"),
            "user.id": text("user id"),
            "session.id": text("session id"),
            "enduser.id": text("end user"),
            "langfuse.user.id": text("langfuse user"),
            "gen_ai.tool.call.arguments": json.dumps({"a": text("arguments")}),
            "gen_ai.conversation.id": text("conversation"),
            "error.type": text("error type"),
            text("attribute key"): "x",
            "http.url": "https://x.io/?q=" + urllib.parse.quote(text("url")),
            "gen_ai.response.id": text("response id"),
            "retrieval.documents.0.document.id": text("document id"),
            "tag.tags": text("tags"),
            "metadata": text("metadata"),
            "retrieval.documents.0.document.content": text("document"),
            "pilothouse.release": text("release"),
        }
    )
    coded = base64.b64encode(text("bytes").encode()).decode()
    asked += [
        {"key": "raw", "value": {"bytesValue": coded}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": text("list")}]}}},
        {"key": "map", "value": {"kvlistValue": {"values": attributes(a=text("map"))}}},
        {"key": text("int key"), "value": {"intValue": "4"}},
    ]
    event = {
        "timeUnixNano": NOW,
        "name": text("event name"),
        "attributes": attributes(
            **{"exception.message": text("exception"), "exception.stacktrace": text("stack"), text("event key"): "1"}
        ),
    }
    span = {
        "traceId": f"{n + 1:032x}",
        "spanId": f"{n + 1:016x}",
        "name": text("span name"),
        "kind": 3,
        "traceState": text("state"),
        "startTimeUnixNano": NOW,
        "endTimeUnixNano": NOW,
        "attributes": asked,
        "events": [event],
        "status": {"code": 2, "message": text("status")},
        "links": [
            {
                "traceId": "1" * 32,
                "spanId": "2" * 16,
                "traceState": text("link state"),
                "attributes": attributes(a=text("link")),
            }
        ],
    }
    scoped = {"scope": scope, "schemaUrl": text("schema url")}
    spans = {"resourceSpans": [{"resource": resource, "scopeSpans": [{**scoped, "spans": [span]}]}]}
    logs = [
        {
            "timeUnixNano": NOW,
            "severityText": text("severity"),
            "eventName": "gen_ai.evaluation.result",
            "body": {"stringValue": text("evaluation body")},
            "traceId": "1" * 32,
            "spanId": "2" * 16,
            "attributes": attributes(
                **{
                    "gen_ai.evaluation.name": text("evaluation"),
                    "gen_ai.evaluation.score.value": "1",
                    "gen_ai.evaluation.explanation": text("explanation"),
                    "gen_ai.evaluation.score.label": text("evaluation label"),
                }
            ),
        },
        {
            "timeUnixNano": NOW,
            "eventName": text("log event"),
            "body": {"stringValue": text("log body")},
            "attributes": attributes(**{text("log key"): text("log attribute")}),
        },
        {
            "timeUnixNano": NOW,
            "eventName": "gen_ai.user.message",
            "traceId": "1" * 32,
            "spanId": "2" * 16,
            "body": {"kvlistValue": {"values": attributes(content=text("log map"))}},
        },
    ]
    point = {"timeUnixNano": NOW, "asDouble": 1.0, "attributes": attributes(**{text("point key"): text("point")})}
    metrics = [
        {
            "name": text("metric name"),
            "description": text("metric"),
            "unit": text("unit"),
            "gauge": {"dataPoints": [point]},
        }
    ]
    for path, body in (
        ("/v1/traces", spans),
        ("/v1/logs", {"resourceLogs": [{"resource": resource, "scopeLogs": [{**scoped, "logRecords": logs}]}]}),
        (
            "/v1/metrics",
            {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{**scoped, "metrics": metrics}]}]},
        ),
    ):
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {key}",
            "baggage": text("otlp baggage"),
            "user-agent": text("otlp agent"),
        }
        status, _, answer = one.fetch("POST", one.otlp + path, json.dumps(body), **headers)
        assert status == 200, (path, answer)
        one.fetch(
            "POST", one.otlp + path + "?a=" + urllib.parse.quote(text("otlp query")), json.dumps(body)[:-5], **headers
        )
        one.fetch("POST", one.otlp + "/" + urllib.parse.quote(text("otlp path")), "{}", **headers)


def typed_by_people(one: Any, c: Canaries) -> None:
    """What people write about records, and what they ask for: notes, reasons, views, searches, replays, payloads."""
    (one.app / "prompts" / "answer.system.md").write_text("You help.\n")
    one.verb("release", "create", "answer", "-m", c.text("release note"), ok=(0, 1, 3))
    # Another model has answered, so the review is open again and holds releases at a tenth until it is signed.
    one.verb("review", "answer", "--sign", "--reason", c.text("reason to sign"))
    one.verb("release", "promote", "answer", "2", "--force", "--reason", c.text("reason to promote"), ok=(0, 1))
    one.verb("rollback", "answer", "--reason", c.text("reason to roll back"))
    bearer = {"authorization": f"Bearer {one.address()['token']}"}
    for query in (c.text("searched").split()[1], c.text("filtered")):
        one.ask("GET", "/traces.json?q=" + urllib.parse.quote(query), **bearer)
        one.ask("GET", "/traces?q=" + urllib.parse.quote(query), **bearer)
    one.ask("GET", "/payload?of=" + urllib.parse.quote(c.text("opened")), **bearer)
    one.ask("POST", "/api/v1/requests/" + urllib.parse.quote(c.text("replayed"), safe="") + "/replay", "{}", **bearer)
    for row in one.get("/traces.json?limit=3")["traces"]:
        one.ask("POST", f"/api/v1/requests/{row['id']}/replay", '{"send":true}', **bearer)
    one.verb("drill", "rescan", "answer", ok=(0, 1, 3))
    one.verb("drill", "export", "answer", ok=(0, 1, 3))


def test_no_canary_is_found_on_disk(
    running: Any, scripted_app: App, tmp_path: Path, backend: tuple[str, list[bytes]]
) -> None:
    endpoint, forwarded = backend
    c = Canaries()
    more = f"forward: {{endpoint: '{endpoint}', content: true}}\n"
    one = running(scripted_app(script=script(c), more=more), workers=1)
    one.release()
    key = one.key()
    through_the_gateway(one, key, c)
    through_otlp(one, key, c)
    for name in ("edge-0", "ingest-0", "control"):
        child = next(child for called, child in one.children().items() if called.startswith(name.partition("-")[0]))
        before = child["restarts"]
        os.kill(child["pid"], signal.SIGKILL)
        one.eventually(lambda called=child["name"], before=before: one.children()[called]["restarts"] > before)  # type: ignore[misc]
    one.eventually(lambda: _answers(lambda: one.fetch("GET", one.otlp + "/healthz")[0]))
    one.eventually(lambda: _answers(lambda: one.chat(key, "answer", "hello")[0]))
    one.eventually(lambda: _answers(lambda: one.fetch("GET", one.pages + "healthz")[0]))
    through_the_gateway(one, key, c)
    through_otlp(one, key, c, 1)
    one.eventually(lambda: len(one.get("/traces.json?limit=50")["traces"]) > 20)
    one.eventually(lambda: forwarded)
    for form in ((), ("--jsonl",)):
        one.verb("export", str(tmp_path / f"out{len(form)}"), *form)
    typed_by_people(one, c)
    assert one.stop() == 0
    (tmp_path / "forwarded").mkdir()
    (tmp_path / "forwarded" / "bodies").write_bytes(b"\n".join(forwarded))
    (tmp_path / "forwarded" / "output").write_text(f"{one.process.stdout.read()}{one.process.stderr.read()}")
    assert any("span name 1" in where for where in c.planted.values())
    leaks = c.leaks(one.data, tmp_path / "out0", tmp_path / "out1", tmp_path / "forwarded")
    assert not leaks, "\n".join(leaks)


def _answers(status: Callable[[], int]) -> bool:
    try:
        return status() == 200
    except (OSError, ValueError):
        return False


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    c = Canaries()
    (tmp_path / "file").write_text(c.text("a file"))
    (tmp_path / "coded").write_bytes(base64.b64encode(b"xy" + c.text("base64").encode()))
    leaks = c.leaks(tmp_path)
    assert sum("a file" in leak for leak in leaks) == 5
    assert sum("base64" in leak for leak in leaks) == 5
