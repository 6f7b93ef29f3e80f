"""What arrives again, and what belongs together, on both engines: the loader asks whichever store it loads into."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import (
    Attempt,
    Document,
    EventRecord,
    MetricRecord,
    Record,
    ScoreRecord,
    SpanRecord,
    Tokens,
)
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import listing, waterfall
from pilothouse.telemetry.loader import Loader

NOW_US = 1_750_000_000_000_000
AGENTS, SDKS, GATEWAYS = "1" * 32, "2" * 32, "3" * 32
ANSWER = r"chatcmpl-it's \one of many"  # an id is the client's to invent


def span(name: str, trace: str = AGENTS, **more: Any) -> SpanRecord:
    used = {"tokens": Tokens(input_uncached=7, output_text=3), "cost_usd": 0.5, "response_id": ANSWER}
    return SpanRecord(**{
        "trace_id": trace, "span_id": name.rjust(16, "0"), "ts_us": NOW_US, "duration_ms": 500.0, "name": name,
        "operation": "chat", "stage": "model", "dialect": name, "attributes": {"a": "b"},
        "documents": [Document(id="d", score=0.5)], **used, **more,
    })  # fmt: skip


def test_a_call_is_stored_and_counted_once(opens: Callable[[], TelemetryStore], tmp_path: Path) -> None:
    agent = span(
        "agent", operation="invoke_agent", stage="", tokens=None, cost_usd=None, response_id="", documents=None
    )
    chat = span("chat", parent_span_id=agent.span_id)
    sdk = span("sdk", SDKS)
    attempt = Attempt(n=1, kind="primary", provider="p", model="m", offset_ms=0.0, response_id=ANSWER, delivered=True)
    asked = Record(id="r", ts_us=NOW_US + 9, trace_id=GATEWAYS, span_id="f" * 16, duration_ms=300.0, cost_usd=2.0,
                   outcome="success", attempts=[attempt], labels={"k": "v"})  # fmt: skip
    event = EventRecord(ts_us=NOW_US, trace_id=AGENTS, name="gen_ai.choice", body="it's \\ said")
    point = MetricRecord(ts_us=NOW_US, name="m", type="gauge", value=1.0, attributes={"x": "y"})
    score = ScoreRecord(id="it's \\ s", ts_us=NOW_US, name="good", value=1.0)
    batches = [[chat, event, score], [sdk, point, asked], [chat, sdk, agent, event, point, score]]
    store = opens()
    for number, batch in enumerate(batches):
        path = tmp_path / "journal" / "w" / f"{NOW_US + number}-1-1.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in batch))
        assert Loader(tmp_path / "journal", store, FrozenClock(NOW_US)).load_once().torn == 0
    tables = ("spans", "requests", "attempts", "span_events", "app_metrics", "scores")
    assert [store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [3, 1, 1, 1, 1, 1]
    counted = store.rows("SELECT name, coalesce(request_id, ''), coalesce(counted_by, '') FROM spans ORDER BY name")
    assert counted == [("agent", "", ""), ("chat", "r", "r"), ("sdk", "r", "r")]
    whole = store.query("SELECT documents, attributes FROM spans WHERE name = 'chat'")[0]
    assert (whole["attributes"], [d["id"] for d in whole["documents"]]) == ({"a": "b"}, ["d"])
    assert store.rows("SELECT documents IS NOT NULL FROM spans WHERE name = 'agent'") == [(False,)]
    assert store.rows("SELECT trace_id, parent_span_id, own_trace_id, cost_usd FROM requests") == [
        (AGENTS, chat.span_id, GATEWAYS, 2.0)
    ]
    tree = waterfall.trace(store, AGENTS)
    assert tree is not None
    assert (tree.totals.calls, tree.totals.cost_usd) == (1, 2.0)
    assert [row.id for row in listing.find(store, listing.Asked()).rows] == ["r"]
    assert dict(store.rows("SELECT what, sum(count) FROM repeats GROUP BY what")) == {
        "span": 2, "event": 1, "metric": 1, "score": 1,
    }  # fmt: skip
    store.close()
