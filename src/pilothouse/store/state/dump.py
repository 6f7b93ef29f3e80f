"""The state, table by table, as JSON lines: equal in whichever engine it is kept, so that one restores the other's.

What is of the moment (the hosts' heartbeats, what they see of canaries and rules) is not part of it. A table's sum does
not depend on the order of its rows, since the engines sort text differently.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, Integer, MetaData, Table, delete, func, insert, inspect, select, text

from pilothouse.domain.errors import StoreError
from pilothouse.domain.hashing import canonical
from pilothouse.store.state.tables import APPEND_ONLY, METADATA

OF_THE_MOMENT = ("hosts", "installation", "canary_counts", "rule_readings")
_BATCH = 500


class TableSum(msgspec.Struct, frozen=True):
    """How many rows a table has, and SHA-256 of their own sorted SHA-256."""

    rows: int
    sha256: str


def tables(conn: Connection) -> list[Table]:
    """The tables of the state as they are in this database, those that others refer to first."""
    there = set(inspect(conn).get_table_names())
    names = [name for name in METADATA.tables if name in there and name not in OF_THE_MOMENT]
    found = MetaData()
    found.reflect(conn, only=names, resolve_fks=False)
    return list(found.sorted_tables)


def lines(conn: Connection, table: Table) -> Iterator[bytes]:
    """A table's rows, each as one line of JSON with its columns in order of their names."""
    query = select(table).order_by(*table.primary_key.columns)
    for row in conn.execute(query.execution_options(yield_per=_BATCH)).mappings():
        yield canonical({str(name): value for name, value in row.items()})


class Summing:
    """Sums up the lines of a table as they pass."""

    def __init__(self) -> None:
        self._hashes: list[bytes] = []

    def passing(self, given: Iterable[bytes]) -> Iterator[bytes]:
        """The same lines."""
        for line in given:
            self._hashes.append(hashlib.sha256(line).digest())
            yield line

    @property
    def total(self) -> TableSum:
        """The sum of all lines so far."""
        whole = hashlib.sha256(b"".join(sorted(self._hashes))).hexdigest()
        return TableSum(rows=len(self._hashes), sha256=whole)


def sums(conn: Connection) -> dict[str, TableSum]:
    """Every table's sum."""
    found = {}
    for table in tables(conn):
        summing = Summing()
        for _ in summing.passing(lines(conn, table)):
            pass
        found[table.name] = summing.total
    return found


def is_empty(conn: Connection) -> bool:
    """Whether nothing was ever kept here: the table's revision apart, which every new store has."""
    return all(
        conn.execute(select(func.count()).select_from(table)).scalar_one() == 0
        for table in tables(conn)
        if table.name != "table_revision"
    )


def clear(conn: Connection) -> None:
    """Drop our tables, and no others, with the guards of those that are append-only."""
    for table in reversed(METADATA.sorted_tables):
        conn.execute(text(f'DROP TABLE IF EXISTS "{table.name}"'))
    conn.execute(text("DROP TABLE IF EXISTS alembic_version"))
    if conn.dialect.name == "postgresql":
        conn.execute(text("DROP FUNCTION IF EXISTS pilothouse_append_only()"))


def fill(conn: Connection, table: Table, given: Iterable[bytes]) -> None:
    """Put lines into a table of a fresh schema, in the place of what the schema itself put there."""
    if table.name not in APPEND_ONLY:
        conn.execute(delete(table))
    batch: list[dict[str, Any]] = []
    for line in given:
        batch.append(_row(table, line))
        if len(batch) == _BATCH:
            conn.execute(insert(table), batch)
            batch = []
    if batch:
        conn.execute(insert(table), batch)
    _count_on(conn, table)


def _row(table: Table, line: bytes) -> dict[str, Any]:
    try:
        row: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise StoreError(f"a row of {table.name} is not readable: {error}", where=table.name) from error
    if unknown := sorted(set(row) - set(table.columns.keys())):
        raise StoreError(f"{table.name} has no column {unknown[0]!r}", where=table.name)
    return row


def _count_on(conn: Connection, table: Table) -> None:
    """Let the database's own numbers go on after the highest that was put in; SQLite does so by itself."""
    keys = list(table.primary_key.columns)
    if conn.dialect.name != "postgresql" or len(keys) != 1 or not isinstance(keys[0].type, Integer | BigInteger):
        return
    name = keys[0].name
    sequence = conn.execute(select(func.pg_get_serial_sequence(f'"{table.name}"', name))).scalar()
    highest = conn.execute(select(func.max(keys[0]))).scalar()
    if sequence is not None and highest is not None:
        conn.execute(select(func.setval(sequence, highest)))
