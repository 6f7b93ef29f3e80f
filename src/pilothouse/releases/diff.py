"""What differs between two manifests, part by part: lines and words of templates, paths of JSON."""

import difflib
import json
import re
from typing import Any, Literal

import msgspec

from pilothouse.domain.hashing import content_hash
from pilothouse.domain.manifest import PARTS, Manifest

_TEMPLATES = ("prompt", "system")
_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class PathChange(msgspec.Struct, frozen=True, kw_only=True):
    """A value that differs, by its path: `timeout.total`, `tools[search].description`, `required[]`."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        match self.kind:
            case "added":
                return f"{self.path} + {_short(self.after)}"
            case "removed":
                return f"{self.path} − {_short(self.before)}"
            case _:
                return f"{self.path} {_short(self.before)} → {_short(self.after)}"


class WordEdit(msgspec.Struct, frozen=True):
    """A run of a template's text: kept, only in the new one, or only in the old one."""

    kind: Literal["same", "added", "removed"]
    text: str


class PartDiff(msgspec.Struct, frozen=True, kw_only=True):
    """One part. `added`, `removed`: lines; of a template's text, or of the JSON written one value a line."""

    part: str
    changed: bool
    before_hash: str
    after_hash: str
    added: int = 0
    removed: int = 0
    unified: str = ""
    words: tuple[WordEdit, ...] = ()  # templates only
    paths: tuple[PathChange, ...] = ()

    @property
    def summary(self) -> str:
        """One line for people: `unchanged`, `+3 −1 lines`, `retry.attempts 1 → 2 and 2 more`."""
        if not self.changed:
            return "unchanged"
        if self.part in _TEMPLATES and (self.added or self.removed):
            return f"+{self.added} −{self.removed} lines"
        first = str(self.paths[0]) if self.paths else f"+{self.added} −{self.removed} lines"
        return first + (f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else "")


def diff(a: Manifest, b: Manifest) -> tuple[PartDiff, ...]:
    """All 8 parts of `a` (before) and `b` (after), in the manifest's order."""
    return tuple(_part(name, a.part(name), b.part(name)) for name in PARTS)


def _part(name: str, before: Any, after: Any) -> PartDiff:
    before_hash, after_hash = content_hash(before), content_hash(after)
    if before_hash == after_hash:
        return PartDiff(part=name, changed=False, before_hash=before_hash, after_hash=after_hash)
    old, new = _text(name, before), _text(name, after)
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "after", lineterm="", n=2))
    body = lines[2:]
    return PartDiff(
        part=name,
        changed=True,
        before_hash=before_hash,
        after_hash=after_hash,
        added=sum(line.startswith("+") for line in body),
        removed=sum(line.startswith("-") for line in body),
        unified="\n".join(lines),
        words=_words(old, new) if name in _TEMPLATES else (),
        paths=tuple(_paths("", _settings(name, before), _settings(name, after))),
    )


def _text(name: str, value: Any) -> str:
    if name in _TEMPLATES:
        return str(value["text"]) if value else ""
    return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)


def _settings(name: str, value: Any) -> Any:
    """What is compared path by path: of a template all but its text."""
    if name in _TEMPLATES and value:
        return {key: inner for key, inner in value.items() if key != "text"}
    return value


def _words(old: str, new: str) -> tuple[WordEdit, ...]:
    a, b = _WORD.findall(old), _WORD.findall(new)
    edits: list[WordEdit] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            edits.append(WordEdit("same", "".join(a[i1:i2])))
            continue
        if i2 > i1:
            edits.append(WordEdit("removed", "".join(a[i1:i2])))
        if j2 > j1:
            edits.append(WordEdit("added", "".join(b[j1:j2])))
    return tuple(edits)


def _paths(path: str, before: Any, after: Any) -> list[PathChange]:
    if type(before) is type(after) and before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        return _mapping(path, before, after)
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return _sequence(path, list(before), list(after))
    if before is None or after is None:
        # A whole part that appears or goes: one line, not one for each value inside.
        kind: Literal["added", "removed"] = "added" if before is None else "removed"
        return [PathChange(path=path or "(all)", kind=kind, before=before, after=after)]
    return [PathChange(path=path or "(all)", kind="changed", before=before, after=after)]


def _mapping(path: str, before: dict[str, Any], after: dict[str, Any]) -> list[PathChange]:
    found: list[PathChange] = []
    for key in sorted(before.keys() | after.keys()):
        inner = f"{path}.{key}" if path and not key.startswith("[") else path + key
        if key not in after:
            found.append(PathChange(path=inner, kind="removed", before=before[key]))
        elif key not in before:
            found.append(PathChange(path=inner, kind="added", after=after[key]))
        else:
            found += _paths(inner, before[key], after[key])
    return found


def _sequence(path: str, before: list[Any], after: list[Any]) -> list[PathChange]:
    """Tools by their function's name, plain values as a set (`required`), anything else by position."""
    old, new = _named(before), _named(after)
    if old is not None and new is not None:
        return _mapping(path, old, new)
    if all(not isinstance(one, dict | list) for one in before + after):
        return _plain(path, before, after)
    return _mapping(path, _numbered(before), _numbered(after))


def _plain(path: str, before: list[Any], after: list[Any]) -> list[PathChange]:
    gone = [PathChange(path=f"{path}[]", kind="removed", before=one) for one in before if one not in after]
    new = [PathChange(path=f"{path}[]", kind="added", after=one) for one in after if one not in before]
    if not gone and not new:
        return [PathChange(path=path or "(all)", kind="changed", before=before, after=after)]  # order or repetition
    return gone + new


def _named(values: list[Any]) -> dict[str, Any] | None:
    names = [value["function"].get("name") if _is_tool(value) else None for value in values]
    if None in names or len(set(names)) != len(names):
        return None
    return {f"[{name}]": value for name, value in zip(names, values, strict=True)}


def _is_tool(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("function"), dict)


def _numbered(values: list[Any]) -> dict[str, Any]:
    return {f"[{i}]": value for i, value in enumerate(values)}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= 60 else text[:57] + "…"
