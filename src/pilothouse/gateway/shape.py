"""What a JSON Schema certainly asks of a value at one place, for a judgement on the part that has arrived.

Understood are types, enum and const, properties and additionalProperties, items, required, sizes and ranges, allOf,
local references, and of anyOf and oneOf the types and values that their alternatives have together. Every other
keyword is left out: a shape never asks more than its schema does.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Node = dict[str, Any]
KINDS = frozenset(("object", "array", "string", "boolean", "null", "integer", "fraction"))
_NUMBERS = frozenset(("integer", "fraction"))
_DIALECTS = ("2020-12/schema", "2019-09/schema", "draft-07/schema", "draft-06/schema")
_EXACT = 2**53  # beyond it validators differ in how they compare numbers
_NODES_MAX = 64  # schema objects that speak of one place
_UNION_MAX = 32
UNIONS_DEEP = 2  # unions inside unions that are looked into


def kinds_of(value: Any) -> frozenset[str]:
    """The kind of a JSON value; a number with no fraction is an integer however it is written."""
    if isinstance(value, bool):
        return frozenset(("boolean",))
    if isinstance(value, int | float):
        return frozenset(("integer",)) if value == int(value) else frozenset(("fraction",))
    names = {str: "string", list: "array", dict: "object", type(None): "null"}
    return frozenset((names[type(value)],))


def root(schema: Any) -> "Shape":
    """The shape of the whole; one that allows everything where the schema's dialect is not understood."""
    dialect = str(schema.get("$schema", "")).rstrip("#") if isinstance(schema, dict) else ""
    if dialect and not dialect.endswith(_DIALECTS):
        return Shape(Document({}, refs=False, siblings=True), [{}])
    old = "draft-0" in dialect
    refs = isinstance(schema, dict) and not _names_inside(schema)
    return Shape(Document(schema, refs=refs, siblings=not old), [schema])


def _names_inside(schema: Node) -> bool:
    """Whether a part of the schema has an `$id` of its own, which changes what references mean."""
    todo: list[Any] = list(schema.values())
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if "$id" in node:
                return True
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)
    return False


class Document:
    """The schema that references point into. `siblings`: whether keywords beside `$ref` count."""

    def __init__(self, schema: Any, *, refs: bool, siblings: bool) -> None:
        self._schema = schema
        self._refs = refs
        self._siblings = siblings

    def conjuncts(self, nodes: Iterable[Any]) -> list[Any]:
        """Every schema object that a value must meet to meet all `nodes`: they, what they refer to, their allOf."""
        out: list[Any] = []
        todo, seen = list(nodes), set()
        while todo and len(out) < _NODES_MAX:
            node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, bool):
                out += [] if node else [node]
                continue
            if not isinstance(node, dict):
                continue
            if "$ref" in node:
                todo.append(self._target(node["$ref"]))
                if not self._siblings:
                    continue
            out.append(node)
            todo += node["allOf"] if isinstance(node.get("allOf"), list) else []
        return out

    def _target(self, ref: Any) -> Any:
        if not self._refs or not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")) or "%" in ref:
            return True
        node = self._schema
        for part in ref.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            elif isinstance(node, dict) and name in node:
                node = node[name]
            else:
                return True
        return node


