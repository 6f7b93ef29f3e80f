"""What each host's own telemetry says of a running canary: a row per run and host, written by that host alone.

Written with `StateStore.beat`. Times are the database's own, since the hosts' clocks differ.
"""

import msgspec
from sqlalchemy import Connection, delete, select, update

from pilothouse.store.state.hosts import now_us
from pilothouse.store.state.rows import upsert
from pilothouse.store.state.tables import canary_counts


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A host's word as it stands. `age_s`: since it was last said to be so."""

    ident: str
    host: str
    told: bytes
    age_s: float


def tell(conn: Connection, run_id: int, *, ident: str, host: str, told: bytes | None) -> bool:
    """Keep what a host has seen of a run; None: the same as before. False where nothing is kept that could be so."""
    mine = (canary_counts.c.run_id == run_id, canary_counts.c.ident == ident)
    now = now_us(conn)
    if told is None:
        return bool(conn.execute(update(canary_counts).where(*mine).values(seen_us=now)).rowcount)
    values = {"run_id": run_id, "ident": ident, "host": host, "seen_us": now, "told": told}
    upsert(conn, canary_counts, values, (canary_counts.c.run_id, canary_counts.c.ident))
    return True


def of_run(conn: Connection, run_id: int) -> list[Told]:
    """What every host has said of a run, also one that is on the list of hosts no more: what it served was served."""
    now = now_us(conn)
    query = select(canary_counts).where(canary_counts.c.run_id == run_id).order_by(canary_counts.c.host)
    return [
        Told(ident=row["ident"], host=row["host"], told=row["told"], age_s=max(0.0, (now - row["seen_us"]) / 1e6))
        for row in conn.execute(query).mappings()
    ]


def keep(conn: Connection, run_ids: list[int]) -> None:
    """Forget what was said of all other runs. One that is later than all of these may be known to another host."""
    over = (canary_counts.c.run_id < max(run_ids), canary_counts.c.run_id.not_in(run_ids))
    conn.execute(delete(canary_counts).where(*over))
