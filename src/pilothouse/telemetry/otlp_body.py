"""An OTLP/HTTP body on the wire: its media type, its compression, and the answer to one that is not taken."""

import sys
import zlib

import msgspec

from pilothouse.domain.errors import BadRequest, TooLarge, UnsupportedMedia

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_BODY = 16 << 20  # bytes as received
MAX_DECODED = 32 << 20  # bytes after decompression
ENCODINGS = ("gzip", "deflate", "zstd")
_WINDOW_LOG = 25  # of zstd: a frame may ask for no more memory than a body may unpack to
_CUT = "the {} body is cut or followed by something else"


def media_type(content_type: str | None) -> str:
    """`application/x-protobuf` or `application/json`; raises `UnsupportedMedia`."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind in (PROTOBUF, JSON):
        return kind
    raise UnsupportedMedia(
        f"OTLP cannot be read from content type “{kind[:80]}”", where="content-type", hint=f"send {PROTOBUF} or {JSON}"
    )


def decompress(body: bytes, encoding: str | None) -> bytes:
    """The body as it was before compression. Raises `TooLarge`, `UnsupportedMedia`, `BadRequest`.

    Stops at the limit, so that a small body cannot fill the memory.
    """
    if len(body) > MAX_BODY:
        raise TooLarge(f"the body has more than {MAX_BODY >> 20} MiB", hint="export smaller batches")
    kind = (encoding or "identity").strip().lower()
    if kind == "identity":
        return body
    if kind not in ENCODINGS:
        raise UnsupportedMedia(
            f"the content encoding “{kind[:40]}” is not read",
            where="content-encoding",
            hint=f"use {', '.join(ENCODINGS)} or none",
        )
    try:
        data = _unzstd(body) if kind == "zstd" else _inflate(body, 31 if kind == "gzip" else 15)
    except (zlib.error, zstd.ZstdError):
        raise BadRequest(
            f"the body is not {kind}", where="content-encoding", hint="compress it, or say identity"
        ) from None
    except EOFError:
        raise BadRequest(_CUT.format(kind), where="body") from None
    return data


def _bounded(data: bytes) -> bytes:
    if len(data) > MAX_DECODED:
        raise TooLarge(f"the body unpacks to more than {MAX_DECODED >> 20} MiB", hint="export smaller batches")
    return data


def _inflate(body: bytes, window: int) -> bytes:
    """`window`: zlib's word for the format. Raises EOFError for a body that is cut."""
    inflate = zlib.decompressobj(window)
    data = _bounded(inflate.decompress(body, MAX_DECODED + 1))
    if not inflate.eof or inflate.unused_data:
        raise EOFError
    return data


def _unzstd(body: bytes) -> bytes:
    """One or more frames, as the format allows. Raises EOFError for a body that is cut."""
    parts, size = [], 0
    if not body:
        raise EOFError
    while body:
        frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        parts.append(frame.decompress(body, MAX_DECODED + 1 - size))
        size += len(parts[-1])
        if size > MAX_DECODED:
            break
        if not frame.eof:
            raise EOFError
        body = frame.unused_data
    return _bounded(b"".join(parts))


def failure(kind: str, code: int, message: str) -> bytes:
    """The body of an error: a google.rpc.Status with gRPC's `code`, in the request's content type."""
    if kind == JSON:
        return msgspec.json.encode({"code": code, "message": message})
    text = message.encode("utf-8", "replace")
    return b"\x08" + bytes([code]) + b"\x12" + _varint(len(text)) + text  # fields 1 and 2 of the message


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
