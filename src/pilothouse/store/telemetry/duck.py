"""The telemetry store on DuckDB: one file, one process, one writer, any number of readers."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry.files import quoted, synced
from pilothouse.store.telemetry.recall import Amend, Between, Recall
from pilothouse.store.telemetry.schema import ADDED, SCHEMA_VERSION, TABLES

Params = Sequence[Any] | dict[str, Any]  # positional for `?`, or by name for `$name`
Ask = Callable[..., list[dict[str, Any]]]

MEMORY_LIMIT = "272MB"  # more goes to the disk beside the file; control as a whole stays below 600 MB
REVIVE_S = 1.0  # how long is waited for readers of a file that DuckDB has given up
THREADS = max(1, (os.cpu_count() or 2) // 2)  # the other half of the cores is for requests
# Nothing is fetched from a network, ever: what is needed is built in (core_functions, icu, json, parquet).
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "threads": THREADS,
    "memory_limit": MEMORY_LIMIT,
    "checkpoint_threshold": "128MB",  # the default writes a busy load twice, to the log and to the file
}
_LAST_ENTRY = "SELECT greatest((SELECT coalesce(max(n), 0) FROM entries), (SELECT coalesce(max(n), 0) FROM marks))"


class TelemetryStore:
    """Opens or creates the store; raises StoreError where the file is held by another process or from a later version.

    `query` may be called from any thread. There is one writer: `transaction` waits for the previous one. `replaces`: of
    two rows with one key the later takes the earlier's place by itself.
    """

    replaces = False

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._write_lock = threading.RLock()
        self._readers = 0
        self._gate = threading.Condition()  # held while the file is replaced: no query is under way then
        self._invalid = False  # DuckDB has given the file up, as it does when a checkpoint finds no room on the disk
        self._open()
        self._create()

    def _open(self) -> None:
        target = str(self.path)
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

    def _create(self) -> None:
        with self.transaction() as write:
            for table in TABLES:
                write.execute(table)
            write.execute("INSERT OR IGNORE INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
            row = write.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        version = int(row[0]) if row else SCHEMA_VERSION
        self._upgrade(version)
        self._number_entries()
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

    def _number_entries(self) -> None:
        """New entries get numbers that none has had, as far as anything tells."""
        row = self._writer.execute(_LAST_ENTRY).fetchone()
        self.number_entries(int(row[0]) + 1 if row else 1)

    def number_entries(self, begin: int) -> None:
        """The next entry's number."""
        self._writer.execute(f"CREATE OR REPLACE SEQUENCE entry_numbers START WITH {begin:d}")

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._root.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        return cursor

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note where DuckDB gives the file up; the next to use the store opens it again."""
        try:
            yield
        except duckdb.FatalException:
            self._invalid = True
            raise

    def _revive(self) -> None:
        """Open the file again where DuckDB had given it up: what was committed is in it, or in its log."""
        if not self._invalid:
            return
        with self._write_lock, self._gate:
            self._open_again()

    def _open_again(self) -> None:
        if self._invalid:  # nobody else was quicker
            if not self._gate.wait_for(lambda: not self._readers, REVIVE_S):
                raise StoreError("the telemetry store waits to be opened again", where=str(self.path))
            for connection in (self._writer, self._root):
                with suppress(duckdb.Error):
                    connection.close()
            self._open()
            self._invalid = False

    def _reader(self) -> duckdb.DuckDBPyConnection:
        self._revive()
        with self._gate, self._noting():
            cursor = self._cursor()
            self._readers += 1
        return cursor

    def _release(self, cursor: duckdb.DuckDBPyConnection) -> None:
        cursor.close()
        with self._gate:
            self._readers -= 1
            self._gate.notify_all()

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
        try:
            cursor = self._reader()
        except duckdb.Error as e:
            raise StoreError(f"the telemetry store cannot be read: {_first_line(e)}", where=str(self.path)) from e
        cursor.execute("BEGIN")

        def ask(sql: str, params: Params = ()) -> list[dict[str, Any]]:
            try:
                with self._noting():
                    cursor.execute(sql, params if isinstance(params, dict) else list(params))
                names = [column[0] for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            except duckdb.Error as e:
                raise StoreError(f"the telemetry store refused a query: {_first_line(e)}", where=str(self.path)) from e

        try:
            yield ask
        finally:
            self._release(cursor)  # ends the transaction; there is nothing to keep

    def _run(self, sql: str, params: Params) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            cursor = self._reader()
            try:
                with self._noting():
                    cursor.execute(sql, params if isinstance(params, dict) else list(params))
                names = [column[0] for column in cursor.description or ()]
                return names, cursor.fetchall()
            finally:
                self._release(cursor)
        except duckdb.Error as e:
            raise StoreError(f"the telemetry store refused a query: {_first_line(e)}", where=str(self.path)) from e

    @contextmanager
    def writer(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The single writer's connection, outside a transaction: for staging into temporary tables."""
        with self._write_lock, self._noting():
            self._revive()
            yield self._writer

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The single writer's connection inside a transaction: committed at the end, undone on any error."""
        with self._write_lock, self._noting():
            self._revive()
            self._writer.execute("BEGIN")
            committed = False
            try:
                yield self._writer
                self._writer.execute("COMMIT")
                committed = True
            finally:
                if not committed:
                    # A failed COMMIT has ended it already, or DuckDB has given the file up.
                    with suppress(duckdb.TransactionException, duckdb.FatalException):
                        self._writer.execute("ROLLBACK")

    def copy(self, ask: Ask, sql: str, table: str, into: Path, options: str) -> int:  # noqa: ARG002
        """Write the answer to a question of `reading` as a file; how many rows. `table`: whose columns it has."""
        return int(ask(f"COPY ({sql}) TO {quoted(into)} ({options})")[0]["Count"])

    def stored(self, write: Any, table: str, window: tuple[int, int], key: Sequence[str]) -> str:  # noqa: ARG002
        """A relation, for the write under way, with the table's rows of a window (µs) at least."""
        return table

    @property
    def folder(self) -> Path | None:
        """Where its files are; None where it has none."""
        return None if str(self.path) == ":memory:" else Path(self.path).absolute().parent

    def recall(self, write: Any, what: Recall, between: Between) -> None:
        """Put the stored rows that are wanted into the temporary table `what.into`, on the writer's connection."""
        write.execute(f"{what.put} ({what.select(between, what.among)})")

    def amend(self, write: Any, what: Amend, between: Between) -> None:
        """Change stored rows, inside the caller's transaction."""
        write.execute(what.update(between))

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file."""
        with self._write_lock, self._noting():
            self._revive()
            self._writer.execute("CHECKPOINT")

    def space(self, table: str = "") -> tuple[int, int]:  # noqa: ARG002  # of a file it is not known
        """Bytes of the file (and its log) that hold something, and bytes that deleted rows left free in it.

        `table`: of that one alone, where the store can tell.
        """
        if str(self.path) == ":memory:":
            return 0, 0
        row = self.query("SELECT block_size, used_blocks, free_blocks FROM pragma_database_size()")[0]
        log = Path(f"{self.path}.wal")
        logged = log.stat().st_size if log.exists() else 0
        return row["block_size"] * row["used_blocks"] + logged, row["block_size"] * row["free_blocks"]

    def rewrite(self, within_s: float = 5.0) -> bool:
        """Replace the file by one without free space. Writers wait; readers only while the files change places.

        False where readers left no such moment `within_s`. Raises StoreError; the old file stays whole until the new
        one is, so a kill at any point costs nothing.
        """
        path = Path(self.path)
        fresh = path.with_name(f"{path.name}.fresh")
        with self._write_lock:
            try:
                _discard(fresh)
                self._writer.execute("CHECKPOINT")
                self._writer.execute(f"ATTACH {quoted(fresh)} AS fresh")
                try:
                    name = self._writer.execute("SELECT current_database()").fetchall()[0][0]
                    self._writer.execute(f'COPY FROM DATABASE "{name}" TO fresh')
                finally:
                    self._writer.execute("DETACH fresh")  # and with that, checkpoint it
                return self._exchange(fresh, path, within_s)
            except (duckdb.Error, OSError) as e:
                raise StoreError(f"the store cannot be written anew: {_first_line(e)}", where=str(path)) from e
            finally:
                _discard(fresh)

    def _exchange(self, fresh: Path, path: Path, within_s: float) -> bool:
        synced(fresh)
        with self._gate:
            if not self._gate.wait_for(lambda: not self._readers, within_s):
                return False
            self._writer.close()
            self._root.execute("CHECKPOINT")  # there is no log beside the file then
            self._root.close()
            try:
                fresh.replace(path)
            finally:
                self._open()
                self._number_entries()
        return True

    def close(self) -> None:
        """Checkpoint and close; later calls raise StoreError."""
        with self._write_lock:
            self._writer.close()
            if str(self.path) != ":memory:":
                self._root.execute("CHECKPOINT")
            self._root.close()


def _discard(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}.wal")):
        name.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
