"""Attribute values as text, and JSON text as values; neither ever fails for what it is given."""

from typing import Any

import msgspec

from pilothouse.telemetry.mended import mended

MAX_PARSED = 4 << 20  # characters of JSON text that are looked into


def as_text(value: Any) -> str:
    """An attribute's value as text: JSON where it is structured."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 1024 else f"a number of {value.bit_length()} bits"
    return str(value) if isinstance(value, float) else _json(value)


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, OverflowError, TypeError, RecursionError):
        pass
    try:
        return msgspec.json.encode(mended(value)).decode()
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        return f"a {type(value).__name__} that is no JSON ({type(error).__name__})"


def parsed(value: Any, starts: str = "[{") -> Any:
    """`value`, or what it says where it is JSON text that begins with one of `starts`."""
    if isinstance(value, str) and value[:1] and value[0] in starts and len(value) <= MAX_PARSED:
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return value
    return value
