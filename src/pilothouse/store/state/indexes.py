"""Versions of retrieval indexes, as their indexers registered them."""

import msgspec
from sqlalchemy import Connection, insert, select

from pilothouse.domain.release import IndexVersion
from pilothouse.store.state.rows import as_struct
from pilothouse.store.state.tables import index_versions


def add(conn: Connection, version: IndexVersion) -> None:
    """Register a version that is not registered yet."""
    conn.execute(insert(index_versions).values(msgspec.structs.asdict(version)))


def of_index(conn: Connection, name: str) -> list[IndexVersion]:
    """The versions of an index, newest registered first."""
    query = select(index_versions).where(index_versions.c.name == name).order_by(index_versions.c.id.desc())
    return [as_struct(row, IndexVersion) for row in conn.execute(query).mappings()]


def every(conn: Connection) -> list[IndexVersion]:
    """All versions of all indexes, by name, newest registered first."""
    query = select(index_versions).order_by(index_versions.c.name, index_versions.c.id.desc())
    return [as_struct(row, IndexVersion) for row in conn.execute(query).mappings()]
