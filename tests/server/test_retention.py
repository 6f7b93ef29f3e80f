"""Retention in control: what goes is told once in the change log, and the export comes first."""

from collections.abc import Callable
from pathlib import Path

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import Payload, SpanRecord
from pilothouse.domain.tasks import Tasks
from pilothouse.server.composition import Control, open_control
from pilothouse.server.datadir import DataDir
from pilothouse.server.verbs import retention, transfers
from pilothouse.store.state import changes
from pilothouse.telemetry import read
from pilothouse.telemetry.journal import Journal

DAY_US = 86_400_000_000
NOON_US = 20_000 * DAY_US + DAY_US // 2


async def opened(scripted_app: Callable[..., Path], tmp_path: Path, more: str) -> Control:
    app = scripted_app()
    file = app / "pilothouse.yaml"
    file.write_text(file.read_text() + more)
    data = DataDir(tmp_path / "data")
    data.make()
    journal = Journal(data.journal, "app-0", FrozenClock(NOON_US))
    for day in range(6):
        journal.write(
            SpanRecord(
                trace_id="a" * 32, span_id=f"{day:016x}", ts_us=NOON_US - day * DAY_US, duration_ms=1.0, name="s",
                payload=Payload(request=f"asked {day}", response=""),
            )
        )  # fmt: skip
    journal.close()
    return await open_control(app, data, FrozenClock(NOON_US), Tasks())


def told(control: Control) -> list[tuple[str, str]]:
    with control.state.read() as conn:
        found = [one.change for one in changes.find(conn) if one.change.action == "telemetry.remove"]
    return [(str(change.actor), change.object_id) for change in found]


def kept(control: Control) -> list[int]:
    return [day for day in range(6) if read.payload(control.telemetry, f"{'a' * 32}/{day:016x}")]


async def test_each_day_that_goes_is_told_once(scripted_app: Callable[..., Path], tmp_path: Path) -> None:
    control = await opened(scripted_app, tmp_path, "\nretention: {payloads: 3d, disk_cap: 5GB}\n")
    await retention.tidy(control)
    await retention.tidy(control)
    assert kept(control) == [0, 1, 2, 3]
    assert told(control) == [
        ("policy:retention", "payloads of 2024-09-29"), ("policy:retention", "payloads of 2024-09-30"),
    ]  # fmt: skip
    shown = await retention.apply(control)
    assert (shown["over_cap"], len(shown["removals"]), shown["rules"]["general"]["payloads"]) == (False, 2, 3)
    assert 0 < shown["usage"]["total"] < shown["usage"]["cap"] == 5 * 10**9
    await control.close()


async def test_a_run_that_was_cut_off_is_told_by_the_next(scripted_app: Callable[..., Path], tmp_path: Path) -> None:
    control = await opened(scripted_app, tmp_path, "\nretention: {payloads: 3d}\n")
    control.keeper.tidy()  # and a kill before anything was told
    assert told(control) == []
    await retention.tidy(control)
    assert len(told(control)) == 2
    await control.close()


async def test_days_are_exported_before_they_go(scripted_app: Callable[..., Path], tmp_path: Path) -> None:
    control = await opened(
        scripted_app, tmp_path, "\nretention: {payloads: 1d, spans: 1d, floor: 0d}\nexport: {to: ../out}\n"
    )
    assert isinstance(control.clock, FrozenClock)
    await transfers.nightly(control)  # of yesterday
    await retention.tidy(control)
    assert kept(control) == [0, 1]
    control.clock.advance(3 * 86_400)
    await retention.tidy(control)
    assert kept(control) == [0]  # it is old enough, and waits for its export
    await transfers.nightly(control)
    await retention.tidy(control)
    assert kept(control) == []
    await control.close()
