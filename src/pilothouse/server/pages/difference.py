"""The difference of two releases, part by part: by word in prompts, by path in JSON."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from pilothouse.domain.hashing import content_hash
from pilothouse.domain.manifest import PARTS, Manifest

Kind = Literal["same", "added", "removed"]
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
_CONTEXT = 2  # unchanged lines kept around a change
_ONE_LINE = 60  # bytes of JSON


class Piece(msgspec.Struct, frozen=True):
    """A stretch of text that is in both, only in the newer, or only in the older."""

    kind: Kind
    text: str


class PathChange(msgspec.Struct, frozen=True):
    """A value that differs, at its path; None text: absent on that side."""

    path: str
    before: str | None
    after: str | None


class PartDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One of the 8 parts. `pieces` for templates, `paths` for everything else."""

    part: str
    changed: bool
    before_hash: str
    after_hash: str
    pieces: tuple[Piece, ...] = ()
    paths: tuple[PathChange, ...] = ()
    summary: str = ""


def between(a: Manifest, b: Manifest) -> tuple[PartDifference, ...]:
    """All 8 parts, from `a` to `b`."""
    return tuple(_part(name, a.part(name), b.part(name)) for name in PARTS)


def _part(name: str, a: Any, b: Any) -> PartDifference:
    before, after = content_hash(a), content_hash(b)
    if before == after:
        return PartDifference(part=name, changed=False, before_hash=before, after_hash=after, summary=_about(a))
    if name in {"prompt", "system"}:
        old, new = _template(a), _template(b)
        pieces = words(old, new)
        rest = tuple(c for c in paths(a or {}, b or {}) if c.path != "text")
        return PartDifference(
            part=name,
            changed=True,
            before_hash=before,
            after_hash=after,
            pieces=pieces,
            paths=rest,
            summary=_lines(old, new),
        )
    found = paths(a, b)
    many = "1 value" if len(found) == 1 else f"{len(found)} values"
    return PartDifference(part=name, changed=True, before_hash=before, after_hash=after, paths=found, summary=many)


def _template(part: Any) -> str:
    return str(part.get("text", "")) if isinstance(part, dict) else ""


def _about(part: Any) -> str:
    if part is None:
        return "none"
    if isinstance(part, dict) and set(part) == {"provider", "name"}:
        return f"{part['provider']}/{part['name']}"
    return ""


def _lines(old: str, new: str) -> str:
    matcher = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    added = removed = 0
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            removed += i2 - i1
            added += j2 - j1
    return f"+{added} \u2212{removed} lines"


def words(old: str, new: str) -> tuple[Piece, ...]:
    """The two texts as one, changes marked by word; long unchanged stretches shortened to their edges."""
    a, b = _WORDS.findall(old), _WORDS.findall(new)
    pieces: list[Piece] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(a[i1:i2])))
            continue
        if i2 > i1:
            pieces.append(Piece("removed", "".join(a[i1:i2])))
        if j2 > j1:
            pieces.append(Piece("added", "".join(b[j1:j2])))
    last = len(pieces) - 1
    return tuple(_shortened(p, i == 0, i == last) if p.kind == "same" else p for i, p in enumerate(_tidied(pieces)))


def _tidied(pieces: list[Piece]) -> list[Piece]:
    """Changes with nothing but a space between them read better as one."""
    out: list[Piece] = []
    for i, piece in enumerate(pieces):
        between_changes = 0 < i < len(pieces) - 1 and pieces[i - 1].kind != "same" and pieces[i + 1].kind != "same"
        if piece.kind == "same" and between_changes and piece.text == " ":
            out += [Piece("removed", " "), Piece("added", " ")]
        else:
            out.append(piece)
    merged: list[Piece] = []
    pending: dict[Kind, str] = {}
    for piece in [*out, Piece("same", "")]:
        if piece.kind == "same":
            merged += [Piece(kind, pending[kind]) for kind in ("removed", "added") if pending.get(kind)]
            pending = {}
            if piece.text:
                merged.append(piece)
        else:
            pending[piece.kind] = pending.get(piece.kind, "") + piece.text
    return merged


def _shortened(piece: Piece, first: bool, last: bool) -> Piece:
    lines = piece.text.split("\n")
    if len(lines) <= 2 * _CONTEXT + 3:
        return piece
    head = [] if first else lines[: _CONTEXT + 1]
    tail = [] if last else lines[-_CONTEXT - 1 :]
    left_out = len(lines) - len(head) - len(tail)
    return Piece("same", "\n".join([*head, f"   ⋯ {left_out} unchanged lines", *tail]))


def paths(a: Any, b: Any, at: str = "") -> tuple[PathChange, ...]:
    """Values that differ, by path: order of keys and white space do not count."""
    if isinstance(a, dict) and isinstance(b, dict):
        names = [*a, *(name for name in b if name not in a)]
        return tuple(change for name in names for change in _member(a, b, name, f"{at}.{name}" if at else str(name)))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        pairs = ((a[i : i + 1], b[i : i + 1], i) for i in range(max(len(a), len(b))))
        return tuple(
            change
            for old, new, i in pairs
            for change in (
                paths(old[0], new[0], f"{at}[{i}]")
                if old and new
                else (PathChange(f"{at}[{i}]", _text(old), _text(new)),)
            )
        )
    return () if a == b else (PathChange(at or "value", _json(a), _json(b)),)


def _member(a: dict[str, Any], b: dict[str, Any], name: str, at: str) -> tuple[PathChange, ...]:
    if name in a and name in b:
        return paths(a[name], b[name], at)
    return (PathChange(at, _json(a[name]) if name in a else None, _json(b[name]) if name in b else None),)


def _text(found: Sequence[Any]) -> str | None:
    return _json(found[0]) if found else None


def _json(value: Any) -> str:
    """On one line where it fits there, else as people lay JSON out."""
    text = msgspec.json.encode(value)
    return text.decode() if len(text) <= _ONE_LINE else msgspec.json.format(text, indent=2).decode()
