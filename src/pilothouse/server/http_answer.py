"""The bytes of an answer's head, and how many of an answer's bytes have not reached the client."""

import asyncio
import contextlib
import fcntl
import struct
import termios
from http import HTTPStatus

from pilothouse.gateway.types import Headers

EMPTY = frozenset({204, 304})  # statuses whose answers have no body
# What the server alone says: how long the answer is, and whether the connection goes on (RFC 9112 section 6).
_OURS = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "date", "upgrade", "trailer"})
_BEGUN_MAX = 256
_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus if s.value >= 200}


class _Begun(dict[str, str]):
    """A header's line up to its value, by its name; "" for what the server alone says."""

    def __missing__(self, name: str) -> str:
        if len(self) >= _BEGUN_MAX:
            self.clear()
        begun = self[name] = "" if name.lower() in _OURS else f"{name}: "
        return begun


_begun = _Begun()


def answer_head(status: int, headers: Headers, more: str) -> bytes:
    """Status line, `headers` and `more` (whole lines of the server's own), with the empty line.

    ValueError if a header has a line end or NUL in it: an answer is never split into two.
    """
    text, count = _LINES.get(status) or f"HTTP/1.1 {status} \r\n", 1
    for name, value in headers:
        if begun := _begun[name]:
            text += f"{begun}{value}\r\n"
            count += 1
    if text.count("\n") != count or text.count("\r") != count or "\0" in text:
        raise ValueError("an answer's header has a line end or NUL in it")
    return f"{text}{more}\r\n".encode("latin-1")


class Unread:
    """What waits for a client, and since when nothing of it was taken."""

    def __init__(self) -> None:
        self._bytes = 0
        self._since = 0.0

    def quiet_s(self, transport: asyncio.Transport, now: float) -> float:
        """Seconds for which the client has taken nothing; 0 if nothing waits. To be called now and then."""
        waiting = transport.get_write_buffer_size()
        if waiting:
            with contextlib.suppress(OSError, ValueError):  # a socket that closes just now
                handle = transport.get_extra_info("socket").fileno()
                # What the kernel holds counts too: it takes more only when a good part of its buffer is free.
                waiting += struct.unpack("i", fcntl.ioctl(handle, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        if not self._bytes or waiting < self._bytes:
            self._since = now
        self._bytes = waiting
        return now - self._since if waiting else 0.0
