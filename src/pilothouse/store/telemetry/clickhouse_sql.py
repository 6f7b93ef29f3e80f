"""The store's SQL as ClickHouse reads it: calls, casts and parameters that differ, rewritten one by one.

Both engines accept the rest (`count(*) FILTER`, windows, QUALIFY, GROUP BY ALL, GROUPING SETS, SEMI JOIN). Words in
quotes are left alone. The rules are few because the queries are ours; the conformance suite runs them all.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry.clickhouse_tables import UNKNOWN

Params = Sequence[Any] | Mapping[str, Any]

# What makes ClickHouse answer as SQL says: NULL over nothing, NULL for no match, and a column before its namesake.
SETTINGS: dict[str, Any] = {
    "final": 1,
    "do_not_merge_across_partitions_select_final": 1,
    "aggregate_functions_null_for_empty": 1,
    "join_use_nulls": 1,
    "cast_keep_nullable": 1,
    "prefer_column_name_to_alias": 1,
    "union_default_mode": "DISTINCT",
}

_TIME = "DateTime64(6, 'UTC')"
_TYPES = {"TIMESTAMP": _TIME, "UTINYINT": "UInt8", "VARCHAR[]": "Array(String)", "BIGINT[]": "Array(Int64)"}
_RENAMED = {
    "len": "length",
    "cardinality": "length",
    "list_distinct": "arrayDistinct",
    "list_max": "arrayMax",
    "list_sort": "arraySort",
    "unnest": "arrayJoin",
    "arg_max": "argMax",
    "arg_min": "argMin",
    "starts_with": "startsWith",
    "hash": "cityHash64",
    "bool_and": "min",
    "grouping_id": "grouping",
    "array_to_string": "arrayStringConcat",
    "regexp_matches": "match",
    "strftime": "formatDateTime",
    "chr": "char",
}


def _quantile(args: list[str]) -> str:
    expression, q = args
    if q.startswith("["):  # one by one: its own function for several says NaN over nothing
        return "[" + ", ".join(_quantile([expression, one.strip()]) for one in q[1:-1].split(",")) + "]"
    return f"quantileExactInclusive({q})({expression})"


def _list(args: list[str]) -> str:
    (one,) = args
    distinct = one.upper().startswith("DISTINCT ")
    return f"groupUniqArray({one[9:]})" if distinct else f"groupArray({one})"


def _words(args: list[str]) -> str:
    """NULLs are left out, as elsewhere; ClickHouse would answer NULL."""
    words = ", ".join(f"toNullable(toString({one}))" for one in args[1:])
    return f"arrayStringConcat(arrayFilter(w -> w IS NOT NULL, [{words}]), {args[0]})"


_CALLS: dict[str, Callable[[list[str]], str]] = {
    "epoch_us": lambda a: f"toUnixTimestamp64Micro({a[0]}::{_TIME})",
    "make_timestamp": lambda a: f"fromUnixTimestamp64Micro(toInt64({a[0]}), 'UTC')",
    "quantile_cont": _quantile,
    "median": lambda a: _quantile([*a, "0.5"]),  # its own draws a sample
    "contains": lambda a: f"(position({a[0]}, {a[1]}) > 0)",
    "list": _list,
    "list_transform": lambda a: f"arrayMap({a[1]}, {a[0]})",
    "map_entries": lambda a: f"({a[0]})::Array(Tuple(key String, value String))",
    "concat": lambda a: "concat(" + ", ".join(f"coalesce({one}, '')" for one in a) + ")",
    "concat_ws": _words,
    "string_split": lambda a: f"splitByString({a[1]}, {a[0]})",
    "filter": lambda a: f"FILTER (WHERE {a[0]})",
    "md5": lambda a: f"lower(hex(MD5({a[0]})))",
    **{old: (lambda a, new=new: f"{new}({', '.join(a)})") for old, new in _RENAMED.items()},  # type: ignore[misc]
}
_CALL = re.compile(rf"\b({'|'.join(_CALLS)})\s*\(", re.IGNORECASE)
# Lists and maps whose being unknown is asked for; another's NULL would be asked for in vain, so tests look for such.
LISTS = ("documents",)
_IS_KNOWN = re.compile(rf"\b(\w+\.)?({'|'.join(LISTS)}) IS NOT NULL")
_LENGTH = re.compile(rf"\blen\((\w+\.)?({'|'.join(LISTS)})\)")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"")
_CAST = re.compile(r"::(VARCHAR\[\]|BIGINT\[\]|TIMESTAMP\b|UTINYINT\b)")
_LAMBDA = re.compile(r"\blambda (\w+):")
_PARAMETER = re.compile(r"\?|\$(\w+)")
_DIVIDE = re.compile(r"\s*//\s*(\w+)")
_SLICE = re.compile(r"\)\[(\d+):(\d+)\]")
_TEMPORARY = re.compile(r"^\s*CREATE (OR REPLACE )?TEMP TABLE (\w+)", re.IGNORECASE)
_SELECT = re.compile(r"\bSELECT\s+(?:DISTINCT\s+)?", re.IGNORECASE)
_LIST_END = re.compile(r"\bFROM\b|\bUNION\b|\bWHERE\b|\bORDER\b|\bGROUP\b", re.IGNORECASE)
_OF_TABLE = re.compile(r"\s*\w+\.(\w+|\x00\d+\x00)\s*")
_TUPLES = re.compile(r"\(VALUES (\(\{)")


def translate(sql: str, params: Params = ()) -> tuple[str, dict[str, Any]]:
    """The query and its parameters by name. Raises StoreError for a value that cannot be one."""
    quoted: list[str] = []

    def keep(found: re.Match[str]) -> str:
        quoted.append(found.group())
        return f"\x00{len(quoted) - 1}\x00"

    sql = _QUOTED.sub(keep, sql)
    sql, bound = _bind(sql, params)
    sql = _CAST.sub(lambda found: f"::{_TYPES[found.group(1)]}", sql)
    sql = _TEMPORARY.sub(lambda m: f"CREATE {m.group(1) or ''}TEMPORARY TABLE {m.group(2)}", sql)
    sql = _LAMBDA.sub(r"\1 ->", _TUPLES.sub(r"(\1", sql))
    sql = _IS_KNOWN.sub(rf"NOT has(\1{UNKNOWN}, '\2')", sql)
    sql = _LENGTH.sub(rf"if(has(\1{UNKNOWN}, '\2'), NULL, length(\1\2))", sql)
    sql = _named(_sliced(_divided(_calls(sql))))
    return re.sub(r"\x00(\d+)\x00", lambda found: quoted[int(found.group(1))], sql), bound


def _bind(sql: str, params: Params) -> tuple[str, dict[str, Any]]:
    bound: dict[str, Any] = {}
    left = iter(params if not isinstance(params, Mapping) else ())

    def place(found: re.Match[str]) -> str:
        name = found.group(1)
        if name and name.isdigit() and not isinstance(params, Mapping):
            value, name = params[int(name) - 1], f"n{name}"
        elif name and isinstance(params, Mapping):
            value = params[name]
        else:
            value, name = next(left), f"p{len(bound)}"
        if value is None:
            return "NULL"
        bound[name] = _written(value)
        return f"{{{name}:{_type(value)}}}"

    return _PARAMETER.sub(place, sql), bound


def _written(value: Any) -> Any:
    return [value[0].isoformat(" ")] if isinstance(value, list) and value and isinstance(value[0], datetime) else value


def _type(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"Array({_type(value[0]) if value else 'String'})"
    for kind, name in (
        *((bool, "Bool"), (int, "Int64"), (float, "Float64"), (str, "String")),
        *((datetime, _TIME), (date, "Date")),
    ):
        if isinstance(value, kind):
            return name
    raise StoreError(f"a {type(value).__name__} cannot be asked for", where="clickhouse", hint="please report this")


def _calls(sql: str) -> str:
    """Calls rewritten from the outside in."""
    made, at = [], 0
    while found := _CALL.search(sql, at):
        end = _closing(sql, found.end())
        args = [_calls(one.strip()) for one in _split(sql[found.end() : end])]
        made += [sql[at : found.start()], _call(found.group(1).lower(), args)]
        at = end + 1
    return "".join(made) + sql[at:]


def _call(name: str, args: list[str]) -> str:
    if name == "filter":
        return _CALLS[name]([", ".join(args).removeprefix("WHERE ")])
    return _CALLS[name](args)


def _closing(sql: str, start: int) -> int:
    """Where the bracket that was opened just before `start` is closed."""
    depth = 1
    for at in range(start, len(sql)):
        depth += (sql[at] in "([{") - (sql[at] in ")]}")
        if not depth:
            return at
    raise StoreError("a query has a bracket without an end", where="clickhouse", hint="please report this")


def _split(inner: str) -> list[str]:
    parts, depth, begin = [], 0, 0
    for at, letter in enumerate(inner):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append(inner[begin:at])
            begin = at + 1
    return [*parts, inner[begin:]]


def _opening(sql: str, end: int) -> int:
    """Where the operand that ends before `end` begins: a name, or a call or something in brackets."""
    at, depth = end, 0
    while at > 0:
        letter = sql[at - 1]
        depth += (letter in ")]}") - (letter in "([{")
        if depth < 0 or (depth == 0 and not (letter.isalnum() or letter in "_.()[]{}:")):
            break
        at -= 1
    return at


def _named(sql: str) -> str:
    """`t.a` in a list of columns is called `a`: of two tables with an `a`, ClickHouse would call it `t.a`."""
    made, at = [], 0
    while found := _SELECT.search(sql, at):
        end = _list_end(sql, found.end())
        items = [
            f"{item.rstrip()} AS {own.group(1)} " if (own := _OF_TABLE.fullmatch(item)) else _named(item)
            for item in _split(sql[found.end() : end])
        ]
        made += [sql[at : found.end()], ",".join(items)]
        at = end
    return "".join(made) + sql[at:]


def _list_end(sql: str, start: int) -> int:
    """Where the list of columns that begins at `start` ends."""
    depth, at = 0, start
    for word in re.finditer(r"[(\[{]|[)\]}]|\b[A-Za-z]+\b", sql[start:]):
        at = start + word.start()
        depth += (word.group() in "([{") - (word.group() in ")]}")
        if depth < 0 or (not depth and _LIST_END.match(word.group())):
            return at
    return len(sql)


def _divided(sql: str) -> str:
    """`a // b` begins a comment in ClickHouse."""
    while found := _DIVIDE.search(sql):
        start = _opening(sql, found.start())
        sql = f"{sql[:start]}intDiv({sql[start : found.start()]}, {found.group(1)}){sql[found.end() :]}"
    return sql


def _sliced(sql: str) -> str:
    while found := _SLICE.search(sql):
        end = found.start() + 1
        start = _opening(sql, end)
        low, high = int(found.group(1)), int(found.group(2))
        sql = f"{sql[:start]}arraySlice({sql[start:end]}, {low}, {high - low + 1}){sql[found.end() :]}"
    return sql
