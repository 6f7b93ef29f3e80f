"""A value that meets a JSON Schema: what a staged provider answers where nothing better was recorded."""

from typing import Any

from pilothouse.domain.errors import Refused

DEPTH_MAX = 12
_PLAIN: dict[str, Any] = {"string": "drill", "integer": 1, "number": 1.0, "boolean": True, "null": None}


def sample(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """A small value of `schema`; Refused where none can be thought of (its validator has the last word)."""
    if not isinstance(schema, dict):
        return {}
    if depth > DEPTH_MAX:
        raise Refused("the schema is too deep to make an answer for it", where="schema", code="no_sample")
    root = schema if root is None else root
    said = (
        [[schema["const"]]] if "const" in schema else [schema[key] for key in ("enum", "examples") if schema.get(key)]
    )
    if said:
        return said[0][0]
    if "$ref" in schema:
        return sample(_pointed(root, str(schema["$ref"])), root, depth + 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            merged = {k: v for k, v in schema.items() if k != key} | schema[key][0]
            return sample(merged, root, depth + 1)
    return _typed(schema, root, depth)


def _typed(schema: dict[str, Any], root: Any, depth: int) -> Any:
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: sample(fields.get(name, {}), root, depth + 1) for name in schema.get("required", fields)}
    if kind == "array":
        least = int(schema.get("minItems", 1 if "items" in schema else 0))
        return [sample(schema.get("items", {"type": "string"}), root, depth + 1) for _ in range(least)]
    if kind == "string":
        return _text(schema)
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("maximum", _PLAIN[kind]))
    return _PLAIN.get(str(kind))


def _text(schema: dict[str, Any]) -> str:
    text = {"date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z", "email": "drill@example.com",
            "uri": "https://example.com/"}.get(str(schema.get("format", "")), "drill")  # fmt: skip
    return text.ljust(int(schema.get("minLength", 0)), ".")[: int(schema.get("maxLength", len(text) + 4096))]


def _pointed(root: Any, ref: str) -> Any:
    found = root
    for step in ref.removeprefix("#/").split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
    return found
