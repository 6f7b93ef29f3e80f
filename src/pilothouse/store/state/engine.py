"""The state store: SQLite in WAL mode, one writer at a time, migrated when it is opened."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from pilothouse.domain.errors import StoreError

HEAD = "v0005"  # a test holds it to the newest migration; opening a store at HEAD runs no migration code
BUSY_TIMEOUT_MS = 5_000
_WRITE = "pilothouse_write"


class StateStore:
    """Opens (or makes) the database at `path`, readable by its owner alone, and brings it to the newest schema.

    `write` and `read` give a Connection with a transaction around it. Raises StoreError where the file
    is no database, belongs to a newer version, or stays locked for 5 s.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600, exist_ok=True)
            path.chmod(0o600)
        except OSError as error:
            raise StoreError(f"cannot open the state store: {error.strerror}", where=str(path)) from error
        self.engine = _engine(path)
        with ExitStack() as undo:
            undo.callback(self.engine.dispose)
            self._migrate()
            undo.pop_all()

    def _migrate(self) -> None:
        if self._revision() == HEAD:
            return
        with self.write() as conn:
            found = _revision(conn)  # read again: another process may have migrated while we waited
            if found == HEAD:
                return
            if found is not None and found > HEAD:
                raise StoreError(
                    f"the state store has schema {found}, newer than {HEAD}",
                    where=str(self.path),
                    hint="run the version of pilothouse that wrote it",
                )
            upgrade(conn)

    def _revision(self) -> str | None:
        with self.read() as conn:
            return _revision(conn)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement; committed at the end, or not at all."""
        with self._transaction(write=True) as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot for reading; never waits for a writer."""
        with self._transaction(write=False) as conn:
            yield conn

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        try:
            with self.engine.connect().execution_options(**{_WRITE: write}) as conn, conn.begin():
                yield conn
        except OperationalError as error:
            hint = "another process holds it" if "locked" in str(error.orig) else ""
            raise StoreError(f"the state store failed: {error.orig}", where=str(self.path), hint=hint) from error
        except DatabaseError as error:
            raise StoreError(f"the state store refused: {error.orig}", where=str(self.path)) from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: `_begun` does
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get(_WRITE) else "BEGIN")

    return engine


def _revision(conn: Connection) -> str | None:
    """The schema's revision, None in an empty database."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(conn: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` inside the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = conn
    log = logging.getLogger("alembic")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        command.upgrade(config, revision)
    finally:
        log.setLevel(before)
