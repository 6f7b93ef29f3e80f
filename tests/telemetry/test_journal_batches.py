"""Batches of lines in the journal: one call to the kernel, the same lines, and every loss counted."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.record import Payload, SpanRecord
from pilothouse.telemetry import journal as module
from pilothouse.telemetry.journal import Journal


def span(n: int, text: str = "", **more: Any) -> SpanRecord:
    payload = Payload(request=text) if text else None
    return SpanRecord(
        trace_id="01" * 16, span_id=f"{n + 1:016x}", ts_us=1, duration_ms=1.0, name=f"s{n}", payload=payload, **more
    )


def read(journal: Journal, kind: str = "span") -> list[Any]:
    lines = [line for file in sorted(journal.dir.glob("*.ndjson")) for line in file.read_bytes().split(b"\n") if line]
    return [found for line in lines if (found := msgspec.json.decode(line))["kind"] == kind]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Journal]:
    return lambda **more: Journal(tmp_path, "ingest-0", SystemClock(), **{"reserve_bytes": 1 << 20, **more})


def test_a_batch_is_the_same_lines_in_fewer_calls(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    synced: list[int] = []
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: calls.append(len(data)) or real(fd, data))
    monkeypatch.setattr(module.os, "fdatasync", synced.append)
    journal = opened(fsync="always")
    batch = [span(n) for n in range(500)]
    assert journal.write_all(batch) == 0
    assert (len(calls), len(synced)) == (1, 1)
    assert [msgspec.convert(line, SpanRecord) for line in read(journal)] == batch
    assert journal.lines == 500
    journal.close()


def test_a_big_batch_is_handed_over_in_pieces(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: sizes.append(len(data)) or real(fd, data))
    journal = opened()
    journal.write_all([span(n, "x" * 300_000) for n in range(20)])
    assert len(sizes) > 4
    assert max(sizes) < 2 << 20
    assert len(read(journal)) == 20
    journal.close()


def test_a_segment_is_not_overfilled_by_batches(opened: Any) -> None:
    journal = opened(segment_bytes=64 << 10)
    for _ in range(10):
        journal.write_all([span(n, "x" * 500) for n in range(50)])
    assert max(file.stat().st_size for file in journal.dir.glob("*.ndjson")) <= 64 << 10
    assert len(read(journal)) == 500
    journal.close()


def test_one_line_that_is_too_long_costs_its_payload_alone(opened: Any) -> None:
    journal = opened()
    assert journal.write_all([span(0, "a"), span(1, "x" * (9 << 20)), span(2, "c")]) == 0
    assert [(line["name"], bool(line.get("payload"))) for line in read(journal)] == [
        ("s0", True), ("s1", False), ("s2", True),
    ]  # fmt: skip
    assert journal.lost == {"payload": 1}
    journal.close()


def test_values_that_json_cannot_hold_are_mended(opened: Any) -> None:
    journal = opened()
    assert journal.write_all([span(0), span(1, env="a\ud800b"), span(2)]) == 0
    assert [line["env"] for line in read(journal)] == ["", "a?b", ""]
    journal.close()


def test_a_disk_that_refuses_loses_lines_one_by_one_and_counts_them(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(reserve_bytes=0)
    assert journal.write_all([span(0)]) == 0
    real = os.write

    def full(fd: int, data: Any) -> int:
        if b'"s3"' in data:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    monkeypatch.setattr(module.os, "write", full)
    assert journal.write_all([span(n) for n in range(1, 6)]) == 1
    assert [line["name"] for line in read(journal)] == ["s0", "s1", "s2", "s4", "s5"]
    journal.close()
    assert [(line["what"], line["count"]) for line in read(journal, "loss")] == [("span", 1)]
    assert journal.write_all([span(7)]) == 1  # closed
