"""Prompts, answers and whatever else is bulky, apart from the rows that questions read.

    <store's folder>/payloads/2026-11-24-9f3a6c21d0b4.parquet      ZSTD, of one day (UTC) and one route, by owner

New payloads stand in the table `payloads`. `Roller.roll` moves them into files: what is of a day that is over, and of
today when there is much of it. A file counts when the table `payload_files` lists it, and that is written in the
transaction that deletes its rows; so a kill at any point neither loses nor doubles one. A file that is not listed is
what such a kill left: it is deleted.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import lookup
from pilothouse.telemetry.filter_sql import Condition, Window

FOLDER = "payloads"
ROLL_ROWS = 50_000  # so many of one day are moved while the day goes on …
ROLL_BYTES = 128 << 20  # … and no more text than this into the files of one roll
GRACE_US = 600_000_000  # how long after midnight a day is waited for
LATE_S = 3600.0  # between rolls of what comes for days that are over: each makes a file
GROUP_ROWS = 2048  # of a row group: what is read and unpacked to open one payload
LOOKED_UP_MAX = 4  # owners whose time is looked up, to read less
DAY_US = 86_400_000_000
COLUMNS = "owner, ts, request, response, upstream"
_BODIES = "owner, request, response, upstream"
_ON_DISK = ".parquet"
_UNFINISHED = ".parquet.part"

Ask = Callable[..., list[dict[str, Any]]]


class Rolled(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of `roll` moved: rows, and the files they are in now."""

    rows: int = 0
    files: int = 0
    bytes: int = 0


def folder(store: TelemetryStore) -> Path | None:
    """Where the store's payload files are; None for a store without: payloads stay in its table."""
    return None if store.folder is None else store.folder / FOLDER


def fetch(store: TelemetryStore, owners: Sequence[str]) -> dict[str, dict[str, str]]:
    """Owner → request, response, upstream, of those owners that have payloads. Raises StoreError."""
    try:
        return _fetch(store, owners)
    except StoreError:  # a file may have expired between the look at the list and its opening
        return _fetch(store, owners)


def _fetch(store: TelemetryStore, owners: Sequence[str]) -> dict[str, dict[str, str]]:
    if not owners:
        return {}
    with store.reading() as ask:  # one snapshot: a roll in between neither hides a payload nor shows it twice
        marks = ", ".join("?" * len(owners))
        rows = ask(f"SELECT {_BODIES} FROM payloads WHERE owner IN ({marks})", list(owners))  # noqa: S608  # marks alone
        missing = sorted(set(owners) - {row["owner"] for row in rows})
        files = _files_of(store, ask, missing)
        if files:
            marks = ", ".join("?" * len(missing))
            rows += ask(f"SELECT {_BODIES} FROM {_read(store, files)} WHERE owner IN ({marks})", missing)  # noqa: S608
    return {row.pop("owner"): {name: text or "" for name, text in row.items()} for row in rows}


def _near(store: TelemetryStore, idents: list[str]) -> Condition:
    """The time of these, where they are few: to look for it is worth it then."""
    if len(set(idents)) > LOOKED_UP_MAX:
        return Condition()
    windows = [lookup.when(store, ident) for ident in set(idents)]
    if not all(window.until_us for window in windows):
        return Condition()
    return Window(min(w.since_us for w in windows), max(w.until_us for w in windows)).of("ts")


def _files_of(store: TelemetryStore, ask: Ask, owners: list[str]) -> list[str]:
    """The files in whose time these owners are: the requests' and the spans' rows say when that was."""
    if not owners or not ask("SELECT 1 FROM payload_files LIMIT 1"):
        return []
    rows = ask(
        "SELECT file FROM payload_files WHERE EXISTS "
        "(SELECT 1 FROM unnest(?::TIMESTAMP[]) AS t(moment) WHERE moment BETWEEN since AND until)",
        [[row["ts"] for row in _times(store, ask, owners)]],
    )
    return [row["file"] for row in rows]


