"""What of a route's changes makes it one that has to be looked at anew; the review says what follows (V1–V3, V6)."""

from collections.abc import Iterator

from sqlalchemy import Connection

from pilothouse.domain.errors import NotFound, StoreError
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.release import Pointer
from pilothouse.domain.trigger_facts import Event, What
from pilothouse.releases import drift, history
from pilothouse.releases.history import Move
from pilothouse.store.state import changes, releases

_SAME = ("drill.flip", "drill.flip_back")  # a twin has the same content


def events(conn: Connection, route: str, env: str, since_us: int) -> tuple[Event, ...]:
    """Everything since then that the change log says of models, tools, retrieval, schemas and what is kept."""
    moved = [
        event
        for move in history.moves(conn, route, env, since_us=since_us)
        if move.before is not None and move.action not in _SAME
        for event in _of_move(conn, move, move.before)
    ]
    drifted = [
        Event(ts_us=row.ts_us, what="provider", reason=row.change.reason)
        for row in changes.find(conn, route=route, env=env, actions=(drift.ACTION,), since_us=since_us)
    ]
    return tuple(sorted([*moved, *drifted], key=lambda event: event.ts_us))


def _of_move(conn: Connection, move: Move, before: Pointer) -> Iterator[Event]:
    """What the newcomer of a move has that the stable release before it had not."""
    if before.pinned_model != move.after.pinned_model:
        then, now = before.pinned_model or "the release's", move.after.pinned_model or "the release's"
        yield Event(ts_us=move.ts_us, what="model", reason=f"pinned model {then} → {now}")
    known = {before.stable, before.canary}
    for number in (move.after.stable, move.after.canary):
        if number is None or number in known:
            continue
        old, new = _manifest(conn, move.route, before.stable), _manifest(conn, move.route, number)
        if old is not None and new is not None:
            for what, reason in _differences(old, new):
                yield Event(ts_us=move.ts_us, what=what, reason=f"release {number}: {reason}")


def _manifest(conn: Connection, route: str, number: int) -> Manifest | None:
    """None where it does not resolve any more: T10.1 says that."""
    try:
        return releases.manifest(conn, releases.get(conn, route, number))
    except (NotFound, StoreError):
        return None


def _differences(old: Manifest, new: Manifest) -> Iterator[tuple[What, str]]:
    if old.model != new.model:
        yield "model", f"model {old.model} → {new.model}"
    had_and_has: tuple[tuple[What, object, object], ...] = (
        ("tools", old.tools, new.tools),
        ("schema", old.schema, new.schema),
        ("retrieval", old.index, new.index),
    )
    for what, had, has in had_and_has:
        if has and not had:
            yield what, f"{what} for the first time"
    if old.policy.log != new.policy.log:
        yield "log", f"log mode {old.policy.log} → {new.policy.log}"
