"""Rows: one of a table as the struct of the same field names; one written in the place of another."""

from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column, Connection, RowMapping, Table
from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")


def as_struct(row: RowMapping, kind: type[T], json: tuple[str, ...] = ()) -> T:
    """`row` as a `kind`; the columns in `json` hold JSON text and are decoded first."""
    # str(): SQLAlchemy's column names are a subclass of str, which msgspec refuses as a key.
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    for name in json:
        values[name] = msgspec.json.decode(values[name])
    return msgspec.convert(values, kind)


def upsert(conn: Connection, table: Table, values: dict[str, Any], key: tuple[Column[Any], ...]) -> None:
    """Insert a row; one that has the same `key` takes the other values, and stays as it is where there are none."""
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    names = {column.name for column in key}
    others = {name: value for name, value in values.items() if name not in names}
    query = insert(table).values(values)
    conn.execute(
        query.on_conflict_do_update(index_elements=key, set_=others)
        if others
        else query.on_conflict_do_nothing(index_elements=key)
    )
