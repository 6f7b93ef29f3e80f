"""Values that JSON can hold, made of those that it cannot."""

from typing import Any


def mended(value: Any) -> Any:
    """`value` with lone surrogates replaced and integers beyond 64 bits as text."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case bool():
            return value
        case int():
            return value if -(1 << 63) <= value < 1 << 64 else str(value)
        case dict():
            return {mended(k): mended(v) for k, v in value.items()}
        case list() | tuple():
            return [mended(v) for v in value]
        case _:
            return value
