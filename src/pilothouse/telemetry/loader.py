"""The loader: journal lines into the telemetry store, each exactly once, also when it is killed half-way.

A step takes slices of complete lines from any number of segments, stages them by kind (where a line that cannot be
read is found and counted, and blocks nothing), and then, in ONE transaction, moves the rows into their tables, adds
the minute rollups and writes how far each segment is loaded. A step that does not commit leaves nothing behind.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.record import EventRecord, LossRecord, MetricRecord, Record, ScoreRecord, SpanRecord
from pilothouse.store.telemetry import TelemetryStore, lines
from pilothouse.telemetry import arrivals, backfill, backlog, entries, joins, marks, rollups, settling
from pilothouse.telemetry.journal import disk_free
from pilothouse.telemetry.landing import Landing
from pilothouse.telemetry.segments import Position, Segment, Slice, segments, take

STEP_BYTES = 32 << 20
STEPS = 8  # in one call, so that a backlog does not keep the caller from its other work
KEEP_S = 3600.0  # loaded and finished segments stay this long where somebody else reads them too …
KEEP_BYTES = 256 << 20  # … and no more than this of them, oldest deleted first; none when the disk has less free
SETTLE_S = 20.0  # after so long without a line, or with few of them, the store's log is folded in
QUIET_BYTES = 4 << 20  # of lines between two tidies: few
COMPACT_S = 60.0
COMPACT_AGE_S = 180.0
FORGET_S = 86_400.0  # positions of deleted segments
BATCHES = ".load"  # below the journal's root

_PREFIXES = {kind: f'{{"kind":"{kind}",'.encode() for kind in lines.KINDS}
_TYPES: dict[str, type[Any]] = {
    "request": Record,
    "span": SpanRecord,
    "event": EventRecord,
    "metric": MetricRecord,
    "score": ScoreRecord,
    "loss": LossRecord,
}


class _Kind(msgspec.Struct):
    kind: str


class LoadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of `load_once` did. `torn` counts lines that could not be kept; they are rows of `losses`."""

    lines: int = 0
    torn: int = 0
    repeated: int = 0  # of the lines, those that said what is stored already; they are counted in `repeats`
    segments: int = 0
    deleted: int = 0
    backlog_bytes: int = 0  # left to load
    took_ms: float = 0.0


