"""Looking up what is stored for rows that arrive, and changing it: the same words for every engine.

What is wanted stands in a temporary table on the writer's connection, and so does what is found, so that the rest of a
load's SQL is the same wherever the rows lie. Times bound every look-up: a store is large and lies in order of time.
"""

import msgspec

Between = tuple[int, int]  # µs since 1970, both included


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """Columns of the rows of `table` whose `key` is among those of the temporary table `wanted`, put into `into`.

    `columns`: name → its SQL over the stored row `t`, and DuckDB's type. `more`: what follows the condition, such as
    AND, or QUALIFY.
    """

    into: str
    table: str
    key: str
    wanted: str
    columns: dict[str, tuple[str, str]]
    more: str = ""

    def create(self) -> str:
        """SQL that makes `into`, empty."""
        columns = ", ".join(f"{name} {type_}" for name, (_, type_) in self.columns.items())
        return f"CREATE OR REPLACE TEMP TABLE {self.into} ({columns})"

    def select(self, between: Between, among: str) -> str:
        """SQL that finds the rows in the store. `among`: the keys, as a query or a list of literals."""
        chosen = ", ".join(f"{sql} AS {name}" for name, (sql, _) in self.columns.items())
        return f"SELECT {chosen} FROM {self.table} t WHERE {within(between)} AND t.{self.key} IN ({among}) {self.more}"  # noqa: S608

    @property
    def among(self) -> str:
        """SQL of the keys that are wanted."""
        return f"SELECT {self.key} FROM {self.wanted}"  # noqa: S608  # our own names

    @property
    def put(self) -> str:
        """SQL that begins to put rows into `into`, each value as its type."""
        casts = ", ".join(f"{name}::{type_}" for name, (_, type_) in self.columns.items())
        return f"INSERT INTO {self.into} SELECT {casts} FROM"  # our own names


class Amend(msgspec.Struct, frozen=True, kw_only=True):
    """Columns `set` of the rows of `table` whose time and `keys` stand in the temporary table `changes`, as it says."""

    table: str
    keys: tuple[str, ...]
    set: tuple[str, ...]
    changes: str

    @property
    def same(self) -> str:
        """SQL of the condition that `t` is the row that `c` is about."""
        return " AND ".join(f"t.{key} = c.{key}" for key in ("ts", *self.keys))

    def update(self, between: Between) -> str:
        """SQL that changes the rows where they lie."""
        assigned = ", ".join(f"{name} = c.{name}" for name in self.set)
        return f"UPDATE {self.table} t SET {assigned} FROM {self.changes} c WHERE {within(between)} AND {self.same}"  # noqa: S608


def within(between: Between) -> str:
    """SQL of the condition that a stored row's time lies between two."""
    return f"t.ts >= make_timestamp({between[0]}) AND t.ts <= make_timestamp({between[1]})"
