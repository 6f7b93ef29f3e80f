"""Counters in a file that all workers of a host map: exact among them, and kept over restarts and kill -9.

The file is the table of cells.py, and behind it the open tickets of each worker: which counters a request is held in.
Every operation runs under `flock`, which the kernel lets go when its holder dies; 0.4 µs where nobody else holds it. A
lone worker keeps the lock as long as it lives.

A worker proves that it lives by an open-file-description lock on the byte of its column. When that is gone, whoever
notices (a worker that starts, or one that is about to refuse a request) makes all totals again from the tickets of the
workers that do live. What was spent stays spent. Written pages outlive the process; only a machine that loses power
may lose the last seconds.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.store.counters.bounds import FREED, Notice, Pair, Use, Verdict
from pilothouse.store.counters.cells import BYTES, HEAD, SLOT, SLOTS, Cells
from pilothouse.store.counters.local import FULL

log = structlog.get_logger("pilothouse.counters")

NAME = "counters.bin"
VERSION = 1
COLUMNS = 32  # workers of one host
TICKETS = 4096  # requests that one worker can hold at a time
TICKET = 256  # bytes: open, tokens, USD, number of places, up to 28 places
PLACES = (TICKET - 32) // 8
COLUMN = TICKETS * TICKET
FILE_BYTES = BYTES + COLUMNS * COLUMN
MAGIC = b"PHCOUNT\0"
OPEN_S = 10.0  # a worker that starts waits so long for one that is leaving
LOCK_S = 0.1  # a lock that is held longer is held by a worker that was stopped: requests go on uncounted
REAP_S = 1.0  # how often to look for workers that are gone, while requests are refused
_SHAPE = struct.Struct("<8s3Q")
_HIGH = struct.Struct("<Q")  # of each column: tickets ever used; at byte 512 of the header
_HEAD_OF_TICKET = struct.Struct("<Q2dQ")
_STATES = struct.Struct("<Q")
_put_open = tuple(struct.Struct(f"<Q2dQ{n}Q").pack_into for n in range(PLACES + 1))  # by the number of places
_FREE, _HELD, _SETTLING = 0, 1, 2  # their first byte, the least, says them
_held = struct.Struct("<2d")


class SharedCounters:
    """One worker's door to the file. `sole`: no other worker will come as long as this one lives."""

    def __init__(self, folder: Path, clock: Clock, *, sole: bool = False) -> None:
        """Raises StoreError where the file cannot be had, or another lone worker keeps it."""
        self._clock = clock
        self._path = folder / NAME
        self._file, self._memory = self._open()
        self._cells = _FileCells(self._memory, clock, self._file)
        try:
            self._column, others = self._enlist()
        except StoreError:
            os.close(self._file)
            raise
        self._base = BYTES + self._column * COLUMN
        self._free: list[int] = []  # tickets that were used and given back
        self._high = 0
        self._owed: list[tuple[int, Sequence[Pair], Use]] = []
        self._reaped = 0.0
        self.uncounted = 0  # requests let in because the lock was not to be had
        self.untracked = 0  # requests whose holds would outlive a kill of this worker
        self._sole = sole and not others
        if not self._sole:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    # --- Counters

    async def take(self, asked: Sequence[Pair], tokens: float, usd: float) -> int | Verdict:
        """See Counters."""
        if not self._sole and not self._lock():
            self.uncounted += 1
            return Verdict()
        try:
            verdict = self._cells.take(asked, tokens, usd)
            if verdict is None:
                return self._hold(asked, tokens, usd)
            if verdict.refused is not None and not self._sole and self._reap():
                verdict = self._cells.take(asked, tokens, usd)
                if verdict is None:
                    return self._hold(asked, tokens, usd)
            if verdict.refused is None:
                verdict.ticket = self._hold(verdict.taken, tokens, usd)
            return verdict
        finally:
            if not self._sole:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def settle(self, ticket: int, taken: Sequence[Pair], use: Use, _backup: bool = False) -> list[Notice]:
        """See Counters."""
        if not self._sole and not self._lock():
            self._owed.append((ticket, taken, use))
            return []
        try:
            if self._owed:
                owed, self._owed = self._owed, []
                for one in owed:
                    self._settle(*one)
            return self._settle(ticket, taken, use)
        finally:
            if not self._sole:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def spent(self, pair: Pair) -> float:
        """See Counters."""
        if not self._sole and not self._lock():
            return 0.0
        try:
            return self._cells.spent(pair)
        finally:
            if not self._sole:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def gauges(self) -> dict[str, tuple[str, float]]:
        """See Counters."""
        return {
            "pilothouse_counters_full": (FULL, float(self._cells.full)),
            "pilothouse_counters_uncounted": ("Requests let in uncounted: the lock was held", float(self.uncounted)),
            "pilothouse_counters_untracked": ("Requests beyond what one worker can hold", float(self.untracked)),
            "pilothouse_counters_damaged": ("Counters found damaged, and begun anew", float(self._cells.damaged)),
        }

    async def close(self) -> None:
        """See Counters."""
        if self._sole or self._lock():
            self._recover([self._column])
        with contextlib.suppress(OSError):
            self._memory.flush()
        self._memory.close()
        os.close(self._file)  # lets every lock go

    # --- one operation, under the lock

    def _hold(self, taken: Sequence[Pair], tokens: float, usd: float) -> int:
        """Write down which counters this request is held in; its ticket, 0 where there is none left."""
        if not taken:
            return 0
        if self._free:
            number = self._free.pop()
        else:
            number = self._high
            if number >= TICKETS or not self._cells.allocate(self._base + number * TICKET):
                self.untracked += 1
                return 0
            self._high = number + 1
            _HIGH.pack_into(self._memory, 512 + 8 * self._column, self._high)
        places = [counter.base for counter, _ in taken]
        n = len(places)
        if n > PLACES:
            n, places = PLACES, places[:PLACES]
        _put_open[n](self._memory, self._base + number * TICKET, _HELD, tokens, usd, n, *places)
        return number + 1

    def _settle(self, ticket: int, taken: Sequence[Pair], use: Use) -> list[Notice]:
        if not ticket:
            return self._cells.settle(taken, use)
        at = self._base + (ticket - 1) * TICKET
        memory = self._memory
        memory[at] = _SETTLING  # its tokens are given back here, and not once more
        notices = self._cells.settle(taken, use)
        memory[at] = _FREE
        self._free.append(ticket - 1)
        return notices

    def _lock(self) -> bool:
        """Take the lock; False where its holder was stopped in the middle."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            deadline = time.monotonic() + LOCK_S
            while time.monotonic() < deadline:
                os.sched_yield()
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
            return False
        return True

    # --- who lives

    def _enlist(self) -> tuple[int, bool]:
        """Take a column, and give back what workers that are gone held; the column, and whether others live."""
        gone, alive = [], 0
        for column in range(COLUMNS):
            if _lock_byte(self._file, column, fcntl.F_WRLCK):
                gone.append(column)
            else:
                alive += 1
        if not gone:
            raise StoreError(
                f"{COLUMNS} workers count in this file already",
                where=str(self._path),
                hint="use counters: {kind: valkey} for more",
            )
        self._recover(gone)
        for column in gone[1:]:
            _lock_byte(self._file, column, fcntl.F_UNLCK)
        return gone[0], alive > 0

    def _reap(self) -> bool:
        """Give back what workers that are gone held; whether there was anything. Looks once a second."""
        now = self._clock.monotonic()
        if now < self._reaped:
            return False
        self._reaped = now + REAP_S
        gone = [
            column
            for column in range(COLUMNS)
            if column != self._column
            and _HIGH.unpack_from(self._memory, 512 + 8 * column)[0]
            and _lock_byte(self._file, column, fcntl.F_WRLCK)
        ]
        found = self._recover(gone)
        for column in gone:
            _lock_byte(self._file, column, fcntl.F_UNLCK)
        return found

    def _recover(self, gone: Sequence[int]) -> bool:
        """Void the tickets of these columns, and make the totals again from the others; whether there were any."""
        tokens: defaultdict[int, float] = defaultdict(float)
        found = False
        for column in gone:
            for state, held, _, places in self._tickets(column):
                found = True
                for at in places if state == _HELD else ():
                    tokens[at] += held
            _HIGH.pack_into(self._memory, 512 + 8 * column, 0)
        if not found:
            return False
        live: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for column in range(COLUMNS):
            for _, _, usd, places in self._tickets(column):
                for at in places:
                    live[at][0] += 1.0
                    live[at][1] += usd
        self._cells.restore(live, tokens)
        return True

    def _tickets(self, column: int) -> Iterator[tuple[int, float, float, tuple[int, ...]]]:
        """State, tokens, USD and places of each open ticket of a column."""
        high = min(_HIGH.unpack_from(self._memory, 512 + 8 * column)[0], TICKETS)
        for number in range(high):
            at = BYTES + column * COLUMN + number * TICKET
            state, tokens, usd, n = _HEAD_OF_TICKET.unpack_from(self._memory, at)
            if state != _FREE and n <= PLACES:
                yield state, tokens, usd, struct.unpack_from(f"<{n}Q", self._memory, at + 32)

    # --- the file

    def _open(self) -> tuple[int, mmap.mmap]:
        """The file, locked and of the right shape; one that is damaged is set aside."""
        deadline = time.monotonic() + OPEN_S
        while True:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise _unusable(self._path, error) from error
            try:
                while not self._locked(file) and time.monotonic() < deadline:
                    time.sleep(0.01)
                if not self._locked(file):
                    raise StoreError(
                        "another worker keeps the counters for itself",
                        where=str(self._path),
                        hint="one data directory serves one gateway: end the other, or give it another --data",
                    )
                if _same(file, self._path) and self._shaped(file):
                    return file, mmap.mmap(file, FILE_BYTES)
            except OSError as error:
                os.close(file)
                raise _unusable(self._path, error) from error
            except StoreError:
                os.close(file)
                raise
            os.close(file)  # another worker was quicker, or it was set aside

    @staticmethod
    def _locked(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _shaped(self, file: int) -> bool:
        """Whether the file is one of ours; a new one is made so, another is set aside."""
        shape = _SHAPE.pack(MAGIC, VERSION, SLOTS, COLUMNS)
        size = os.fstat(file).st_size
        if size == 0:
            os.ftruncate(file, FILE_BYTES)
            os.posix_fallocate(file, 0, HEAD)
            os.pwrite(file, shape, 0)
            return True
        if size == FILE_BYTES and os.pread(file, _SHAPE.size, 0) == shape:
            return True
        if size == FILE_BYTES and not any(os.pread(file, _SHAPE.size, 0)):  # killed before it had written its head
            os.pwrite(file, shape, 0)
            return True
        aside = self._path.with_name(f"{NAME}.damaged-{self._clock.now_us()}")
        self._path.rename(aside)
        log.error("the counters' file was damaged, or another version's: limits and budgets begin anew",
                  file=str(self._path), kept_as=str(aside))  # fmt: skip
        return False


class _FileCells(Cells):
    """Cells in a sparse file: a page that the disk has no room for must not be touched, or the kernel ends us."""

    def __init__(self, memory: mmap.mmap, clock: Clock, file: int) -> None:
        super().__init__(memory, clock)
        self._file = file

    def allocate(self, at: int) -> bool:
        """Have the disk keep the page for us."""
        try:
            os.posix_fallocate(self._file, at & ~4095, 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                log.error("the counters' file cannot grow", error=error.strerror)
            return False
        return True

    def restore(self, live: dict[int, list[float]], tokens: dict[int, float]) -> None:
        """Make the totals of every slot again: `live` has requests and USD by place, `tokens` what is given back."""
        for at in range(HEAD, HEAD + SLOTS * SLOT, SLOT):
            tag = _STATES.unpack_from(self.memory, at)[0]
            if tag in (0, FREED):
                continue
            arrival, _, _, token_s = struct.unpack_from("<4d", self.memory, at + 24)
            struct.pack_into("<d", self.memory, at + 24, arrival - tokens.get(at, 0.0) * token_s)
            _held.pack_into(self.memory, at + 32, *live.get(at, (0.0, 0.0)))


def _lock_byte(file: int, column: int, kind: int) -> bool:
    """Take or leave the byte that says that a column's worker lives; False where another has it."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, column, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def _same(file: int, path: Path) -> bool:
    """Whether `path` still names the open file."""
    with contextlib.suppress(FileNotFoundError):
        found, held = path.stat(), os.fstat(file)
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)
    return False


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"the counters' file cannot be used: {error.strerror}", where=str(path), hint="look at the disk")