class Loader:
    """Loads the journal below `journal_root` into `store`; one per store, called from one thread at a time.

    `keep_s`: how long loaded segments stay, for others who read the journal; asked each time.
    """

    def __init__(
        self,
        journal_root: Path,
        store: TelemetryStore,
        clock: Clock,
        keep_s: Callable[[], float] = lambda: KEEP_S,
        step_bytes: int = STEP_BYTES,
    ) -> None:
        self._root = journal_root
        self._store = store
        self._clock = clock
        self._keep_s = keep_s
        self._step_bytes = step_bytes
        self._landing = Landing(store, clock)
        self._next_tidy = 0.0
        self._quiet_from = float("inf")  # when it has been quiet for long enough
        self._since_tidy = 0  # bytes
        self._dirty_us = 0  # rollups of minutes from here on may have several rows per key; after a start, all
        self._backfill: backfill.Backfill | None = None
        self._decode_kind = msgspec.json.Decoder(_Kind).decode
        self._positions = {
            row[0]: Position(*row[1:])
            for row in store.rows("SELECT segment, loaded_bytes, lines, torn, done FROM load_positions")
        }

    def load_once(self) -> LoadReport:
        """Load what is complete, at most STEPS steps; raises StoreError, with nothing half-done and nothing lost."""
        try:
            return self._load_steps(self._clock.monotonic())
        except (duckdb.Error, OSError) as e:
            self._landing.undo()
            reason = str(e).partition("\n")[0]
            raise StoreError(f"cannot load the journal: {reason}", where=str(self._root), hint="it is kept") from e

    def _load_steps(self, began: float) -> LoadReport:
        loaded = torn = repeated = touched = 0
        if self._backfill is None:
            backfill.begin(self._store, self._clock.now_us())
            self._backfill = backfill.Backfill(self._store)
        self._backfill.step()
        for _ in range(STEPS):
            slices = self._gather()
            if not slices:
                break
            step_lines, step_torn, step_repeated = self._load(slices)
            self._since_tidy += sum(part.end - part.start for part in slices)
            loaded, torn, repeated = loaded + step_lines, torn + step_torn, repeated + step_repeated
            touched += len(slices)
        if loaded:
            self._quiet_from = began + SETTLE_S
        quiet = began >= self._quiet_from
        deleted = self._tidy(quiet=quiet) if quiet or began >= self._next_tidy else 0
        if touched or deleted:
            backlog.tell(self._root, self._positions)
        return LoadReport(
            lines=loaded,
            torn=torn,
            repeated=repeated,
            segments=touched,
            deleted=deleted,
            backlog_bytes=self.backlog_bytes(),
            took_ms=(self._clock.monotonic() - began) * 1_000,
        )

    def backlog_bytes(self) -> int:
        """Bytes in the journal that are not loaded yet, torn tails of live segments included."""
        return sum(
            max(0, _size(segment) - position.loaded_bytes)
            for segment in segments(self._root)
            if not (position := self._position(segment)).done
        )

    def _position(self, segment: Segment) -> Position:
        return self._positions.get(segment.key) or Position()

    def _gather(self) -> list[Slice]:
        """Slices of at most `step_bytes` in all."""
        room = self._step_bytes
        slices = []
        for segment in segments(self._root):
            position = self._position(segment)
            if position.done:
                continue
            found = take(segment, position.loaded_bytes, self._step_bytes)
            if found is None:
                continue
            slices.append(found)
            room -= found.end - found.start
            if room <= 0:
                break
        return slices

    # ---- one step --------------------------------------------------------------------------------------------

    def _load(self, slices: list[Slice]) -> tuple[int, int, int]:
        by_kind, losses = self._sort(slices)
        now_us = self._clock.now_us()
        accepted: dict[str, int] = {}
        staged: list[str] = []
        with self._store.writer() as write:
            try:
                for kind, chunks in by_kind.items():
                    staged.append(kind)
                    self._stage(write, kind, chunks)
                    accepted[kind] = _count(write, kind)
                rejected = sum(map(_lines, by_kind.values())) - sum(accepted.values())
                if rejected:
                    losses.append(_torn(now_us, "loader", rejected, "not a line of its kind"))
                repeated = arrivals.leave_out(self._store, write, staged)
                changes = joins.Changes(self._store, write, staged)
                with self._store.transaction():
                    changes.apply()
                    self._move(write, staged, slices, losses)
                    self._count(write, repeated)
            finally:
                for kind in staged:
                    write.execute(lines.unstage(kind))
                    self._batch_file(kind).unlink(missing_ok=True)
                joins.forget(write)
        for part in slices:
            self._positions[part.segment.key] = self._after(part)
        self._landing.settle()
        return sum(accepted.values()), sum(loss.count for loss in losses), sum(repeated.values())

    def _sort(self, slices: list[Slice]) -> tuple[dict[str, list[bytes]], list[LossRecord]]:
        """Chunks of lines by kind, and the losses that the slices show: torn tails, and lines of no known kind."""
        now_us = self._clock.now_us()
        by_kind: defaultdict[str, list[bytes]] = defaultdict(list)
        losses = []
        for part in slices:
            bad = 0
            if kind := _only_kind(part.data):
                by_kind[kind].append(part.data)
            else:
                bad = self._sort_lines(part.data, by_kind)
            worker, key = part.segment.worker, part.segment.key
            if bad:
                losses.append(_torn(now_us, worker, bad, f"not a journal line in {key}"))
            if part.torn:
                losses.append(_torn(now_us, worker, 1, f"{len(part.torn)} bytes without an end in {key}"))
        return by_kind, losses

    def _sort_lines(self, data: bytes, by_kind: defaultdict[str, list[bytes]]) -> int:
        """Put each line of a mixed slice with its kind; the number that have none."""
        bad = 0
        for line in data.split(b"\n"):
            if kind := self._kind(line):
                by_kind[kind].append(line + b"\n")
            else:
                bad += bool(line)
        return bad

    def _kind(self, line: bytes) -> str:
        for kind, prefix in _PREFIXES.items():
            if line.startswith(prefix):
                return kind
        try:
            kind = self._decode_kind(line).kind
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        return kind if kind in _PREFIXES else ""

    def _batch_file(self, kind: str) -> Path:
        """Where a batch lies while DuckDB reads it; one file per kind, overwritten, so that a kill leaves no litter."""
        return self._root / BATCHES / f"{kind}.ndjson"

    def _stage(self, write: duckdb.DuckDBPyConnection, kind: str, chunks: list[bytes]) -> None:
        """Stage the lines; those that cannot be rows are left out."""
        path = self._batch_file(kind)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _try_stage(write, kind, chunks, path):
            return
        every = [line + b"\n" for chunk in chunks for line in chunk.split(b"\n") if line]
        readable = _readable(write, kind, [line for line in every if _decodes(kind, line)], path)
        if not _try_stage(write, kind, readable, path):
            raise StoreError("a batch of readable lines cannot be staged", where=str(path), hint="please report this")

    def _move(
        self, write: duckdb.DuckDBPyConnection, staged: list[str], slices: list[Slice], losses: list[LossRecord]
    ) -> None:
        for kind in staged:
            for insert in lines.INSERTS[kind]:
                write.execute(insert)
        self._landing.take(write, staged)
        for kind, add in (("request", rollups.add), ("span", rollups.add_spans)):
            if kind in staged and (oldest_us := add(write, lines.batch(kind))):
                self._dirty_us = min(self._dirty_us, oldest_us)
        if oldest_us := rollups.take_back(write, "stopped"):
            self._dirty_us = min(self._dirty_us, oldest_us)
        entries.add(self._store, write, {kind: lines.batch(kind) for kind in staged}, joins.CHANGED)
        for loss in losses:
            write.execute(
                "INSERT INTO losses VALUES (make_timestamp(?::BIGINT), ?, ?, ?, ?)",
                [loss.ts_us, loss.worker, loss.what, loss.count, loss.reason],
            )
        for part in slices:
            after = self._after(part)
            write.execute(
                "INSERT OR REPLACE INTO load_positions VALUES (?, ?, ?, ?, ?, make_timestamp(?::BIGINT))",
                [part.segment.key, after.loaded_bytes, after.lines, after.torn, after.done, self._clock.now_us()],
            )

    def _count(self, write: duckdb.DuckDBPyConnection, repeated: dict[str, int]) -> None:
        for kind, count in repeated.items():
            write.execute(
                "INSERT INTO repeats VALUES (make_timestamp(?::BIGINT), ?, ?)", [self._clock.now_us(), kind, count]
            )

    def _after(self, part: Slice) -> Position:
        before = self._position(part.segment)
        return Position(
            loaded_bytes=part.end,
            lines=before.lines + part.data.count(b"\n"),
            torn=before.torn + bool(part.torn),
            done=part.done,
        )

    # ---- keeping the disk from growing -----------------------------------------------------------------------

    def _tidy(self, *, quiet: bool) -> int:
        """Delete loaded segments past their keep, forget their positions later, compact the rollups; files deleted.

        The store's log is folded in when little comes: the last rows of each table are written anew with it.
        """
        self._next_tidy = self._clock.monotonic() + COMPACT_S  # first: one that fails waits as any other does
        if quiet:
            self._quiet_from = float("inf")
        now_us = self._clock.now_us()
        before_us = now_us - int(COMPACT_AGE_S * 1e6)
        rollups.compact(self._store, self._dirty_us, before_us)
        marks.seal(self._store)
        self._dirty_us = before_us
        done = [segment for segment in segments(self._root) if self._position(segment).done]
        kept_bytes = deleted = 0
        keep_us = int(self._keep_s() * 1e6)
        room = KEEP_BYTES if self._root.exists() and disk_free(self._root) > KEEP_BYTES else 0
        for segment in sorted(done, key=lambda s: s.name, reverse=True):
            kept_bytes += _size(segment)
            if kept_bytes > room or segment.name.start_us <= now_us - keep_us:
                segment.path.unlink(missing_ok=True)
                deleted += 1
        self._forget(now_us)
        if quiet:
            self._landing.rest()
        if quiet or self._since_tidy <= QUIET_BYTES:
            settling.settle(self._store, quiet=quiet)
        self._since_tidy = 0
        return deleted

    def _forget(self, now_us: int) -> None:
        """Drop positions of finished segments whose file is long gone; a file that is there keeps its position."""
        old = self._store.rows(
            "SELECT segment FROM load_positions WHERE done AND ts < make_timestamp(?::BIGINT)",
            [now_us - int(FORGET_S * 1e6)],
        )
        gone = [key for (key,) in old if not (self._root / key).exists()]
        if not gone:
            return
        with self._store.transaction() as write:
            write.execute("DELETE FROM load_positions WHERE segment IN (SELECT unnest(?::VARCHAR[]))", [gone])
        for key in gone:
            self._positions.pop(key, None)


