"""Payloads in daily files: found by owner, neither lost nor doubled by a kill, small on disk."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.record import Payload, Record, SpanRecord
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import payloads, read, samples, transfer
from pilothouse.telemetry.payloads import DAY_US
from pilothouse.telemetry.roller import LATE_S, Roller

NOW_US = 1_750_000_000_000_000 // DAY_US * DAY_US + DAY_US // 2  # noon
LATER = FrozenClock(NOW_US + 5 * DAY_US)
WINDOW = (0, NOW_US + 9 * DAY_US)


def span(n: int, ts_us: int = NOW_US, route: str = "", env: str = "") -> SpanRecord:
    return SpanRecord(
        trace_id=f"{n:032x}", span_id=f"{n:016x}", ts_us=ts_us, duration_ms=1.0, name="chat", route=route, env=env,
        payload=Payload(request=f"asked {n}", response=f"answered “{n}”\n"),
    )  # fmt: skip


def owner(n: int) -> str:
    return f"{n:032x}/{n:016x}"


def hot(store: TelemetryStore) -> int:
    return int(store.rows("SELECT count(*) FROM payloads")[0][0])


def files(store: TelemetryStore) -> list[str]:
    root = payloads.folder(store)
    return sorted(path.name for path in root.iterdir()) if root and root.is_dir() else []


def every(store: TelemetryStore) -> list[tuple[object, ...]]:
    """All payloads, wherever they are."""
    with store.reading() as ask:
        rows = ask(f"SELECT * FROM {payloads.source(store, ask, *WINDOW)} ORDER BY ALL")
    return [tuple(row.values()) for row in rows]


def test_payloads_are_found_before_and_after_they_move(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    request = record(ts_us=NOW_US, payload=Payload(request="q'", response="", upstream="u"))
    load(request, span(0), *(span(n, NOW_US + n * DAY_US, "docs-answer", "prod") for n in (1, 2)))
    owners = [request.id, *(owner(n) for n in range(3)), "unknown", f"{9:032x}/{9:016x}"]
    before, rows = payloads.fetch(store, owners), every(store)
    assert before[request.id] == {"request": "q'", "response": "", "upstream": "u"}
    assert len(before) == 4

    rolled = Roller(store, LATER).roll()

    assert (rolled.rows, rolled.files, hot(store)) == (4, 4, 0)  # two routes on the first day
    assert payloads.fetch(store, owners) == before
    assert every(store) == rows
    assert read.payload(store, owner(2)) == before[owner(2)]
    assert read.payload(store, "unknown") is None
    assert {text.text for text in samples.stored_texts(store, "docs-answer", "prod")} >= {"asked 1", "q'"}
    assert Roller(store, LATER).roll().rows == 0


def test_today_stays_until_there_is_much_of_it(store: TelemetryStore, load: Callable[..., None]) -> None:
    load(*(span(n) for n in range(9)))
    today = FrozenClock(NOW_US)
    assert Roller(store, today, rows=10).roll().rows == 0
    load(span(9), span(10))
    rolled = Roller(store, today, rows=10).roll()
    assert (rolled.rows, rolled.files, hot(store)) == (10, 1, 1)
    assert len(payloads.fetch(store, [owner(n) for n in range(11)])) == 11


def test_a_roll_takes_no_more_text_than_it_may(store: TelemetryStore, load: Callable[..., None]) -> None:
    load(*(span(n) for n in range(6)))
    rolled = Roller(store, LATER, file_text=50).roll()  # two of 24 bytes each
    assert (rolled.rows, rolled.files) == (6, 3)
    one = Roller(store, LATER, file_text=1)
    load(*(span(n) for n in range(6, 8)))
    assert one.roll().files == 2  # one at least, however long


def test_what_comes_late_does_not_make_a_file_each_time(store: TelemetryStore, load: Callable[..., None]) -> None:
    clock = FrozenClock(NOW_US + 5 * DAY_US)
    roller = Roller(store, clock)
    for n in range(3):
        load(span(n))
        roller.roll()
    assert (len(files(store)), hot(store)) == (1, 2)
    clock.advance(LATE_S)
    roller.roll()
    assert (len(files(store)), hot(store)) == (2, 0)


@settings(max_examples=25, deadline=None)
@given(
    bodies=st.lists(
        st.tuples(st.text(max_size=40), st.text(max_size=40), st.integers(0, 2), st.sampled_from(["", "a", "b'"])),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_texts_are_as_they_were(
    bodies: list[tuple[str, str, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = TelemetryStore(tmp_path_factory.mktemp("store") / "telemetry.duckdb")
    with store.transaction() as write:
        for n, (request, response, day, route) in enumerate(bodies):
            ts_us = NOW_US + day * DAY_US
            trace, own = owner(n).split("/")
            write.execute(
                "INSERT INTO spans (trace_id, span_id, ts, route) VALUES (?, ?, make_timestamp(?::BIGINT), ?)",
                [trace, own, ts_us, route],
            )
            write.execute(
                "INSERT INTO payloads VALUES (?, make_timestamp(?::BIGINT), ?, ?, NULL)",
                [owner(n), ts_us, request, response],
            )
    before = every(store)
    assert Roller(store, LATER, rows=7).roll().rows == len(bodies)
    assert every(store) == before
    found = payloads.fetch(store, [owner(n) for n in range(len(bodies))])
    assert [(found[owner(n)]["request"], found[owner(n)]["response"]) for n in range(len(bodies))] == [
        (request, response) for request, response, _, _ in bodies
    ]
    store.close()


# A child that rolls, and is killed at the n-th time that it hands something to the disk, renames, or is about to
# commit what it did; at 0 it is not.
CHILD = """
import os, signal, sys
from pathlib import Path
from pilothouse.domain.clock import FrozenClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.roller import Roller