def _times(store: TelemetryStore, ask: Ask, owners: list[str]) -> list[dict[str, Any]]:
    """When these requests and spans were."""
    requests = [owner for owner in owners if "/" not in owner]
    spans = [owner.split("/", 1) for owner in owners if "/" in owner]
    times = []
    if requests:
        marks = ", ".join("?" * len(requests))
        near = _near(store, requests)
        times += ask(f"SELECT ts FROM requests WHERE id IN ({marks}) AND {near.sql}", [*requests, *near.params])  # noqa: S608
    if spans:
        marks = ", ".join(["(?, ?)"] * len(spans))
        near = _near(store, [trace for trace, _ in spans])
        times += ask(
            f"SELECT ts FROM spans WHERE (trace_id, span_id) IN (VALUES {marks}) AND {near.sql}",  # noqa: S608
            [*(part for pair in spans for part in pair), *near.params],
        )
    return times


def source(store: TelemetryStore, ask: Ask, since_us: int, until_us: int) -> str:
    """SQL of a relation with `COLUMNS`: table and files that hold payloads of the window, in `ask`'s snapshot."""
    files = ask(
        "SELECT file FROM payload_files WHERE until >= make_timestamp(?::BIGINT) AND since < make_timestamp(?::BIGINT)",
        [since_us, until_us],
    )
    hot = f"SELECT {COLUMNS} FROM payloads"  # noqa: S608  # our own names
    if folder(store) is None:
        return "payloads"
    if not files:
        return f"({hot})"
    return f"({hot} UNION ALL SELECT {COLUMNS} FROM {_read(store, [row['file'] for row in files])})"  # noqa: S608


def _read(store: TelemetryStore, files: Sequence[str]) -> str:
    root = folder(store)
    paths = ", ".join("'" + str(root / name).replace("'", "''") + "'" for name in files) if root else ""
    return f"read_parquet([{paths}])"


