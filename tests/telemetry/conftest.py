"""Records, stores and journals for the tests of this room."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.ids import request_ids
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.record import Attempt, Payload, Record, Redaction, Tokens
from pilothouse.domain.wires import JournalLine
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.loader import Loader

NOW_US = 1_750_000_000_000_000


def make_record(**changes: Any) -> Record:
    """A plain successful request; `changes` replace its fields."""
    own, trace, span = request_ids(NOW_US)
    fields: dict[str, Any] = {
        "id": own,
        "ts_us": NOW_US,
        "trace_id": trace,
        "span_id": span,
        "env": "prod",
        "route": "docs-answer",
        "app": "docs",
        "tier": "high",
        "release": 3,
        "manifest": "a" * 64,
        "parts": {part: f"{number}" * 64 for number, part in enumerate(PARTS)},
        "worker": "edge-0",
        "key_id": "abcd1234",
        "requested_model": "docs-answer",
        "provider": "local",
        "served_model": "smollm2",
        "outcome": "success",
        "status": 200,
        "attempts": [
            Attempt(
                n=1,
                kind="primary",
                provider="local",
                model="smollm2",
                offset_ms=0.3,
                duration_ms=400.0,
                status=200,
                tokens=Tokens(input_uncached=100, output_text=50),
                cost_usd=0.001,
                delivered=True,
            )
        ],
        "stages": {"queue": 0.1, "preprocessing": 0.2, "model": 400.0, "postprocessing": 0.3},
        "duration_ms": 401.0,
        "tokens": Tokens(input_uncached=100, output_text=50),
        "cost_usd": 0.001,
        "redaction": Redaction(status="clean"),
        "log_mode": "redacted",
        "upstream_hash": "d" * 64,
        "preview_in": "question",
        "preview_out": "answer",
        "payload": Payload(request='{"messages":[]}', response="answer"),
    }
    return Record(**(fields | changes))


def emptied(store: TelemetryStore) -> TelemetryStore:
    """The same store without rows: opening one for each example of a property would take most of its time."""
    with store.transaction() as write:
        for table in (
            "requests",
            "attempts",
            "payloads",
            "spans",
            "scores",
            "losses",
            "rollup_minute",
            "rollup_hour",
            "rollup_call_minute",
            "rollup_call_hour",
            "entries",
            "marks",
            "load_positions",
        ):
            write.execute(f"DELETE FROM {table}")
    return store


@pytest.fixture
def empty(store: TelemetryStore) -> Callable[[], TelemetryStore]:
    return lambda: emptied(store)


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW_US)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TelemetryStore]:
    opened = TelemetryStore(tmp_path / "telemetry.duckdb")
    yield opened
    opened.close()


@pytest.fixture
def load(store: TelemetryStore, tmp_path: Path) -> Callable[..., None]:
    """Takes journal lines to the store the way they go in production: journal, then loader."""

    def through_the_journal(*lines: JournalLine) -> None:
        clock = FrozenClock(NOW_US)
        journal = Journal(tmp_path / "journal", "edge-0", clock, fsync="never", reserve_bytes=0)
        for line in lines:
            journal.write(line)
        journal.close()
        report = Loader(tmp_path / "journal", store, clock).load_once()
        assert (report.lines, report.torn) == (len(lines), 0)

    return through_the_journal
