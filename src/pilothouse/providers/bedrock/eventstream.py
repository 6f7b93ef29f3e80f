"""AWS's binary event stream (`application/vnd.amazon.eventstream`).

A message is: total length and headers' length (4 bytes each, big-endian), CRC-32 of these 8 bytes, headers, payload,
CRC-32 of everything before. A header is: length of the name (1 byte), name, type (1 byte), value. Source: AWS SDK
design documents, "Event stream encoding".
"""

import struct
import zlib
from collections.abc import Iterator, Mapping

import msgspec

from pilothouse.domain.errors import ServerError

_PRELUDE = struct.Struct(">III")
_MAX = 24 << 20  # bytes of a message
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # type → size of its value
_BYTES, _STRING = 6, 7


class Message(msgspec.Struct, frozen=True):
    """One message; headers that are not strings are left out."""

    headers: dict[str, str]
    payload: bytes


class Splitter:
    """Bytes as they arrive → whole messages."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def pending(self) -> bool:
        """Whether a message has begun that has not ended."""
        return bool(self._rest)

    def take(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole with `data`; raises ServerError where the bytes are none."""
        data = self._rest + data if self._rest else data
        at = 0
        while len(data) - at >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(data, at)
            if zlib.crc32(data[at : at + 8]) != crc or not 16 <= total <= _MAX or headers > total - 16:
                self._rest = b""
                raise _unreadable("its length is not right")
            if len(data) - at < total:
                break
            whole = data[at : at + total]
            at += total
            self._rest = data[at:]
            yield _message(whole, headers)
        self._rest = data[at:]


def _message(whole: bytes, headers: int) -> Message:
    if zlib.crc32(whole[:-4]) != int.from_bytes(whole[-4:], "big"):
        raise _unreadable("its checksum is not right")
    try:
        return Message(_headers(whole[12 : 12 + headers]), whole[12 + headers : -4])
    except (IndexError, UnicodeDecodeError, KeyError) as error:
        raise _unreadable("its headers are not right") from error


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        name, kind, at = data[at + 1 : end].decode(), data[end], end + 1
        if kind in (_BYTES, _STRING):
            size = int.from_bytes(data[at : at + 2], "big")
            if kind == _STRING:
                found[name] = data[at + 2 : at + 2 + size].decode()
            at += 2 + size
        else:
            at += _FIXED[kind]
    if at != len(data):
        raise IndexError
    return found


def _unreadable(why: str) -> ServerError:
    return ServerError(f"the provider sent an unreadable event: {why}", code="malformed_stream", upstream_status=200)


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A message with string headers."""
    lines = b"".join(
        bytes((len(name.encode()),)) + name.encode() + bytes((_STRING,)) + len(value.encode()).to_bytes(2, "big")
        + value.encode()
        for name, value in headers.items()
    )  # fmt: skip
    prelude = struct.pack(">II", 16 + len(lines) + len(payload), len(lines))
    body = prelude + zlib.crc32(prelude).to_bytes(4, "big") + lines + payload
    return body + zlib.crc32(body).to_bytes(4, "big")
