"""Citations like `[doc-id]` in an answer."""

import re
from typing import Any

import msgspec

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# Not after a word character (`pilothouse[local]`, `row[0]`) and not before "(" (a Markdown link).
_BRACKETS = re.compile(r"(?<!\w)\[([^\[\]\n]{1,200})\](?!\()")
_ID = re.compile(r"[\w][\w./:#@-]*")
_LISTS = ("citations", "sources")


def cited(output: str) -> list[str]:
    """Ids cited in an answer, in order, each once: `[a]`, `[a, b]`, and the lists `citations` and `sources` of JSON.

    Code, Markdown links, check boxes and brackets that hold prose are no citations.
    """
    ids: list[str] = []
    try:
        value: Any = msgspec.json.decode(output)
    except msgspec.DecodeError:
        value = output
    _collect(value, ids)
    return list(dict.fromkeys(ids))


def _collect(value: Any, ids: list[str]) -> None:
    match value:
        case str():
            ids.extend(_bracketed(value))
        case list():
            for one in value:
                _collect(one, ids)
        case dict():
            for key, one in value.items():
                if key in _LISTS and isinstance(one, list):
                    ids.extend(item for item in one if isinstance(item, str))
                else:
                    _collect(one, ids)


def _bracketed(text: str) -> list[str]:
    ids: list[str] = []
    for match in _BRACKETS.finditer(_CODE.sub(" ", text)):
        parts = [part.strip() for part in re.split(r"[,;]", match.group(1))]
        if all(map(_ID.fullmatch, parts)) and parts != ["x"]:
            ids.extend(parts)
    return ids
