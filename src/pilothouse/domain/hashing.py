"""Content addresses: the SHA-256 of JSON."""

import hashlib
from typing import Any

import msgspec


def canonical(value: Any) -> bytes:
    """`value` as JSON with sorted keys and no white space, so that equal content has equal bytes."""
    return msgspec.json.encode(msgspec.to_builtins(value), order="deterministic")


def exact(value: Any) -> bytes:
    """`value` as JSON with its keys in the order they were written and no white space.

    A part's content: a model that decodes under a schema writes its properties in the schema's order, so that two
    schemas that differ only in order shape different outputs.
    """
    return msgspec.json.encode(msgspec.to_builtins(value))


def content_hash(value: Any) -> str:
    """SHA-256 of `exact(value)`, 64 hex characters."""
    return hashlib.sha256(exact(value)).hexdigest()


def names_hash(hashes: dict[str, str]) -> str:
    """SHA-256 of a mapping of names to hashes, whatever order it came in."""
    return hashlib.sha256(canonical(hashes)).hexdigest()


def bytes_hash(data: bytes) -> str:
    """SHA-256 of `data`, 64 hex characters."""
    return hashlib.sha256(data).hexdigest()
