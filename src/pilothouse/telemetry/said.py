"""What a span says, read in one pass over its attributes with the index of all dialects."""

from collections.abc import Mapping
from typing import Any

from pilothouse.telemetry.dialects import BY_MARK, Inside
from pilothouse.telemetry.dialects.index import (
    INDEX,
    MARKS,
    PREFIXES,
    UNMARKED,
    Meaning,
    Shape,
    count,
    flattened,
    number,
    text,
)
from pilothouse.telemetry.text import parsed

FROM_RESOURCE = 10_000  # added to a rank: the span's own word goes before its resource's
MAX_ROWS = 2_000  # of a flattened list
_READ = {"cost": number}  # of what stands inside JSON; buckets are counts, all else is text


class Said:
    """`values`: slot → what the best of its keys says. `kept`: the attributes that are nothing of this."""

    def __init__(self, attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}
        self.also: dict[str, Any] = {}
        self.lost = 0  # values of lists that were too long
        self._ranks: dict[str, int] = {}
        self._rows: dict[Shape, dict[int, dict[str, Any]]] = {}
        self._mark = UNMARKED
        self._inside: list[tuple[int, Inside, Any]] = []
        self._read(attributes)
        for key, value in resource.items():
            if (meaning := INDEX.get(key)) is not None:
                self._fields(meaning, value)
        if self._inside:
            self._look_inside()

    def text(self, slot: str) -> str:
        """A field, empty where nothing says it."""
        found: str = self.values.get(slot, "")
        return found

    def dialect(self, scope: int) -> str:
        """By the scope's place among the dialects where it has one, else by the attributes' marks."""
        n = min(scope, UNMARKED) if scope < UNMARKED else self._mark
        return BY_MARK[n].name if n < UNMARKED else ""

    def best(self, slot: str) -> Any:
        """Content or documents, from a key or as rows from flattened ones; None where there are none."""
        shapes = [shape for shape in self._rows if shape.slot == slot]
        shape = min(shapes, key=lambda s: s.rank) if shapes else None
        if shape is None or shape.rank > self._ranks.get(slot, UNMARKED * 100):
            return self.values.get(slot)
        rows = self._rows[shape]
        return [rows[n] for n in sorted(rows)]

    def flat_also(self) -> dict[str, Any]:
        """Flattened content that is kept with the input, by its prefix."""
        return {
            shape.flat.prefix.rstrip("."): [rows[n] for n in sorted(rows)]
            for shape, rows in self._rows.items()
            if shape.slot == "also"
        }

    def _read(self, attributes: Mapping[str, Any]) -> None:
        values, ranks, kept, mark = self.values, self._ranks, self.kept, self._mark
        for key, value in attributes.items():
            meaning = INDEX.get(key)
            if meaning is None:
                if key.startswith(PREFIXES) and self._spread(key, value):
                    continue
                kept[key] = value
                mark = min(mark, MARKS.get(key.partition(".")[0], UNMARKED))
                continue
            mark = min(mark, meaning.mark)
            for slot in meaning.slots:
                name = slot.name
                if slot.rank < ranks.get(name, UNMARKED * 100) and (found := slot.read(value)) is not None:
                    values[name] = found
                    ranks[name] = slot.rank
            if meaning.kept:
                kept[key] = value
            elif meaning.also and value:
                self.also[key] = parsed(value)
            self._inside += [(rank, row, value) for rank, row in meaning.inside]
        self._mark = mark

    def _fields(self, meaning: Meaning, value: Any) -> None:
        """Texts that a resource says for all its spans."""
        for slot in meaning.slots:
            rank = slot.rank + FROM_RESOURCE
            if slot.read is text and rank < self._ranks.get(slot.name, UNMARKED * 100):
                found = text(value)
                if found is not None:
                    self.values[slot.name], self._ranks[slot.name] = found, rank

    def _spread(self, key: str, value: Any) -> bool:
        found = flattened(key)
        if found is None:
            return False
        shape, n, name = found
        if shape.slot:
            rows = self._rows.setdefault(shape, {})
            if n not in rows and len(rows) >= MAX_ROWS:
                self.lost += 1
            elif not name.endswith("vector"):
                rows.setdefault(n, {})[name] = value
        return True

    def _look_inside(self) -> None:
        """The values inside JSON attributes. Who the user is is taken out of what is kept."""
        done: dict[str, Any] = {}
        for rank, row, value in self._inside:
            if row.key in done and done[row.key] is not row.when:
                continue
            inner = parsed(value)
            if row.when and _at(inner, row.when) is None:
                continue
            done[row.key] = row.when
            for slot, paths in row.paths.items():
                self._one_inside(slot, paths, inner, rank)
            if "user" in row.paths and isinstance(inner, dict):
                gone = {path for slot in ("session", "user") for path in row.paths[slot]}
                self.kept[row.key] = {k: v for k, v in inner.items() if k not in gone}

    def _one_inside(self, slot: str, paths: tuple[str, ...], inner: Any, rank: int) -> None:
        read = count if slot.startswith("tokens.") else _READ.get(slot, text)
        for n, path in enumerate(paths):
            found = read(_at(inner, path))
            if found is not None and rank + 10 + n < self._ranks.get(slot, UNMARKED * 100):
                self.values[slot], self._ranks[slot] = found, rank + 10 + n


def _at(value: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value
