"""Where a route has pointed, read back from the change log; and with it what a rollback would go back to."""

from typing import Any

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor, ChainedChange
from pilothouse.domain.errors import Refused
from pilothouse.domain.release import Pointer
from pilothouse.domain.release_facts import DryRun
from pilothouse.store.state import changes, pointers, releases, runs
from pilothouse.store.state.engine import StateStore

# Every action that moves a pointer; its change holds the pointer before and after.
PROMOTE = "release.promote"
ROLLBACK = "release.rollback"
REVERT = "release.revert_part"
RESTORE = "release.restore"
MOVES = (
    PROMOTE,
    ROLLBACK,
    REVERT,
    RESTORE,
    "canary.start",
    "canary.step",
    "canary.abort",
    "route.disable",
    "route.enable",
    "model.pin",
    "model.unpin",
    "drill.flip",
    "drill.flip_back",
)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One move of a pointer, as the change log has it. `forced`: what was overridden, empty where nothing was."""

    seq: int
    ts_us: int
    route: str
    env: str
    action: str
    actor: Actor
    reason: str
    before: Pointer | None
    after: Pointer
    forced: tuple[str, ...] = ()
    staged: bool = False  # the release that became stable had been the canary
    first: bool = False  # nothing was live before


def history(store: StateStore, route: str, env: str | None = None) -> list[Move]:
    """Every move of the route's pointers, oldest first; the last `after` is where it points now."""
    with store.read() as conn:
        return moves(conn, route, env)


def moves(conn: Connection, route: str, env: str | None = None, *, since_us: int = 0) -> list[Move]:
    """The same inside a transaction, from `since_us` on."""
    return [_move(row) for row in changes.find(conn, route=route, env=env, actions=MOVES, since_us=since_us)]


def _move(row: ChainedChange) -> Move:
    detail: dict[str, Any] = row.change.detail
    return Move(
        seq=row.seq,
        ts_us=row.ts_us,
        route=row.change.route,
        env=row.change.env,
        action=row.change.action,
        actor=row.change.actor,
        reason=row.change.reason,
        before=msgspec.convert(detail["before"], Pointer | None),
        after=msgspec.convert(detail["after"], Pointer),
        forced=tuple(detail["forced"]),
        staged=detail["staged"],
        first=detail["first"],
    )


def stack(taken: list[Move]) -> list[int]:
    """The stable releases that stand behind each other, the present one last.

    A promotion puts one on top; a rollback takes off what it leaves, so that a release that was rolled
    back from is never a target again unless somebody promotes it anew. A rollback to one that does not stand there
    puts it in the place of what it leaves, as the revert of a part does.
    """
    standing: list[int] = []
    for move in taken:
        now = move.after.stable
        if move.action == PROMOTE:
            standing.append(now)
        elif move.action in (ROLLBACK, RESTORE) and now in standing:
            standing = standing[: len(standing) - standing[::-1].index(now)]
        elif move.action in (ROLLBACK, REVERT, RESTORE):
            standing = [*standing[:-1], now]
    return standing


def target(conn: Connection, pointer: Pointer, to: int | None = None) -> DryRun:
    """What a rollback of `pointer` would go to: the stable release while a canary runs, else the one before it.

    With `to`: that release, provided that it was live in the environment before or has passed its gate: a rollback
    asks for no gate, and must not be the way around it. A release with a part that does not resolve is no target.
    """
    if pointer.canary is not None and to in (None, pointer.stable):
        return _resolved(conn, pointer, pointer.canary, [pointer.stable])
    taken = moves(conn, pointer.route, pointer.env)
    if to is None:
        standing = stack(taken)  # a drill's twin, which serves the same, stands for the release that it is the twin of
        below = [number for number in reversed(standing[:-1]) if number not in (pointer.stable, standing[-1])]
        return _resolved(conn, pointer, pointer.stable, below)
    if to == pointer.stable:
        return DryRun(ok=False, from_release=to, reason=f"release {to} is the stable one in {pointer.env} already")
    if to not in {move.after.stable for move in taken} and not _passed(conn, pointer.route, to):
        reason = f"release {to} was never live in {pointer.env} and has not passed its gate: promote it instead"
        return DryRun(ok=False, from_release=pointer.stable, reason=reason)
    return _resolved(conn, pointer, pointer.stable if pointer.canary is None else pointer.canary, [to])


def _passed(conn: Connection, route: str, number: int) -> bool:
    judged = runs.verdict(conn, route, releases.get(conn, route, number).number)
    return judged is not None and judged.verdict.verdict == "pass"


def _resolved(conn: Connection, pointer: Pointer, leaving: int, candidates: list[int]) -> DryRun:
    missing: tuple[str, ...] = ()
    for number in candidates:
        release = releases.get(conn, pointer.route, number)
        gone = tuple(release.parts.get(name, name) for name in releases.missing(conn, release))
        if not gone:
            reason = f"release {leaving} → {number}, all 8 parts resolve"
            return DryRun(ok=True, from_release=leaving, target=number, missing=missing, reason=reason)
        missing += gone
    if missing:
        reason = f"no earlier release resolves: {len(missing)} part{'s' if len(missing) > 1 else ''} missing"
    else:
        reason = f"release {leaving} is the first one live in {pointer.env}: there is none to go back to"
    return DryRun(ok=False, from_release=leaving, missing=missing, reason=reason)


def rollback_dry_run(store: StateStore, route: str, env: str, to: int | None = None) -> DryRun:
    """What `pointer.rollback` would do now, by the same rules, without doing it."""
    with store.read() as conn:
        pointer = pointers.get(conn, route, env)
        if pointer is None:
            return DryRun(ok=False, reason=f"{route} is not live in {env}")
        return target(conn, pointer, to)


def require_pointer(conn: Connection, route: str, env: str) -> Pointer:
    """The pointer; Refused where the route is not live in `env`."""
    pointer = pointers.get(conn, route, env)
    if pointer is None:
        raise Refused(f"{route} is not live in {env}", hint="promote a release first", code="not_live")
    return pointer
