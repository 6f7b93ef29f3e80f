"""The state store, opened: in SQLite or in PostgreSQL, one writer at a time, migrated when it is opened."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from pilothouse.domain.errors import StoreError
from pilothouse.store.state import grants, postgres, sqlite
from pilothouse.store.state.postgres import Server

HEAD = "v0008"  # a test holds it to the newest migration; opening a store at HEAD runs no migration code


class StateStore:
    """Opens (or makes) the SQLite file at `place`, or the database of a Server, and brings it to the newest schema.

    `write` and `read` give a Connection with a transaction around it. Raises StoreError where the file
    is no database, the server does not answer, the schema is a newer version's, or a lock is held for 5 s.
    """

    def __init__(self, place: Path | Server) -> None:
        self.place = place
        if isinstance(place, Server):
            self.engine = postgres.engine(place)
        else:
            sqlite.make_private(place)
            self.engine = sqlite.engine(place)
        with ExitStack() as undo:
            undo.callback(self.engine.dispose)
            self._migrate()
            undo.pop_all()

    @property
    def server(self) -> Server | None:
        """The database server, None where the store is this host's own file."""
        return self.place if isinstance(self.place, Server) else None

    @property
    def path(self) -> Path | None:
        """The file, None where the store is in a server."""
        return self.place if isinstance(self.place, Path) else None

    def _migrate(self) -> None:
        if self._revision() == HEAD:
            return
        with self.write() as conn:
            found = schema(conn)  # read again: another process may have migrated while we waited
            if found == HEAD:
                return
            if found is not None and found > HEAD:
                raise StoreError(
                    f"the state store has schema {found}, newer than {HEAD}",
                    where=str(self.place),
                    hint="run the version of pilothouse that wrote it",
                )
            if not grants.may_migrate(conn):
                raise StoreError(
                    f"the state store has schema {found or 'none'}, and this role may not bring it to {HEAD}",
                    where=str(self.place),
                    hint="let the tables' owner do it: `pilothouse store grants ROLE --owner postgresql://…`",
                )
            upgrade(conn)

    def _revision(self) -> str | None:
        with self.read() as conn:
            return schema(conn)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first statement; committed at the end, or not at all."""
        with self._errors():
            if self.server is not None:
                with postgres.connected(self.engine, write=True) as conn, postgres.writing(conn, self.engine):
                    yield conn
            else:
                with self.engine.connect().execution_options(**{sqlite.WRITE: True}) as conn, conn.begin():
                    yield conn

    @contextmanager
    def beat(self) -> Iterator[Connection]:
        """A transaction without the write lock, for rows that this process alone writes."""
        with self._errors(), self._connected(write=True) as conn, conn.begin():
            yield conn

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot for reading; never waits for a writer."""
        with self._errors(), self._connected(write=False) as conn, conn.begin():
            yield conn

    def _connected(self, *, write: bool) -> Connection:
        return self.engine.connect() if self.server is None else postgres.connected(self.engine, write=write)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Failures of the database as StoreError; `store_away` where the server left and nothing was written."""
        try:
            yield
        except DatabaseError as error:
            where, said = str(self.place), str(error.orig).strip()
            if self.server is not None and postgres.lost(error):
                raise StoreError(
                    f"the state store's server left in the middle: {said}",
                    where=where,
                    hint="nothing of this was written; do it again when the server is back",
                    code="store_away",
                ) from error
            if isinstance(error, OperationalError):
                hint = "another process holds it" if "lock" in said else ""
                raise StoreError(f"the state store failed: {said}", where=where, hint=hint) from error
            raise StoreError(f"the state store refused: {said}", where=where) from error

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def schema(conn: Connection) -> str | None:
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
