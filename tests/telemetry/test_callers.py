"""What callers send and are served, read back from recorded requests."""

import json

import pytest

from pilothouse.domain.callers import Callers
from pilothouse.domain.ids import request_ids
from pilothouse.domain.record import Payload, SpanRecord
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.callers import callers, recorded

NOW_US = 1_750_000_000_000_000
R = "docs-answer"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def sent(record, request, response, **more):
    own, _, _ = request_ids(NOW_US)
    return record(id=own, payload=Payload(request=json.dumps(request), response=json.dumps(response)), **more)


def chat(content=None, calls=()):
    named = [{"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in calls]
    return {"choices": [{"message": {"role": "assistant", "content": content, "tool_calls": named}}]}


def test_requests_and_answers_are_counted(store: TelemetryStore, load, record):
    asks = {
        "messages": [],
        "prompt": {"id": R, "variables": {"question": "x", "tone": "y"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        "tools": [{"type": "function", "function": {"name": "lookup"}}],
    }
    answer = json.dumps({"kind": "other", "items": [{"sku": "1"}, {"sku": "2"}]})
    load(
        sent(record, asks, chat(answer)),
        sent(record, {"messages": []}, chat(json.dumps({"kind": "refund"}))),
        sent(record, {"messages": []}, chat("plain words", calls=("search", "search"))),
        sent(record, {"messages": []}, chat("not yours"), route="another"),
        sent(record, {"messages": []}, chat("failed"), outcome="failed"),
        record(log_mode="metadata", payload=None),
        SpanRecord(
            trace_id=record().trace_id, span_id="s", ts_us=NOW_US, duration_ms=1, name="elsewhere", stage="tool"
        ),
    )
    found = callers(store, R, "prod", NOW_US - 1)
    assert (found.total, found.sample, found.prompted, found.objects) == (4, 3, 3, 2)
    assert found.variables == {"question": 1, "tone": 1}
    assert [json.loads(one) for one in found.formats] == [SCHEMA]
    assert (found.own_tools, found.called) == ({"lookup": 1}, {"search": 1})
    assert found.fields == {"/kind": 2, "/items": 1, "/items/*/sku": 1}
    assert found.values["/kind"] == {"other": 1, "refund": 1}
    assert callers(store, R, "prod", NOW_US + 1) == Callers(since_us=NOW_US + 1)
    rows = recorded(store, R, "prod", NOW_US - 1, 2)
    assert [(row["api"], row["release"]) for row, _, _ in rows] == [("chat", 3)] * 2


@pytest.mark.parametrize(
    ("response", "called"),
    [
        ({"content": [{"type": "tool_use", "name": "search"}, {"type": "text", "text": '{"kind": "x"}'}]}, True),
        ({"output": [{"type": "function_call", "name": "search"},
                     {"type": "message", "content": [{"type": "output_text", "text": '{"kind": "x"}'}]}]}, True),
        ({"role": "assistant", "content": '{"kind": "x"}'}, False),
    ],
)  # fmt: skip
def test_answers_of_other_apis_are_read_too(store: TelemetryStore, load, record, response, called):
    load(sent(record, {"messages": []}, response, api="messages"))
    found = callers(store, R, "prod", 0)
    assert found.fields == {"/kind": 1}
    assert found.called == ({"search": 1} if called else {})


def test_tool_spans_of_the_routes_traces_count_every_call(store: TelemetryStore, load, record):
    one = sent(record, {"messages": []}, chat("done"))
    spans = [
        SpanRecord(trace_id=one.trace_id, span_id=f"s{i}", ts_us=NOW_US, duration_ms=1, name="run", stage="tool",
                   attributes={"gen_ai.tool.name": "search"})
        for i in range(3)
    ]  # fmt: skip
    load(one, *spans)
    assert callers(store, R, "prod", 0).called == {"search": 3}
