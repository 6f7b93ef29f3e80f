"""The store's tables in ClickHouse, read off those in DuckDB: the same names and columns, so that there is one schema.

Partitions are days, rows lie in order of time. What has an identity is kept once (ReplacingMergeTree, read with
`final`), what has none is guarded by the token of its insert. Lists, maps and sorting keys cannot be NULL: an unknown
one is empty, and the column `unknown_` names those that are.
"""

import re
from collections.abc import Iterator, Sequence

# table → sorting key; its columns cannot be NULL. Of those in ONCE a key is kept once.
KEYS: dict[str, tuple[str, ...]] = {
    "requests": ("ts", "id"),
    "attempts": ("ts", "request_id", "n"),
    "spans": ("ts", "trace_id", "span_id"),
    "span_events": ("ts", "trace_id"),
    "app_metrics": ("name", "ts"),
    "scores": ("ts", "id"),
    "losses": ("ts",),
    "repeats": ("ts",),
    "payloads": ("ts", "owner"),
    "payload_files": ("file",),
    "removals": ("ts",),
    "rollup_minute": ("minute",),
    "rollup_hour": ("minute",),
    "rollup_call_minute": ("minute",),
    "rollup_call_hour": ("minute",),
    "entries": ("ts", "id"),
    "marks": ("mark", "n"),
    "load_positions": ("segment",),
    "meta": ("key",),
}
ONCE = (
    *("requests", "attempts", "spans", "scores", "payloads", "payload_files", "entries", "marks"),
    *("load_positions", "meta"),
)
UNKNOWN = "unknown_"
_WHOLE = ("payload_files", "removals", "load_positions", "meta", "losses", "marks")  # too small for a partition a day
_LOOKED_UP = {  # what is looked for without a time
    "requests": ("id", "trace_id", "own_trace_id"),
    "attempts": ("request_id",),
    "spans": ("trace_id",),
    "scores": ("request_id", "trace_id"),
    "payloads": ("owner",),
    "span_events": ("trace_id",),
    "entries": ("trace_id",),
}
_SIMPLE = {
    "VARCHAR": "String", "BIGINT": "Int64", "INTEGER": "Int32", "DOUBLE": "Float64", "BOOLEAN": "Bool",
    "TIMESTAMP": "DateTime64(6, 'UTC')", "DATE": "Date", "UTINYINT": "UInt8", "HUGEINT": "Int64", "UBIGINT": "UInt64",
    "UINTEGER": "UInt32",
}  # fmt: skip
WINDOW = 10_000  # how many of the newest inserts a token is known for
_FIELD = re.compile(r'"?(\w+)"? (.+)')
Column = tuple[str, str]  # name, DuckDB's type
Tables = dict[str, list[Column]]


def type_of(duck: str, *, null: bool = True) -> str:
    """ClickHouse's type for one of DuckDB's."""
    if duck.endswith("[]"):
        return f"Array({type_of(duck[:-2])})"
    if duck.startswith("MAP("):
        key, value = _inner(duck[4:-1])
        return f"Map({type_of(key, null=False)}, {type_of(value, null=False)})"
    if duck.startswith("STRUCT("):
        fields = [found for one in _inner(duck[7:-1]) if (found := _FIELD.fullmatch(one))]
        return "Tuple(" + ", ".join(f"{field[1]} {type_of(field[2])}" for field in fields) + ")"
    return f"Nullable({_SIMPLE[duck]})" if null else _SIMPLE[duck]


def _inner(text: str) -> list[str]:
    parts, depth, begin = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [*parts, text[begin:].strip()]


def time_of(table: str) -> str:
    """The column that says when."""
    return "minute" if table.startswith("rollup_") else "ts"


def partitioned(table: str) -> bool:
    """Whether its days are partitions."""
    return table not in _WHOLE


def never_null(table: str, found: Sequence[Column]) -> list[str]:
    """The columns that ClickHouse cannot hold NULL in."""
    keys = (*KEYS[table], time_of(table))
    return [name for name, duck in found if name in keys or duck.endswith("[]") or duck.startswith("MAP(")]


def as_made(table: str, found: Sequence[Column], only: Sequence[str] = ()) -> str:
    """DuckDB's SQL of a table's columns in a file that the server wrote, as they were before they went there."""
    hiding = never_null(table, found)
    return ", ".join(_restored(name, duck, name in hiding) for name, duck in found if not only or name in only)


def _restored(name: str, duck: str, hides: bool) -> str:
    value = f'"{name}"::{duck}'
    if hides:
        value = f"CASE WHEN NOT list_contains({UNKNOWN}, '{name}') THEN {value} END"
    return f'{value} AS "{name}"'


def columns(table: str, found: Sequence[Column]) -> Iterator[str]:
    """Definitions of a table's columns."""
    never = never_null(table, found)
    for name, duck in found:
        codec = " CODEC(ZSTD(3))" if table == "payloads" and duck == "VARCHAR" else ""
        yield f"`{name}` {type_of(duck, null=name not in never)}{codec}"
    if never:
        yield f"{UNKNOWN} Array(LowCardinality(String))"


def indexes(table: str) -> list[str]:
    """Definitions of what helps to look rows up without their time."""
    return [f"of_{name} {name} TYPE bloom_filter GRANULARITY 4" for name in _LOOKED_UP.get(table, ())]


def create(table: str, found: Sequence[Column]) -> str:
    """The statement that makes a table where there is none."""
    parts = list(columns(table, found))
    parts += [f"INDEX {index}" for index in indexes(table)]
    by = "" if table in _WHOLE else f" PARTITION BY toDate({time_of(table)})"
    newest = "(ts)" if table == "load_positions" else ""
    engine = f"ReplacingMergeTree{newest}" if table in ONCE else "MergeTree"
    return (
        f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(parts)}) ENGINE = {engine}{by} "
        f"ORDER BY ({', '.join(f'`{name}`' for name in KEYS[table])}) "
        f"SETTINGS non_replicated_deduplication_window = {WINDOW}"
    )