class Roller:
    """Moves payloads of `store` into files; called from one thread at a time."""

    def __init__(self, store: TelemetryStore, clock: Clock, *, rows: int = ROLL_ROWS, bytes_: int = ROLL_BYTES) -> None:
        self._store = store
        self._clock = clock
        self._rows = rows
        self._bytes = bytes_
        self._folder = folder(store)
        self._next_late = 0.0
        self.sweep()

    def sweep(self) -> int:
        """Delete files that no list names: what a kill has left; their number."""
        if self._folder is None or not self._folder.is_dir():
            return 0
        with self._store.writer() as write:  # nobody else is between writing a file and listing it
            listed = {name for (name,) in write.execute("SELECT file FROM payload_files").fetchall()}
            litter = [path for path in self._folder.glob("*.parquet*") if path.name not in listed]
            for path in litter:
                path.unlink(missing_ok=True)
        return len(litter)

    def roll(self) -> Rolled:
        """Move what is due; raises StoreError, and then the rest stays where it is."""
        if self._folder is None:
            return Rolled()
        total = Rolled()
        for day_us in self._due():
            while (moved := self._roll_day(day_us)).rows:
                total = Rolled(
                    rows=total.rows + moved.rows, files=total.files + moved.files, bytes=total.bytes + moved.bytes
                )
                if self._waiting().get(day_us, 0) < self._rows and not self._over(day_us):
                    break
        return total

    def settle(self, before_us: int) -> None:
        """Move every payload of the days before, also of those that came late; raises StoreError."""
        if self._folder is None:
            return
        for day_us in [day_us for day_us in self._waiting() if day_us < before_us]:
            while self._roll_day(day_us).rows:
                pass

    def _waiting(self) -> dict[int, int]:
        """Start of a day (µs) → payloads of it that are in the table."""
        rows = self._store.rows(
            f"SELECT epoch_us(ts) // {DAY_US}, count(*) FROM payloads GROUP BY 1 ORDER BY 1"  # noqa: S608
        )
        return {day * DAY_US: count for day, count in rows}

    def _over(self, day_us: int) -> bool:
        return day_us + DAY_US + GRACE_US <= self._clock.now_us()

    def _due(self) -> list[int]:
        waiting = self._waiting()
        full = {day_us for day_us, count in waiting.items() if count >= self._rows}
        over = {day_us for day_us in waiting if self._over(day_us)}
        now = self._clock.monotonic()
        if over and now >= self._next_late:
            self._next_late = now + LATE_S
            full |= over
        return sorted(full)

    def _roll_day(self, day_us: int) -> Rolled:
        """Move at most `rows` rows and about `bytes_` of text of the day into one file for each route."""
        made: list[Path] = []
        try:
            with self._store.transaction() as write:
                write.execute(_PICK, [day_us, day_us + DAY_US, self._rows, self._bytes])
                routes = write.execute("SELECT DISTINCT route FROM picked ORDER BY ALL").fetchall()
                sizes = 0
                for (route,) in routes:
                    path = self._write(write, day_us, route)
                    made.append(path)
                    sizes += path.stat().st_size
                row = write.execute("DELETE FROM payloads WHERE rowid IN (SELECT row FROM picked)").fetchone()
                write.execute("DROP TABLE picked")
        except (duckdb.Error, OSError) as error:
            self.sweep()
            reason = str(error).partition("\n")[0]
            raise StoreError(
                f"payloads cannot be moved into files: {reason}", where=str(self._folder), hint="they stay in the store"
            ) from error
        return Rolled(rows=int(row[0]) if row else 0, files=len(made), bytes=sizes)

    def _write(self, write: duckdb.DuckDBPyConnection, day_us: int, route: str) -> Path:
        """One file, whole and on the disk, and its row in the list."""
        root = self._folder or Path()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        day = write.execute("SELECT strftime(make_timestamp(?::BIGINT), '%Y-%m-%d')", [day_us]).fetchone()
        path = root / f"{day[0] if day else ''}-{secrets.token_hex(6)}{_ON_DISK}"
        fresh = path.with_suffix(_UNFINISHED)
        write.execute(
            f"COPY (SELECT {', '.join(f'p.{name}' for name in COLUMNS.split(', '))} "  # noqa: S608  # our own names
            "FROM payloads p JOIN picked k ON p.rowid = k.row WHERE k.route = $route ORDER BY owner) "
            f"TO '{str(fresh).replace(chr(39), chr(39) * 2)}' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS})",
            {"route": route},
        )
        fresh.chmod(0o600)
        _sync(fresh)
        fresh.replace(path)
        _sync(root)
        write.execute(
            "INSERT INTO payload_files SELECT $file, make_timestamp($day)::DATE, $route, min(ts), max(ts), count(*), "
            "$bytes FROM picked WHERE route = $route",
            {"file": path.name, "day": day_us, "route": route, "bytes": path.stat().st_size},
        )
        return path


# Rows in the order in which they came, as far as rows and text allow; one at least, however long it is.
_PICK = """CREATE OR REPLACE TEMP TABLE picked AS
WITH first AS (
  SELECT rowid AS row, owner, ts, strlen(concat(request, response, upstream)) AS size
  FROM payloads WHERE ts >= make_timestamp($1::BIGINT) AND ts < make_timestamp($2::BIGINT) ORDER BY rowid LIMIT $3),
fitting AS (
  SELECT row, owner, ts FROM first QUALIFY sum(size) OVER (ORDER BY row) <= $4 OR row_number() OVER (ORDER BY row) = 1),
bounds AS (SELECT min(ts) AS since, max(ts) AS until FROM fitting),
routes AS (
  SELECT id AS owner, route FROM requests, bounds WHERE ts BETWEEN since AND until
    AND id IN (SELECT owner FROM fitting)
  UNION ALL
  SELECT trace_id || '/' || span_id, route FROM spans, bounds WHERE ts BETWEEN since AND until
    AND trace_id || '/' || span_id IN (SELECT owner FROM fitting))
SELECT row, any_value(f.ts) AS ts, coalesce(any_value(r.route), '') AS route
FROM fitting f LEFT JOIN routes r USING (owner) GROUP BY row"""


def _sync(path: Path) -> None:
    """Hand a file, or a folder's entries, to the disk."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
