"""The telemetry store on ClickHouse, with the interface of the one on DuckDB.

A write takes two moments. Its rows are made by DuckDB in memory, with the very SQL of the other store, and are put as
Parquet into a folder of this machine, the spool: with the folder's last name the write is done, and survives a kill.
They are then sent, table by table, each with a token that ClickHouse knows again, so sending twice puts nothing twice.
A write that cannot be sent yet waits, and is sent before the next begins.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilothouse.domain.errors import StoreError
from pilothouse.domain.ids import uuid7
from pilothouse.store.telemetry import clickhouse_recall
from pilothouse.store.telemetry.clickhouse_client import Server
from pilothouse.store.telemetry.clickhouse_spool import Spool, Writing
from pilothouse.store.telemetry.clickhouse_sql import Params
from pilothouse.store.telemetry.clickhouse_tables import (
    KEYS,
    UNKNOWN,
    Tables,
    as_made,
    columns,
    create,
    indexes,
    never_null,
    time_of,
)
from pilothouse.store.telemetry.duck import TelemetryStore
from pilothouse.store.telemetry.files import quoted
from pilothouse.store.telemetry.recall import Amend, Between, Recall
from pilothouse.store.telemetry.schema import SCHEMA_VERSION

_COLUMNS = """SELECT column_name, data_type FROM duckdb_columns()
WHERE table_name = ? AND NOT internal AND database_name = current_database()"""
_TABLE = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = $table"
_THERE = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = $table"
_SPACE = """SELECT coalesce(sum(bytes_on_disk), 0) FROM system.parts
WHERE active AND database = currentDatabase() AND ($table = '' OR table = $table)"""


class ClickHouseStore(TelemetryStore):
    """Opens the database at `clickhouse://user@host:port/database`, and makes or extends its tables.

    `spool`: a folder of this machine, for writes under way. Raises StoreError where the server cannot be reached, or
    has tables of a later version.
    """

    replaces = True

    def __init__(self, url: str, spool: Path, password: str = "") -> None:
        self.path = url
        self._server = Server(url, password)
        self._made = TelemetryStore(":memory:")
        self._sending = threading.RLock()
        self._under_way: Writing | None = None
        self.tables: Tables = {
            table: [(str(name), str(kind)) for name, kind in self._made.rows(_COLUMNS, [table])] for table in KEYS
        }
        with self._made.transaction() as made:
            made.execute("DELETE FROM meta")  # the server's is the one that counts
        version = self._migrate()
        self._spool = Spool(spool, self._server, self.tables)
        with self._sending:
            self._spool.send()
        self._made.number_entries(int(self.rows("SELECT coalesce(max(n), 0) FROM entries")[0][0]) + 1)
        if version < SCHEMA_VERSION:
            with self.transaction() as write:
                write.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])

    @staticmethod
    def look(url: str, password: str) -> None:
        """Raises StoreError where there is no such server, or it lets this user in not."""
        Server(url, password).close()

    def _migrate(self) -> int:
        """Tables and columns that have come since; what is there stays. The version that it was."""
        found = self.rows("SELECT value FROM meta WHERE key = 'schema_version'") if self._has("meta") else []
        version = int(found[0][0]) if found else 0
        if version > SCHEMA_VERSION:
            self._server.close()
            raise StoreError(
                f"the telemetry store has schema {version}, this version knows {SCHEMA_VERSION}",
                where=str(self.path),
                hint="upgrade pilothouse, or name another database",
            )
        for table, own in self.tables.items():
            self._server.command(create(table, own))
            there = {name for (name,) in self.rows(_THERE, {"table": table})}
            for column in columns(table, own):
                if column.split(" ", 1)[0].strip("`") not in there:
                    self._server.command(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}")
            for index in indexes(table) if 0 < version < SCHEMA_VERSION else ():
                self._server.command(f"ALTER TABLE {table} ADD INDEX IF NOT EXISTS {index}")
        return version

    def _has(self, table: str) -> bool:
        return bool(self.rows(_TABLE, {"table": table}))

    # ---- reading ---------------------------------------------------------------------------------------------

    def rows(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """The result as tuples; raises StoreError with the first line of what ClickHouse says."""
        return _answer(self._server.ask(sql, params))[1]

    def query(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """The result as dicts by column name; raises StoreError with the first line of what ClickHouse says."""
        return _dicts(self._server.ask(sql, params))

    @contextmanager
    def reading(self) -> Iterator[Callable[..., list[dict[str, Any]]]]:
        """Several queries that may keep temporary tables of their own. There is no snapshot: each sees its moment."""
        session = uuid7()
        yield lambda sql, params=(): _dicts(self._server.ask(sql, params, session))

    def copy(self, ask: Callable[..., Any], sql: str, table: str, into: Path, options: str) -> int:  # noqa: ARG002
        """Write the answer as a file, as the other store would; how many rows."""
        arrived = self._spool.file(f"{uuid7()}.arriving")
        try:
            self._server.fetch(sql, arrived)
            source = f"SELECT {as_made(table, self.tables[table])} FROM read_parquet({quoted(arrived)})"  # noqa: S608
            with self._made.reading() as made:
                return int(made(f"COPY ({source}) TO {quoted(into)} ({options})")[0]["Count"])
        finally:
            arrived.unlink(missing_ok=True)

    # ---- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[Any]:
        """The connection that rows are made with, outside a write."""
        with self._sending, self._made.writer() as made:
            self._spool.send()
            self._under_way = Writing(self._server, made)
            try:
                yield self._under_way
            finally:
                self._under_way = None

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A write: done at the end, undone on any error. What waited is sent before; this one as soon as can be."""
        with self._sending:
            self._spool.send()
            fresh = self._spool.begin()
            try:
                with self._made.transaction() as made:
                    writing = self._under_way or Writing(self._server, made)
                    writing.statements.clear()
                    yield writing
                    self._spool.put(fresh, writing)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            self._spool.send(patient=True)

    def stored(self, write: Any, table: str, window: tuple[int, int], key: Sequence[str]) -> str:
        """A relation of the write's connection with the table's rows of a window (µs), or what tells them apart."""
        time = time_of(table)
        names = list(dict.fromkeys((*(key or [name for name, _ in self.tables[table]]), time)))
        columns = ", ".join(f'"{name}"' for name in names)
        asked = f"{columns}, {UNKNOWN}" if never_null(table, self.tables[table]) else columns
        arrived = self._spool.file(f"{uuid7()}.arriving")
        try:
            self._server.fetch(
                f"SELECT {asked} FROM {table} WHERE {time} >= make_timestamp({window[0]}) "  # noqa: S608  # our own names
                f"AND {time} <= make_timestamp({window[1]})",
                arrived,
            )
            write.made.execute(
                f"CREATE OR REPLACE TEMP TABLE stored_rows AS SELECT {as_made(table, self.tables[table], names)} "  # noqa: S608
                f"FROM read_parquet({quoted(arrived)}) UNION ALL BY NAME SELECT {columns} FROM {table}"
            )
        finally:
            arrived.unlink(missing_ok=True)
        return "stored_rows"

    def recall(self, write: Any, what: Recall, between: Between) -> None:
        """Put the stored rows that are wanted into the temporary table `what.into`, on the writer's connection."""
        clickhouse_recall.recall(write, self._server.fetch, what, between)

    def amend(self, write: Any, what: Amend, between: Between) -> None:
        """Change stored rows, with the write that is under way."""
        clickhouse_recall.amend(write, self._server.fetch, self.tables[what.table], what, between)

    # ---- the rest of the interface ---------------------------------------------------------------------------

    @property
    def folder(self) -> Path | None:
        """There are no files of ours beside it."""
        return None

    def waiting(self) -> int:
        """Writes that are done and not sent yet."""
        return self._spool.waiting()

    def checkpoint(self) -> None:
        """Nothing to do: parts are merged by the server."""

    def space(self, table: str = "") -> tuple[int, int]:
        """Bytes of the server's parts, or of one table's, and none that are free."""
        return int(self.rows(_SPACE, {"table": table})[0][0]), 0

    def rewrite(self, within_s: float = 5.0) -> bool:  # noqa: ARG002  # the interface's
        """Let the server give back what deleted rows took."""
        for table in KEYS:
            self._server.command(f"OPTIMIZE TABLE {table} FINAL")
        return True

    def close(self) -> None:
        """Send what waits, if that can be, and let go."""
        with self._sending:
            self._spool.send(patient=True)
            self._made.close()
            self._server.close()


def _dicts(found: Any) -> list[dict[str, Any]]:
    names, rows = _answer(found)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _answer(found: Any) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and rows; what was unknown is so again."""
    if not hasattr(found, "column_names"):  # a statement's answer
        return [], []
    names = list(found.column_names)
    marks = [at for at, name in enumerate(names) if name.rpartition(".")[2] == UNKNOWN]
    if not marks:
        return names, [tuple(row) for row in found.result_rows]
    kept = [(at, name) for at, name in enumerate(names) if at not in marks]
    return [name for _, name in kept], [_restored(row, kept, marks) for row in found.result_rows]


def _restored(row: Sequence[Any], kept: list[tuple[int, str]], marks: list[int]) -> tuple[Any, ...]:
    unknown = {name for mark in marks for name in row[mark]}
    return tuple(None if name in unknown else row[at] for at, name in kept)
