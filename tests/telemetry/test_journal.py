"""The journal: every line kept or counted, whatever the disk does."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pilothouse.domain.clock import FrozenClock, SystemClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.record import LossRecord, Payload, Record, ScoreRecord, SpanRecord
from pilothouse.telemetry.journal import LINE_MAX, RESERVE_FILE, SEGMENT_S, Journal
from pilothouse.telemetry.segment_name import SegmentName


def segments(root: Path, worker: str = "edge-0") -> list[Path]:
    found = [(name, path) for path in (root / worker).iterdir() if (name := SegmentName.parse(path.name))]
    return [path for _, path in sorted(found)]


def written(root: Path) -> list[Record | SpanRecord | ScoreRecord | LossRecord]:
    types = {"request": Record, "span": SpanRecord, "score": ScoreRecord, "loss": LossRecord}
    lines = [line for path in segments(root) for line in path.read_bytes().splitlines()]
    return [msgspec.json.decode(line, type=types[msgspec.json.decode(line)["kind"]]) for line in lines]


def test_a_line_is_in_the_file_when_write_returns(
    tmp_path: Path, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    journal = Journal(tmp_path, "edge-0", clock, reserve_bytes=1 << 16)
    sent = [record(), ScoreRecord(id="s", ts_us=1, name="thumbs", value=1.0), record(preview_in="two\nlines \u2028 é")]
    for line in sent:
        journal.write(line)
        assert written(tmp_path)[-1] == line
    assert written(tmp_path) == sent
    assert journal.lines == 3
    assert not journal.lost
    journal.close()


def test_a_segment_is_named_after_its_start_process_and_number(
    tmp_path: Path, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    journals = [Journal(tmp_path, "edge-0", clock, fsync="never", reserve_bytes=0) for _ in range(2)]
    for journal in journals:  # two of one worker in one process and one moment
        journal.write(record())
        journal.close()
    names = [SegmentName.parse(path.name) for path in segments(tmp_path)]
    assert [(name.start_us, name.pid) for name in names if name] == [(clock.now_us(), os.getpid())] * 2
    assert len(written(tmp_path)) == 2


def test_segments_rotate_by_size_and_by_age(tmp_path: Path, clock: FrozenClock, record: Callable[..., Record]) -> None:
    journal = Journal(tmp_path, "edge-0", clock, fsync="never", segment_bytes=3_000, reserve_bytes=0)
    for _ in range(3):
        journal.write(record())
    by_size = len(segments(tmp_path))
    assert by_size > 1
    clock.advance(SEGMENT_S)
    journal.write(record())
    assert len(segments(tmp_path)) == by_size + 1
    assert len(written(tmp_path)) == 4
    assert all(path.stat().st_size <= 3_000 for path in segments(tmp_path))
    journal.close()


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_every_sync_policy_keeps_every_line(tmp_path: Path, record: Callable[..., Record], fsync: str) -> None:
    journal = Journal(tmp_path, "edge-0", SystemClock(), fsync=fsync, segment_bytes=20_000, reserve_bytes=0)  # type: ignore[arg-type]
    sent = [record() for _ in range(50)]
    for line in sent:
        journal.write(line)
    journal.close()
    assert written(tmp_path) == sent
    assert journal.fsync_failures == 0
    assert not (tmp_path / "edge-0" / RESERVE_FILE).exists()


def test_threads_share_a_journal(tmp_path: Path, record: Callable[..., Record]) -> None:
    journal = Journal(tmp_path, "edge-0", SystemClock(), segment_bytes=50_000, reserve_bytes=0)
    sent = [[record() for _ in range(100)] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine: [journal.write(line) for line in mine], args=[mine]) for mine in sent
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert sorted(line.id for line in written(tmp_path)) == sorted(line.id for mine in sent for line in mine)


def test_text_and_numbers_from_outside_never_cost_a_record(
    tmp_path: Path, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    journal = Journal(tmp_path, "edge-0", clock, fsync="never", reserve_bytes=0)
    journal.write(record(id="surrogate", preview_in="broken \ud83d emoji", labels={"\udc00": "x"}))
    journal.write(record(id="nan", duration_ms=float("nan")))
    journal.write(record(id="after"))
    journal.close()
    raw = [msgspec.json.decode(line) for path in segments(tmp_path) for line in path.read_bytes().splitlines()]
    assert [line["id"] for line in raw] == ["surrogate", "nan", "after"]
    assert raw[0]["preview_in"] == "broken ? emoji"
    assert raw[1]["duration_ms"] is None  # unknown, and not a number that poisons sums
    assert not journal.lost


def test_a_huge_payload_is_dropped_and_told(tmp_path: Path, clock: FrozenClock, record: Callable[..., Record]) -> None:
    journal = Journal(tmp_path, "edge-0", clock, fsync="never", reserve_bytes=0)
    journal.write(record(id="huge", payload=Payload(request="x" * (LINE_MAX + 1))))
    journal.write(SpanRecord(trace_id="t", span_id="s", ts_us=1, duration_ms=1, name="x" * (LINE_MAX + 1)))
    journal.close()
    kept, *losses = written(tmp_path)
    assert isinstance(kept, Record)
    assert (kept.id, kept.payload) == ("huge", None)
    assert {(loss.what, loss.count) for loss in losses if isinstance(loss, LossRecord)} == {("payload", 1), ("span", 1)}
    assert journal.lost == {"payload": 1, "span": 1}


def test_nearly_full_disk_drops_payloads_first_and_recovers(
    tmp_path: Path, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    free = [1 << 30]
    journal = Journal(tmp_path, "edge-0", clock, fsync="never", reserve_bytes=1 << 16, free_bytes=lambda _: free[0])
    journal.write(record(id="before"))
    free[0] = 1 << 10
    clock.advance(1)
    for number in range(3):
        journal.write(record(id=f"low-{number}"))
    free[0] = 1 << 30
    clock.advance(1)
    journal.write(record(id="after"))
    journal.close()
    lines = written(tmp_path)
    payloads = {line.id: line.payload is not None for line in lines if isinstance(line, Record)}
    assert payloads == {"before": True, "low-0": False, "low-1": False, "low-2": False, "after": True}
    told = [line for line in lines if isinstance(line, LossRecord)]
    assert [(loss.what, loss.count, loss.reason) for loss in told] == [("payload", 3, "disk nearly full")]
    assert journal.lost == {"payload": 3}


def test_lines_after_close_are_counted(tmp_path: Path, clock: FrozenClock, record: Callable[..., Record]) -> None:
    journal = Journal(tmp_path, "edge-0", clock, reserve_bytes=0)
    journal.close()
    journal.close()
    journal.write(record())
    journal.write(SpanRecord(trace_id="t", span_id="s", ts_us=1, duration_ms=1, name="n"))
    assert journal.lost == {"record": 1, "span": 1}


def test_a_journal_that_cannot_start_says_why(tmp_path: Path, clock: FrozenClock) -> None:
    (tmp_path / "edge-0").write_text("a file, not a directory")
    with pytest.raises(StoreError, match="cannot create the journal"):
        Journal(tmp_path, "edge-0", clock)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = tmp_path / "disk"
    mounted.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mounted], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode()}")
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def test_a_full_disk_costs_payloads_then_nothing_until_the_reserve_is_gone(
    small_disk: Path, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    journal = Journal(small_disk, "edge-0", clock, fsync="never", reserve_bytes=256 << 10)
    (small_disk / "others").write_bytes(b"x" * (1 << 20))  # somebody else fills most of it
    sent = 0
    while not journal.lost["record"]:
        clock.advance(0.01)
        journal.write(record(id=f"r{sent}", payload=Payload(request="p" * 2_000)))
        sent += 1
        assert sent < 5_000
    kept = [line for line in written(small_disk) if isinstance(line, Record)]
    assert len(kept) == sent - journal.lost["record"]
    bare = [line for line in kept if line.payload is None]
    assert len(bare) == journal.lost["payload"] - journal.lost["record"]
    assert len(bare) > 100  # the reserve kept the metadata of many requests
    assert (small_disk / "edge-0" / RESERVE_FILE).stat().st_size == 0

    for _ in range(10):
        journal.write(record())  # traffic goes on, every loss is counted
    lost = journal.lost["record"]
    assert lost >= 10
    (small_disk / "others").unlink()
    clock.advance(1)
    journal.write(record(id="back", payload=Payload(request="p")))
    clock.advance(1)
    journal.write(record(id="whole", payload=Payload(request="p")))
    journal.close()
    lines = written(small_disk)
    told = sum(line.count for line in lines if isinstance(line, LossRecord) and line.what == "record")
    assert told == lost == journal.lost["record"]
    assert [line.payload is not None for line in lines if isinstance(line, Record) and line.id == "whole"] == [True]


WRITER = """
import os, sys
from pathlib import Path
from pilothouse.domain.clock import SystemClock
from pilothouse.domain.record import LossRecord
from pilothouse.telemetry.journal import Journal
journal = Journal(Path(sys.argv[1]), "edge-0", SystemClock(), segment_bytes=4_000, reserve_bytes=0)
number = 0
while True:
    number += 1
    journal.write(LossRecord(ts_us=number, worker="w", what="span", count=1))
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.process
def test_kill_9_loses_no_line_that_was_acknowledged(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(500)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout if line.endswith(b"\n")]
    lines = [line for path in segments(tmp_path) for line in path.read_bytes().splitlines()]
    numbers = [msgspec.json.decode(line)["ts_us"] for line in lines]
    assert numbers[: len(acknowledged)] == acknowledged
    assert len(numbers) - len(acknowledged) <= 1


def test_a_segment_that_rests_is_closed_and_the_next_line_begins_another(
    tmp_path: Path, record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.telemetry.journal.REST_S", 0.05)
    journal = Journal(tmp_path, "edge-0", SystemClock(), reserve_bytes=0)
    for _ in range(2):
        journal.write(record())
        with segments(tmp_path)[-1].open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # waits for the writer to let it go
    journal.close()
    assert len(segments(tmp_path)) == 2
    assert len(written(tmp_path)) == 2
