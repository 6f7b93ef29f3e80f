"""The export drill: traces go out and come back, and what does not is counted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import Record, SpanEvent, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import forward, transfer
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.round_trip import TRACES, round_trip

NOW_US = 1_750_000_000_000_000
WINDOW = (NOW_US - 1_000_000_000, NOW_US + 1)


@pytest.fixture
def filled(tmp_path: Path, record: Callable[..., Record], store: TelemetryStore) -> TelemetryStore:
    """120 traces with a span each, and one request that stands alone."""
    clock = FrozenClock(NOW_US)
    journal = Journal(tmp_path / "journal", "edge-0", clock)
    for n in range(120):
        one = record(ts_us=NOW_US - n)
        journal.write(one)
        journal.write(
            SpanRecord(
                trace_id=one.trace_id,
                span_id=f"{n + 1:016x}",
                ts_us=NOW_US - n,
                duration_ms=1.0,
                name="s",
                operation="retrieval",
                tokens=Tokens(input_uncached=3),
                attributes={"k": "v", "empty": ""},
                events=[SpanEvent(name="e", offset_ms=0.5)],
            )
        )
    journal.write(record())
    journal.close()
    Loader(tmp_path / "journal", store, clock).load_once()
    return store


def test_traces_of_more_than_one_step_come_back_whole(filled: TelemetryStore, clock: FrozenClock) -> None:
    trip = round_trip(filled, clock, "docs-answer", "prod", WINDOW)
    assert trip.ok
    assert (trip.traces, trip.rows, trip.otlp_spans) == (TRACES, 4 * TRACES, 2 * TRACES)
    assert round_trip(filled, clock, "docs-answer", "dev", WINDOW).traces == 0


def test_what_is_lost_on_the_way_is_counted(
    filled: TelemetryStore, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = transfer.import_

    def lossy(store: TelemetryStore, source: str) -> transfer.Imported:
        done = keep(store, source)
        with store.transaction() as write:
            write.execute("DELETE FROM spans WHERE span_id = '0000000000000001'")
            write.execute("UPDATE spans SET attributes = MAP {} WHERE span_id = '0000000000000002'")
        return done

    monkeypatch.setattr(transfer, "import_", lossy)
    encode = forward.encode
    monkeypatch.setattr(forward, "encode", lambda lines: encode(list(lines)[:-1]))
    trip = round_trip(filled, clock, "docs-answer", "prod", WINDOW)
    assert not trip.ok
    assert (trip.lost, trip.otlp_lost) == (3, 1)  # a row changed is one that is gone and one that is new
