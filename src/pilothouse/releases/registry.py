"""Releases are made here: a route's manifest gets a number, its parts are stored once by their content."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import RouteConfig
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Conflict
from pilothouse.domain.hashing import exact
from pilothouse.domain.manifest import PARTS, Manifest, manifest_from_parts
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.release import Release, SchemaWarning
from pilothouse.domain.table import Live
from pilothouse.providers.schema_lint import lint
from pilothouse.releases import indexes
from pilothouse.releases import vcs as vcs_words
from pilothouse.store.state import changes, releases
from pilothouse.store.state.engine import StateStore

# A version that names one snapshot: a date (2026-08-07, 20260807), a month and day or build (-0613, -002),
# -v2, @…, or a digest (:sha256-…, a hex run of 8 or more).
_PINNED = re.compile(
    r"\d{4}-\d{2}-\d{2}|[-@_]\d{8}\b|-\d{3,4}$|[-_]v\d+(\.\d+)*$|@.+$|[:-](sha256[:-])?[0-9a-f]{8,}$", re.IGNORECASE
)
_FLOATING = re.compile(r"(^|[-:@_])(latest|preview|stable)$", re.IGNORECASE)


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Where a release comes from. `vcs` is what `vcs.describe` gives; `detail` goes into the change log."""

    actor: Actor
    notes: str = ""
    vcs: str = ""
    warnings: tuple[SchemaWarning, ...] = ()
    detail: dict[str, Any] = {}


def create(
    store: StateStore,
    route: RouteConfig,
    *,
    actor: Actor,
    clock: Clock,
    notes: str = "",
    vcs: str = "",
    kinds: Sequence[str] = (),
) -> Release:
    """Make the next release of `route` from its manifest, log it, and give it.

    Where the newest release has the same manifest nothing is made: that one is given, with `reused` set.
    `vcs` is what `vcs.describe` gives. A model's name that is not pinned to a version is noted in
    `floating_alias`: such a release is allowed, and cannot pass CR.1. An `index` without a version becomes the newest
    that was registered. `kinds`: of the providers that it may be served by; what they will refuse or ignore in its
    schemas is in `warnings`. ConfigError (`bad_schema`): an unusable schema; (`unknown_index`): a version that nobody
    registered, of an index whose versions are registered.
    """
    made = Made(actor=actor, notes=notes, vcs=vcs, warnings=warnings_of(route.manifest, kinds))
    return create_after(store, route, made, clock)


def create_after(store: StateStore, route: RouteConfig, made: Made, clock: Clock, newest: int | None = None) -> Release:
    """The same, with the warnings of `made`. `newest`: what the newest release must still be (0: there is none), or
    Conflict (`base_moved`); None where that does not matter."""
    with store.write() as conn:
        last = releases.latest(conn, route.name)
        unmoved(last, newest)
        manifest, about = indexes.resolve(conn, route.manifest)
        made = msgspec.structs.replace(made, warnings=(*made.warnings, *about))
        if last is not None and last.manifest_hash == plain(manifest).hash():
            return msgspec.structs.replace(last, reused=True, warnings=made.warnings)
        return create_in(conn, route.name, manifest, made, clock)


def unmoved(last: Release | None, newest: int | None) -> None:
    """Conflict (`base_moved`) where `last` is not the release that was the newest when somebody looked."""
    if last is None or newest is None or last.number == newest:
        return
    differs = f"see what differs: pilothouse release diff {last.route} {newest} {last.number}"
    notes = f": {last.notes}" if last.notes else ""
    raise Conflict(
        f"release {last.number} was made meanwhile by {last.author}{notes}",
        where=f"{last.route}, whose newest release was {newest or 'none'}",
        hint=differs if newest else f"see what it is: pilothouse release notes {last.route} {last.number}",
        code="base_moved",
    )


def create_in(conn: Connection, route: str, manifest: Manifest, made: Made, clock: Clock) -> Release:
    """The next release of `route` with this manifest, inside the caller's transaction."""
    manifest = plain(manifest)
    newest = releases.latest(conn, route)
    commit, dirty = vcs_words.split(made.vcs)
    release = Release(
        route=route,
        number=newest.number + 1 if newest else 1,
        manifest_hash=manifest.hash(),
        parts={name: releases.put_part(conn, name, exact(manifest.part(name)), clock) for name in PARTS},
        author=str(made.actor),
        notes=made.notes,
        vcs_commit=commit,
        vcs_dirty=dirty,
        floating_alias=floating_alias(manifest.model),
        created_us=clock.now_us(),
        warnings=made.warnings,
    )
    releases.add(conn, release)
    change = Change(
        actor=made.actor,
        action="release.create",
        object_type="release",
        object_id=f"{route}#{release.number}",
        route=route,
        before_hash=newest.manifest_hash if newest else "",
        after_hash=release.manifest_hash,
        reason=made.notes,
        detail={
            "release": release.number,
            "vcs": made.vcs,
            "floating_alias": release.floating_alias,
            "warnings": msgspec.to_builtins(made.warnings),
        }
        | made.detail,
    )
    changes.append(conn, change, clock)
    return release


def plain(manifest: Manifest) -> Manifest:
    """Through plain JSON once, so that `30` and `30.0` in a float's place have one address."""
    return manifest_from_parts({name: manifest.part(name) for name in PARTS})


def warnings_of(manifest: Manifest, kinds: Sequence[str]) -> tuple[SchemaWarning, ...]:
    """What providers of these kinds refuse or ignore in the manifest's schemas; ConfigError for an unusable one."""
    found = [w for kind in dict.fromkeys((*kinds, "")) for w in lint(kind, manifest.schema, manifest.tools)]
    return tuple(dict.fromkeys(found))


def release(store: StateStore, route: str, number: int) -> Live:
    """Release `number` of `route`, resolved; NotFound, or StoreError where a part does not resolve."""
    with store.read() as conn:
        found = releases.get(conn, route, number)
        return live(found, releases.manifest(conn, found))


def answered(store: StateStore, route: str, number: int, parts: dict[str, str]) -> Live:
    """Release `number` as it answered a request with these part hashes; NotFound, or StoreError.

    A flag may have chosen a part from another release. A model that is no part of any release was pinned: it is then
    the release's own here, and the request's first attempt names the other.
    """
    with store.read() as conn:
        found = releases.get(conn, route, number)
        chosen = {name: address for name, address in parts.items() if found.parts.get(name) != address}
        if "model" in chosen and releases.part(conn, chosen["model"]) is None:
            del chosen["model"]
        mixed = msgspec.structs.replace(found, parts=found.parts | chosen)
        made = live(mixed, releases.manifest(conn, mixed))
        return msgspec.structs.replace(made, hash=made.manifest.hash()) if chosen else made


def live(found: Release, manifest: Manifest) -> Live:
    """What a worker needs to serve `found`."""
    return Live(release=found.number, manifest=manifest, parts=found.parts, hash=found.manifest_hash)


def floating_alias(model: ModelRef) -> str:
    """The model as `provider/name` where its name fixes no version, so that the provider may change it; else empty."""
    if _PINNED.search(model.name) and not _FLOATING.search(model.name):
        return ""
    return str(model)
