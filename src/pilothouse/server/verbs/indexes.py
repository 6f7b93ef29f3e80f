"""Versions of retrieval indexes: registered by an app's indexer, and listed with the routes that use them."""

from typing import Any

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.release import IndexVersion
from pilothouse.releases import indexes
from pilothouse.server.composition import Control
from pilothouse.store.state import indexes as stored
from pilothouse.store.state import pointers, releases


def register(control: Control, version: IndexVersion, actor: Actor) -> IndexVersion:
    """Keep it; Refused where it is known already."""
    kept = msgspec.structs.replace(version, notes=control.typed(version.notes))
    return indexes.register(control.state, kept, actor=actor, clock=control.clock)


def every(control: Control) -> dict[str, Any]:
    """Every version, newest first by index, with the routes and environments that serve it now."""
    with control.state.read() as conn:
        serving: dict[tuple[str, str], list[str]] = {}
        for pointer in pointers.every(conn):
            release = releases.get(conn, pointer.route, pointer.stable)
            if releases.missing(conn, release):
                continue
            index = releases.manifest(conn, release).index
            if index is not None:
                serving.setdefault((index.name, index.version), []).append(f"{pointer.route}@{pointer.env}")
        versions = stored.every(conn)
    return {"versions": [{"version": one, "serves": serving.get((one.name, one.version), [])} for one in versions]}
