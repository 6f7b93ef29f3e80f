"""Releases: made, compared, planned, promoted, rolled back; each move is pushed to the workers before it returns."""

import asyncio
from typing import Any

import msgspec
import structlog

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import BadRequest, NotFound, StateError, StoreError
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.release import Release, SchemaWarning
from pilothouse.releases import diff as diffs
from pilothouse.releases import history as moves
from pilothouse.releases import notes, pointer, registry, vcs
from pilothouse.releases.admission import GATED_ENVIRONMENTS
from pilothouse.releases.edit import Edit
from pilothouse.releases.pointer import Moved, Promotion
from pilothouse.server import callers, safeguards, timing
from pilothouse.server.composition import Control
from pilothouse.server.link import PushReport
from pilothouse.server.verbs import edits
from pilothouse.store.state import drills, pointers, releases, runs

log = structlog.get_logger("pilothouse.releases")


async def create(control: Control, route: str, actor: Actor, said: str = "", edit: Edit | None = None) -> Release:
    """The next release of `route` from the app's files as they are now, or as `edit` says.

    One that was edited comes from no commit, and says so. ConfigError, BadRequest, NotFound; Conflict where what the
    edit began with has moved.
    """
    await control.reread()
    config = control.route(route)

    def make() -> Release:
        edited = edit is not None and (edit.base is not None or bool(edit.parts))
        of = edits.edited(control, config, edit) if edit is not None else config
        safeguards.check(of.manifest.policy, control.app_dir)
        commit = "" if edited else vcs.describe(control.app_dir)
        served = last_served(control, of.manifest.model) if registry.floating_alias(of.manifest.model) else ""
        warnings = registry.warnings_of(of.manifest, edits.kinds(control, of))
        order = registry.Made(actor=actor, notes=control.typed(said), vcs=commit, warnings=warnings)
        newest = edit.newest if edit is not None else None
        made = registry.create_after(control.state, of, order, control.clock, newest)
        return made if not served else _resolved(made, served)

    made = await asyncio.to_thread(make)
    await selectable(control, route)
    return made


async def selectable(control: Control, route: str) -> None:
    """Have the workers know a release that a flag of this route may now select."""
    if any(flag.selects is not None and flag.selects.route == route for flag in control.config.flags.values()):
        await control.publish()


def last_served(control: Control, model: ModelRef) -> str:
    """What the provider last said it served for `model`, where that is another name; empty where it was never asked."""
    found = control.telemetry.rows(
        "SELECT served_model FROM attempts WHERE provider = ? AND model = ? AND served_model <> '' "
        "ORDER BY ts DESC LIMIT 1",
        [model.provider, model.name],
    )
    return str(found[0][0]) if found and found[0][0] != model.name else ""


def _resolved(made: Release, served: str) -> Release:
    """The release, with a word on what its floating model stands for today."""
    what = f"{made.floating_alias} names no version; the provider last served {served}"
    return msgspec.structs.replace(
        made, warnings=(*made.warnings, SchemaWarning("model", "", what, f"name {served} to pin it"))
    )


async def promote(control: Control, route: str, order: Promotion) -> dict[str, Any]:
    """Move the pointer and push; Refused with every reason where policy forbids it, its callers' among them.

    A move that cannot be pushed is put back before the error is raised.
    """
    began = control.clock.monotonic()
    config = control.route(route)
    order = msgspec.structs.replace(order, reason=control.typed(order.reason))
    if order.env in GATED_ENVIRONMENTS:
        await control.load()
        against = await asyncio.to_thread(callers.broken, control, route, order.env, order.release)
        order = msgspec.structs.replace(order, objections=(*order.objections, *against))
    moved = await asyncio.to_thread(pointer.promote, control.state, config, order, control.clock)
    return await settled_or_restored(control, moved, began, order.actor)


async def settled_or_restored(control: Control, moved: Moved, began: float, actor: Actor) -> dict[str, Any]:
    """Push what `moved` changed; where that fails the pointer goes back to where it was, and the error is raised."""
    try:
        return await settled(control, moved, began)
    except StoreError as error:
        reason = f"the table could not be made: {error.what}"
        try:
            await asyncio.to_thread(
                pointer.restore, control.state, moved, actor=actor, reason=reason, clock=control.clock
            )
        except StateError as kept:
            raise StoreError(f"{error.what}; {kept.what}", where=error.where, hint=error.hint) from error
        raise StoreError(
            f"{error.what}; the pointer was put back", where=error.where, hint=error.hint, code="restored"
        ) from error


async def rollback(
    control: Control, route: str, env: str, actor: Actor, *, to: int | None = None, reason: str = ""
) -> dict[str, Any]:
    """Back to the release before (or off the canary, or to `to`), on every worker when this returns."""
    reason = control.typed(reason)
    began, decided_us = control.clock.monotonic(), control.clock.now_us()
    moved = await asyncio.to_thread(
        pointer.rollback, control.state, route, env, actor=actor, reason=reason, clock=control.clock, to=to
    )
    told = await settled(control, moved, began)
    await timing.note(control, moved, decided_us)
    return told


