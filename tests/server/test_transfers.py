"""The nightly export: each day once, also those that were missed."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.record import SpanRecord
from pilothouse.domain.tasks import Tasks
from pilothouse.server.composition import Control, open_control
from pilothouse.server.datadir import DataDir
from pilothouse.server.verbs import transfers
from pilothouse.store.state import changes
from pilothouse.telemetry.journal import Journal

DAY_US = 86_400_000_000
NOON_US = 20_000 * DAY_US + DAY_US // 2


@pytest.fixture
async def control(scripted_app: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Control]:
    app = scripted_app()
    file = app / "pilothouse.yaml"
    file.write_text(file.read_text() + "\nexport: {to: ../out, format: jsonl}\n")
    opened = await open_control(app, DataDir(tmp_path / "data"), FrozenClock(NOON_US), Tasks())
    yield opened
    await opened.close()


def happened(control: Control, ts_us: int) -> None:
    journal = Journal(control.data.journal, f"app-{ts_us}", control.clock)
    journal.write(SpanRecord(trace_id="a" * 32, span_id=f"{ts_us:016x}", ts_us=ts_us, duration_ms=1.0, name="s"))
    journal.close()


def exported(control: Control) -> list[list[int]]:
    """Spans' start times in each export so far."""
    assert control.config.export is not None
    folder = Path(control.config.export.to)
    found = []
    for path in sorted(folder.glob("export-*.json"), key=lambda path: path.stat().st_mtime_ns):
        files = [folder / file["path"] for file in json.loads(path.read_bytes())["files"] if file["table"] == "spans"]
        found.append([int(json.loads(line)["span_id"], 16) for file in files for line in file.read_text().splitlines()])
    return found


async def test_each_day_is_exported_once_it_is_over(control: Control) -> None:
    yesterday, today = NOON_US - DAY_US, NOON_US
    for ts_us in (yesterday - DAY_US, yesterday, today):
        happened(control, ts_us)
    await transfers.nightly(control)
    await transfers.nightly(control)
    assert exported(control) == [[yesterday]]
    assert isinstance(control.clock, FrozenClock)
    control.clock.advance(3 * 86_400)
    happened(control, today + DAY_US)
    happened(control, today + 3 * DAY_US)
    await transfers.nightly(control)
    assert exported(control)[1:] == [[today, today + DAY_US]]
    with control.state.read() as conn:
        notes = [one.change for one in changes.find(conn) if one.change.action == "telemetry.export"]
    assert [str(note.actor) for note in notes] == ["policy:nightly export"] * 2


async def test_a_place_that_cannot_be_read_stops_it(control: Control) -> None:
    (control.data.path / transfers.EXPORTED).write_text("?")
    with pytest.raises(StoreError, match="how far the nightly export"):
        await transfers.nightly(control)
    assert exported(control) == []