def _size(segment: Segment) -> int:
    try:
        return segment.path.stat().st_size
    except FileNotFoundError:
        return 0


def _torn(now_us: int, worker: str, count: int, reason: str) -> LossRecord:
    return LossRecord(ts_us=now_us, worker=worker, what="torn_line", count=count, reason=reason)


def _decodes(kind: str, line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=_TYPES[kind])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _only_kind(data: bytes) -> str:
    """The kind of every line of `data`, or nothing where they differ. A raw newline is only ever a line's end."""
    for kind, prefix in _PREFIXES.items():
        if data.startswith(prefix):
            same = 1 + data.count(b"\n" + prefix)
            return kind if same == data.count(b"\n") else ""
    return ""


def _lines(chunks: list[bytes]) -> int:
    return sum(chunk.count(b"\n") for chunk in chunks)


def _count(write: duckdb.DuckDBPyConnection, kind: str) -> int:
    row = write.execute(lines.count(kind)).fetchone()
    return int(row[0]) if row else 0


def _try_stage(write: duckdb.DuckDBPyConnection, kind: str, chunks: list[bytes], path: Path) -> bool:
    with path.open("wb") as file:
        file.writelines(chunks)
    try:
        write.execute(lines.stage(kind, str(path)))
        lacking = write.execute(lines.unusable(kind)).fetchone()
    except duckdb.Error:
        return False
    return lacking is not None and lacking[0] == 0


def _readable(write: duckdb.DuckDBPyConnection, kind: str, some: list[bytes], path: Path) -> list[bytes]:
    """The lines that make rows, by halving what does not."""
    if not some or _try_stage(write, kind, some, path):
        return some
    if len(some) == 1:
        return []
    half = len(some) // 2
    return _readable(write, kind, some[:half], path) + _readable(write, kind, some[half:], path)
