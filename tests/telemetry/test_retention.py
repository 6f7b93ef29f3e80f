"""Retention: whole days leave by class and route, never under the floor; the cap takes the oldest payloads first."""

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse.config.retention import Keep, RetentionConfig
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.record import Attempt, EventRecord, MetricRecord, Payload, Record, ScoreRecord, SpanRecord
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import payloads, read, retention
from pilothouse.telemetry.payloads import DAY_US
from pilothouse.telemetry.retention import Keeper

TODAY = 20_254  # days since 1970
NOW_US = TODAY * DAY_US + DAY_US // 2
DAYS = 10
TEXT = "the quick brown fox 0123456789 " * 40


@pytest.fixture
def keeper(store: TelemetryStore, tmp_path: Path) -> Callable[..., Keeper]:
    def made(**config: Any) -> Keeper:
        return Keeper(store, tmp_path / "journal", FrozenClock(NOW_US), lambda: RetentionConfig(**config))

    return made


@pytest.fixture
def filled(store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]) -> TelemetryStore:
    """Of each of ten days, for the routes a and b: a request with an attempt and a score, a span with an event, each
    with payloads; and a metric.
    """
    lines: list[Any] = []
    for day in range(DAYS):
        ts_us = NOW_US - day * DAY_US
        lines.append(MetricRecord(ts_us=ts_us, name="m", type="gauge", value=1.0))
        for n, route in enumerate("ab"):
            body = Payload(request=f"{day} {route} {TEXT}", response=TEXT)
            attempt = Attempt(n=1, kind="primary", provider="p", model="m", offset_ms=0.0, duration_ms=1.0)
            made = record(ts_us=ts_us, route=route, attempts=[attempt], payload=body)
            trace = f"{day:016x}{n:016x}"
            lines += [
                made,
                ScoreRecord(id=f"{trace}s", ts_us=ts_us, request_id=made.id, route=route, name="ok", value=1.0),
                SpanRecord(
                    trace_id=trace, span_id="1" * 16, ts_us=ts_us, duration_ms=1.0, name="s", route=route, payload=body
                ),
                EventRecord(ts_us=ts_us, trace_id=trace, span_id="1" * 16, name="gen_ai.choice", body="{}"),
            ]
    load(*lines)
    return store


def left(store: TelemetryStore, table: str, route: str = "") -> set[int]:
    """Ages in days of what is still in a table."""
    where = f"WHERE route = '{route}'" if route else ""
    rows = store.rows(f"SELECT epoch_us(ts) // {DAY_US} FROM {table} {where}")
    return {TODAY - day for (day,) in rows}


def bodies(store: TelemetryStore, route: str) -> set[int]:
    """Ages in days of the spans of a route whose payload can be opened."""
    rows = store.rows(
        f"SELECT trace_id || '/' || span_id, epoch_us(ts) // {DAY_US} FROM spans WHERE route = ?", [route]
    )
    return {TODAY - day for owner, day in rows if read.payload(store, owner)}


def test_nothing_is_removed_unless_it_is_asked_for(filled: TelemetryStore, keeper: Callable[..., Keeper]) -> None:
    assert keeper().tidy() == []
    assert left(filled, "requests") == left(filled, "spans") == bodies(filled, "a") == set(range(DAYS))
    assert left(filled, "payloads") == {0}  # all others are in files


def test_each_class_and_route_has_its_time(filled: TelemetryStore, keeper: Callable[..., Keeper]) -> None:
    keep = keeper(
        general=Keep(payloads=3, spans=6, requests=8, floor=2),
        routes={"b": Keep(payloads=1, spans=2, requests=8, floor=2)},
        metrics=4,
        rollups=5,
    )
    gone = keep.tidy()
    assert (bodies(filled, "a"), bodies(filled, "b")) == (set(range(4)), set(range(2)))
    assert (left(filled, "spans", "a"), left(filled, "spans", "b")) == (set(range(7)), set(range(3)))
    for table in ("requests", "attempts", "scores"):
        assert left(filled, table, "a") == left(filled, table, "b") == set(range(9))
    events = filled.rows(
        f"SELECT right(trace_id, 1), max({TODAY} - epoch_us(ts) // {DAY_US}) FROM span_events GROUP BY 1"
    )
    assert dict(events) == {"0": 6, "1": 2}
    assert left(filled, "app_metrics") == set(range(5))
    assert filled.rows(f"SELECT min(epoch_us(minute) // {DAY_US}) FROM rollup_minute") == [(TODAY - 5,)]
    assert {(one.what, one.route, one.count) for one in gone if one.day == "2025-06-06"} == {
        ("payloads", "*", 2), ("payloads", "b", 2), ("spans", "*", 1), ("spans", "b", 1), ("requests", "*", 2),
        ("metrics", "*", 1), ("rollups", "*", 2),
    }  # fmt: skip
    assert filled.rows("SELECT count(*) FROM losses") == [(0,)]  # what was wanted is no loss


