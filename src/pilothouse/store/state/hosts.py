"""The hosts that share a store: their heartbeats, and what their workers hold.

Written with `StateStore.beat`: every row has one writer, so that a heartbeat waits for nobody. Times are the
database's own, since the hosts' clocks differ.
"""

import msgspec
from sqlalchemy import Connection, RowMapping, delete, select, text

from pilothouse.domain.errors import NotFound, StateError
from pilothouse.store.state import postgres
from pilothouse.store.state.rows import upsert
from pilothouse.store.state.tables import hosts, installation

CUT_OFF_S = 4.0  # a host that was not heard for so long is cut off, or its control is dead
_NOW = {
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
    "sqlite": "SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS integer)",
}


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """A host as it last said. `workers`: name → revision of the table it holds; `age_s`: since it was heard;
    `watched_s`: since its rules' evaluator ran to its end, None where it never did."""

    host: str
    ident: str
    revision: int
    workers: dict[str, int]
    leads: bool = False
    watched_s: float | None = None
    telemetry: str = ""
    version: str = ""
    files: str = ""
    age_s: float = 0.0

    @property
    def cut_off(self) -> bool:
        """Whether it was not heard for too long to be waited for."""
        return self.age_s > CUT_OFF_S

    def holds(self, revision: int) -> bool:
        """Whether it gives out this table, or a later one, and all its workers have said that they hold it."""
        return self.revision >= revision and all(held >= revision for held in self.workers.values())


def now_us(conn: Connection) -> int:
    """The database's clock, µs since 1970."""
    return int(conn.execute(text(_NOW[conn.dialect.name])).scalar_one())


def beat(conn: Connection, state: HostState, *, news: bool) -> None:
    """Write a heartbeat; with `news` every control hears of it. StateError where another host has the name, or the
    same telemetry server."""
    now = now_us(conn)
    for row in conn.execute(select(hosts).where(hosts.c.ident != state.ident)).mappings():
        if not (other := _state(row, now)).cut_off:
            _refuse_rival(state, other)
    values = {
        "host": state.host, "ident": state.ident, "seen_us": now, "revision": state.revision,
        "workers": msgspec.json.encode(state.workers).decode(), "leads": state.leads,
        "watched_s": state.watched_s, "telemetry": state.telemetry, "version": state.version,
        "files": state.files,
    }  # fmt: skip
    upsert(conn, hosts, values, (hosts.c.host,))
    if news:
        postgres.notify(conn, postgres.HOSTS_CHANNEL, state.host)


def _refuse_rival(state: HostState, other: HostState) -> None:
    if other.host == state.host:
        raise StateError(
            f"another host named {state.host!r} is running on this store",
            hint="give each host its own --host-name; a copied data directory keeps no `host` file",
            code="host_name_taken",
        )
    if state.telemetry and other.telemetry == state.telemetry:
        raise StateError(
            f"{other.host} keeps its telemetry in the same database",
            where=state.telemetry,
            hint="give each host a database of its own: two hosts that load into one would undo each other's rollups",
            code="telemetry_taken",
        )


def every(conn: Connection) -> list[HostState]:
    """All hosts by name."""
    now = now_us(conn)
    return [_state(row, now) for row in conn.execute(select(hosts).order_by(hosts.c.host)).mappings()]


def forget(conn: Connection, host: str) -> None:
    """Take a host off the list: it has left, or will not come back. NotFound where there is none of that name."""
    if not conn.execute(delete(hosts).where(hosts.c.host == host)).rowcount:
        raise NotFound(f"there is no host {host!r}")


def _state(row: RowMapping, now: int) -> HostState:
    age_s = max(0.0, round((now - row["seen_us"]) / 1e6, 3))
    return HostState(
        host=row["host"],
        ident=row["ident"],
        revision=row["revision"],
        workers=msgspec.json.decode(row["workers"], type=dict[str, int]),
        leads=row["leads"],
        watched_s=row["watched_s"] + age_s if row["watched_s"] is not None else None,
        telemetry=row["telemetry"],
        version=row["version"],
        files=row["files"],
        age_s=age_s,
    )


def same_secrets(conn: Connection, fingerprint: str) -> bool:
    """Whether this host has the secrets of the installation; the first that asks says which they are."""
    where = installation.c.name == "secrets"
    known = conn.execute(select(installation.c.value).where(where)).scalar()
    if known is None:
        upsert(conn, installation, {"name": "secrets", "value": fingerprint}, (installation.c.name,))
        return True
    return bool(known == fingerprint)
