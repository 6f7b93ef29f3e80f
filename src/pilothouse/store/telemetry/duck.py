"""The telemetry store on DuckDB: one file, one process, one writer, any number of readers."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry.schema import ADDED, SCHEMA_VERSION, TABLES

Params = Sequence[Any] | dict[str, Any]  # positional for `?`, or by name for `$name`

MEMORY_LIMIT = "1GB"
THREADS = max(1, (os.cpu_count() or 2) // 2)  # the other half of the cores is for requests
# Nothing is fetched from a network, ever: what is needed is built in (core_functions, icu, json, parquet).
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "threads": THREADS,
    "memory_limit": MEMORY_LIMIT,
    "checkpoint_threshold": "128MB",  # the default writes a busy load twice, to the log and to the file
}


class TelemetryStore:
    """Opens or creates the store; raises StoreError where the file is held by another process or from a later version.

    `query` may be called from any thread. There is one writer: `transaction` waits for the previous one.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        target = str(path)
        try:
            if target != ":memory:":
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            self._root = duckdb.connect(target, config=_CONFIG)
        except (duckdb.Error, OSError) as e:
            raise StoreError(
                f"cannot open the telemetry store: {e}",
                where=target,
                hint="only one process may open it: is another control process running?",
            ) from e
        self._root.execute("SET TimeZone = 'UTC'")
        self._writer = self._cursor()
        self._write_lock = threading.RLock()
        self._create()

    def _create(self) -> None:
        with self.transaction() as write:
            for table in TABLES:
                write.execute(table)
            write.execute("INSERT OR IGNORE INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
            row = write.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        version = int(row[0]) if row else SCHEMA_VERSION
        self._upgrade(version)
        if version > SCHEMA_VERSION:
            self._root.close()
            raise StoreError(
                f"the telemetry store has schema {version}, this version knows {SCHEMA_VERSION}",
                where=str(self.path),
                hint="upgrade pilothouse, or start with another data directory",
            )

    def _upgrade(self, version: int) -> None:
        """Give a store of an earlier version the columns that have come since."""
        later = [changes for since, changes in ADDED.items() if since > version]
        if not later:
            return
        with self.transaction() as write:
            for changes in later:
                for table, columns in changes.items():
                    for column in columns:
                        write.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}")
            write.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(SCHEMA_VERSION)])

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._root.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        return cursor

    def rows(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """The result as tuples; raises StoreError with the first line of what DuckDB says."""
        return self._run(sql, params)[1]

    def query(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """The result as dicts by column name; raises StoreError with the first line of what DuckDB says."""
        names, rows = self._run(sql, params)
        return [dict(zip(names, row, strict=True)) for row in rows]

    @contextmanager
    def reading(self) -> Iterator[Callable[..., list[dict[str, Any]]]]:
        """Several queries over one snapshot, which may keep temporary tables of their own: `ask(sql, params)`."""
        cursor = self._cursor()
        cursor.execute("BEGIN")

        def ask(sql: str, params: Params = ()) -> list[dict[str, Any]]:
            try:
                cursor.execute(sql, params if isinstance(params, dict) else list(params))
                names = [column[0] for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            except duckdb.Error as e:
                raise StoreError(f"the telemetry store refused a query: {_first_line(e)}", where=str(self.path)) from e

        try:
            yield ask
        finally:
            cursor.close()  # ends the transaction; there is nothing to keep

    def _run(self, sql: str, params: Params) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            cursor = self._cursor()
            try:
                cursor.execute(sql, params if isinstance(params, dict) else list(params))
                names = [column[0] for column in cursor.description or ()]
                return names, cursor.fetchall()
            finally:
                cursor.close()
        except duckdb.Error as e:
            raise StoreError(f"the telemetry store refused a query: {_first_line(e)}", where=str(self.path)) from e

    @contextmanager
    def writer(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The single writer's connection, outside a transaction: for staging into temporary tables."""
        with self._write_lock:
            yield self._writer

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The single writer's connection inside a transaction: committed at the end, undone on any error."""
        with self._write_lock:
            self._writer.execute("BEGIN")
            committed = False
            try:
                yield self._writer
                self._writer.execute("COMMIT")
                committed = True
            finally:
                if not committed:
                    with suppress(duckdb.TransactionException):  # a failed COMMIT has ended it already
                        self._writer.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file."""
        with self._write_lock:
            self._writer.execute("CHECKPOINT")

    def close(self) -> None:
        """Checkpoint and close; later calls raise StoreError."""
        with self._write_lock:
            self._writer.close()
            if str(self.path) != ":memory:":
                self._root.execute("CHECKPOINT")
            self._root.close()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