def test_a_removal_is_written_down_once(filled: TelemetryStore, keeper: Callable[..., Keeper]) -> None:
    keep = keeper(general=Keep(payloads=3))
    gone = keep.tidy()
    assert [one.day for one in gone] == [f"2025-06-0{n}" for n in range(6, 10)] + ["2025-06-10", "2025-06-11"]
    assert keep.removals(untold=True) == gone
    assert sum(one.bytes for one in gone) > 0
    assert keep.tidy() == []
    for one in gone[:4]:
        keep.told(one)
    assert keeper().removals(untold=True) == gone[4:]
    assert len(keep.removals()) == 6


def test_payloads_go_with_the_last_rows_that_lead_to_them(
    filled: TelemetryStore, keeper: Callable[..., Keeper]
) -> None:
    keeper(general=Keep(spans=4, requests=2, floor=0)).tidy()
    with filled.reading() as ask:
        rows = ask(f"SELECT DISTINCT epoch_us(ts) // {DAY_US} AS day FROM {payloads.source(filled, ask, 0, 2**60)}")
    assert {TODAY - row["day"] for row in rows} == set(range(5))


def test_what_waits_for_its_export_stays(filled: TelemetryStore, keeper: Callable[..., Keeper]) -> None:
    keep = keeper(general=Keep(payloads=2, spans=2, requests=2, floor=2))
    keep.tidy(exported_us=(TODAY - 6) * DAY_US)
    assert left(filled, "requests") == bodies(filled, "a") == set(range(7))
    keep.tidy(exported_us=TODAY * DAY_US)
    assert left(filled, "requests") == set(range(3))


def test_files_of_removed_days_are_gone(filled: TelemetryStore, keeper: Callable[..., Keeper]) -> None:
    root = payloads.folder(filled)
    assert root is not None
    keeper(general=Keep(payloads=2)).tidy()
    assert {path.name[:10] for path in root.glob("*.parquet")} == {"2025-06-14", "2025-06-13"}


