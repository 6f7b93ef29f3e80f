"""One part alone is taken back: a release of mixed parts, the guilty part from before, everything else as it is."""

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, Conflict, Refused
from pilothouse.domain.manifest import PARTS, Manifest, manifest_from_parts
from pilothouse.domain.release import Pointer, Release, Rollback
from pilothouse.domain.table import Live
from pilothouse.releases import registry
from pilothouse.releases.history import moves, require_pointer, stack
from pilothouse.releases.move import Moved, Planned, make
from pilothouse.releases.registry import Made
from pilothouse.store.state import drills, releases
from pilothouse.store.state.engine import StateStore


class Mixed(msgspec.Struct, frozen=True, kw_only=True):
    """What the revert of a part would serve. `live.release` is the number it will have, if nobody makes one before."""

    pointer: Pointer
    part: str
    source: int  # the release whose part is taken
    manifest: Manifest
    live: Live
    exists: bool  # a release has this manifest already: that one is served, none is made

    @property
    def notes(self) -> str:
        """The new release's notes."""
        return f"release {self.pointer.stable} with the {self.part} of release {self.source}"


def compose(store: StateStore, route: str, env: str, part: str, to: int | None = None) -> Mixed:
    """What the revert of `part` in `env` would make; nothing is written.

    The part comes from release `to`, or from the one that stood before the present one with another such part.
    Refused (`no_target`) where there is none, and while a canary runs.
    """
    if part not in PARTS:
        raise BadRequest(f"there is no part {part!r}", where="part", hint=f"parts: {', '.join(PARTS)}")
    with store.read() as conn:
        pointer = require_pointer(conn, route, env)
        if pointer.canary is not None:
            raise Refused(
                f"a canary of release {pointer.canary} is running: roll it back or promote it first", where=env
            )
        current = releases.get(conn, route, pointer.stable)
        source = _source(conn, pointer, current, part, to)
        manifest = _mixed(conn, current, source, part)
        twin = next((r for r in releases.of_route(conn, route) if r.manifest_hash == manifest.hash()), None)
        newest = releases.latest(conn, route)
    number = twin.number if twin else (newest.number if newest else 0) + 1
    live = Live(release=number, manifest=manifest, parts=manifest.hashes(), hash=manifest.hash())
    return Mixed(
        pointer=pointer, part=part, source=source.number, manifest=manifest, live=live, exists=twin is not None
    )


def _source(conn: Connection, pointer: Pointer, current: Release, part: str, to: int | None) -> Release:
    if to is not None:
        found = releases.get(conn, pointer.route, to)
        if found.parts.get(part) == current.parts.get(part):
            reason = f"release {to} has the same {part} as release {current.number}"
            raise Refused(reason, where=pointer.env, code="no_target")
        return found
    for number in reversed(stack(moves(conn, pointer.route, pointer.env))[:-1]):
        earlier = releases.get(conn, pointer.route, number)
        if earlier.parts.get(part) != current.parts.get(part):
            return earlier
    raise Refused(
        f"no release that was live before release {current.number} in {pointer.env} has another {part}",
        where=pointer.route,
        hint="name the release to take it from: --to N",
        code="no_target",
    )


def _mixed(conn: Connection, current: Release, source: Release, part: str) -> Manifest:
    kept, taken = releases.manifest(conn, current), releases.manifest(conn, source)
    return manifest_from_parts({name: (taken if name == part else kept).part(name) for name in PARTS})


def revert(
    store: StateStore, mixed: Mixed, *, actor: Actor, reason: str, verified: str, clock: Clock
) -> tuple[Moved, Release]:
    """Make the release and serve it, in one transaction; no gate is asked for, by rule: every part was released before.

    `verified`: what the replay has shown, for the log. Conflict where the pointer has moved since `compose`.
    """
    before = mixed.pointer
    with store.write() as conn:
        now = require_pointer(conn, before.route, before.env)
        if now != before:
            raise Conflict(
                f"the pointer of {before.route} in {before.env} has moved meanwhile", hint="read it and decide again"
            )
        release = _release(conn, mixed, actor, clock)
        waived = f"gate: every part was released before; {verified}"
        planned = Planned(
            what="part_reverted",
            before=before,
            after=msgspec.structs.replace(before, stable=release.number),
            actor=actor,
            reason=reason,
            note=mixed.notes,
            waived=waived,
        )
        moved = make(conn, planned, clock)
        row = Rollback(
            id=0,
            route=before.route,
            env=before.env,
            from_release=before.stable,
            to_release=release.number,
            ts_us=clock.now_us(),
            actor=str(actor),
            reason=reason,
            part=mixed.part,
            t_flip_us=clock.now_us(),
        )
        return msgspec.structs.replace(moved, rollback_id=drills.add_rollback(conn, row)), release


def _release(conn: Connection, mixed: Mixed, actor: Actor, clock: Clock) -> Release:
    route = mixed.pointer.route
    if mixed.exists:
        return releases.get(conn, route, mixed.live.release)
    stable = releases.get(conn, route, mixed.pointer.stable)
    vcs = stable.vcs_commit + ("-dirty" if stable.vcs_dirty else "")
    detail = {"mixed": {"base": stable.number, "part": mixed.part, "source": mixed.source}}
    made = Made(actor=actor, notes=mixed.notes, vcs=vcs, detail=detail)
    return registry.create_in(conn, route, mixed.manifest, made, clock)