class Shape:
    """One place. `kinds`: what may stand there. `options`: the only values allowed, None where there is no list."""

    def __init__(self, document: Document, nodes: Iterable[Any]) -> None:
        self._document = document
        self._nodes = document.conjuncts(nodes)
        self._plain: list[Node] = [n for n in self._nodes if isinstance(n, dict)]
        self._properties: dict[str, Shape | None] = {}
        self._items: Shape | None = None
        lists = list(self._lists(self._nodes, 0))
        self.options: list[Any] | None = min(lists, key=len, default=None)
        self.kinds = frozenset() if False in self._nodes else self._kinds(self._nodes, 0)
        if self.options is not None:
            self.kinds &= frozenset(k for option in self.options for k in kinds_of(option))
        self.max_length = min(self._sizes("maxLength"), default=None)
        self.min_length = max(self._sizes("minLength"), default=0)
        self.max_items = min(self._sizes("maxItems"), default=None)
        self.min_items = max(self._sizes("minItems"), default=0)
        lists_of_names = [n["required"] for n in self._plain if isinstance(n.get("required"), list)]
        self.required = frozenset(name for names in lists_of_names for name in names)

    def _kinds(self, nodes: list[Any], depth: int) -> frozenset[str]:
        kinds = KINDS
        for node in nodes:
            if not isinstance(node, dict):
                return frozenset()
            kinds &= _types(node.get("type"))
            for branches in _unions(node):
                if depth < UNIONS_DEEP:
                    alternatives = [self._kinds(self._document.conjuncts([b]), depth + 1) for b in branches]
                    kinds &= frozenset().union(*alternatives)
        return kinds

    def _lists(self, nodes: list[Any], depth: int) -> Iterator[list[Any]]:
        """Lists of which each must hold the value."""
        for node in nodes:
            if not isinstance(node, dict):
                continue
            if isinstance(node.get("enum"), list):
                yield node["enum"]
            if "const" in node:
                yield [node["const"]]
            if depth < UNIONS_DEEP:
                yield from self._joined(node, depth)

    def _joined(self, node: Node, depth: int) -> Iterator[list[Any]]:
        """The values of all the alternatives, where each of them has a list."""
        for branches in _unions(node):
            lists = [next(self._lists(self._document.conjuncts([b]), depth + 1), None) for b in branches]
            known = [one for one in lists if one is not None]
            if len(known) == len(lists):
                yield [option for one in known for option in one]

    def _sizes(self, keyword: str) -> list[int]:
        found = [n.get(keyword) for n in self._plain]
        return [int(v) for v in found if isinstance(v, int | float) and not isinstance(v, bool)]

    def property(self, name: str) -> "Shape | None":
        """The shape of the value of a key; None where the key is not allowed."""
        if name not in self._properties:
            self._properties[name] = self._property(name)
        return self._properties[name]

    def _property(self, name: str) -> "Shape | None":
        nodes: list[Any] = []
        for node in self._plain:
            properties = node.get("properties")
            if isinstance(properties, dict) and name in properties:
                nodes.append(properties[name])
            elif "additionalProperties" in node and not node.get("patternProperties"):
                if node["additionalProperties"] is False:
                    return None
                nodes.append(node["additionalProperties"])
        return Shape(self._document, nodes)

    def item(self) -> "Shape":
        """The shape of every item."""
        if self._items is None:
            nodes = [
                n["items"] for n in self._plain if isinstance(n.get("items"), dict | bool) and "prefixItems" not in n
            ]
            self._items = Shape(self._document, nodes)
        return self._items

    def out_of_range(self, value: float) -> str | None:
        """The limit that a number is beyond; None where it is within, or too large to be sure."""
        if abs(value) >= _EXACT:
            return None
        for node in self._plain:
            for keyword, beyond in _LIMITS.items():
                limit = node.get(keyword)
                if isinstance(limit, int | float) and not isinstance(limit, bool) and beyond(value, limit):
                    return f"{keyword} {limit}"
        return None


_LIMITS: dict[str, Callable[[float, float], bool]] = {
    "minimum": lambda value, limit: value < limit,
    "maximum": lambda value, limit: value > limit,
    "exclusiveMinimum": lambda value, limit: value <= limit,
    "exclusiveMaximum": lambda value, limit: value >= limit,
}


def _unions(node: Node) -> Iterator[list[Any]]:
    for keyword in ("anyOf", "oneOf"):
        branches = node.get(keyword)
        if isinstance(branches, list) and 0 < len(branches) <= _UNION_MAX:
            yield branches


def _types(types: Any) -> frozenset[str]:
    if types is None:
        return KINDS
    names = types if isinstance(types, list) else [types]
    return frozenset().union(*(_NUMBERS if name == "number" else frozenset((name,)) for name in names))
