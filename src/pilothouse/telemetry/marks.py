"""Marks: which words and attributes each line of the traces list has, so that a search reads few of them.

A mark is 32 bits of a digest of a word, of `key=value`, of `key=`, of an id or its beginning; a row of `marks` says
that the entry `n` has it. Rows are added as entries are, and sorted by mark later, so that looking one up reads a
small part of the table. Two texts have the same mark once in four thousand million, so what one mark finds is as good
as found.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from pilothouse.store.telemetry import TelemetryStore

VERSION = 2  # of what is marked; entries of an earlier one are made anew
VALUE_MAX = 200  # characters; a longer attribute cannot be searched for
SEAL_ENTRIES = 16_384  # entries whose marks are sorted together
BEGINNING = 6  # letters of an id
FEW = 400  # entries that are named one by one
RANGES_MAX = 8
_WORDS = r"[\p{L}\p{N}]+"  # in a text
_WORD = re.compile(r"[^\W_]+")
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana and Han. Two letters each make a mark.
_RANGES = (("0e00", "0eff"), ("1000", "109f"), ("1780", "17ff"), ("3040", "30ff"), ("3400", "9fff"))
_SPACELESS = "[" + "".join(rf"\x{{{a}}}-\x{{{b}}}" for a, b in _RANGES) + "]"
_SPACELESS_RUN = re.compile("([" + "".join(f"{chr(int(a, 16))}-{chr(int(b, 16))}" for a, b in _RANGES) + "]+)")

Ask = Callable[..., list[dict[str, Any]]]
Ways = tuple[tuple[str, ...], ...]  # all the texts of one of them
MARK = "(md5_number_lower({}) % 4294967296)::UINTEGER"

# `key=` and `key=value` of all that a map holds.
_PAIRS = (
    "list_concat(list_transform(map_keys({0}), lambda k: k || '='), list_transform(map_entries({0}), "
    f"lambda a: a.key || '=' || left(a.value, {VALUE_MAX + 1})))"
)

_TEXT = "lower(concat_ws(' ', name, route, error_type, error_message, preview_in, preview_out))"
_TWOS = (
    f"flatten(list_transform(regexp_extract_all({_TEXT}, '{_SPACELESS}{{2,}}'), "
    "lambda run: list_transform(range(1, length(run)), lambda i: substr(run, i, 2))))"
)
_IDS = "[id, trace_id, own_trace_id, root_id]"

# Words of a line's own text, its ids and how they begin, its labels, and every attribute of the trace's spans.
_ADD = f"""INSERT INTO marks
SELECT DISTINCT {MARK.format("said")} AS mark, n FROM (
  SELECT n, unnest(list_distinct(list_concat(regexp_extract_all({_TEXT}, '{_WORDS}'),
    CASE WHEN regexp_matches({_TEXT}, '{_SPACELESS}') THEN {_TWOS} ELSE [] END))) AS said
  FROM <entries>
  UNION ALL SELECT n, unnest({_IDS}) FROM <entries>
  UNION ALL SELECT n, unnest(list_transform(list_filter({_IDS}, lambda i: i <> ''),
    lambda i: left(i, {BEGINNING}) || '*')) FROM <entries>
  UNION ALL SELECT e.n, a.said FROM (
    SELECT DISTINCT trace_id, unnest({_PAIRS.format("attributes")}) AS said
    FROM <spans>) a JOIN <entries> e USING (trace_id)
  UNION ALL SELECT e.n, r.said FROM (
    SELECT id, unnest({_PAIRS.format("labels")}) AS said
    FROM <labels>) r JOIN <entries> e USING (id))
WHERE said <> '' ORDER BY mark, n"""  # noqa: S608  # own names


def adding(entries: str, spans: str, labels: str) -> str:
    """SQL that adds the marks of the new rows of `entries`; `spans` with trace_id and attributes, `labels` of ids."""
    return _ADD.replace("<entries>", entries).replace("<spans>", spans).replace("<labels>", labels)


def mark_of(text: str) -> int:
    """The mark of a word (in lower case), an id, or of an attribute as `pair` writes it."""
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:12], "little")


def pair(key: str, value: str = "") -> str:
    """An attribute; without a value, any of that key."""
    return f"{key}={value[: VALUE_MAX + 1]}"


def beginning(value: str) -> str:
    """How ids begin that begin with so much, as it is marked; empty where that is too little."""
    return f"{value[:BEGINNING]}*" if len(value) >= BEGINNING else ""


def words(text: str) -> list[str]:
    """The words of a search, as they are marked; none where the text can only be looked for letter by letter."""
    found = set[str]()
    for word in _WORD.findall(text.lower()):
        spaced, *rest = _SPACELESS_RUN.split(word)
        if not rest:
            found.add(spaced)
        found.update(run[i : i + 2] for run in rest[::2] for i in range(len(run) - 1))
    return sorted(found)


def having(ways: Ways, among: str = "true") -> str:
    """SQL that holds for entries `e` with all the marks of one of the ways. `among`: a condition on their numbers."""
    return f"e.n IN ({' UNION ALL '.join(_numbers([mark_of(said) for said in way], among) for way in ways)})"


def _numbers(marks: Sequence[int], among: str) -> str:
    first, *rest = marks
    also = f" AND n IN ({_numbers(rest, among)})" if rest else ""
    return f"SELECT n FROM marks WHERE mark = {first:d} AND {among}{also}"  # noqa: S608  # numbers


def few(ask: Ask, ways: Ways) -> str:
    """SQL that holds for the entries that `having` is about, and maybe some more; empty where they are not few.

    One mark of a way that few entries have says enough.
    """
    numbers: set[int] = set()
    for way in ways:
        for said in way:
            found = ask(f"SELECT n FROM marks WHERE mark = {mark_of(said)} LIMIT {FEW + 1}")  # noqa: S608  # a number
            if len(found) <= FEW:
                break
        else:
            return ""
        numbers.update(row["n"] for row in found)
    if not numbers:
        return "false"
    # As a list that is unnested and joined: compared one by one with each entry they take twice as long.
    return f"e.n IN (SELECT unnest([{', '.join(map(str, sorted(numbers)))}]::BIGINT[]))"


def among(ask: Ask, time: str, params: Sequence[Any]) -> str:
    """A condition on the numbers of the entries of a time, so that fewer marks are read than there are.

    Numbers follow the time in which entries came, which need not be the time that they are of.
    """
    of_time = f"SELECT DISTINCT n // {SEAL_ENTRIES} AS part FROM entries e WHERE {time} ORDER BY part"  # noqa: S608  # own
    ranges: list[list[int]] = []
    for row in ask(of_time, params):
        if ranges and (row["part"] <= ranges[-1][1] + 1 or len(ranges) == RANGES_MAX):
            ranges[-1][1] = row["part"]
        else:
            ranges.append([row["part"]] * 2)
    said = (f"n BETWEEN {a * SEAL_ENTRIES} AND {(b + 1) * SEAL_ENTRIES - 1}" for a, b in ranges)
    return f"({' OR '.join(said)})" if ranges else "false"


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
