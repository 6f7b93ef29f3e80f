"""Versions of retrieval indexes: registered by the app or its indexer, resolved when a release is made."""

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, ConfigError, Refused
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.release import IndexVersion, SchemaWarning
from pilothouse.store.state import changes, indexes
from pilothouse.store.state.engine import StateStore


def register(store: StateStore, version: IndexVersion, *, actor: Actor, clock: Clock) -> IndexVersion:
    """Keep a version of an index; releases that name no version take the newest. Refused where it is known already."""
    if not version.name.strip() or not version.version.strip():
        raise BadRequest("an index has a name and a version", where=f"{version.name!r} {version.version!r}")
    with store.write() as conn:
        known = indexes.of_index(conn, version.name)
        if any(one.version == version.version for one in known):
            raise Refused(
                f"version {version.version} of index {version.name} is registered already",
                hint="a version is never written anew: register the new build under a new one",
                code="already_there",
            )
        stored = msgspec.structs.replace(version, author=str(actor), registered_us=clock.now_us())
        indexes.add(conn, stored)
        detail = {
            "version": version.version,
            "documents": version.documents,
            "before": known[0].version if known else "",
        }
        change = Change(
            actor=actor,
            action="index.register",
            object_type="index",
            object_id=f"{version.name}@{version.version}",
            reason=version.notes,
            detail=detail,
        )
        changes.append(conn, change, clock)
    return stored


def resolve(conn: Connection, manifest: Manifest) -> tuple[Manifest, tuple[SchemaWarning, ...]]:
    """The manifest with its index at a version: the one it names, else the newest registered; and what to say of it.

    ConfigError (`unknown_index`) where it names a version that is not registered, of an index that has some.
    """
    index = manifest.index
    if index is None:
        return manifest, ()
    known = [one.version for one in indexes.of_index(conn, index.name)]
    if not index.version:
        if known:
            pinned = msgspec.structs.replace(index, version=known[0])
            return msgspec.structs.replace(manifest, index=pinned), ()
        advice = f"pilothouse index register {index.name} VERSION"
        return manifest, (SchemaWarning("index", "", f"no version of {index.name} is registered", advice),)
    if known and index.version not in known:
        raise ConfigError(
            f"index {index.name} has no version {index.version}",
            where="index",
            hint=f"registered: {', '.join(known[:5])}",
            code="unknown_index",
        )
    return manifest, ()