def test_the_cap_takes_the_oldest_payloads_first(
    store: TelemetryStore, load: Callable[..., None], keeper: Callable[..., Keeper]
) -> None:
    load(*(
        SpanRecord(trace_id=f"{day:032x}", span_id="1" * 16, ts_us=NOW_US - day * DAY_US, duration_ms=1.0, name="s",
                   payload=Payload(request=random.Random(day).randbytes(2 << 20).hex(), response=""))
        for day in range(8)
    ))  # fmt: skip
    keeper().tidy()  # into files
    store.rewrite()
    usage = keeper().usage()
    per_day = usage.payloads // 8
    keep = keeper(disk_cap=usage.total - 3 * per_day + per_day // 2)
    gone = keep.tidy()
    assert [(one.what, one.day, one.reason) for one in gone] == [
        ("payloads", f"2025-06-{n:02}", "disk cap") for n in (8, 9, 10)
    ]
    assert left(store, "spans") == set(range(8))
    assert bodies(store, "") == set(range(5))
    assert not keep.over
    assert store.rows("SELECT what, sum(count)::INT, any_value(reason) FROM losses GROUP BY 1") == [
        ("payload", 3, "disk cap")
    ]
    assert keep.tidy() == []


def test_then_rows_go_but_never_under_the_floor(filled: TelemetryStore, keeper: Callable[..., Keeper]) -> None:
    keep = keeper(general=Keep(floor=4), routes={"b": Keep(floor=7)}, disk_cap=1)  # nothing is small enough
    gone = keep.tidy()
    assert keep.tidy() == []
    assert keep.over
    order = [one.what for one in gone]
    assert order == sorted(order, key=["payloads", "metrics", "spans", "requests"].index)
    for table in ("spans", "requests", "attempts", "scores"):
        assert left(filled, table, "a") == set(range(5)), table
        assert left(filled, table, "b") == set(range(8)), table
    assert left(filled, "app_metrics") == {0}
    assert left(filled, "payloads") == {0}
    assert filled.rows("SELECT count(*) FROM rollup_minute")[0][0] > 0


def test_the_file_is_smaller_when_the_cap_has_taken_rows(store: TelemetryStore, keeper: Callable[..., Keeper]) -> None:
    with store.transaction() as write:
        write.execute(
            "INSERT INTO spans (trace_id, span_id, ts, name) SELECT md5(i::VARCHAR), left(md5(i::VARCHAR), 16), "
            f"make_timestamp({NOW_US} - (i // 2000) * {DAY_US}), repeat(md5((i * 7)::VARCHAR), 8) "
            "FROM range(80000) t(i)"
        )
    store.checkpoint()
    path = Path(store.path)
    before = path.stat().st_size
    keep = keeper(general=Keep(floor=3), disk_cap=before // 2)
    gone = keep.tidy()
    while more := keep.tidy():
        gone += more
    assert 15 < len(gone) < 30
    assert path.stat().st_size < before * 0.6
    assert left(store, "spans") >= set(range(4))
    assert not keep.over


def test_on_a_full_disk_there_is_room_left_to_remove_something(
    filled: TelemetryStore, keeper: Callable[..., Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper().tidy()
    root = payloads.folder(filled)
    assert root is not None
    room = root / retention.ROOM_FILE
    assert room.stat().st_size == retention.ROOM
    whole = filled.transaction

    def transaction() -> Any:
        if room.exists():
            raise StoreError("no space left on device")
        return whole()

    monkeypatch.setattr(filled, "transaction", transaction)
    assert len(keeper(general=Keep(payloads=3)).tidy()) == 6
    assert room.exists(), "kept again when there is space"
    monkeypatch.setattr(retention, "disk_free", lambda _path: 0)
    assert len(keeper(general=Keep(payloads=2)).tidy()) == 1
    assert not room.exists()
    with pytest.raises(StoreError):
        monkeypatch.setattr(filled, "transaction", lambda: (_ for _ in ()).throw(StoreError("no space")))
        keeper(general=Keep(payloads=1)).tidy()


# Keeps payloads of three days, and is killed at the n-th deletion of a file, or before the commit of the n-th removal.
CHILD = """
import os, signal, sys
from pathlib import Path
from pilothouse.config.retention import Keep, RetentionConfig
from pilothouse.domain.clock import FrozenClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import retention

path, what, left, now_us = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def deadly(work):
    def call(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*given, **named)
    return call

store = TelemetryStore(path)
config = RetentionConfig(general=Keep(payloads=3))
keeper = retention.Keeper(store, path.parent / "journal", FrozenClock(now_us), lambda: config)
if what == "unlink":
    Path.unlink = deadly(Path.unlink)
else:
    retention._list_off = deadly(retention._list_off)
keeper.tidy()
"""


def test_a_kill_amid_removals_is_made_good_by_the_next_run(
    filled: TelemetryStore, keeper: Callable[..., Keeper], tmp_path: Path
) -> None:
    keeper().tidy()
    filled.checkpoint()
    for what, at in (("unlink", 1), ("unlink", 4), ("list", 2), ("list", 6)):
        place = tmp_path / f"{what}{at}"
        shutil.copytree(tmp_path / "payloads", place / "payloads")
        shutil.copy(filled.path, place / "telemetry.duckdb")
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(place / "telemetry.duckdb"), what, str(at), str(NOW_US)], check=False
        )
        assert done.returncode == -signal.SIGKILL
        again = TelemetryStore(place / "telemetry.duckdb")
        config = RetentionConfig(general=Keep(payloads=3))
        keep = Keeper(again, place / "journal", FrozenClock(NOW_US), lambda config=config: config)  # type: ignore[misc]
        keep.tidy()
        assert bodies(again, "a") == set(range(4))
        assert [one.day[-2:] for one in keep.removals(untold=True)] == ["06", "07", "08", "09", "10", "11"]
        listed = {name for (name,) in again.rows("SELECT file FROM payload_files")}
        assert {file.name for file in (place / "payloads").glob("*.parquet*")} == listed
        again.close()
