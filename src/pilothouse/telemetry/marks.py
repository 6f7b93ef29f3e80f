"""Marks: which words and attributes each line of the traces list has, so that a search reads few of them.

A mark is 32 bits of a digest of a word, of `key=value`, of `key=` or of an id; a row of `marks` says that the entry `n`
has it. Rows are added as entries are, and sorted by mark later, so that looking one up reads a small part of the table.
Two texts have the same mark once in four thousand million, so what one mark finds is as good as found.
"""

import hashlib
import re
from collections.abc import Sequence

from pilothouse.store.telemetry import TelemetryStore

VALUE_MAX = 200  # characters; a longer attribute cannot be searched for
SEAL_ENTRIES = 16_384  # entries whose marks are sorted together
_WORDS = r"[\p{{L}}\p{{N}}]+"  # in a text that is formatted
_WORD = re.compile(r"[^\W_]+")
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
)  # no spaces between words

_ANY = "n >= 0"
MARK = "(md5_number_lower({}) % 4294967296)::UINTEGER"

# `key=` and `key=value` of all that a map holds.
_PAIRS = (
    "list_concat(list_transform(map_keys({0}), lambda k: k || '='), list_transform(map_entries({0}), "
    f"lambda a: a.key || '=' || left(a.value, {VALUE_MAX + 1})))"
)

# Words of a line's own text, its ids, its labels, and every attribute of the trace's spans. {entries}: the new rows;
# {spans}: spans with trace_id and attributes; {labels}: requests with id and labels.
ADD = f"""INSERT INTO marks
SELECT DISTINCT {MARK.format("said")} AS mark, n FROM (
  SELECT n, unnest(list_distinct(regexp_extract_all(
    lower(concat_ws(' ', name, route, error_type, error_message, preview_in, preview_out)), '{_WORDS}'))) AS said
  FROM {{entries}}
  UNION ALL SELECT n, unnest([id, trace_id, own_trace_id, root_id]) FROM {{entries}}
  UNION ALL SELECT e.n, a.said FROM (
    SELECT DISTINCT trace_id, unnest({_PAIRS.format("attributes")}) AS said
    FROM {{spans}}) a JOIN {{entries}} e USING (trace_id)
  UNION ALL SELECT e.n, r.said FROM (
    SELECT id, unnest({_PAIRS.format("labels")}) AS said
    FROM {{labels}}) r JOIN {{entries}} e USING (id))
WHERE said <> '' ORDER BY mark, n"""  # noqa: S608  # own names


def mark_of(text: str) -> int:
    """The mark of a word (in lower case), an id, or of an attribute as `pair` writes it."""
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:12], "little")


def pair(key: str, value: str = "") -> str:
    """An attribute; without a value, any of that key."""
    return f"{key}={value[: VALUE_MAX + 1]}"


def words(text: str) -> list[str]:
    """The words of a search, as they are marked; none where the text can only be looked for letter by letter."""
    return [] if _SPACELESS.search(text) else sorted(set(_WORD.findall(text.lower())))


def having(ways: Sequence[Sequence[str]]) -> str:
    """SQL that holds for entries `e` with all the marks of one of the ways to be found, and for few others."""
    return f"e.n IN ({' UNION ALL '.join(_numbers([mark_of(said) for said in way]) for way in ways)})"


def _numbers(marks: Sequence[int]) -> str:
    first, *rest = marks
    also = f" AND n IN ({_numbers(rest)})" if rest else ""
    return f"SELECT n FROM marks WHERE mark = {first:d} AND {_ANY}{also}"  # noqa: S608  # numbers


def asked(condition: str) -> bool:
    """Whether a condition reads marks."""
    return _ANY in condition


def since(condition: str, n: int) -> str:
    """The same condition, of entries from the number `n` on alone: fewer marks are read."""
    return condition.replace(_ANY, f"n >= {n:d}")


def seal(store: TelemetryStore) -> int:
    """Sort the marks of the next entries, where there are enough of them; how many entries that were.

    Marks of entries that are no more are left out.
    """
    if store.replaces:  # it sorts by itself
        return 0
    with store.transaction() as write:
        row = write.execute("SELECT coalesce(max(value::BIGINT), 0) FROM meta WHERE key = 'marks_sealed'").fetchone()
        since = int(row[0]) if row else 0
        row = write.execute(
            "SELECT max(n) FROM (SELECT n FROM entries WHERE n > ? ORDER BY n LIMIT ?) HAVING count(*) = ?",
            [since, SEAL_ENTRIES, SEAL_ENTRIES],
        ).fetchone()
        if row is None or row[0] is None:
            return 0
        until = int(row[0])
        write.execute(
            "CREATE OR REPLACE TEMP TABLE sealed AS SELECT mark, n FROM marks WHERE n > ? AND n <= ? "
            "AND n IN (SELECT n FROM entries WHERE n > ? AND n <= ?) ORDER BY mark, n",
            [since, until, since, until],
        )
        write.execute("DELETE FROM marks WHERE n > ? AND n <= ?", [since, until])
        write.execute("INSERT INTO marks SELECT mark, n FROM sealed ORDER BY mark, n")
        write.execute("DROP TABLE sealed")
        write.execute("INSERT OR REPLACE INTO meta VALUES ('marks_sealed', ?)", [str(until)])
    return SEAL_ENTRIES
