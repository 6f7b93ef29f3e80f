"""A pointer may be moved by a verb alone: one that was edited in the database is found, put back, and told.

The change log holds every pointer as each verb left it, hash-chained. What the table `pointers` says is compared with
that; where they differ the log is right, since an edit of the log breaks its chain.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor, ChainedChange, Change, link_hash
from pilothouse.domain.clock import Clock
from pilothouse.domain.release import Pointer
from pilothouse.releases.history import MOVES
from pilothouse.store.state import changes, pointers
from pilothouse.store.state.engine import StateStore

ACTION = "pointer.refused"
ACTOR = Actor(type="policy", id="integrity")


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """A pointer that is not as the last verb left it. None: there is no such row, in the table or in the log."""

    route: str
    env: str
    found: Pointer | None
    logged: Pointer | None
    mended: bool = False  # put back as logged; False: the log's own row does not hold either, so nothing was touched

    @property
    def sentence(self) -> str:
        """What was found, with its numbers."""
        edits = ", ".join(f"{name} {_said(before)} → {_said(after)}" for name, before, after in _edits(self))
        done = "put back" if self.mended else "left: the change log was edited too, see `pilothouse audit verify`"
        return f"{self.route} in {self.env} was edited in the database ({edits}): {done}"


def strays(conn: Connection) -> list[Stray]:
    """Every pointer that differs from what the log says its last verb made of it."""
    logged = {key: pointer for key, (_, pointer) in _logged(conn).items()}
    found = {(one.route, one.env): one for one in pointers.every(conn)}
    return [
        Stray(route=route, env=env, found=found.get((route, env)), logged=logged.get((route, env)))
        for route, env in sorted({*logged, *found})
        if found.get((route, env)) != logged.get((route, env))
    ]


def mend(store: StateStore, clock: Clock) -> list[Stray]:
    """Put back every pointer that was edited beside the verbs, and log each as refused; what was found."""
    with store.read() as conn:
        if not strays(conn):
            return []
    with store.write() as conn:
        rows = {key: row for key, (row, _) in _logged(conn).items()}
        return [_mend(conn, stray, rows.get((stray.route, stray.env)), clock) for stray in strays(conn)]


def _mend(conn: Connection, stray: Stray, row: ChainedChange | None, clock: Clock) -> Stray:
    holds = row is None or row.hash == link_hash(row.prev_hash, row.seq, row.ts_us, row.change)
    if holds:
        pointers.overwrite(conn, stray.route, stray.env, stray.logged)
        pointers.next_revision(conn)
        stray = msgspec.structs.replace(stray, mended=True)
    detail = {"found": msgspec.to_builtins(stray.found), "logged": msgspec.to_builtins(stray.logged), "mended": holds}
    known = changes.find(conn, route=stray.route, env=stray.env, actions=(ACTION,), limit=1)
    if not holds and known and known[0].change.detail == detail:
        return stray  # it was told already, and nothing can be done here
    change = Change(
        actor=ACTOR,
        action=ACTION,
        object_type="pointer",
        object_id=f"{stray.route}@{stray.env}",
        route=stray.route,
        env=stray.env,
        reason=stray.sentence,
        detail=detail,
    )
    changes.append(conn, change, clock)
    return stray


def _logged(conn: Connection) -> dict[tuple[str, str], tuple[ChainedChange, Pointer]]:
    """(route, environment) → the last move's row, and the pointer after it."""
    return {
        (row.change.route, row.change.env): (row, msgspec.convert(row.change.detail["after"], Pointer))
        for row in changes.newest_moves(conn, MOVES)
    }


def _edits(stray: Stray) -> list[tuple[str, Any, Any]]:
    before = msgspec.structs.asdict(stray.logged) if stray.logged else {}
    after = msgspec.structs.asdict(stray.found) if stray.found else {}
    names = before or after
    return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _said(value: Any) -> str:
    return "none" if value in (None, "") else str(value)
