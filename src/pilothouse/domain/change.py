"""The change log: everything that can move a metric, hash-chained."""

import hashlib
from typing import Any

import msgspec

from pilothouse.domain.hashing import canonical


class Actor(msgspec.Struct, frozen=True):
    """Who did it: `person:ana`, `cli:root`, `policy:canary`, `rule:schema-validity`."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}:{self.id}"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written. `action` is `noun.verb`: `release.promote`, `key.create`, `canary.abort`."""

    actor: Actor
    action: str
    object_type: str
    object_id: str
    route: str = ""
    env: str = ""
    before_hash: str = ""
    after_hash: str = ""
    reason: str = ""
    detail: dict[str, Any] = {}
    request_id: str = ""


class ChainedChange(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the log: `hash` = SHA-256(previous hash ‖ canonical JSON of seq, ts_us and the change)."""

    seq: int
    ts_us: int
    change: Change
    prev_hash: str
    hash: str


def chain_bytes(seq: int, ts_us: int, change: Change) -> bytes:
    """What is hashed after the previous hash."""
    return canonical({"seq": seq, "ts_us": ts_us, "change": change})


def link_hash(prev_hash: str, seq: int, ts_us: int, change: Change) -> str:
    """The hash of a row: SHA-256(hex of the previous hash ‖ `chain_bytes`), 64 hex characters; the first row's
    previous hash is empty. The writer of the log and its verifier both use this, so that they cannot differ.
    """
    return hashlib.sha256(prev_hash.encode() + chain_bytes(seq, ts_us, change)).hexdigest()
