"""Releases: made, compared, planned, promoted, rolled back; each move is pushed to the workers before it returns."""

import asyncio
from typing import Any

import msgspec
import structlog

from pilothouse.config.app import RouteConfig
from pilothouse.domain.change import Actor
from pilothouse.domain.errors import BadRequest, Refused, StoreError
from pilothouse.domain.release import Release
from pilothouse.providers.schema_lint import kind_of
from pilothouse.releases import diff as diffs
from pilothouse.releases import history as moves
from pilothouse.releases import notes, pointer, registry, vcs
from pilothouse.releases import plan as plans
from pilothouse.releases.pointer import Moved, Promotion
from pilothouse.server import safeguards
from pilothouse.server.composition import Control
from pilothouse.server.link import PushReport
from pilothouse.store.state import drills, pointers, releases, runs

log = structlog.get_logger("pilothouse.releases")


async def create(control: Control, route: str, actor: Actor, said: str = "") -> Release:
    """The next release of `route` from the app's files as they are now; ConfigError, NotFound."""
    await control.reread()
    config = control.route(route)

    def make() -> Release:
        safeguards.check(config.manifest.policy, control.app_dir)
        commit = vcs.describe(control.app_dir)
        kinds = _kinds(control, config)
        return registry.create(
            control.state, config, actor=actor, clock=control.clock, notes=control.typed(said), vcs=commit, kinds=kinds
        )

    return await asyncio.to_thread(make)


def _kinds(control: Control, route: RouteConfig) -> list[str]:
    """The kinds of the providers that the route may be served by."""
    policy = route.manifest.policy
    models = [route.manifest.model, *(d.model for d in policy.balance.over), *(f.model for f in policy.fallback)]
    used = [control.config.providers.get(model.provider) for model in models if model is not None]
    return [kind_of(provider.kind, provider.base_url) for provider in used if provider is not None]


async def promote(control: Control, route: str, order: Promotion) -> dict[str, Any]:
    """Move the pointer and push; Refused with every reason where policy forbids it."""
    if order.share is not None and not control.one_sight:
        raise Refused(
            "a canary over several hosts needs one telemetry store that has what all of them serve",
            where=f"{route} in {order.env}",
            hint="promote without a share, or run one host; docs/hosts.md says why",
            code="blind_canary",
        )
    began = control.clock.monotonic()
    order = msgspec.structs.replace(order, reason=control.typed(order.reason))
    moved = await asyncio.to_thread(pointer.promote, control.state, control.route(route), order, control.clock)
    return await settled(control, moved, began)


async def rollback(
    control: Control, route: str, env: str, actor: Actor, *, to: int | None = None, reason: str = ""
) -> dict[str, Any]:
    """Back to the release before (or off the canary, or to `to`), on every worker when this returns."""
    began = control.clock.monotonic()
    reason = control.typed(reason)
    moved = await asyncio.to_thread(
        pointer.rollback, control.state, route, env, actor=actor, reason=reason, clock=control.clock, to=to
    )
    return await settled(control, moved, began)


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
    return {
        "route": route,
        "releases": [{**shown(release), "verdict": verdicts[release.number]} for release in found],
        "pointers": points,
        "moves": taken,
    }


def planned(control: Control, route: str, release: int | None, env: str) -> dict[str, Any]:
    """The steps from what is live to `release` (the newest where not given), each as it stands now. NotFound."""
    config = control.route(route)
    with control.state.read() as conn:
        newest = releases.latest(conn, route)
        live = pointers.get(conn, route, env)
    if newest is None:
        raise BadRequest(f"{route} has no release yet", hint=f"pilothouse release create {route}")
    number = release if release is not None else newest.number
    steps = plans.plan(control.state, config, env, number)
    results = plans.dry_run(control.state, config, env, number, steps)
    return {
        "route": route,
        "env": env,
        "from": live.stable if live else None,
        "to": number,
        "steps": [
            {"kind": one.step.__struct_config__.tag, "text": plans.describe(one.step), "state": one.state,
             "message": one.message}
            for one in results
        ],
        "back_out": plans.back_out(route, env),
    }  # fmt: skip


def noted(control: Control, route: str, release: int | None, env: str) -> dict[str, Any]:
    """The release notes of one page of Markdown. NotFound."""
    control.route(route)
    with control.state.read() as conn:
        newest = releases.latest(conn, route)
    if newest is None:
        raise BadRequest(f"{route} has no release yet", hint=f"pilothouse release create {route}")
    number = release if release is not None else newest.number
    return {"route": route, "release": number, "markdown": notes.release_notes(control.state, route, number, env)}


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
