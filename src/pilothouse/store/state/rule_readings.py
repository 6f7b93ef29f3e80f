"""What each host's own telemetry says of the rules' metrics: a row per host, written by that host alone.

Written with `StateStore.beat`. Times are the database's own, since the hosts' clocks differ.
"""

import msgspec
from sqlalchemy import Connection, select

from pilothouse.store.state.hosts import now_us
from pilothouse.store.state.rows import upsert
from pilothouse.store.state.tables import rule_readings

Reading = tuple[float | None, int]  # value, observations

_decode = msgspec.json.Decoder(dict[str, Reading]).decode


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """A host's readings by question. `age_s`: since it said so."""

    host: str
    readings: dict[str, Reading]
    age_s: float


def tell(conn: Connection, *, ident: str, host: str, readings: dict[str, Reading]) -> None:
    """Keep what a host reads now."""
    text = msgspec.json.encode(readings).decode()
    values = {"ident": ident, "host": host, "seen_us": now_us(conn), "readings": text}
    upsert(conn, rule_readings, values, (rule_readings.c.ident,))


def every(conn: Connection) -> dict[str, Readings]:
    """What each host has said, by its ident."""
    now = now_us(conn)
    return {
        row["ident"]: Readings(
            host=row["host"], readings=_decode(row["readings"]), age_s=max(0.0, (now - row["seen_us"]) / 1e6)
        )
        for row in conn.execute(select(rule_readings)).mappings()
    }
