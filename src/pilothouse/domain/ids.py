"""Identifiers: UUIDv7 for our own objects (they sort by time), W3C ids for traces and spans."""

import functools
import os
import time
from collections.abc import Iterator

_HEX = set("0123456789abcdef")
_VARIANT = {digit: "89ab"[i % 4] for i, digit in enumerate("0123456789abcdef")}  # its first two bits are 10
_PIECES = 120  # drawn from the kernel at once
_PIECE = 68  # hex characters: 20 of a UUIDv7, 32 of a trace id, 16 of a span id


class _Random:
    """The kernel's randomness in pieces, drawn ahead: each draw lets go of the interpreter's lock."""

    def __init__(self) -> None:
        self._pieces: Iterator[str] = iter(())

    def piece(self) -> str:
        """Hex characters, never given out before."""
        piece = next(self._pieces, None)  # one step of a list's iterator: no two threads get the same
        if piece is None:
            pool = os.urandom(_PIECES * _PIECE // 2).hex()
            pieces = iter([pool[at : at + _PIECE] for at in range(0, len(pool), _PIECE)])
            piece = next(pieces)
            self._pieces = pieces
        return piece

    def forget(self) -> None:
        """Drop what is left: a forked child must not give out what its parent does."""
        self._pieces = iter(())


_random = _Random()
os.register_at_fork(after_in_child=_random.forget)


def uuid7(now_us: int | None = None) -> str:
    """A UUIDv7 (RFC 9562) as 36 characters; `now_us` fixes its time part."""
    us = now_us if now_us is not None else time.time_ns() // 1_000  # noqa: TID251  # hot path: no clock object
    return _uuid7(us, _random.piece())


def _uuid7(now_us: int, rand: str) -> str:
    """`rand`: 19 hex characters or more, of which 74 bits are used."""
    return f"{_time_part(now_us // 1_000)}{rand[:3]}-{_VARIANT[rand[3]]}{rand[4:7]}-{rand[7:19]}"


@functools.lru_cache(maxsize=8)
def _time_part(now_ms: int) -> str:
    """With the version. Under load several are made in a millisecond."""
    text = f"{now_ms:012x}"
    return f"{text[-12:-4]}-{text[-4:]}-7"


def request_ids(now_us: int) -> tuple[str, str, str]:
    """A new request's own id (a UUIDv7), its trace id and its span id, from one draw."""
    rand = _random.piece()
    return _uuid7(now_us, rand), rand[20:52], rand[52:]


def new_span_id() -> str:
    """16 lower-case hex characters."""
    return _random.piece()[52:]


def parse_traceparent(header: str | None) -> tuple[str, str] | None:
    """(trace id, parent span id) of a W3C `traceparent`, or None where it is absent or malformed."""
    if not header:
        return None
    parts = header.strip().split("-")
    if len(parts) < 4 or len(parts[0]) != 2 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    trace, span = parts[1], parts[2]
    if not (_HEX.issuperset(trace) and _HEX.issuperset(span)) or parts[0] == "ff":
        return None
    if trace == "0" * 32 or span == "0" * 16:
        return None
    return trace, span
