"""Writes to ClickHouse. What a write has made lies in a folder of this machine, the spool, before it is sent.

    <id>.part       being made: forgotten at the next start
    <id>.write      done: statements.json, then TABLE.parquet for each table, each deleted once the server has it

Statements may be repeated, and rows are sent with a token that the server knows again: a kill between being sent and
being deleted puts nothing twice.
"""

import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec

from pilothouse.domain.errors import StoreError
from pilothouse.domain.ids import uuid7
from pilothouse.store.telemetry.clickhouse_client import Server
from pilothouse.store.telemetry.clickhouse_sql import Params, translate
from pilothouse.store.telemetry.clickhouse_tables import KEYS, UNKNOWN, Tables, never_null, partitioned
from pilothouse.store.telemetry.files import quoted, synced

STATEMENTS = "statements.json"
_LAST = ("load_positions", "meta")  # sent after what they speak of
_DAY_US = 86_400_000_000
_STORED = re.compile(r"^\s*(DELETE FROM|UPDATE)\s+(\w+)", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(?:FROM|UPDATE|JOIN)\s+(\w+)", re.IGNORECASE
)  # one made in memory alone is none of the server's
_DAY = re.compile(
    r"\s*DELETE FROM \w+ WHERE (\w+) >= make_timestamp\(\?::BIGINT\) AND \1 < make_timestamp\(\?::BIGINT\) "
    r"AND \((.*)\)",
    re.DOTALL,
)


class Statement(NamedTuple):
    """In ClickHouse's words."""

    text: str
    bound: dict[str, Any]


class Writing:
    """The connection inside a write: rows are made in memory; DELETE and UPDATE of stored tables wait for its end."""

    def __init__(self, server: Server, made: duckdb.DuckDBPyConnection) -> None:
        self.statements: list[Statement] = []
        self.made = made
        self._server = server
        self._count: int | None = None

    def execute(self, sql: str, params: Any = None) -> "Writing":
        """As DuckDB's; DELETE and UPDATE of a stored table answer with the number of rows that it is about."""
        found = _STORED.match(sql)
        self._count = None
        if found and "USING" not in sql and "RETURNING" not in sql and KEYS.keys() >= set(_NAMED.findall(sql)):
            self._count = self._change(found.group(2), sql, params or ())
        self.made.execute(sql, params)
        return self

    def _change(self, table: str, sql: str, params: Params) -> int:
        statement, condition = changing(table, sql, params)
        found = self._server.ask(f"SELECT count(*) FROM {table} {condition}", params)  # noqa: S608  # from our own SQL
        count = int(found.result_rows[0][0])
        if count:
            self.statements.append(statement)
        return count

    def fetchone(self) -> Any:
        """The next row."""
        return self.made.fetchone() if self._count is None else (self._count,)

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        return self.made.fetchall() if self._count is None else [(self._count,)]

    @property
    def description(self) -> Any:
        """The columns of the answer."""
        return self.made.description


def changing(table: str, sql: str, params: Params) -> tuple[Statement, str]:
    """A DELETE or UPDATE as ClickHouse takes it, and its condition as it stood. A whole day goes as its partition."""
    head, where, condition = sql.partition(" WHERE ")
    told = f"WHERE {condition}" if where else ""
    text, bound = translate(sql, params)
    if day := _day(table, sql, params):
        if condition.endswith("AND (true)"):
            return Statement(f"ALTER TABLE {table} DROP PARTITION '{day}'", {}), told
        text = text.replace(" WHERE ", f" IN PARTITION '{day}' WHERE ", 1)
    if head.lstrip().upper().startswith("UPDATE"):
        if "?" in head:
            raise StoreError("an UPDATE sets what is given to it", where=table, hint="please report this")
        _, _, assigned = text.partition(" SET ")
        text = f"ALTER TABLE {table} UPDATE {assigned}"
    return Statement(text, bound), told


def _day(table: str, sql: str, params: Params) -> str:
    """The day (UTC) that a DELETE is all about, where it is; what is of other days need not be looked at then."""
    if not _DAY.fullmatch(sql) or isinstance(params, Mapping) or not partitioned(table):
        return ""
    since_us, until_us = params
    whole = since_us % _DAY_US == 0 and until_us - since_us == _DAY_US
    return str(datetime.fromtimestamp(since_us / 1e6, UTC).date()) if whole else ""


class Spool:
    """The writes that are done and not sent. Used by one thread at a time."""

    def __init__(self, folder: Path, server: Server, tables: Tables) -> None:
        self._folder = folder
        self._server = server
        self._tables = tables
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.glob("*.part"):
            shutil.rmtree(path, ignore_errors=True)

    def file(self, name: str) -> Path:
        """A file beside the writes, for what is on its way."""
        return self._folder / name

    def waiting(self) -> int:
        """How many writes wait."""
        return len(list(self._folder.glob("*.write")))

    def begin(self) -> Path:
        """A folder for a write."""
        fresh = self._folder / f"{uuid7()}.part"
        fresh.mkdir(mode=0o700)
        return fresh

    def put(self, fresh: Path, writing: Writing) -> None:
        """Finish a write: what it made is on the disk, under its last name, when this returns."""
        files = [self._rows(writing.made, table, fresh) for table in self._tables]
        if writing.statements:
            path = fresh / STATEMENTS
            path.write_bytes(msgspec.json.encode(writing.statements))
            synced(path)
        if any(files) or writing.statements:
            synced(fresh)
            fresh.rename(fresh.with_suffix(".write"))
            synced(self._folder)

    def _rows(self, made: duckdb.DuckDBPyConnection, table: str, folder: Path) -> bool:
        """A table's new rows as a file, if there are any; it is empty in memory then."""
        row = made.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # our own names
        if not row or not row[0]:
            return False
        path = folder / f"{table}.parquet"
        own = self._tables[table]
        unknown = ", ".join(f"CASE WHEN \"{name}\" IS NULL THEN '{name}' END" for name in never_null(table, own))
        names = ", ".join(f'"{name}"' for name, _ in own)
        if unknown:
            names += f", list_filter([{unknown}], lambda name: name IS NOT NULL) AS {UNKNOWN}"
        made.execute(f"COPY (SELECT {names} FROM {table}) TO {quoted(path)} (FORMAT parquet)")  # noqa: S608
        synced(path)
        made.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
        return True

    def send(self, *, patient: bool = False) -> None:
        """Send what waits, in order; `patient`: where the server cannot take it now, it waits on."""
        for folder in sorted(self._folder.glob("*.write")):
            try:
                self._send(folder)
            except StoreError:
                if patient:
                    return
                raise

    def _send(self, folder: Path) -> None:
        first = folder / STATEMENTS
        if first.exists():
            for statement in msgspec.json.decode(first.read_bytes(), type=list[Statement]):
                self._server.command(statement.text, statement.bound)
            first.unlink()
        names = [path.stem for path in folder.glob("*.parquet")]
        for table in sorted(names, key=lambda name: (name in _LAST, name)):
            path = folder / f"{table}.parquet"
            own = self._tables[table]
            columns = [name for name, _ in own] + ([UNKNOWN] if never_null(table, own) else [])
            self._server.insert(table, columns, path, f"{folder.stem}:{table}")
            path.unlink()
        folder.rmdir()
