"""Datasets: JSONL files of cases, read strictly, so that a typing error is found before any model is called."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.evaluation import Case
from pilothouse.domain.hashing import bytes_hash, canonical

_KEYS = Case.__struct_fields__


class Dataset(msgspec.Struct, frozen=True):
    """Cases in the file's order. `hash` is that of their content: white space and key order do not change it."""

    path: Path
    cases: tuple[Case, ...]
    hash: str
    lines: dict[str, int]  # case id → line of the file

    def at(self, case_id: str) -> str:
        """`file:line` of a case."""
        return f"{self.path}:{self.lines[case_id]}"


def load(path: Path) -> Dataset:
    """The dataset in `path`; raises ConfigError with file and line for anything that is not a case."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the dataset: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the dataset is not UTF-8 text", where=str(path)) from error
    cases: list[Case] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand inside a string
        if not line.strip():
            continue
        where = f"{path}:{number}"
        case = _case(line, where)
        if case.id in lines:
            raise ConfigError(f"two cases have the id {case.id!r}", where=where, hint=f"first at line {lines[case.id]}")
        lines[case.id] = number
        cases.append(case)
    if not cases:
        raise ConfigError("the dataset has no case", where=str(path), hint='a line reads {"id": "…", "input": "…"}')
    return Dataset(path=path, cases=tuple(cases), hash=bytes_hash(canonical(cases)), lines=lines)


def _case(line: str, where: str) -> Case:
    try:
        fields: Any = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise ConfigError(f"not a line of JSON: {error}", where=where) from error
    if not isinstance(fields, dict):
        raise ConfigError("a case holds keys and values", where=where)
    for key in fields:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"a case has {', '.join(_KEYS)}"
            raise ConfigError(f"a case has no {key!r}", where=where, hint=hint)
    try:
        case = msgspec.convert(fields, Case)
    except msgspec.ValidationError as error:
        raise ConfigError(f"not a case: {error}", where=where) from error
    _usable(case, where)
    return case


def _usable(case: Case, where: str) -> None:
    if not case.id.strip():
        raise ConfigError("a case needs an id", where=where)
    if not (case.input or case.messages or case.variables):
        raise ConfigError("nothing to send", where=where, hint="give the case `input`, `messages` or `variables`")
    for document in case.retrieved:
        if not isinstance(document.get("id"), str) or not document["id"]:
            raise ConfigError("a retrieved document needs an `id`", where=where, hint='{"id": "…", "text": "…"}')
