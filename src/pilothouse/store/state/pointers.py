"""Pointers (route, environment → release) and the revision of the table made of them."""

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Conflict
from pilothouse.domain.release import Pointer
from pilothouse.store.state import postgres
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import pointers, table_revision


def get(conn: Connection, route: str, env: str) -> Pointer | None:
    """Where `route` points in `env`, None where it was never promoted there."""
    row = conn.execute(select(pointers).where(pointers.c.route == route, pointers.c.env == env)).mappings().first()
    return _pointer(row) if row is not None else None


def every(conn: Connection, route: str | None = None) -> list[Pointer]:
    """All pointers, or those of one route, by route and environment."""
    query = select(pointers).order_by(pointers.c.route, pointers.c.env)
    if route is not None:
        query = query.where(pointers.c.route == route)
    return [_pointer(row) for row in conn.execute(query).mappings()]


def put(conn: Connection, pointer: Pointer, clock: Clock) -> Pointer:
    """Write `pointer`, whose `revision` is the one that was read; the stored one has the next.

    Raises Conflict where the stored revision is another: somebody moved it in between.
    """
    stored = msgspec.structs.replace(pointer, revision=pointer.revision + 1, updated_us=clock.now_us())
    values = msgspec.structs.asdict(stored)
    where = (pointers.c.route == pointer.route, pointers.c.env == pointer.env)
    if pointer.revision == 0:
        if get(conn, pointer.route, pointer.env) is not None:
            raise _conflict(pointer)
        conn.execute(insert(pointers).values(values))
        return stored
    moved = conn.execute(update(pointers).where(*where, pointers.c.revision == pointer.revision).values(values))
    if moved.rowcount != 1:
        raise _conflict(pointer)
    return stored


def overwrite(conn: Connection, route: str, env: str, pointer: Pointer | None) -> None:
    """Make the row `pointer` to the letter, its revision too, or remove it: only to undo an edit beside the verbs."""
    conn.execute(delete(pointers).where(pointers.c.route == route, pointers.c.env == env))
    if pointer is not None:
        conn.execute(insert(pointers).values(msgspec.structs.asdict(pointer)))


def _conflict(pointer: Pointer) -> Conflict:
    return Conflict(
        f"the pointer of {pointer.route} in {pointer.env} has moved since revision {pointer.revision}",
        hint="read it again and decide again",
    )


def revision(conn: Connection) -> int:
    """The table's revision: 0 before anything was promoted."""
    return int(conn.execute(select(table_revision.c.revision)).scalar_one())


def next_revision(conn: Connection) -> int:
    """Count the table's revision up by one, in the transaction of what changed it; every control hears of it."""
    conn.execute(update(table_revision).values(revision=table_revision.c.revision + 1))
    counted = revision(conn)
    postgres.notify(conn, postgres.TABLE_CHANNEL, str(counted))
    return counted


def _pointer(row: RowMapping) -> Pointer:
    return as_struct(row, Pointer)
