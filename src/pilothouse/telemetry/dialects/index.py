"""All tables turned around: what an attribute's key means, so that a span is read in one pass over its attributes.

A slot is what is looked for: a field (`provider`), a bucket (`tokens.input`), or `cost`, `cost_part.0`, `ttft_s`,
`ttft_ms`, `first_at`, `input`, `output`, `documents`. Of the keys that fill a slot the one of the lowest rank counts.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from pilothouse.telemetry.dialects import BY_MARK, DIALECTS, Dialect, Flattened, Inside
from pilothouse.telemetry.text import as_text, parsed

Read = Callable[[Any], Any]  # what a value says; None where it says nothing
MAX_INDEX = 6  # digits of a flattened key's number


class Slot(msgspec.Struct, frozen=True):
    """A place that a key fills."""

    name: str
    rank: int
    read: Read


class Meaning(msgspec.Struct, frozen=True):
    """What a key stands for. `kept`: it stays an attribute of the record."""

    slots: tuple[Slot, ...] = ()
    inside: tuple[tuple[int, Inside], ...] = ()  # rank, row
    kept: bool = True
    also: bool = False
    mark: int = 1_000  # of the dialect in BY_MARK that it tells


class Shape(msgspec.Struct, frozen=True):
    """Where the values of a flattened prefix go; slot "" keeps them nowhere."""

    flat: Flattened
    slot: str
    rank: int


def text(value: Any) -> str | None:
    """A text, without the quotes of those dialects that write JSON; None where it is empty, zero or false."""
    if not value:
        return None
    if type(value) is str:
        if value[0] == '"' == value[-1] and len(value) > 1:
            said = parsed(value, '"')
            return said if isinstance(said, str) and said else None
        return value
    return as_text(value)


def first(value: Any) -> str | None:
    """A text, of a list its first."""
    value = parsed(value)
    while isinstance(value, list):
        value = next((item for item in value if item), None)
    return text(value)


def count(value: Any) -> int | None:
    """A whole number that is not negative, from a number or its decimal text."""
    if type(value) is int:
        return value if 0 <= value < 1 << 63 else None
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer() and 0 <= value < 1 << 63:
        return int(value)
    return None


def number(value: Any) -> float | None:
    """A finite number that is not negative, from a number or its text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < float("inf") else None


def anything(value: Any) -> Any:
    """The value, None where it is empty text."""
    return None if value == "" else value


def one_of(meanings: Mapping[str, str]) -> Read:
    """The operation that a marker's value stands for."""

    def read(value: Any) -> str | None:
        found = meanings.get(text(value) or "") or (meanings.get("") if value is not None else None)
        return found or None

    return read


class _Tables:
    """Collects what every key means."""

    def __init__(self) -> None:
        self.slots: dict[str, list[Slot]] = {}
        self.inside: dict[str, list[tuple[int, Inside]]] = {}
        self.gone: set[str] = set()  # keys that do not stay attributes
        self.also: set[str] = set()
        self.shapes: list[Shape] = []
        for order, dialect in enumerate(DIALECTS):
            self._dialect(order * 100, dialect)

    def _row(self, name: str, rank: int, keys: tuple[str, ...], read: Read) -> None:
        for n, key in enumerate(keys):
            self.slots.setdefault(key, []).append(Slot(name, rank + n, read))

    def _dialect(self, rank: int, dialect: Dialect) -> None:
        for field, keys in dialect.fields.items():
            self._row(field, rank, keys, first if field == "finish_reason" else text)
            if field in ("session", "user"):
                self.gone.update(keys)
        for bucket, keys in dialect.tokens.items():
            self._row(f"tokens.{bucket}", rank, keys, count)
        for n, (key, meanings) in enumerate(dialect.operations.items()):
            self._row("operation", rank + 50 + n, (key,), one_of(meanings))
        for row in dialect.inside:
            self.inside.setdefault(row.key, []).append((rank, row))
        self._row("cost", rank, dialect.cost, number)
        for n, key in enumerate(dialect.cost_parts):
            self._row(f"cost_part.{n}", rank, (key,), number)
        self._row("ttft_s", rank, dialect.ttft_s, number)
        self._row("ttft_ms", rank, dialect.ttft_ms, number)
        self._row("first_at", rank, dialect.first_at, text)
        self._content(rank, dialect)

    def _content(self, rank: int, dialect: Dialect) -> None:
        flats = (
            ("input", dialect.flat_input),
            ("output", dialect.flat_output),
            ("also", dialect.flat_also),
            ("", dialect.flat_twice),
            ("documents", dialect.flat_documents),
        )
        for slot, shapes in flats:
            self.shapes += [Shape(flat, slot, rank + n) for n, flat in enumerate(shapes)]
        self._row("input", rank + 20, dialect.input, anything)
        self._row("output", rank + 20, dialect.output, anything)
        self._row("documents", rank + 20, dialect.documents, parsed)
        self.also.update(dialect.also)
        self.gone.update(dialect.input, dialect.output, dialect.also, dialect.said_twice, dialect.documents)


def _indexed(tables: _Tables) -> dict[str, Meaning]:
    keys = {*tables.slots, *tables.inside, *tables.gone, *(m for d in BY_MARK for m in d.marks)}
    return {
        key: Meaning(
            slots=tuple(tables.slots.get(key, ())),
            inside=tuple(tables.inside.get(key, ())),
            kept=key not in tables.gone,
            also=key in tables.also,
            mark=min(MARKS.get(key, UNMARKED), MARKS.get(key.partition(".")[0], UNMARKED)),
        )
        for key in keys
    }


UNMARKED = 1_000
MARKS: dict[str, int] = {}
for _n, _dialect in enumerate(BY_MARK):
    for _mark in _dialect.marks:
        MARKS.setdefault(_mark, _n)
_TABLES = _Tables()
INDEX = _indexed(_TABLES)
SHAPES = {shape.flat.prefix: shape for shape in _TABLES.shapes}
PREFIXES = tuple(SHAPES)
CHUNKS = frozenset(name for dialect in DIALECTS for name in dialect.chunks)
IDENTITY = frozenset(key for d in DIALECTS for field in ("session", "user") for key in d.fields.get(field, ()))
LISTS_DOCUMENTS = frozenset(dialect.name for dialect in DIALECTS if dialect.documents_in_output)


@lru_cache(1024)
def by_scope(scope: str) -> int:
    """The place in BY_MARK of the dialect whose instrumentation scope it is, else a thousand."""
    for n, dialect in enumerate(BY_MARK):
        for start in dialect.scopes:
            after = scope[len(start) : len(start) + 1]
            if scope.startswith(start) and not (after.isalpha() and start[-1].isalpha()):
                return n
    return UNMARKED


def flattened(key: str) -> tuple[Shape, int, str] | None:
    """(shape, number, name) of a key such as `gen_ai.prompt.0.role`, but not of `gen_ai.prompt.name`."""
    for prefix, shape in SHAPES.items():
        if key.startswith(prefix):
            index, _, name = key[len(prefix) :].partition(".")
            if index.isdecimal() and len(index) < MAX_INDEX:
                return shape, int(index), name.removeprefix(shape.flat.infix)
    return None


def is_content(key: str) -> bool:
    """Whether the attribute is content, which belongs into the payload and nowhere else."""
    meaning = INDEX.get(key)
    if meaning is not None:
        return not meaning.kept and key not in IDENTITY
    return key.startswith(PREFIXES) and flattened(key) is not None
