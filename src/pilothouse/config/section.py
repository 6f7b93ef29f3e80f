"""YAML with positions: every value knows its file and line, so that an error can name them."""

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pilothouse.domain.errors import ConfigError

T = TypeVar("T")


class Section:
    """A mapping of a YAML file. Each `take…` marks a key as known; `close` refuses the keys nobody took."""

    def __init__(self, node: yaml.MappingNode, file: Path, path: str) -> None:
        self.file = file
        self.path = path
        self.line = node.start_mark.line + 1
        self._nodes: dict[str, yaml.Node] = {}
        self._taken: list[str] = []
        for key, value in node.value:
            name = str(key.value)
            if name in self._nodes:
                raise self.error(f"the key {name!r} stands twice", key)
            self._nodes[name] = value
        self._key_lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def error(self, what: str, node: yaml.Node | None = None, hint: str = "") -> ConfigError:
        """A ConfigError at `node`, or at this section."""
        line = node.start_mark.line + 1 if node is not None else self.line
        at = f" in {self.path}" if self.path else ""
        return ConfigError(what + at, where=f"{self.file}:{line}", hint=hint)

    def take(self, key: str, convert: Callable[[Any], T], default: T) -> T:
        """The value of `key` through `convert`, or `default` where it is absent."""
        return self.need(key, convert) if self._known(key) else default

    def maybe(self, key: str, convert: Callable[[Any], T]) -> T | None:
        """The value of `key` through `convert`, or None where it is absent."""
        return self.need(key, convert) if self._known(key) else None

    def need(self, key: str, convert: Callable[[Any], T]) -> T:
        """The value of `key` through `convert`; an error where it is absent."""
        if not self._known(key):
            raise self.error(f"{key!r} is missing", hint=f"add `{key}: …`")
        node = self._nodes[key]
        try:
            return convert(plain(node))
        except (ValueError, TypeError) as error:
            raise self.error(f"{key}: {error}", node) from error

    def section(self, key: str) -> "Section | None":
        """The mapping at `key`, or None where it is absent or empty."""
        if not self._known(key):
            return None
        node = self._nodes[key]
        if isinstance(node, yaml.ScalarNode) and node.value in ("", "null", "~"):
            return None
        if not isinstance(node, yaml.MappingNode):
            raise self.error(f"{key!r} must hold keys and values", node)
        return Section(node, self.file, f"{self.path}.{key}".lstrip("."))

    def sections(self, key: str) -> Iterator[tuple[str, "Section"]]:
        """Each named mapping under `key`, marking all of them as known."""
        parent = self.section(key)
        if parent is None:
            return
        for name in parent.names():
            inner = parent.section(name)
            if inner is None:
                raise parent.error(f"{name!r} is empty", parent.node(name))
            yield name, inner

    def items(self, key: str) -> list["Section | tuple[Any, yaml.Node]"]:
        """The entries of the list at `key`: sections for mappings, (value, node) for scalars."""
        if not self._known(key):
            return []
        node = self._nodes[key]
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(f"{key!r} must be a list", node)
        return [
            Section(item, self.file, f"{self.path}.{key}[{i}]".lstrip("."))
            if isinstance(item, yaml.MappingNode)
            else (plain(item), item)
            for i, item in enumerate(node.value)
        ]

    def names(self) -> list[str]:
        """The keys as they stand in the file."""
        return list(self._nodes)

    def known(self) -> list[str]:
        """The keys that this section takes, as far as they were asked for."""
        return list(self._taken)

    def node(self, key: str) -> yaml.Node:
        """The node of a key that is there, for error positions."""
        return self._nodes[key]

    def close(self) -> None:
        """Refuse what nobody took, naming the nearest known key."""
        for key in self._nodes:
            if key not in self._taken:
                near = difflib.get_close_matches(key, self._taken, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(sorted(self._taken))
                error = self.error(f"unknown key {key!r}", hint=hint)
                error.where = f"{self.file}:{self._key_lines[key]}"
                raise error

    def _known(self, key: str) -> bool:
        if key not in self._taken:
            self._taken.append(key)
        return key in self._nodes


def plain(node: yaml.Node) -> Any:
    """The node's value as plain Python, by YAML's safe rules."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def parse(text: str, file: Path) -> Section:
    """The top mapping of a YAML text."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"not YAML: {error.problem}", where=f"{file}:{line}") from error
    if node is None:
        node = yaml.MappingNode("tag:yaml.org,2002:map", [], yaml.Mark("", 0, 0, 0, "", 0))
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("the file must hold keys and values", where=f"{file}:1")
    return Section(node, file, "")


def text(value: Any) -> str:
    """A string; numbers are refused, since YAML would have changed how they were written."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text: put it in quotes")
    return value


def whole(value: Any) -> int:
    """A whole number of at least 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a whole number of at least 0")
    return value


def flag(value: Any) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def one_of(*allowed: str) -> Callable[[Any], Any]:
    """A converter that admits these words only."""

    def convert(value: Any) -> Any:
        if value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            raise ValueError(
                f"{value!r} is none of {', '.join(allowed)}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
        return value

    return convert


def words(*allowed: str) -> Callable[[Any], tuple[Any, ...]]:
    """A converter for a list of these words (any words where none are given)."""
    check = one_of(*allowed) if allowed else text

    def convert(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is not a list")
        return tuple(check(item) for item in value)

    return convert
