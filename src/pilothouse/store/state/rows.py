"""A row of a table as the struct of the same field names."""

from typing import Any, TypeVar

import msgspec
from sqlalchemy import RowMapping

T = TypeVar("T")


def as_struct(row: RowMapping, kind: type[T], json: tuple[str, ...] = ()) -> T:
    """`row` as a `kind`; the columns in `json` hold JSON text and are decoded first."""
    # str(): SQLAlchemy's column names are a subclass of str, which msgspec refuses as a key.
    values: dict[str, Any] = {str(name): value for name, value in row.items()}
    for name in json:
        values[name] = msgspec.json.decode(values[name])
    return msgspec.convert(values, kind)
