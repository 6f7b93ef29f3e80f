"""What providers were seen to serve, and how pinned questions were answered day by day."""

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from pilothouse.domain.drift import ProbeDay, Sighting
from pilothouse.domain.hashing import canonical
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import probe_days, sightings


def of_model(conn: Connection, provider: str, model: str) -> list[Sighting]:
    """Everything that was seen of a model, first seen first."""
    query = select(sightings).where(sightings.c.provider == provider, sightings.c.model == model)
    rows = conn.execute(query.order_by(sightings.c.first_us)).mappings()
    return [as_struct(row, Sighting) for row in rows]


def newest_us(conn: Connection) -> int:
    """When anything was last seen; 0 where nothing was."""
    return int(conn.execute(select(func.max(sightings.c.last_us))).scalar() or 0)


def see(conn: Connection, seen: Sighting) -> bool:
    """Keep a sighting; whether it is the first of its kind."""
    where = (
        sightings.c.provider == seen.provider,
        sightings.c.model == seen.model,
        sightings.c.served_model == seen.served_model,
        sightings.c.fingerprint == seen.fingerprint,
    )
    known = conn.execute(select(sightings.c.last_us).where(*where)).scalar()
    if known is None:
        conn.execute(insert(sightings).values(msgspec.structs.asdict(seen)))
        return True
    if seen.last_us > known:
        conn.execute(update(sightings).where(*where).values(last_us=seen.last_us))
    return False


def add_day(conn: Connection, day: ProbeDay) -> None:
    """Keep a day's answers."""
    values = msgspec.structs.asdict(day) | {"answers": canonical(day.answers).decode()}
    conn.execute(insert(probe_days).values(values))


def days(conn: Connection, provider: str, model: str, limit: int) -> list[ProbeDay]:
    """The newest days of a model, newest first."""
    query = select(probe_days).where(probe_days.c.provider == provider, probe_days.c.model == model)
    rows = conn.execute(query.order_by(probe_days.c.day.desc()).limit(limit)).mappings()
    return [as_struct(row, ProbeDay, json=("answers",)) for row in rows]
