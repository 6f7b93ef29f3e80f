"""The rollback drill's flip: a pointer moves to a release of identical content, and back.

Everything happens that happens in a real rollback (transaction, change log, table, push), and nobody is served anything
else. The twin of release 12 has the number -12, so that releases go on being numbered as people made them; it is made
when it is first practised on, and is in no list.
"""

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import NotFound, Refused
from pilothouse.domain.release import Pointer, Release
from pilothouse.releases.history import require_pointer
from pilothouse.releases.move import Moved, Planned, What, make
from pilothouse.store.state import changes, pointers, releases
from pilothouse.store.state.engine import StateStore


def flip(store: StateStore, route: str, env: str, *, actor: Actor, clock: Clock) -> Moved:
    """Point at the twin of the stable release. Refused while a canary runs, or at a twin (see `flip_back`)."""
    with store.write() as conn:
        before = require_pointer(conn, route, env)
        if before.canary is not None or before.stable < 0:
            why = f"a canary of release {before.canary}" if before.canary is not None else "another rollback drill"
            raise Refused(f"{why} is running in {env}", hint="practise when it is over", code="canary_running")
        _make(conn, releases.get(conn, route, before.stable), actor, clock)
        return _point(conn, before, "flipped", actor, clock)


def flip_back(store: StateStore, route: str, env: str, *, actor: Actor, clock: Clock) -> Moved | None:
    """Point at the release that the stable one is the twin of; None where it is nobody's."""
    with store.write() as conn:
        before = require_pointer(conn, route, env)
        return _point(conn, before, "flipped_back", actor, clock) if before.stable < 0 else None


def stranded(conn: Connection) -> list[Pointer]:
    """Pointers that a drill left at a twin, because it was cut off; put them right with `flip_back`."""
    return [pointer for pointer in pointers.every(conn) if pointer.stable < 0]


def _point(conn: Connection, before: Pointer, what: What, actor: Actor, clock: Clock) -> Moved:
    after = msgspec.structs.replace(before, stable=-before.stable)
    return make(conn, Planned(what=what, before=before, after=after, actor=actor, reason="rollback drill"), clock)


def _make(conn: Connection, stable: Release, actor: Actor, clock: Clock) -> None:
    try:
        releases.get(conn, stable.route, -stable.number)
    except NotFound:
        notes = f"the same as release {stable.number}, for drills"
        twin = msgspec.structs.replace(stable, number=-stable.number, notes=notes, created_us=clock.now_us())
        releases.add(conn, twin)
        change = Change(
            actor=actor, action="release.twin", object_type="release", object_id=f"{twin.route}#{twin.number}",
            route=twin.route, before_hash=stable.manifest_hash, after_hash=twin.manifest_hash, reason=notes,
            detail={"release": twin.number, "of": stable.number},
        )  # fmt: skip
        changes.append(conn, change, clock)
