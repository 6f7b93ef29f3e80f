"""The change log: appended in the transaction of what it logs, so that neither can exist without the other."""

import msgspec
from sqlalchemy import Connection, RowMapping, Select, func, insert, select

from pilothouse.domain.change import ChainedChange, Change, link_hash
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.hashing import canonical
from pilothouse.store.state.tables import changes

_FIRST_PREVIOUS = ""  # what `domain.change.link_hash` says stands before the first row


def append(conn: Connection, change: Change, clock: Clock) -> ChainedChange:
    """Add `change` to the end of the chain. Call it inside `StateStore.write`: the write lock orders the chain."""
    last = conn.execute(select(changes.c.seq, changes.c.hash).order_by(changes.c.seq.desc()).limit(1)).first()
    seq, prev_hash = (last.seq + 1, last.hash) if last else (1, _FIRST_PREVIOUS)
    ts_us = clock.now_us()
    row = ChainedChange(
        seq=seq, ts_us=ts_us, change=change, prev_hash=prev_hash, hash=link_hash(prev_hash, seq, ts_us, change)
    )
    conn.execute(
        insert(changes).values(
            seq=seq,
            ts_us=ts_us,
            route=change.route,
            env=change.env,
            action=change.action,
            change=canonical(change).decode(),
            prev_hash=prev_hash,
            hash=row.hash,
        )
    )
    return row


def rows(conn: Connection, after_seq: int = 0) -> list[ChainedChange]:
    """The chain in order, from the row after `after_seq`; what `security.audit.verify` reads."""
    return _load(conn, select(changes).where(changes.c.seq > after_seq).order_by(changes.c.seq))


def find(
    conn: Connection,
    *,
    route: str | None = None,
    env: str | None = None,
    actions: tuple[str, ...] = (),
    since_us: int = 0,
    limit: int | None = None,
) -> list[ChainedChange]:
    """Changes that match, oldest first; with `limit` the newest that many. None and () match any."""
    query = select(changes).where(changes.c.ts_us >= since_us)
    if route is not None:
        query = query.where(changes.c.route == route)
    if env is not None:
        query = query.where(changes.c.env == env)
    if actions:
        query = query.where(changes.c.action.in_(actions))
    if limit is None:
        return _load(conn, query.order_by(changes.c.seq))
    return _load(conn, query.order_by(changes.c.seq.desc()).limit(limit))[::-1]


def newest_moves(conn: Connection, actions: tuple[str, ...]) -> list[ChainedChange]:
    """The newest change with one of `actions` of every route and environment."""
    newest = (
        select(func.max(changes.c.seq)).where(changes.c.action.in_(actions)).group_by(changes.c.route, changes.c.env)
    )
    return _load(conn, select(changes).where(changes.c.seq.in_(newest)).order_by(changes.c.seq))


def _load(conn: Connection, query: Select[tuple[object, ...]]) -> list[ChainedChange]:
    return [_chained(row) for row in conn.execute(query).mappings()]


def _chained(row: RowMapping) -> ChainedChange:
    try:
        change = msgspec.json.decode(row["change"], type=Change)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"row {row['seq']} of the change log is not readable: {error}",
            where="changes",
            hint="the log was edited from outside; restore it from a backup",
        ) from error
    return ChainedChange(
        seq=row["seq"], ts_us=row["ts_us"], change=change, prev_hash=row["prev_hash"], hash=row["hash"]
    )
