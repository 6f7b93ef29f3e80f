"""Drills as the releases page shows them: what was measured, in words with units."""

import msgspec

from pilothouse.server.pages import quantities
from pilothouse.server.pages.release_shown import DrillShown

_TIMES = (
    ("propagated_ms", "on every worker after"),
    ("last_old_ms", "last request on the old release after"),
    ("ms", "answered after"),
)
_COUNTS = (("handled", "of", "faults handled"), ("answered", "asked", "answers good"), ("traces", "", "traces"))


class Practised(msgspec.Struct, frozen=True):
    """A drill and what it measured, one clause each."""

    drill: DrillShown
    measured: tuple[str, ...]


def practised(drill: DrillShown) -> Practised:
    """Of what was measured: times first, then counts, then what was not as promised."""
    detail, told = drill.detail, []
    for name, words in _TIMES:
        value = detail.get(name)
        if isinstance(value, int | float):
            told.append(f"{words} {quantities.text(quantities.duration(float(value)))}")
    for name, of, words in _COUNTS:
        if name in detail and (not of or of in detail):
            told.append(f"{detail[name]}{f' of {detail[of]}' if of else ''} {words}")
    told += [f"{name.replace('_', ' ')}: {detail[name]}" for name in ("failed", "wrong", "late") if detail.get(name)]
    return Practised(drill, tuple(told))
