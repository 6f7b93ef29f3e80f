"""Flags as the state store keeps them: what was changed at run time, and since when the files name them."""

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select, update

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Conflict
from pilothouse.domain.flag import FlagState
from pilothouse.domain.hashing import canonical
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import flags


class StoredFlag(msgspec.Struct, frozen=True, kw_only=True):
    """A flag in one environment. Times in µs since 1970. `declared` empty: the files do not name it any more."""

    key: str
    env: str
    state: FlagState = FlagState()
    declared: str = ""
    revision: int = 0
    first_us: int = 0
    changed_us: int = 0


def every(conn: Connection) -> dict[tuple[str, str], StoredFlag]:
    """All of them, by key and environment."""
    rows = conn.execute(select(flags).order_by(flags.c.key, flags.c.env)).mappings()
    return {(found.key, found.env): found for found in map(_stored, rows)}


def get(conn: Connection, key: str, env: str) -> StoredFlag | None:
    """One flag in one environment; None where it was never seen."""
    row = conn.execute(select(flags).where(flags.c.key == key, flags.c.env == env)).mappings().first()
    return _stored(row) if row is not None else None


def declare(conn: Connection, key: str, env: str, declared: str, clock: Clock) -> None:
    """Note what the files say of a flag now; its state stays."""
    now = clock.now_us()
    if get(conn, key, env) is None:
        fresh = StoredFlag(key=key, env=env, declared=declared, first_us=now, changed_us=now)
        conn.execute(insert(flags).values(_values(fresh)))
        return
    where = (flags.c.key == key, flags.c.env == env)
    conn.execute(update(flags).where(*where).values(declared=declared, changed_us=now))


def put(conn: Connection, stored: StoredFlag, clock: Clock) -> StoredFlag:
    """Write a state, whose `revision` is the one that was read; the stored one has the next.

    Raises Conflict where the stored revision is another: somebody changed it in between.
    """
    fresh = msgspec.structs.replace(stored, revision=stored.revision + 1, changed_us=clock.now_us())
    where = (flags.c.key == stored.key, flags.c.env == stored.env, flags.c.revision == stored.revision)
    if conn.execute(update(flags).where(*where).values(_values(fresh))).rowcount != 1:
        raise Conflict(
            f"the flag {stored.key} in {stored.env} has changed since revision {stored.revision}",
            hint="read it again and decide again",
        )
    return fresh


def _values(stored: StoredFlag) -> dict[str, object]:
    return msgspec.structs.asdict(stored) | {"state": canonical(stored.state).decode()}


def _stored(row: RowMapping) -> StoredFlag:
    return as_struct(row, StoredFlag, json=("state",))
