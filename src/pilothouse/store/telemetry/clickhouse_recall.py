"""Look-ups and changes of stored rows on ClickHouse: keys go out as literals, rows come back as Parquet.

A changed row is sent whole once more; of two rows with one key the later is kept, so there is no mutation to wait for.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.store.telemetry.clickhouse_tables import KEYS, ONCE, Column, as_made
from pilothouse.store.telemetry.recall import Amend, Between, Recall, within

AT_ONCE = 2_000  # keys in one question
Fetch = Callable[[str, Path], None]


def recall(write: Any, fetch: Fetch, what: Recall, between: Between) -> None:
    """Put what is found into `what.into`. What the write under way has made anew is found as it will be."""
    fresh = _made(write, what.table)
    own = KEYS[what.table] if fresh and what.table in ONCE else ()
    named = {f"own_{key}": (f"t.{key}", "") for key in own}
    asked = msgspec.structs.replace(what, columns=what.columns | named)
    for among in _keys(write, what.among):
        for path in _fetched(fetch, asked.select(between, among)):
            write.execute(f"{what.put} read_parquet('{path}') t {_unmade(what.table, own, 'own_')}")
    if fresh:
        write.execute(f"{what.put} ({what.select(between, what.among)})")


def amend(write: Any, fetch: Fetch, columns: Sequence[Column], what: Amend, between: Between) -> None:
    """Make the changed rows anew in memory, to be sent with the write that is under way; those of it are changed."""
    key = what.keys[-1]
    changed = ", ".join(f"c.{name} AS {name}" for name in what.set)
    own = KEYS[what.table] if _made(write, what.table) else ()
    if own:
        write.execute(what.update(between))
    for among in _keys(write, f"SELECT {key} FROM {what.changes}"):  # noqa: S608  # our own names
        sql = f"SELECT * FROM {what.table} t WHERE {within(between)} AND t.{key} IN ({among})"  # noqa: S608
        for path in _fetched(fetch, sql):
            write.execute(
                f"INSERT INTO {what.table} BY NAME SELECT t.* REPLACE ({changed}) "  # noqa: S608  # our own names
                f"FROM (SELECT {as_made(what.table, columns)} FROM read_parquet('{path}')) t "
                f"JOIN {what.changes} c ON {what.same} {_unmade(what.table, own)}"
            )


def _made(write: Any, table: str) -> bool:
    """Whether the write under way has rows of a table."""
    return bool(write.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall())  # noqa: S608  # our own names


def _unmade(table: str, keys: Sequence[str], prefix: str = "") -> str:
    """SQL of the condition that the write under way has no row that takes the stored row's place."""
    if not keys:
        return ""
    same = " AND ".join(f"m.{key} = t.{prefix}{key}{'::TIMESTAMP' * (key == 'ts')}" for key in keys)
    return f"WHERE NOT EXISTS (SELECT 1 FROM {table} m WHERE {same})"  # noqa: S608  # our own names


def _keys(write: Any, sql: str) -> Iterator[str]:
    """The keys as lists of literals."""
    found = [row[0] for row in write.execute(f"SELECT DISTINCT * FROM ({sql})").fetchall() if row[0] is not None]  # noqa: S608
    for at in range(0, len(found), AT_ONCE):
        yield ", ".join(map(_literal, found[at : at + AT_ONCE]))


def _literal(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _fetched(fetch: Fetch, sql: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pilothouse-recall-") as folder:
        path = Path(folder) / "rows.parquet"
        fetch(sql, path)
        if path.stat().st_size:
            yield str(path)
