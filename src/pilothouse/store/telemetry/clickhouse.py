"""The telemetry store on ClickHouse, with the interface of the one on DuckDB.

A write takes two moments. Its rows are made by DuckDB in memory, with the very SQL of the other store, and are put as
Parquet into a folder of this machine, the spool: with the folder's last name the write is done, and survives a kill.
They are then sent, table by table, each with a token that ClickHouse knows again, so sending twice puts nothing twice.
A write that cannot be sent yet waits, and is sent before the next begins.
"""

import importlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import duckdb

from pilothouse.domain.errors import StoreError
from pilothouse.domain.ids import uuid7
from pilothouse.store.telemetry import clickhouse_recall
from pilothouse.store.telemetry.clickhouse_sql import SETTINGS, Params, translate
from pilothouse.store.telemetry.clickhouse_tables import KEYS, KNOWN, ONCE, UNKNOWN, columns, create
from pilothouse.store.telemetry.duck import TelemetryStore
from pilothouse.store.telemetry.recall import Amend, Between, Recall
from pilothouse.store.telemetry.schema import SCHEMA_VERSION

_COLUMNS = """SELECT column_name, data_type FROM duckdb_columns()
WHERE table_name = ? AND NOT internal AND database_name = current_database()"""
_STORED = re.compile(r"^\s*(?:DELETE FROM|UPDATE)\s+(\w+)", re.IGNORECASE)
_FROM = re.compile(r"\b(?:FROM|UPDATE)\s+(\w+)", re.IGNORECASE)  # one made in memory alone is none of the server's
_LAST = ("load_positions", "meta")  # sent after what they speak of
_PORTS = {"clickhouse": 8123, "clickhouses": 8443}


class Writing:
    """The connection inside a write: rows are made in memory; what is removed is removed at once."""

    def __init__(self, store: "ClickHouseStore", made: duckdb.DuckDBPyConnection) -> None:
        self._store = store
        self._made = made
        self._count: int | None = None

    def execute(self, sql: str, params: Any = None) -> "Writing":
        """As DuckDB's; DELETE and UPDATE of a stored table answer with the number of rows."""
        found = _STORED.match(sql)
        self._count = None
        if found and "USING" not in sql and "RETURNING" not in sql and KEYS.keys() >= set(_FROM.findall(sql)):
            self._count = self._store.change(found.group(1), sql, params or ())
        self._made.execute(sql, params)
        return self

    def fetchone(self) -> Any:
        """The next row."""
        return self._made.fetchone() if self._count is None else (self._count,)

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        return self._made.fetchall() if self._count is None else [(self._count,)]

    @property
    def description(self) -> Any:
        """The columns of the answer."""
        return self._made.description


