"""T2.7: do traces survive an export? Up to 100 of them go out as JSON lines and as OTLP, and come back."""

import tempfile
from collections.abc import Iterator

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.record import Attempt, Record, SpanEvent, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import forward, otlp, payloads, transfer

TRACES = 100
_AT_ONCE = 500  # payloads that are fetched together
_TABLES = ("requests", "attempts", "spans", "span_events", "scores")


class RoundTrip(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. `lost`: rows that are not as they were; `otlp_lost`: spans or attributes that OTLP lost."""

    traces: int
    rows: int
    lost: int
    otlp_spans: int
    otlp_lost: int

    @property
    def ok(self) -> bool:
        """Nothing was lost on either way."""
        return self.lost == self.otlp_lost == 0


def round_trip(store: TelemetryStore, clock: Clock, route: str, env: str, window: tuple[int, int]) -> RoundTrip:
    """Send the newest traces of more than one step out and in again; the store itself stays as it is."""
    since_us, until_us = window
    traces = [row[0] for row in store.rows(_NEWEST, [route, env, since_us, until_us, TRACES])]
    with tempfile.TemporaryDirectory(prefix="pilothouse-export-") as folder:
        transfer.export(store, folder, (0, clock.now_us() + 1), clock, format="jsonl", traces=traces)
        other = TelemetryStore(":memory:")
        try:
            if traces:
                transfer.import_(other, folder)
            before = {table: _rows(store, table, traces) for table in _TABLES}
            after = {table: _rows(other, table, traces) for table in _TABLES}
            before["payloads"], after["payloads"] = _bodies(store, traces), _bodies(other, traces)
        finally:
            other.close()
    sent = list(_records(store, traces))
    return RoundTrip(
        traces=len(traces),
        rows=sum(map(len, before.values())),
        lost=sum(len(before[table] ^ after[table]) for table in before),
        otlp_spans=len(sent),
        otlp_lost=_lost_over_otlp(sent),
    )


_NEWEST = """SELECT trace_id FROM (
  SELECT trace_id, max(ts) AS last FROM requests r
  WHERE route = ? AND env = ? AND ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT)
    AND (attempt_count > 1 OR EXISTS (SELECT 1 FROM spans s WHERE s.trace_id = r.trace_id))
  GROUP BY trace_id) ORDER BY last DESC, trace_id LIMIT ?"""


def _rows(store: TelemetryStore, table: str, traces: list[str]) -> set[str]:
    by_trace = "SELECT unnest(?::VARCHAR[])"
    belongs = f"trace_id IN ({by_trace})"
    if table == "attempts":
        belongs = f"request_id IN (SELECT id FROM requests WHERE {belongs})"  # noqa: S608  # our own names
    return {repr(row) for row in store.query(f"SELECT * FROM {table} WHERE {belongs}", [traces])}  # noqa: S608


def _bodies(store: TelemetryStore, traces: list[str]) -> set[str]:
    """What was said in full, of requests and of spans."""
    owners = store.rows(
        "SELECT id FROM requests WHERE trace_id IN (SELECT unnest($traces::VARCHAR[])) UNION "
        "SELECT trace_id || '/' || span_id FROM spans WHERE trace_id IN (SELECT unnest($traces::VARCHAR[]))",
        {"traces": traces},
    )
    ids = [owner for (owner,) in owners]
    parts = (ids[at : at + _AT_ONCE] for at in range(0, len(ids), _AT_ONCE))
    return {repr(pair) for part in parts for pair in payloads.fetch(store, part).items()}


def _records(store: TelemetryStore, traces: list[str]) -> Iterator[Record | SpanRecord]:
    attempts: dict[str, list[Attempt]] = {}
    wanted = "trace_id IN (SELECT unnest(?::VARCHAR[]))"
    for row in store.query(
        f"SELECT * FROM attempts WHERE request_id IN (SELECT id FROM requests WHERE {wanted}) ORDER BY n",  # noqa: S608
        [traces],
    ):
        made = msgspec.convert(_known(row, Attempt) | {"tokens": _tokens(row)}, Attempt)
        attempts.setdefault(row["request_id"], []).append(made)
    for row in store.query(f"SELECT *, epoch_us(ts) AS ts_us FROM requests WHERE {wanted}", [traces]):  # noqa: S608
        more = {"tokens": _tokens(row), "attempts": attempts.get(row["id"], []), "labels": row["labels"] or {}}
        yield msgspec.convert(_known(row, Record) | more, Record)
    for row in store.query(f"SELECT *, epoch_us(ts) AS ts_us FROM spans WHERE {wanted}", [traces]):  # noqa: S608
        events = msgspec.convert(row["events"] or [], list[SpanEvent])
        more = {"tokens": _tokens(row), "events": events, "attributes": row["attributes"] or {}, "documents": None}
        yield msgspec.convert(_known(row, SpanRecord) | more, SpanRecord)


def _known(row: dict[str, object], kind: type[msgspec.Struct]) -> dict[str, object]:
    """The columns that the struct has too and that are known."""
    return {name: row[name] for name in kind.__struct_fields__ if row.get(name) is not None}


def _tokens(row: dict[str, object]) -> Tokens | None:
    if row["input_uncached"] is None:
        return None
    return msgspec.convert({name: row.get(name) or 0 for name in Tokens.__struct_fields__ if name in row}, Tokens)


def _lost_over_otlp(sent: list[Record | SpanRecord]) -> int:
    """Spans that did not come back, and attributes that came back otherwise."""
    body = forward.encode(sent)
    there = {span.span_id: span for span in otlp.decode(body, otlp.PROTOBUF).spans}
    lost = 0
    for record in sent:
        found = there.get(record.span_id)
        if found is None:
            lost += 1
        elif isinstance(record, SpanRecord):
            lost += sum(key not in found.attributes for key, text in record.attributes.items() if text)
            lost += len(found.events) != len(record.events)
        else:
            lost += found.attributes.get("pilothouse.request_id") != record.id
    return lost
