"""Content addresses: the SHA-256 of canonical JSON."""

import hashlib
from typing import Any

import msgspec


def canonical(value: Any) -> bytes:
    """`value` as JSON with sorted keys and no white space, so that equal content has equal bytes."""
    return msgspec.json.encode(msgspec.to_builtins(value), order="deterministic")


def content_hash(value: Any) -> str:
    """SHA-256 of `canonical(value)`, 64 hex characters."""
    return hashlib.sha256(canonical(value)).hexdigest()


def bytes_hash(data: bytes) -> str:
    """SHA-256 of `data`, 64 hex characters."""
    return hashlib.sha256(data).hexdigest()