path, at, now_us = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
left = at

def deadly(work):
    def call(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*given, **named)
    return call

store = TelemetryStore(path)
roller = Roller(store, FrozenClock(now_us))
os.fsync, Path.replace, Path.stat = deadly(os.fsync), deadly(Path.replace), deadly(Path.stat)
roller.roll()
os.kill(os.getpid(), signal.SIGKILL)  # committed, never closed
"""


def test_a_kill_at_any_point_loses_and_doubles_nothing(
    store: TelemetryStore, load: Callable[..., None], tmp_path: Path
) -> None:
    load(*(span(n, NOW_US + n % 2 * DAY_US, "ab"[n % 2]) for n in range(30)))
    before = every(store)
    store.checkpoint()
    path = tmp_path / "child" / "telemetry.duckdb"
    path.parent.mkdir()
    shutil.copy(tmp_path / "telemetry.duckdb", path)
    moved = set()
    for at in (*range(1, 13), 0):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), str(at), str(LATER.now_us())], check=False, env={**os.environ}
        )
        assert done.returncode == -signal.SIGKILL
        again = TelemetryStore(path)
        Roller(again, LATER)  # as control does at its start
        assert every(again) == before, at
        assert len(payloads.fetch(again, [owner(n) for n in range(30)])) == 30
        listed = [name for (name,) in again.rows("SELECT file FROM payload_files ORDER BY 1")]
        assert files(again) == listed, "litter is gone, what is listed is there"
        moved.add(30 - hot(again))
        again.close()
    assert 30 in moved  # the last ones came through


def test_a_folder_that_cannot_be_written_leaves_payloads_in_the_store(
    store: TelemetryStore, load: Callable[..., None], tmp_path: Path
) -> None:
    load(*(span(n) for n in range(3)))
    (tmp_path / "payloads").write_text("no folder")
    roller = Roller(store, LATER)
    with pytest.raises(StoreError, match="cannot be moved"):
        roller.roll()
    assert (hot(store), store.rows("SELECT count(*) FROM payload_files")) == (3, [(0,)])
    (tmp_path / "payloads").unlink()
    assert Roller(store, LATER).roll().rows == 3


def test_exports_hold_what_has_moved_and_imports_know_it(
    store: TelemetryStore, load: Callable[..., None], tmp_path: Path
) -> None:
    load(*(span(n, NOW_US + n % 3 * DAY_US) for n in range(9)))
    Roller(store, LATER).roll()
    load(span(10))
    place = str(tmp_path / "out")
    made = transfer.export(store, place, WINDOW, LATER)
    assert made.rows["payloads"] == 10
    part = transfer.export(store, str(tmp_path / "part"), WINDOW, LATER, traces=[f"{4:032x}"])
    assert part.rows["payloads"] == 1
    noon = transfer.export(store, str(tmp_path / "noon"), (NOW_US + 1, NOW_US + DAY_US), LATER)
    assert noon.rows["payloads"] == 0
    assert sum(transfer.import_(store, place).added.values()) == 0
    other = TelemetryStore(":memory:")
    transfer.import_(other, place)
    assert every(other) == every(store)


def test_files_take_a_fraction_of_the_text(store: TelemetryStore, load: Callable[..., None]) -> None:
    words = [f"word{n * 7919 % 997}" for n in range(400)]
    text = " ".join(words)
    load(*(
        SpanRecord(trace_id=f"{n:032x}", span_id=f"{n:016x}", ts_us=NOW_US, duration_ms=1.0, name="chat",
                   payload=Payload(request=f"{n} {text[n:]}", response=text[: 40 + n]))
        for n in range(200)
    ))  # fmt: skip
    written = sum(len(f"{n} {text[n:]}") + 40 + n for n in range(200))
    rolled = Roller(store, LATER).roll()
    assert rolled.bytes < written / 4
