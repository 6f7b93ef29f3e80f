"""Releases that flags may select: in the table beside stable and canary, so that an edge needs no store to serve them.

A flag goes around the pointer, not around its rules: what it may select is what stands behind the pointer, or what
could be promoted there, and never what was taken back. A rollback so ends a release for flags too.
"""

from collections.abc import Mapping

from sqlalchemy import Connection

from pilothouse.config.app import AppConfig
from pilothouse.domain.errors import NotFound, PilothouseError
from pilothouse.domain.flag import Flag, FlagEntry
from pilothouse.domain.release import Pointer
from pilothouse.domain.table import Live
from pilothouse.releases import admission, history
from pilothouse.releases.history import Move
from pilothouse.releases.registry import live
from pilothouse.store.state import pointers, releases


def switches(entries: Mapping[str, FlagEntry], route: str) -> tuple[str, ...]:
    """Keys of the flags that have a say over `route`: first those that switch it off, then those that select."""
    flows = [key for key, flag in entries.items() if flag.flow is not None and flag.flow.route == route]
    selectors = [key for key, flag in entries.items() if flag.selects is not None and flag.selects.route == route]
    return (*flows, *selectors)


def selectable(
    conn: Connection, config: AppConfig, pointer: Pointer, entries: Mapping[str, FlagEntry]
) -> dict[int, Live]:
    """The releases that flags select for this pointer, those that may be, by number."""
    wanted = {
        value
        for flag in entries.values()
        if flag.selects is not None and flag.selects.route == pointer.route
        for value in flag.variants.values()
        if value
    }
    found = {}
    for number in sorted(wanted):
        if not objection(conn, config, pointer, number):
            release = releases.get(conn, pointer.route, number)
            found[number] = live(release, releases.manifest(conn, release))
    return found


def problems(conn: Connection, config: AppConfig, flag: Flag, env: str) -> dict[str, str]:
    """Variant → why the release that it names is not served in `env`; without those that are."""
    if flag.selects is None:
        return {}
    pointer = pointers.get(conn, flag.selects.route, env)
    if pointer is None:
        return {}
    said = {name: objection(conn, config, pointer, value) for name, value in flag.variants.items() if value}
    return {name: why for name, why in said.items() if why}


def objection(conn: Connection, config: AppConfig, pointer: Pointer, number: int) -> str:
    """Why flags may not select release `number` where `pointer` points; empty where they may."""
    try:
        release = releases.get(conn, pointer.route, number)
    except NotFound as error:
        return error.what
    if gone := releases.missing(conn, release):
        return f"release {number} misses {', '.join(gone)}"
    if number in (pointer.stable, pointer.canary):
        return ""
    taken = history.moves(conn, pointer.route, pointer.env)
    if taken_back(taken, number):
        return f"release {number} was taken back in {pointer.env}"
    route = config.routes.get(pointer.route)
    if route is None or number in history.stack(taken):
        return ""
    try:
        said = admission.objections(conn, route, pointer.env, number, pointer=_alone(pointer), canary=True)
    except PilothouseError as error:
        return str(error)
    return "; ".join(said)


def _alone(pointer: Pointer) -> Pointer:
    """The pointer without its canary: one that runs is no reason against a flag."""
    return Pointer(route=pointer.route, env=pointer.env, stable=pointer.stable)


def taken_back(taken: list[Move], number: int) -> bool:
    """Whether the last that happened to a release in this environment was that it was taken back.

    A move that was put back, since it could not be pushed, leaves that as it was before the move.
    """
    gone = stood = False  # now, and before the last move to the release
    for move in taken:
        before, after = move.before, move.after
        if number in (after.stable, after.canary):
            gone, stood = False, gone
        elif before is not None and number in (before.stable, before.canary):
            if move.action in (history.ROLLBACK, "canary.abort"):
                gone = True
            elif move.action == history.RESTORE:
                gone = stood
    return gone
