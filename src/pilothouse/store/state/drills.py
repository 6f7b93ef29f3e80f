"""Drills and real rollbacks: what was exercised, and how long it took."""

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from pilothouse.domain.clock import Clock
from pilothouse.domain.hashing import canonical
from pilothouse.domain.release import Rollback
from pilothouse.domain.release_facts import Drill
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import drills, rollbacks


def record(conn: Connection, drill: Drill, clock: Clock) -> Drill:
    """Store a drill (its `id` is ignored, its time is now where it has none)."""
    stored = msgspec.structs.replace(drill, ts_us=drill.ts_us or clock.now_us())
    values = {name: value for name, value in msgspec.structs.asdict(stored).items() if name != "id"}
    inserted = conn.execute(insert(drills).values(values | {"detail": canonical(stored.detail).decode()}))
    key = inserted.inserted_primary_key
    return msgspec.structs.replace(stored, id=int(key[0]) if key else 0)


def list_drills(conn: Connection, route: str, env: str | None = None, kind: str | None = None) -> list[Drill]:
    """Drills of a route, newest first."""
    query = select(drills).where(drills.c.route == route).order_by(drills.c.ts_us.desc(), drills.c.id.desc())
    if env is not None:
        query = query.where(drills.c.env == env)
    if kind is not None:
        query = query.where(drills.c.kind == kind)
    return [as_struct(row, Drill, json=("detail",)) for row in conn.execute(query).mappings()]


def forget(conn: Connection, kind: str, before_us: int) -> None:
    """Remove drills of a kind that are older: those that are done every hour would fill the store."""
    conn.execute(delete(drills).where(drills.c.kind == kind, drills.c.ts_us < before_us))


def add_rollback(conn: Connection, rollback: Rollback) -> int:
    """Store a rollback (its `id` is ignored); its id."""
    values = {name: value for name, value in msgspec.structs.asdict(rollback).items() if name != "id"}
    key = conn.execute(insert(rollbacks).values(values)).inserted_primary_key
    return int(key[0]) if key else 0


def propagated(conn: Connection, rollback_id: int, *, ms: float, workers: int) -> None:
    """Note how long it took from the command until `workers` workers had acknowledged the new table."""
    conn.execute(update(rollbacks).where(rollbacks.c.id == rollback_id).values(propagated_ms=ms, workers=workers))


def timed(conn: Connection, rollback_id: int, *, detect_us: int | None, decide_us: int) -> None:
    """Note when the harm was seen (None: nothing has told) and when the command came."""
    values = {"t_detect_us": detect_us, "t_decide_us": decide_us}
    conn.execute(update(rollbacks).where(rollbacks.c.id == rollback_id).values(values))


def last_bad(conn: Connection, rollback_id: int, ts_us: int) -> None:
    """Note when the last request on the release that was left began; known once the workers have acknowledged."""
    conn.execute(update(rollbacks).where(rollbacks.c.id == rollback_id).values(t_last_bad_us=ts_us))


def list_rollbacks(conn: Connection, route: str, env: str | None = None, limit: int = 100) -> list[Rollback]:
    """Rollbacks of a route, newest first."""
    query = select(rollbacks).where(rollbacks.c.route == route).order_by(rollbacks.c.id.desc()).limit(limit)
    if env is not None:
        query = query.where(rollbacks.c.env == env)
    return [as_struct(row, Rollback) for row in conn.execute(query).mappings()]
