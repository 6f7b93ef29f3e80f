"""The journal: append-only segments of newline-delimited JSON, one directory per worker.

One line per event, handed to the kernel when `write` returns, so that a killed process loses nothing it answered.
A segment is named `<start_us>-<pid>-<seq>.ndjson`; the loader reads complete lines from it while it grows, and knows
that it is finished when its writer's lock is gone.

A full disk never reaches the request path. In order: payloads are dropped (the record stays), metadata is written
into space that a reserve file has kept, and only then are lines lost; every loss is counted and told in a
`LossRecord` as soon as one can be written.
"""

import fcntl
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.record import EventRecord, LossRecord, MetricRecord, Record, SpanRecord
from pilothouse.domain.wires import JournalLine
from pilothouse.telemetry.mended import mended
from pilothouse.telemetry.segment_name import SegmentName

Fsync = Literal["always", "interval", "never"]
RESERVE_FILE = ".reserve"
SEGMENT_S = 60.0  # a segment older than this is closed at the next line
REST_S = 15.0  # at `interval`: a segment that gets no line for so long is closed, so that it can go once it is loaded
FSYNC_S = 0.2
CHECK_LINES = 64  # how often free space is looked at: the sooner of lines and seconds
CHECK_S = 0.1
CHUNK = 1 << 20  # bytes of a batch that are handed over at once
LINE_MAX = 8 << 20  # bytes; half of what one JSON object may take in the telemetry store's reader
_LONG, _FULL, _NEARLY = "line longer than 8 MiB", "disk full", "disk nearly full"  # reasons of losses
_sequence = itertools.count(1)  # of the process: two journals of one worker never share a segment's name
_CREATE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def disk_free(path: Path) -> int:
    """Bytes that an ordinary user may still write on `path`'s file system."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


class Journal:
    """One worker's journal; `write` is the sink wire. Safe to call from several threads.

    `fsync`: `always` after each line, `interval` every 200 ms from a thread of its own, `never` leaves it to the
    kernel. Under `reserve_bytes` of free space payloads are dropped. Raises StoreError only when it cannot start.
    """

    def __init__(
        self,
        root: Path,
        worker: str,
        clock: Clock,
        fsync: Fsync = "interval",
        segment_bytes: int = 16 << 20,
        reserve_bytes: int = 32 << 20,
        free_bytes: Callable[[Path], int] = disk_free,
    ) -> None:
        self.dir = root / worker
        self.worker = worker
        self.lost: Counter[str] = Counter()  # what → how many, since the start
        self.lines = 0
        self.fsync_failures = 0
        self._clock = clock
        self._monotonic = clock.monotonic
        self._fsync = fsync
        self._segment_bytes = segment_bytes
        self._reserve_bytes = reserve_bytes
        self._free_bytes = free_bytes
        self._encode_into = msgspec.json.Encoder().encode_into
        self._buffer = bytearray(4096)
        self._lock = threading.Lock()
        self._fd = -1
        self._size = 0
        self._opened = 0.0
        self._since_check = 0
        self._next_check = 0.0
        self._low = False
        self._untold: Counter[tuple[str, str]] = Counter()  # (what, reason) not yet written as a LossRecord
        self._closed = False
        self._retired: list[int] = []  # rotated descriptors that still have to be synced and closed
        self._dirty = threading.Event()
        self._told_syncer = False  # `_dirty` is set: asking the event itself costs each line a call
        self._stop = threading.Event()
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StoreError(f"cannot create the journal: {e.strerror}", where=str(self.dir)) from e
        self._restore_reserve()
        self._syncer = threading.Thread(target=self._sync_loop, name=f"journal-{worker}", daemon=True)
        if fsync == "interval":
            self._syncer.start()

    # ---- the request path ------------------------------------------------------------------------------------

    def write(self, line: JournalLine) -> None:
        """Append `line`; on return the kernel has it, or its loss is counted. Never raises."""
        with self._lock:
            now = self._monotonic()
            self._since_check += 1
            if self._since_check >= CHECK_LINES or now >= self._next_check:
                self._check(now)
            self._write(line, now)

    def write_all(self, lines: Sequence[JournalLine]) -> int:
        """Append a batch, a MiB at a time, each handed to the kernel, and at `always` synced, in one call.

        On return the kernel has them, but for the returned number, which are counted as lost. Never raises.
        """
        with self._lock:
            before = self._lines_lost()
            now = self._monotonic()
            self._check(now)
            start, chunk = 0, bytearray()
            for end, line in enumerate(lines, 1):
                self._put_behind(line, chunk)
                if len(chunk) < CHUNK and end < len(lines):
                    continue
                plain = not (self._low or self._closed or len(chunk) > LINE_MAX)
                if plain and self._append(chunk, now):
                    self.lines += end - start
                else:  # line by line it is told which of them are lost
                    for one in lines[start:end]:
                        self._write(one, now)
                start, chunk = end, bytearray()
            return self._lines_lost() - before

    def _lines_lost(self) -> int:
        return self.lost.total() - self.lost["payload"]

    def _write(self, line: JournalLine, now: float) -> None:
        if self._closed:
            self._lose(line, "the journal is closed")
            return
        if self._low and getattr(line, "payload", None) is not None:
            line = self._without_payload(line, _NEARLY)
        if self._put(line, now) or self._rescued(line, now):
            self.lines += 1

    def _put(self, line: JournalLine, now: float) -> bool:
        """Hand `line` to the kernel, whole or not at all; False when it is too long or the disk refuses."""
        buffer = self._buffer
        try:
            self._encode_into(line, buffer)
        except (UnicodeEncodeError, OverflowError):
            self._encode_into(mended(msgspec.to_builtins(line)), buffer)
        buffer += b"\n"
        return len(buffer) <= LINE_MAX and self._append(buffer, now)

    def _put_behind(self, line: JournalLine, chunk: bytearray) -> None:
        kept = len(chunk)
        try:
            self._encode_into(line, chunk, -1)
        except (UnicodeEncodeError, OverflowError):
            # A lone surrogate or an integer beyond 64 bits came in from outside: keep the record, mend the value.
            del chunk[kept:]
            self._encode_into(mended(msgspec.to_builtins(line)), chunk, -1)
        chunk += b"\n"

    def _append(self, data: bytearray, now: float) -> bool:
        """Hand whole lines to the kernel, all or none; False when the disk refuses."""
        size = len(data)
        full = self._size + size > self._segment_bytes or now - self._opened >= SEGMENT_S
        if (full or self._fd < 0) and not self._next_segment(now):
            return False
        try:
            written = os.write(self._fd, data)
        except OSError:
            return False
        if written != size:
            self._undo(written)
            return False
        self._size += size
        if self._fsync == "always":
            self._sync(self._fd)
        elif not self._told_syncer:
            self._told_syncer = True
            self._dirty.set()
        return True

    def _rescued(self, line: JournalLine, now: float) -> bool:
        """Write what `_put` has just refused: without its payload, then with the reserve; False: it is lost."""
        reason = _LONG if len(self._buffer) > LINE_MAX else _FULL
        if getattr(line, "payload", None) is not None:
            line = self._without_payload(line, reason)
            if reason == _LONG:
                return self._put(line, now) or self._rescued(line, now)
        while reason == _FULL and self._shrink_reserve():
            if self._put(line, now):
                return True
        self._lose(line, reason)
        return False

    def _next_segment(self, now: float) -> bool:
        """Begin a segment, unless the one that is full by its age is empty."""
        if self._size or self._fd < 0:
            self._retire()
        return self._fd >= 0 or self._open(now)

    def _undo(self, written: int) -> None:
        """Take a half-written line back; where that fails, leave the segment: its tail is then a torn line."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._size += written
            self._retire()

    def _open(self, now: float) -> bool:
        start_us = self._clock.now_us()
        path = self.dir / SegmentName(start_us, next(_sequence), os.getpid()).file()
        hidden = path.with_name(path.name + ".new")
        try:
            fd = os.open(hidden, _CREATE, 0o600)
        except OSError:
            return False
        try:
            # The lock lives as long as this process has the segment open: a loader that gets it knows the segment is
            # finished. It is taken before the loader can see the file under a segment's name.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(path)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        self._size = 0
        self._opened = now
        return True

    def _retire(self) -> None:
        if self._fd < 0:
            return
        if self._fsync == "interval":
            self._retired.append(self._fd)  # the thread syncs and closes it: no write waits for a disk
            self._dirty.set()
        else:
            os.close(self._fd)
        self._fd = -1

    # ---- losses and space ------------------------------------------------------------------------------------

    def _lose(self, line: JournalLine, reason: str) -> None:
        if isinstance(line, LossRecord):
            self._untold[line.what, line.reason] += line.count
            return
        if isinstance(line, SpanRecord | EventRecord | MetricRecord):
            what: str = line.kind
        else:
            what = "record"
            reason = reason if isinstance(line, Record) else f"{line.kind}: {reason}"
        self.lost[what] += 1
        self._untold[what, reason] += 1

    def _without_payload(self, line: Any, reason: str) -> JournalLine:
        self.lost["payload"] += 1
        self._untold["payload", reason] += 1
        bare: JournalLine = msgspec.structs.replace(line, payload=None)
        return bare

    def _check(self, now: float) -> None:
        """Look at free space, and tell losses not yet told."""
        self._since_check = 0
        self._next_check = now + CHECK_S
        try:
            free = self._free_bytes(self.dir)
        except OSError:
            free = 0  # unknown is treated as full: metadata is still tried
        if free < self._reserve_bytes:
            self._low = True
        elif self._low and free >= 2 * self._reserve_bytes + self._reserve_missing():
            self._low = False
            self._restore_reserve()
        if self._untold:
            self._tell(now)

    def _tell(self, now: float) -> None:
        """Write a LossRecord for each kind of loss; what cannot be written stays counted."""
        untold, self._untold = self._untold, Counter()
        for (what, reason), count in untold.items():
            loss = LossRecord(
                ts_us=self._clock.now_us(),
                worker=self.worker,
                what=what,  # type: ignore[arg-type]  # only `_lose` and `_without_payload` name it
                count=count,
                reason=reason,
            )
            if not self._put(loss, now):
                self._rescued(loss, now)

    def _reserve_missing(self) -> int:
        try:
            return max(0, self._reserve_bytes - (self.dir / RESERVE_FILE).stat().st_size)
        except OSError:
            return self._reserve_bytes

    def _restore_reserve(self) -> None:
        """Fill the reserve file again; without room for it the journal starts low on space."""
        try:
            if self._free_bytes(self.dir) < self._reserve_missing() + self._reserve_bytes:
                self._low = True
                return
            fd = os.open(self.dir / RESERVE_FILE, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if self._reserve_bytes:
                    os.posix_fallocate(fd, 0, self._reserve_bytes)
            finally:
                os.close(fd)
        except OSError:
            self._low = True

    def _shrink_reserve(self) -> bool:
        """Give a sixteenth of the reserve (at least 64 KiB) back to the disk; False when nothing is left.

        By pieces, so that another process that fills the disk does not take all of it at once.
        """
        path = self.dir / RESERVE_FILE
        try:
            size = path.stat().st_size
            if size == 0:
                return False
            os.truncate(path, max(0, size - max(self._reserve_bytes // 16, 64 << 10)))
        except OSError:
            return False
        self._low = True
        return True

    # ---- syncing and the end ---------------------------------------------------------------------------------

    def _sync(self, fd: int) -> None:
        try:
            os.fdatasync(fd)
        except OSError:
            self.fsync_failures += 1

    def _sync_loop(self) -> None:
        while not self._stop.is_set():
            if not self._dirty.wait(REST_S):
                self._rest()
                continue
            self._stop.wait(FSYNC_S)
            self._sync_now()

    def _rest(self) -> None:
        with self._lock:
            if self._size and not self._told_syncer:
                self._retire()

    def _sync_now(self) -> None:
        with self._lock:
            self._dirty.clear()
            self._told_syncer = False
            retired, self._retired = self._retired, []
            current = self._fd
        for fd in retired:
            self._sync(fd)
            os.close(fd)
        if current >= 0:
            # Only this thread closes a rotated descriptor, so `current` is still ours if it was rotated meanwhile.
            self._sync(current)

    def close(self) -> None:
        """Tell what was lost, sync, and let the reserve go. Later lines are counted as lost."""
        with self._lock:
            if self._closed:
                return
            if self._untold:
                self._tell(self._clock.monotonic())
            self._closed = True
        self._stop.set()
        self._dirty.set()
        if self._syncer.is_alive():
            self._syncer.join()
        if self._fsync != "never":
            self._sync_now()
        with self._lock:
            self._retire()
        for fd in self._retired:
            os.close(fd)
        self._retired.clear()
        (self.dir / RESERVE_FILE).unlink(missing_ok=True)
