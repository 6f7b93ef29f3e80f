"""Identifiers: UUIDv7 for our own objects (they sort by time), W3C ids for traces and spans."""

import os
import threading
import time

_HEX = set("0123456789abcdef")
_POOL = 4096  # bytes drawn from the kernel at once


class _Random:
    """The kernel's randomness, drawn ahead: each draw lets go of the interpreter's lock, and a request needs three."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0
        self._lock = threading.Lock()

    def take(self, n: int) -> bytes:
        """`n` bytes, never given out before."""
        with self._lock:
            if self._at + n > len(self._pool):
                self._pool, self._at = os.urandom(_POOL), 0
            self._at += n
            return self._pool[self._at - n : self._at]

    def forget(self) -> None:
        """Drop what is left: a forked child must not give out what its parent does."""
        self._pool, self._at, self._lock = b"", 0, threading.Lock()


_random = _Random()
os.register_at_fork(after_in_child=_random.forget)


def uuid7(now_us: int | None = None) -> str:
    """A UUIDv7 (RFC 9562) as 36 characters; `now_us` fixes its time part."""
    ms = (now_us // 1_000) if now_us is not None else time.time_ns() // 1_000_000  # noqa: TID251  # hot path: no clock object
    rand = int.from_bytes(_random.take(10), "big")
    value = (ms & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (rand >> 68) << 64 | 0b10 << 62 | rand & 0x3FFF_FFFF_FFFF_FFFF
    h = f"{value:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def new_trace_id() -> str:
    """32 lower-case hex characters."""
    return _random.take(16).hex()


def new_span_id() -> str:
    """16 lower-case hex characters."""
    return _random.take(8).hex()


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
