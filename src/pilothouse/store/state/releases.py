"""Releases and their content-addressed parts."""

from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, insert, select

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import NotFound, StoreError
from pilothouse.domain.hashing import bytes_hash, canonical
from pilothouse.domain.manifest import PARTS, Manifest, manifest_from_parts
from pilothouse.domain.release import Release
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import parts, releases


def put_part(conn: Connection, kind: str, content: bytes, clock: Clock) -> str:
    """Store `content` (JSON as written) under its hash, once; the hash."""
    address = bytes_hash(content)
    known = conn.execute(select(parts.c.hash).where(parts.c.hash == address)).first()
    if known is None:
        conn.execute(insert(parts).values(hash=address, kind=kind, content=content.decode(), created_us=clock.now_us()))
    return address


def part(conn: Connection, address: str) -> str | None:
    """The content (JSON) at `address`, None where it is missing or no longer hashes to it."""
    content = conn.execute(select(parts.c.content).where(parts.c.hash == address)).scalar()
    return content if content is not None and bytes_hash(content.encode()) == address else None


def add(conn: Connection, release: Release) -> None:
    """Insert a release whose parts are stored."""
    said_once = ("reused", "warnings")
    values = {name: value for name, value in msgspec.structs.asdict(release).items() if name not in said_once}
    conn.execute(insert(releases).values(values | {"parts": canonical(release.parts).decode()}))


def get(conn: Connection, route: str, number: int) -> Release:
    """Release `number` of `route`; NotFound names the newest there is."""
    row = (
        conn.execute(select(releases).where(releases.c.route == route, releases.c.number == number)).mappings().first()
    )
    if row is None:
        newest = latest(conn, route)
        hint = f"the newest is {newest.number}" if newest else f"make one with `pilothouse release create {route}`"
        raise NotFound(f"route {route!r} has no release {number}", hint=hint, code="unknown_release")
    return _release(row)


def latest(conn: Connection, route: str) -> Release | None:
    """The newest release of `route`, None where there is none."""
    query = select(releases).where(releases.c.route == route).order_by(releases.c.number.desc()).limit(1)
    row = conn.execute(query).mappings().first()
    return _release(row) if row is not None else None


def of_route(conn: Connection, route: str) -> list[Release]:
    """All releases of `route`, newest first; without the twins that drills have made (numbers below 0)."""
    query = select(releases).where(releases.c.route == route, releases.c.number > 0).order_by(releases.c.number.desc())
    return [_release(row) for row in conn.execute(query).mappings()]


def using(conn: Connection, address: str) -> list[dict[str, Any]]:
    """Routes and releases that the part at `address` is in, with the names it has there."""
    query = select(releases.c.route, releases.c.number, releases.c.parts).where(releases.c.parts.contains(address))
    found = []
    for route, number, text in conn.execute(query.order_by(releases.c.route, releases.c.number)):
        names = [name for name, hash_ in msgspec.json.decode(text, type=dict[str, str]).items() if hash_ == address]
        found.append({"route": route, "release": number, "parts": names})
    return found


def manifest(conn: Connection, release: Release) -> Manifest:
    """The manifest of `release`, every part checked against its hash; StoreError names what does not resolve."""
    contents = {}
    for name in PARTS:
        content = part(conn, release.parts.get(name, ""))
        if content is None:
            raise StoreError(
                f"the {name} of release {release.number} does not resolve",
                where=f"{release.route}: {release.parts.get(name, 'no hash')[:12]}",
                hint="restore the state store from a backup, or roll back to a release that resolves",
            )
        contents[name] = msgspec.json.decode(content)
    return manifest_from_parts(contents)


def missing(conn: Connection, release: Release) -> tuple[str, ...]:
    """Names of the parts of `release` that do not resolve to content with their hash."""
    return tuple(name for name in PARTS if part(conn, release.parts.get(name, "")) is None)


def _release(row: RowMapping) -> Release:
    return as_struct(row, Release, json=("parts",))
