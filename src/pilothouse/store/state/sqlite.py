"""The state store in a SQLite file: WAL, one writer at a time, readable by its owner alone."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from pilothouse.domain.errors import StoreError

BUSY_TIMEOUT_MS = 5_000
WRITE = "pilothouse_write"  # the execution option that marks a transaction that writes


def make_private(path: Path) -> None:
    """Make the file and its folder where they are missing; the file is its owner's alone. StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)
        path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"cannot open the state store: {error.strerror}", where=str(path)) from error


def engine(path: Path) -> Engine:
    """An engine whose transactions begin themselves, with the write lock where they are marked with `WRITE`."""
    made = create_engine(f"sqlite:///{path}")

    @event.listens_for(made, "connect")
    def _connected(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: `_begun` does
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(made, "begin")
    def _begun(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get(WRITE) else "BEGIN")

    return made