class ClickHouseStore(TelemetryStore):
    """Opens the database at `clickhouse://user@host:port/database`, and makes or extends its tables.

    `spool`: a folder of this machine, for writes under way. Raises StoreError where the server cannot be reached, or
    has tables of a later version.
    """

    def __init__(self, url: str, spool: Path, password: str = "") -> None:
        self._spool = spool
        self._url = url
        self._connect = _connector(url, password)
        self._client = self._connect()
        self._made = TelemetryStore(":memory:")
        self.path = ":memory:"  # there is no file of ours: nothing to roll, measure or rewrite
        self._sending = threading.RLock()
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.tables = {
            table: [(str(name), str(kind)) for name, kind in self._made.rows(_COLUMNS, [table])] for table in KEYS
        }
        self._migrate()
        with self._sending:
            self._clear()
            self._send_all()

    def _migrate(self) -> None:
        """Tables and columns that have come since; what is there stays."""
        found = self._ask("SELECT value FROM meta WHERE key = 'schema_version'") if self._has("meta") else []
        version = int(found[0][0]) if found else 0
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"the telemetry store has schema {version}, this version knows {SCHEMA_VERSION}",
                where=self._url,
                hint="upgrade pilothouse, or name another database",
            )
        for table, own in self.tables.items():
            self.command(create(table, own))
            there = {name for (name,) in self._ask(_THERE, {"table": table})}
            for column in columns(table, own):
                if column.split(" ", 1)[0].strip("`") not in there:
                    self.command(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}")
        if version < SCHEMA_VERSION:
            self.command(f"INSERT INTO meta VALUES ('schema_version', '{SCHEMA_VERSION}')")

    def _has(self, table: str) -> bool:
        return bool(self._ask(_TABLE, {"table": table}))

    # ---- reading ---------------------------------------------------------------------------------------------

    def rows(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """The result as tuples; raises StoreError with the first line of what ClickHouse says."""
        return self._ask(sql, params)

    def query(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """The result as dicts by column name; raises StoreError with the first line of what ClickHouse says."""
        return _dicts(self._asked(sql, params))

    def _ask(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._asked(sql, params).result_rows]

    def _asked(self, sql: str, params: Params, session: str = "") -> Any:
        text, bound = translate(sql, params)
        settings = SETTINGS | ({"session_id": session} if session else {})
        with _said("the telemetry store refused a query", self._url):
            if text.lstrip()[:6].upper() in ("CREATE", "DROP T"):
                return self._client.command(text, parameters=bound, settings=settings)
            return self._client.query(text, parameters=bound, settings=settings)

    @contextmanager
    def reading(self) -> Iterator[Callable[..., list[dict[str, Any]]]]:
        """Several queries that may keep temporary tables of their own. There is no snapshot: each sees its moment."""
        session = uuid7()
        yield lambda sql, params=(): _dicts(self._asked(sql, params, session))

    # ---- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[Any]:
        """The connection that rows are made with, outside a write."""
        with self._sending, self._made.writer() as made:
            self._send_all()
            yield Writing(self, made)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A write: done at the end, undone on any error but for what was deleted. What waited is sent before."""
        with self._sending:
            self._send_all()
            fresh = self._spool / f"{uuid7()}.part"
            fresh.mkdir(mode=0o700)
            try:
                with self._made.transaction() as made:
                    yield Writing(self, made)
                    files = self._put(made, fresh)
                if files:
                    _sync(fresh)
                    fresh.rename(fresh.with_suffix(".write"))
                    _sync(self._spool)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            self._send_all(patient=True)

    def _put(self, made: duckdb.DuckDBPyConnection, folder: Path) -> int:
        """The rows that were made, as files; the tables in memory are empty then."""
        files = 0
        for table, own in self.tables.items():
            row = made.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # our own names
            if row and row[0] and table != "meta":  # that is the memory's own
                path = folder / f"{table}.parquet"
                names = ", ".join(f'"{name}"' for name, _ in own)
                names += f", {UNKNOWN[table]} IS NOT NULL AS {UNKNOWN[table]}{KNOWN}" if table in UNKNOWN else ""
                made.execute(f"COPY (SELECT {names} FROM {table}) TO '{_literal(path)}' (FORMAT parquet)")  # noqa: S608
                _sync(path)
                made.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
                files += 1
        return files

    def _clear(self) -> None:
        for path in self._spool.glob("*.part"):
            shutil.rmtree(path, ignore_errors=True)

    def _send_all(self, *, patient: bool = False) -> None:
        """Send what waits, in order; `patient`: where the server cannot take it now, it waits on."""
        for folder in sorted(self._spool.glob("*.write")):
            try:
                self._send(folder)
            except StoreError:
                if patient:
                    return
                raise

    def _send(self, folder: Path) -> None:
        names = [path.stem for path in folder.glob("*.parquet")]
        for table in sorted(names, key=lambda name: (name in _LAST, name)):
            path = folder / f"{table}.parquet"
            self.insert(table, path, f"{folder.stem}:{table}")
            path.unlink()
        folder.rmdir()

    def insert(self, table: str, parquet: Path, token: str) -> None:
        """Insert a file's rows, once for a token."""
        names = [name for name, _ in self.tables[table]]
        names += [UNKNOWN[table] + KNOWN] if table in UNKNOWN else []
        with _said("rows cannot be sent to the telemetry store", self._url), parquet.open("rb") as file:
            self._client.raw_insert(
                table,
                column_names=names,
                insert_block=file.read(),
                fmt="Parquet",
                settings={"insert_deduplication_token": token, "insert_deduplicate": 1},
            )

    def fetch(self, sql: str, into: Path) -> None:
        """The answer of a query as a Parquet file."""
        text, bound = translate(sql)
        with _said("the telemetry store refused a query", self._url), into.open("wb") as file:
            with self._client.raw_stream(text, parameters=bound, settings=SETTINGS, fmt="Parquet") as stream:
                shutil.copyfileobj(stream, file)

    def recall(self, write: Any, what: Recall, between: Between) -> None:
        """Put the stored rows that are wanted into the temporary table `what.into`, on the writer's connection."""
        clickhouse_recall.recall(write, self.fetch, what, between)

    def amend(self, write: Any, what: Amend, between: Between) -> None:
        """Change stored rows, with the write that is under way."""
        clickhouse_recall.amend(write, self.fetch, what, between)

    def change(self, table: str, sql: str, params: Params) -> int:
        """DELETE or UPDATE, at once; how many rows it is about."""
        text, bound = translate(sql, params)
        where = text[re.search(r"\bWHERE\b", text).end() :] if re.search(r"\bWHERE\b", text) else "true"  # type: ignore[union-attr]
        head = text[: len(text) - len(where)]
        found = self._client_rows(f"SELECT count(*) FROM {table} WHERE {where}", bound)  # noqa: S608
        if not found[0][0]:
            return 0
        if head.lstrip().upper().startswith("UPDATE"):
            assigned = head[head.upper().index(" SET ") + 5 :].rpartition("WHERE")[0]
            self.command(f"ALTER TABLE {table} UPDATE {assigned} WHERE {where} SETTINGS mutations_sync = 1", bound)
        else:
            self.command(f"DELETE FROM {table} WHERE {where}", bound)
        return int(found[0][0])

    def _client_rows(self, text: str, bound: dict[str, Any]) -> list[tuple[Any, ...]]:
        with _said("the telemetry store refused a query", self._url):
            return [tuple(row) for row in self._client.query(text, parameters=bound, settings=SETTINGS).result_rows]

    def command(self, text: str, bound: dict[str, Any] | None = None) -> None:
        """A statement in ClickHouse's own words."""
        with _said("the telemetry store refused a statement", self._url):
            self._client.command(text, parameters=bound or {})

    # ---- the rest of the interface ---------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Nothing to do: parts are merged by the server."""

    def space(self) -> tuple[int, int]:
        """Bytes of the server's parts, and none that are free."""
        return int(self._ask(_SPACE)[0][0]), 0

    def rewrite(self, within_s: float = 5.0) -> bool:  # noqa: ARG002  # the interface's
        """Merge what is stored more than once; the server gives its space back by itself."""
        for table in ONCE:
            self.command(f"OPTIMIZE TABLE {table} FINAL")
        return True

    def close(self) -> None:
        """Send what waits, if that can be, and let go."""
        with self._sending:
            self._send_all(patient=True)
            self._made.close()
            self._client.close()


_TABLE = "SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = $table"
_SPACE = "SELECT coalesce(sum(bytes_on_disk), 0) FROM system.parts WHERE active AND database = currentDatabase()"
_THERE = "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = $table"


def _dicts(found: Any) -> list[dict[str, Any]]:
    if not hasattr(found, "column_names"):  # a statement's answer
        return []
    rows = [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]
    for mark in (name for name in UNKNOWN.values() if f"{name}{KNOWN}" in found.column_names):
        for row in rows:
            if not row.pop(f"{mark}{KNOWN}"):
                row[mark] = None
    return rows


def _connector(url: str, password: str) -> Callable[..., Any]:
    try:
        library = importlib.import_module("clickhouse_connect")
    except ImportError as error:
        raise StoreError(
            "ClickHouse needs the extra `clickhouse`", where="store", hint="pip install 'pilothouse[clickhouse]'"
        ) from error
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise StoreError("this is no ClickHouse address", where=url, hint="clickhouse://user@host:8123/database")

    def connect() -> Any:
        with _said("ClickHouse cannot be reached", url):
            return library.get_client(
                host=parts.hostname,
                port=parts.port or _PORTS[parts.scheme],
                username=unquote(parts.username or "default"),
                password=password,
                database=parts.path.strip("/") or "default",
                secure=parts.scheme == "clickhouses",
                autogenerate_session_id=False,
                tz_mode="naive_utc",
            )

    return connect


@contextmanager
def _said(what: str, where: str) -> Iterator[None]:
    """What the client or its server says, as ours."""
    errors: Sequence[type[Exception]] = (
        importlib.import_module("clickhouse_connect.driver.exceptions").ClickHouseError,
        OSError,
    )
    try:
        yield
    except tuple(errors) as error:
        reason = str(error).strip().partition("\n")[0][:500]
        raise StoreError(f"{what}: {reason}", where=where) from error


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
