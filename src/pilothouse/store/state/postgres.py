"""The state store in PostgreSQL, for more than one host: connections, the write lock, the leader's lock, the news.

One database is one installation. Sessions must be PostgreSQL's own (or a pooler's in session mode): LISTEN and the
leader's lock belong to a session. PostgreSQL 14 or newer.
"""

import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from pilothouse.domain.errors import StateError, StoreError

LOCK_MS = 5_000  # as SQLite's busy timeout
STATEMENT_MS = 30_000
LEAD_IDLE_MS = 5_000  # a leader that is frozen leads no more; one that is well asks every second
RETURN_S = 10.0  # a server that is being started again has this long to come back
TABLE_CHANNEL, HOSTS_CHANNEL = "pilothouse_table", "pilothouse_hosts"
_WRITER, _LEADER = 0x70687702, 0x70686C02  # advisory locks; numbers of our own
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.25


class Server(msgspec.Struct, frozen=True):
    """A database: `url` as libpq reads it, without a password; `password` is its value, empty where none is needed."""

    url: str
    password: str = ""

    def __str__(self) -> str:
        parts = urllib.parse.urlsplit(self.url)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))

    def __repr__(self) -> str:
        return f"Server({self})"


def _settings(server: Server, *, idle_ms: int = 0) -> dict[str, Any]:
    """How every connection is made: quick to notice a server or a network that is gone, on both of its ends.

    `idle_ms`: a session that asks nothing for so long is ended by the server (0: never). The password goes beside the
    address, which an error may show.
    """
    password = {"password": server.password} if server.password else {}
    theirs = {
        "statement_timeout": STATEMENT_MS,
        "lock_timeout": LOCK_MS,
        "idle_in_transaction_session_timeout": 60_000,
        "idle_session_timeout": idle_ms,
        "tcp_keepalives_idle": 2,
        "tcp_keepalives_interval": 1,
        "tcp_keepalives_count": 3,
    }
    return {
        "connect_timeout": 3,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,
        "application_name": "pilothouse",
        "options": " ".join(f"-c {name}={value}" for name, value in theirs.items()),
        **password,
    }


def _driver() -> Any:
    try:
        import psycopg  # noqa: PLC0415  # optional extra
    except ImportError as error:
        raise StateError(
            "state in PostgreSQL needs an extra", hint="pip install 'pilothouse[postgres]'", code="missing_extra"
        ) from error
    return psycopg


def engine(server: Server) -> Engine:
    """An engine over `server`. StateError without the extra, StoreError where the address is none."""
    _driver()
    try:
        url = make_url(server.url).set(drivername="postgresql+psycopg")
    except ArgumentError as error:
        raise StoreError(f"this is no address of a database: {error}", where=str(server)) from error
    return create_engine(url, pool_size=5, max_overflow=10, pool_pre_ping=True, connect_args=_settings(server))


def connected(made: Engine, *, write: bool) -> Connection:
    """A connection, asked for again with back-off for RETURN_S: a server that is started again comes back.

    A reader sees one snapshot from its first statement on.
    """
    options = {} if write else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    deadline, wait = time.monotonic() + RETURN_S, _FIRST_WAIT_S
    while True:
        try:
            return made.connect().execution_options(**options)
        except DBAPIError as error:
            if time.monotonic() > deadline or not _comes_back(error):
                raise
            time.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)


def _comes_back(error: DBAPIError) -> bool:
    """Whether asking again can help: not where the server has answered that this user or database is wrong."""
    state = getattr(error.orig, "sqlstate", None)
    said = str(error.orig)
    return state in ("57P01", "57P02", "57P03") or not (state or "FATAL" in said) or "system is" in said


@contextmanager
def writing(conn: Connection, made: Engine) -> Iterator[None]:
    """The write lock, then the caller's work, then the commit. One writer at a time over all hosts, as in SQLite.

    A connection that breaks in the commit leaves the question whether it was written: the server is asked.
    """
    with conn.begin() as transaction:
        lock = text("SELECT pg_advisory_xact_lock(:key), CAST(pg_current_xact_id() AS text)")
        ident = str(conn.execute(lock, {"key": _WRITER}).one()[1])
        yield
        try:
            transaction.commit()
        except DBAPIError as error:
            if not (lost(error) and _was_committed(made, ident)):
                raise


def _was_committed(made: Engine, ident: str) -> bool:
    """Whether the server has committed the transaction; an error of its own where the server does not come back."""
    deadline = time.monotonic() + RETURN_S
    with connected(made, write=True) as conn:
        while True:
            try:
                status = conn.execute(text("SELECT pg_xact_status(CAST(:id AS xid8))"), {"id": ident}).scalar()
            except DBAPIError:
                conn.rollback()
                return False  # a number that the server has not come to: it crashed before it was on disk
            conn.rollback()
            if status != "in progress" or time.monotonic() > deadline:
                return bool(status == "committed")
            time.sleep(_LONGEST_WAIT_S)


def lost(error: DBAPIError) -> bool:
    """Whether the connection broke, rather than a statement being refused."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(("08", "57P")) or (not state and "connect" in str(error))


def notify(conn: Connection, channel: str, said: str = "") -> None:
    """Tell every control, when and only when the caller's transaction is committed; nothing to do in SQLite."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_notify(:channel, :said)"), {"channel": channel, "said": said})


async def listen(server: Server, heard: Callable[[str], None]) -> None:
    """Call `heard` with the channel of every notification, and once with "" when it listens.

    Runs until the connection breaks (StoreError) or it is cancelled. What was said in between is lost: poll too.
    """
    psycopg = _driver()
    try:
        async with await psycopg.AsyncConnection.connect(server.url, autocommit=True, **_settings(server)) as conn:
            for channel in (TABLE_CHANNEL, HOSTS_CHANNEL):
                await conn.execute(f"LISTEN {channel}".encode())
            heard("")
            async for note in conn.notifies():
                heard(note.channel)
    except psycopg.Error as error:
        raise StoreError(f"the state store's news broke off: {error}".strip(), where=str(server)) from error


class Lead:
    """The leader's lock: one session in the whole installation has it, and loses it when its connection ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._driver = _driver()
        self._conn: Any = None
        self._held = False

    def hold(self) -> bool:
        """Take the lock where it is free; whether we have it now. Blocking; False where the server does not answer."""
        try:
            if self._conn is None:
                self._conn = self._driver.connect(
                    self._server.url, autocommit=True, **_settings(self._server, idle_ms=LEAD_IDLE_MS)
                )
            if self._held:
                self._conn.execute("SELECT 1")
            else:
                found = self._conn.execute("SELECT pg_try_advisory_lock(%s::bigint)", [_LEADER]).fetchone()
                self._held = bool(found[0])
        except self._driver.Error:
            self.close()
        return self._held

    def close(self) -> None:
        """Give the lock up, at once where the server answers."""
        held, self._held = self._held, False
        if self._conn is not None:
            with suppress(self._driver.Error):
                if held:
                    self._conn.execute("SELECT pg_advisory_unlock(%s::bigint)", [_LEADER])
            self._conn.close()
            self._conn = None
