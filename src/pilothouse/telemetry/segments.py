"""What of the journal is still to be loaded: slices of complete lines, from the byte where the last load ended."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pilothouse.telemetry.segment_name import SegmentName


class Position(msgspec.Struct):
    """How far a segment is loaded. `done`: its writer is gone and nothing of it is left to load."""

    loaded_bytes: int = 0
    lines: int = 0
    torn: int = 0
    done: bool = False


class Segment(msgspec.Struct, frozen=True):
    """A segment file; `key` is `worker/file`, its name in `load_positions`."""

    key: str
    worker: str
    path: Path
    name: SegmentName


class Slice(msgspec.Struct):
    """Bytes [start, end) of a segment: complete lines, then perhaps a `torn` tail that its writer never finished."""

    segment: Segment
    start: int
    end: int
    data: bytes  # the complete lines
    torn: bytes = b""
    done: bool = False


def segments(root: Path) -> Iterator[Segment]:
    """All segments below the journal's root, each worker's in the order of writing."""
    try:
        workers = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except FileNotFoundError:
        return
    for worker in workers:
        named = ((SegmentName.parse(entry.name), entry.name) for entry in os.scandir(root / worker))
        for name, file in sorted((name, file) for name, file in named if name is not None):
            yield Segment(key=f"{worker}/{file}", worker=worker, path=root / worker / file, name=name)


def take(segment: Segment, start: int, limit: int) -> Slice | None:
    """The complete lines of `segment` from byte `start`, at most `limit` bytes; None where nothing is new.

    A writer holds a lock on its segment until it has closed it, so a segment whose lock is free has had its last byte:
    what follows its last newline is torn. A line longer than `limit` is taken as torn too, in pieces.
    """
    try:
        fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        finished = _lock_is_free(fd)  # before the size is read: nothing is written after the lock is free
        size = os.fstat(fd).st_size
        data = _read(fd, start, min(size - start, limit))
    finally:
        os.close(fd)
    end = data.rfind(b"\n") + 1
    whole = start + len(data) >= size
    torn = data[end:] if (finished and whole) or (end == 0 and len(data) >= limit) else b""
    done = finished and whole
    if not end and not torn and not done:
        return None
    return Slice(segment, start, start + end + len(torn), data[:end], torn, done)


def _read(fd: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(fd, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _lock_is_free(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
