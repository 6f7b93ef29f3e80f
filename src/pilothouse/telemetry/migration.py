"""From one telemetry store to another: every row of every table, once, with its day's count and checksum compared.

The work is done in slices: the rows of one table of some hours. A slice and the note that it is there are one write of
the target, so a kill at any point costs no more than the slice under way, and the next run goes on behind it. At the
end each slice is read back from the target and compared. Payload files become rows; a target with files of its own
moves them into such later.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from pilothouse.domain.errors import StateError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.clickhouse_tables import KEYS, ONCE, time_of
from pilothouse.store.telemetry.files import quoted
from pilothouse.telemetry import payloads

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SLICE_ROWS = {"payloads": 20_000}  # from so many rows on a slice ends with the hour …
OTHER_ROWS = 200_000  # … of the other tables
WHOLE = ("load_positions", "marks")  # one slice
TABLES = tuple(table for table in KEYS if table not in ("meta", "payload_files"))
_NOTE, _SLICE = "migration", "migrated:"
Progress = Callable[[int, int], None]  # steps done, of how many


class Slice(msgspec.Struct, frozen=True, order=True):
    """Rows of a table with since ≤ time < until (µs since 1970)."""

    table: str
    since_us: int
    until_us: int

    @property
    def key(self) -> str:
        """What it is noted under."""
        return f"{_SLICE}{self.table}:{self.since_us}:{self.until_us}"


class Sum(msgspec.Struct, frozen=True):
    """What a slice holds: rows, their checksum over all columns, and rows that were there more than once."""

    rows: int
    checksum: str
    repeated: int = 0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that is not the same in both stores."""

    table: str
    since_us: int
    until_us: int
    rows: int
    found: int
    checksum: str
    found_checksum: str


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration did. `known`: slices that an earlier run had brought; `repeated`: rows taken once each."""

    slices: int
    known: int
    rows: dict[str, int]
    repeated: dict[str, int]
    differences: list[Difference]


class _Note(msgspec.Struct):
    source: str
    done: bool = False


def migrate(source: TelemetryStore, target: TelemetryStore, progress: Progress = lambda _done, _of: None) -> Migrated:
    """Copy and compare. Neither store may be written to meanwhile. Raises StateError where the target has rows that
    are not of this migration, StoreError, and then the next call goes on.
    """
    _begin(source, target)
    slices = list(_slices(source))
    there = _there(target)
    known = sum(one.key in there for one in slices)
    with tempfile.TemporaryDirectory(prefix="pilothouse-migrate-") as folder:
        path = Path(folder) / "slice.parquet"
        for done, one in enumerate(slices):
            if one.key not in there:
                there[one.key] = _bring(source, target, one, path)
            progress(done + 1, 2 * len(slices))
        differences: list[Difference] = []
        for done, one in enumerate(slices):
            differences += _compare(target, one, there[one.key], path)
            progress(len(slices) + done + 1, 2 * len(slices))
    differences += _more(target, slices, there)
    if not differences:
        _end(source, target)
    return Migrated(
        slices=len(slices),
        known=known,
        rows=_by_table(slices, there, "rows"),
        repeated=_by_table(slices, there, "repeated"),
        differences=differences,
    )


def _begin(source: TelemetryStore, target: TelemetryStore) -> None:
    if str(source.path) == str(target.path):
        raise StateError("source and target are the same store", where=str(target.path), hint="give another with --to")
    name = str(source.path)
    found = target.rows("SELECT value FROM meta WHERE key = ?", [_NOTE])
    note = msgspec.json.decode(found[0][0], type=_Note) if found else None
    if note is not None and note.source == name and not note.done:
        return
    rows = {table: count for table in (*TABLES, "payload_files") if (count := _count(target, table))}
    if rows:
        came = f"a migration from {note.source} ended here" if note and note.done else "rows that no migration brought"
        told = ", ".join(f"{count:,} of {table}" for table, count in rows.items())
        raise StateError(
            f"the target is not empty ({came}: {told})", where=str(target.path),
            hint="give an empty database or another path with --to; `pilothouse import` adds to what is there",
            code="target_not_empty",
        )  # fmt: skip
    with target.transaction() as write:
        _write_note(write, _NOTE, _Note(source=name))


def _end(source: TelemetryStore, target: TelemetryStore) -> None:
    with target.transaction() as write:
        _write_note(write, _NOTE, _Note(source=str(source.path), done=True))
        write.execute("DELETE FROM meta WHERE starts_with(key, ?)", [_SLICE])


def _write_note(write: Any, key: str, note: msgspec.Struct) -> None:
    write.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, msgspec.json.encode(note).decode()])


def _there(target: TelemetryStore) -> dict[str, Sum]:
    rows = target.rows("SELECT key, value FROM meta WHERE starts_with(key, ?)", [_SLICE])
    return {key: msgspec.json.decode(value, type=Sum) for key, value in rows}


def _slices(store: TelemetryStore) -> Iterator[Slice]:
    """All rows of the store, each in one slice, the same at each call."""
    for table in TABLES:
        if table in WHOLE:
            yield Slice(table, 0, 0)
            continue
        most = SLICE_ROWS.get(table, OTHER_ROWS)
        since, rows = None, 0
        for hour, count in _hours(store, table):
            if since is not None and (rows >= most or hour // 24 != since // 24):
                yield Slice(table, since * HOUR_US, _until(since, hour))
                since, rows = None, 0
            since, rows = hour if since is None else since, rows + count
        if since is not None:
            yield Slice(table, since * HOUR_US, (since // 24 + 1) * DAY_US)


def _until(since: int, hour: int) -> int:
    """Where a slice ends before the next one's hour: within its own day."""
    return min(hour * HOUR_US, (since // 24 + 1) * DAY_US)


def _hours(store: TelemetryStore, table: str) -> list[tuple[int, int]]:
    """(hours since 1970, rows), in order."""
    with payloads.held(store), store.reading() as ask:
        relation = payloads.source(store, ask, 0, 2**53) if table == "payloads" else table
        rows = ask(
            f"SELECT epoch_us({time_of(table)}) // {HOUR_US} AS hour, count(*) AS n FROM {relation} "  # noqa: S608
            "GROUP BY hour ORDER BY hour"
        )
    return [(row["hour"], row["n"]) for row in rows]


def _copy(store: TelemetryStore, one: Slice, path: Path) -> None:
    """The slice's rows as a file."""
    time = time_of(one.table)
    with payloads.held(store), store.reading() as ask:
        relation = payloads.source(store, ask, one.since_us, one.until_us) if one.table == "payloads" else one.table
        within = f"{time} >= make_timestamp({one.since_us}) AND {time} < make_timestamp({one.until_us})"
        wanted = f"SELECT * FROM {relation} WHERE {'true' if one.table in WHOLE else within}"  # noqa: S608  # our own names
        store.copy(ask, wanted, one.table, path, "FORMAT parquet")


def _once(table: str, path: Path) -> str:
    """SQL of a relation: the file's rows, one for each key where the table keeps one for each."""
    source = f"SELECT * FROM read_parquet({quoted(path)}) AS t"  # noqa: S608
    if table not in ONCE:
        return source
    return f"{source} QUALIFY row_number() OVER (PARTITION BY {', '.join(KEYS[table])} ORDER BY t::VARCHAR) = 1"


def _summed(connection: Any, table: str, path: Path) -> Sum:
    """Count and checksum of a file, whatever the order of rows and columns."""
    names = sorted(row[0] for row in connection.execute(f"DESCRIBE {_once(table, path)}").fetchall())
    columns = ", ".join(f'"{name}"' for name in names)
    rows, total, every = connection.execute(
        f"SELECT count(*), coalesce(sum(hash(({columns},))), 0)::VARCHAR, "  # noqa: S608  # our own names
        f"(SELECT count(*) FROM read_parquet({quoted(path)})) FROM ({_once(table, path)})"
    ).fetchone()
    return Sum(rows, total, every - rows)


def _bring(source: TelemetryStore, target: TelemetryStore, one: Slice, path: Path) -> Sum:
    """Copy a slice and note that it is there, in one write of the target."""
    _copy(source, one, path)
    with target.transaction() as write:
        found = _summed(write, one.table, path)
        write.execute(f"INSERT INTO {one.table} BY NAME {_once(one.table, path)}")
        _write_note(write, one.key, found)
    return found


def _compare(target: TelemetryStore, one: Slice, expected: Sum, path: Path) -> Iterator[Difference]:
    _copy(target, one, path)
    with duckdb.connect(":memory:") as own:
        own.execute("SET TimeZone = 'UTC'")
        found = _summed(own, one.table, path)
    if (found.rows, found.checksum) != (expected.rows, expected.checksum):
        yield Difference(
            table=one.table, since_us=one.since_us, until_us=one.until_us, rows=expected.rows, found=found.rows,
            checksum=expected.checksum, found_checksum=found.checksum,
        )  # fmt: skip


def _more(target: TelemetryStore, slices: list[Slice], there: dict[str, Sum]) -> Iterator[Difference]:
    """Tables of the target with rows that are in no slice."""
    for table, rows in _by_table(slices, there, "rows").items():
        if table not in WHOLE and (found := sum(count for _, count in _hours(target, table))) != rows:
            yield Difference(
                table=table, since_us=0, until_us=0, rows=rows, found=found, checksum="", found_checksum=""
            )


def _by_table(slices: list[Slice], there: dict[str, Sum], what: str) -> dict[str, int]:
    found = dict.fromkeys(TABLES, 0)
    for one in slices:
        found[one.table] += getattr(there[one.key], what)
    return found


def _count(store: TelemetryStore, table: str) -> int:
    return int(store.rows(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608  # our own names
