"""One step of a trace in full: what a person sees who opens its bar."""

from typing import Any

import msgspec

from pilothouse.domain.record import Document, SpanEvent
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import lookup
from pilothouse.telemetry.entries import SPREAD_US

EVENTS_MAX = 200


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A log record of the step's span: a message, a choice, an exception."""

    ts_us: int
    name: str
    body: str
    attributes: dict[str, str] = {}


class SpanDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A span as stored, with the log records that belong to it. Payloads are fetched apart."""

    trace_id: str
    span_id: str
    name: str
    operation: str = ""
    stage: str = ""
    dialect: str = ""
    span_kind: str = ""
    provider: str = ""
    request_model: str = ""
    response_model: str = ""
    response_id: str = ""
    finish_reason: str = ""
    status: str = ""
    error_type: str = ""
    session: str = ""
    user: str = ""
    release: str = ""
    request_id: str = ""
    index_name: str = ""
    index_version: str = ""
    preview_in: str = ""
    preview_out: str = ""
    redaction_status: str = ""
    ttft_ms: float | None = None
    cost_usd: float | None = None
    reported_cost_usd: float | None = None
    tokens: dict[str, int] = {}
    documents: list[Document] | None = None
    events: list[SpanEvent] = []
    attributes: dict[str, str] = {}
    said: list[Said] = []

    @property
    def is_tool(self) -> bool:
        """A call of a tool."""
        return self.operation == "execute_tool" or self.stage == "tool"


_BUCKETS = ("input_uncached", "cache_read", "cache_write", "output_text", "reasoning")


def span(store: TelemetryStore, trace_id: str, span_id: str) -> SpanDetail | None:
    """The span; None where it is not stored. One that was exported twice is shown once."""
    time = lookup.within(store, trace_id, "ts")
    found = store.query(
        f"SELECT * FROM spans WHERE trace_id = ? AND span_id = ? AND {time.sql} LIMIT 1",  # noqa: S608  # bound
        [trace_id, span_id, *time.params],
    )
    if not found:
        return None
    row = found[0]
    known = {name: row[name] for name in SpanDetail.__struct_fields__ if row.get(name) is not None}
    known["tokens"] = {name: row[name] for name in _BUCKETS if row.get(name)}
    known["said"] = said(store, trace_id, span_id)
    return msgspec.convert(known, SpanDetail)


def said(store: TelemetryStore, trace_id: str, span_id: str) -> list[Said]:
    """Log records of a span in order of time."""
    time = lookup.within(store, trace_id, "ts", SPREAD_US)
    rows: list[dict[str, Any]] = store.query(
        "SELECT epoch_us(ts) AS ts_us, name, coalesce(body, '') AS body, attributes FROM span_events "  # noqa: S608
        f"WHERE trace_id = ? AND span_id = ? AND {time.sql} ORDER BY ts LIMIT ?",  # bound
        [trace_id, span_id, *time.params, EVENTS_MAX],
    )
    return [msgspec.convert({n: v for n, v in row.items() if v is not None}, Said) for row in rows]
