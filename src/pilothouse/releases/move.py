"""One move of a pointer, written: the pointer, the canary's run, the changes in the log, the table's revision."""

from typing import Literal, assert_never

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Conflict
from pilothouse.domain.release import Pointer
from pilothouse.store.state import canaries, changes, pointers, releases

What = Literal[
    "promoted",
    "canary_started",
    "canary_stepped",
    "canary_aborted",
    "rolled_back",
    "part_reverted",
    "restored",
    "disabled",
    "enabled",
    "pinned",
    "unpinned",
    "flipped",
    "flipped_back",
]

ACTIONS: dict[What, str] = {
    "promoted": "release.promote",
    "canary_started": "canary.start",
    "canary_stepped": "canary.step",
    "canary_aborted": "canary.abort",
    "rolled_back": "release.rollback",
    "part_reverted": "release.revert_part",
    "restored": "release.restore",
    "disabled": "route.disable",
    "enabled": "route.enable",
    "pinned": "model.pin",
    "unpinned": "model.unpin",
    "flipped": "drill.flip",
    "flipped_back": "drill.flip_back",
}
FORCED = "release.promote_forced"


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A move that is decided and not yet made. `overridden`: what `force` went over."""

    what: What
    before: Pointer | None
    after: Pointer
    actor: Actor
    reason: str = ""
    overridden: tuple[str, ...] = ()
    note: str = ""
    waived: str = ""  # what a rule spares this move, and why: a part that is taken back runs no gate


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """What a verb did. `revision`: of the table that must now reach the workers."""

    what: What
    route: str
    env: str
    from_release: int | None
    to_release: int
    pointer: Pointer
    revision: int
    note: str = ""
    overridden: tuple[str, ...] = ()
    rollback_id: int | None = None  # for `drills.propagated`, once the workers have acknowledged
    canary_id: int | None = None  # of the canary's run that this move began, stepped or ended


def make(conn: Connection, move: Planned, clock: Clock) -> Moved:
    """Write `move` in the caller's transaction; Conflict where the pointer has moved since it was read, or was edited
    beside the verbs.
    """
    _as_logged(conn, move)
    after = pointers.put(conn, move.after, clock)
    revision = pointers.next_revision(conn)
    canary_id = _canary_run(conn, move, after, revision, clock)
    if move.overridden:
        _log(conn, move, after, FORCED, clock)
    _log(conn, move, after, ACTIONS[move.what], clock)
    return Moved(
        what=move.what,
        route=after.route,
        env=after.env,
        from_release=move.before.stable if move.before else None,
        to_release=_subject(move.what, after),
        pointer=after,
        revision=revision,
        note=move.note,
        overridden=move.overridden,
        canary_id=canary_id,
    )


def _as_logged(conn: Connection, move: Planned) -> None:
    """A move begins where the last one ended: an edit in the database must not slip into the history."""
    last = changes.find(conn, route=move.after.route, env=move.after.env, actions=tuple(ACTIONS.values()), limit=1)
    logged = msgspec.convert(last[0].change.detail["after"], Pointer) if last else None
    if logged != move.before:
        raise Conflict(
            f"the pointer of {move.after.route} in {move.after.env} is not as its last verb left it",
            hint="it was edited in the database; it is put back within seconds, then try again",
        )


def _canary_run(conn: Connection, move: Planned, after: Pointer, revision: int, clock: Clock) -> int | None:
    """Begin, step or end the run of the canary that this move touches; its id. `revision`: of the table it makes."""
    running = canaries.running(conn, after.route, after.env)
    current = running[-1].id if running else None
    match move.what:
        case "canary_started":
            if current is not None:
                canaries.end(conn, after.route, after.env, "superseded", clock)
            return canaries.start(conn, after, clock, revision)
        case "canary_stepped":
            canaries.stepped(conn, after.route, after.env, clock, revision)
        case "promoted":
            staged = move.before is not None and move.before.canary == after.stable
            canaries.end(conn, after.route, after.env, "promoted" if staged else "superseded", clock)
        case "canary_aborted" | "rolled_back" | "part_reverted" | "restored":
            canaries.end(conn, after.route, after.env, "aborted", clock)
        case "disabled" | "enabled" | "pinned" | "unpinned" | "flipped" | "flipped_back":
            return None
        case _:
            assert_never(move.what)
    return current


def _log(conn: Connection, move: Planned, after: Pointer, action: str, clock: Clock) -> None:
    subject = _subject(move.what, after)
    detail = {
        "release": subject,
        "before": msgspec.to_builtins(move.before),
        "after": msgspec.to_builtins(after),
        "staged": move.before is not None and move.before.canary is not None and move.before.canary == after.stable,
        "first": move.before is None,
        "forced": list(move.overridden),
        "note": move.note,
    } | ({"waived": move.waived} if move.waived else {})
    change = Change(
        actor=move.actor,
        action=action,
        object_type="pointer",
        object_id=f"{after.route}@{after.env}",
        route=after.route,
        env=after.env,
        before_hash=_manifest(conn, move.before),
        after_hash=releases.get(conn, after.route, subject).manifest_hash,
        reason=move.reason,
        detail=detail,
    )
    changes.append(conn, change, clock)


def _manifest(conn: Connection, before: Pointer | None) -> str:
    return releases.get(conn, before.route, before.stable).manifest_hash if before else ""


def _subject(what: What, after: Pointer) -> int:
    """The release that the move is about."""
    if what in ("canary_started", "canary_stepped") and after.canary is not None:
        return after.canary
    return after.stable