async def settled(control: Control, moved: Moved, began: float) -> dict[str, Any]:
    """Push what `moved` changed; `propagated_ms` counts from `began`, when the command came.

    A store that leaves after the commit leaves the move as it is: StoreError says so.
    """
    try:
        report = await control.publish()
    except StoreError as error:
        raise StoreError(
            f"the move is written (revision {moved.revision}), but the table could not be given out: {error.what}",
            where=error.where,
            hint="every control gives it out by itself as soon as it can read it",
            code="not_given_out",
        ) from error
    ms = round((control.clock.monotonic() - began) * 1_000, 3)
    if moved.rollback_id is not None and not report.late:
        await asyncio.to_thread(_note_rollback, control, moved.rollback_id, ms, report)
    return {
        "what": moved.what,
        "route": moved.route,
        "env": moved.env,
        "from": moved.from_release,
        "to": moved.to_release,
        "share": moved.pointer.share if moved.pointer.canary is not None else None,
        "revision": moved.revision,
        "propagated_ms": ms,
        "workers": report.workers,
        "of": report.of,
        "late": report.late,
        "hosts": report.hosts,
        "of_hosts": report.of_hosts,
        "away": report.away,
        "note": moved.note,
        "overridden": moved.overridden,
    }


def _note_rollback(control: Control, rollback_id: int, ms: float, report: PushReport) -> None:
    try:
        with control.state.write() as conn:
            drills.propagated(conn, rollback_id, ms=ms, workers=report.workers)
    except StoreError as error:  # the rollback itself stands, on every worker
        log.warning("how long a rollback took could not be kept", rollback=rollback_id, ms=ms, error=str(error))


def compare(control: Control, route: str, a: int | None, b: int | None) -> dict[str, Any]:
    """The 8 parts of release `a` against `b`; by default what prod points at against the newest. NotFound."""
    control.route(route)
    with control.state.read() as conn:
        newest = releases.latest(conn, route)
        if newest is None:
            raise BadRequest(f"{route} has no release yet", hint=f"pilothouse release create {route}")
        live = pointers.get(conn, route, "prod")
        after = releases.get(conn, route, b if b is not None else newest.number)
        fallback = live.stable if live is not None else max(1, after.number - 1)
        before = releases.get(conn, route, a if a is not None else fallback)
        parts = diffs.diff(releases.manifest(conn, before), releases.manifest(conn, after))
    return {
        "route": route,
        "a": before.number,
        "b": after.number,
        "parts": [
            {
                "part": one.part,
                "changed": one.changed,
                "before_hash": one.before_hash,
                "after_hash": one.after_hash,
                "added": one.added,
                "removed": one.removed,
                "summary": one.summary,
                "unified": one.unified,
                "paths": one.paths,
            }
            for one in parts
        ],
    }


def history(control: Control, route: str, env: str | None = None) -> dict[str, Any]:
    """Every release of a route, where each environment points, and every move, oldest first."""
    control.route(route)
    taken = moves.history(control.state, route, env)
    with control.state.read() as conn:
        found = releases.of_route(conn, route)
        verdicts = {release.number: runs.verdict(conn, route, release.number) for release in found}
        points = pointers.every(conn, route)
        rolled_back = drills.list_rollbacks(conn, route, env)
    return {
        "route": route,
        "releases": [{**shown(release), "verdict": verdicts[release.number]} for release in found],
        "pointers": points,
        "moves": taken,
        "rollbacks": rolled_back,
    }


def noted(control: Control, route: str, release: int | None, env: str) -> dict[str, Any]:
    """The release notes of one page of Markdown. NotFound."""
    config = control.route(route)
    with control.state.read() as conn:
        newest = releases.latest(conn, route)
    if newest is None:
        raise BadRequest(f"{route} has no release yet", hint=f"pilothouse release create {route}")
    number = release if release is not None else newest.number
    seen = callers.of(control, route, env)
    text = notes.release_notes(control.state, route, number, env, config=config, callers=seen)
    return {"route": route, "release": number, "markdown": text}


def part(control: Control, address: str) -> dict[str, Any]:
    """A part's content, and every release of every route that it is in; NotFound."""
    with control.state.read() as conn:
        content = releases.part(conn, address)
        if content is None:
            raise NotFound(f"no part {address!r} is stored", hint="a release's JSON names the hashes of its parts")
        users = releases.using(conn, address)
    return {"hash": address, "content": msgspec.json.decode(content), "used_by": users}


def shown(release: Release) -> dict[str, Any]:
    """A release as JSON; `release` is its number, as everywhere in the API."""
    return {
        "route": release.route,
        "release": release.number,
        "hash": release.manifest_hash,
        "parts": release.parts,
        "author": release.author,
        "notes": release.notes,
        "vcs": release.vcs_commit + ("-dirty" if release.vcs_dirty else ""),
        "floating_alias": release.floating_alias,
        "created_us": release.created_us,
        "reused": release.reused,
        "warnings": msgspec.to_builtins(release.warnings),
    }
