"""Export to files and import from them: nothing lost, nothing doubled, nothing taken that was not written."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import BadRequest
from pilothouse.domain.record import (
    Document,
    EventRecord,
    LossRecord,
    MetricRecord,
    Payload,
    Record,
    ScoreRecord,
    SpanEvent,
    SpanRecord,
    Tokens,
)
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import transfer
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.transfer import IDENTITY, Format

DAY_US = 86_400_000_000
NOW_US = 1_750_000_000_000_000


def span(n: int, ts_us: int = NOW_US) -> SpanRecord:
    return SpanRecord(
        trace_id="a" * 32, span_id=f"{n:016x}", ts_us=ts_us, duration_ms=1.5, name="chat “it's”", operation="chat",
        tokens=Tokens(input_uncached=7, output_text=3), attributes={"k\n": "v", "": "€"}, cost_usd=1e-7,
        events=[SpanEvent(name="exception", offset_ms=0.1, attributes={"a": "b"})],
        documents=[Document(id="d", score=0.25)], payload=Payload(request="q" * n, response='{"a": "b"}'),
    )  # fmt: skip


@pytest.fixture
def filled(tmp_path: Path, record: Callable[..., Record]) -> TelemetryStore:
    """A store with rows of every table over two days."""
    clock = FrozenClock(NOW_US)
    journal = Journal(tmp_path / "journal", "edge-0", clock)
    for n in range(20):
        journal.write(record(ts_us=NOW_US + n * DAY_US // 10, payload=Payload(request=f"hi {n}", response="yes")))
        journal.write(span(n, NOW_US + n * DAY_US // 10))
    journal.write(EventRecord(ts_us=NOW_US, trace_id="a" * 32, span_id="1" * 16, name="gen_ai.choice", body="{}"))
    point = MetricRecord(ts_us=NOW_US, name="m", type="histogram", bounds=[1.0], counts=[1, 2], count=3, value=4.5)
    for line in (point, point, ScoreRecord(id="s1", ts_us=NOW_US, name="helpful", value=1.0), ScoreRecord(
        id="s2", ts_us=NOW_US, name="helpful", value=0.0, span_id="1" * 16
    ), LossRecord(ts_us=NOW_US, worker="w", what="span", count=2)):  # fmt: skip
        journal.write(line)
    journal.close()
    store = TelemetryStore(tmp_path / "telemetry.duckdb")
    Loader(tmp_path / "journal", store, clock).load_once()
    return store


def rows(store: TelemetryStore, table: str) -> list[str]:
    return sorted(map(repr, store.query(f"SELECT * FROM {table}")))


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_what_is_exported_comes_back_whole(filled: TelemetryStore, tmp_path: Path, format_: Format) -> None:
    steps: list[tuple[int, int]] = []
    made = transfer.export(
        filled, str(tmp_path / "out it's"), (0, NOW_US + 9 * DAY_US), FrozenClock(NOW_US), format=format_,
        progress=lambda done, of: steps.append((done, of)),
    )  # fmt: skip
    other = TelemetryStore(":memory:")
    done = transfer.import_(other, str(tmp_path / "out it's"))
    assert done.added == made.rows
    assert {table for table, n in made.rows.items() if n} == set(IDENTITY)
    for table in IDENTITY:
        assert rows(other, table) == rows(filled, table), table
    sums = "SELECT sum(requests), sum(cost_usd) FROM rollup_minute"
    assert other.rows(sums) == filled.rows(sums)
    assert steps[-1][0] == steps[-1][1] == len(steps)
    again = transfer.import_(other, str(tmp_path / "out it's"))
    assert sum(again.added.values()) == 0
    assert again.known == made.rows
    assert other.rows(sums) == filled.rows(sums)


def test_windows_meet_without_gap_or_overlap(filled: TelemetryStore, tmp_path: Path) -> None:
    clock = FrozenClock(NOW_US)
    cut = NOW_US + 7 * DAY_US // 10
    first = transfer.export(filled, str(tmp_path / "out"), (0, cut), clock)
    second = transfer.export(filled, str(tmp_path / "out"), (cut, NOW_US + 9 * DAY_US), clock)
    assert (first.rows["requests"], second.rows["requests"]) == (7, 13)
    other = TelemetryStore(":memory:")
    assert transfer.import_(other, str(tmp_path / "out")).added["requests"] == 20
    assert rows(other, "spans") == rows(filled, "spans")


def test_an_export_that_did_not_end_is_not_taken(filled: TelemetryStore, tmp_path: Path) -> None:
    made = transfer.export(filled, str(tmp_path), (0, NOW_US + 9 * DAY_US), FrozenClock(NOW_US))
    (tmp_path / f"export-{made.id}.json").unlink()
    with pytest.raises(BadRequest, match="no finished export"):
        transfer.import_(TelemetryStore(":memory:"), str(tmp_path))


def test_a_file_that_was_changed_is_refused_before_anything_is_taken(filled: TelemetryStore, tmp_path: Path) -> None:
    made = transfer.export(filled, str(tmp_path), (0, NOW_US + 9 * DAY_US), FrozenClock(NOW_US))
    victim = tmp_path / made.files[-1].path
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    other = TelemetryStore(":memory:")
    with pytest.raises(BadRequest, match="not as it was exported"):
        transfer.import_(other, str(tmp_path))
    victim.unlink()
    with pytest.raises(BadRequest, match="missing"):
        transfer.import_(other, str(tmp_path))
    assert other.rows("SELECT count(*) FROM requests") == [(0,)]


@pytest.mark.parametrize("path", ["../secret.parquet", "/etc/passwd", "requests/../../x"])
def test_a_list_names_no_files_outside(filled: TelemetryStore, tmp_path: Path, path: str) -> None:
    made = transfer.export(filled, str(tmp_path), (0, NOW_US + 9 * DAY_US), FrozenClock(NOW_US))
    forged = msgspec.structs.replace(made, files=[msgspec.structs.replace(made.files[0], path=path)])
    (tmp_path / f"export-{made.id}.json").write_bytes(msgspec.json.encode(forged))
    with pytest.raises(BadRequest, match="no export has"):
        transfer.import_(TelemetryStore(":memory:"), str(tmp_path))


def test_a_window_without_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no time between"):
        transfer.export(TelemetryStore(":memory:"), str(tmp_path), (5, 5), FrozenClock(NOW_US))


def test_files_elsewhere_go_through_fsspec(filled: TelemetryStore, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    place = "memory://bucket/exports"
    made = transfer.export(filled, place, (0, NOW_US + 9 * DAY_US), FrozenClock(NOW_US))
    other = TelemetryStore(":memory:")
    assert transfer.import_(other, place).added == made.rows
    for table in IDENTITY:
        assert rows(other, table) == rows(filled, table), table
