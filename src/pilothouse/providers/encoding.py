"""Bodies that a provider compressed though it was asked not to."""

import zlib

from pilothouse.domain.errors import ServerError

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


def decoded(body: bytes, encoding: str, limit: int, *, whole: bool = True) -> bytes:
    """`body` as it was before its content-encoding, up to `limit` bytes.

    Raises ServerError where it is damaged, in an encoding that is not read, or, where the `whole` body is wanted,
    incomplete or over the limit.
    """
    name = encoding.strip().lower()
    if name in ("", "identity") or not body:
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise _unreadable(f"the provider's answer is in the encoding “{name[:40]}”, which is not read")
    try:
        try:
            return _inflated(body, _GZIP_OR_ZLIB, limit, whole)
        except zlib.error:
            if name != "deflate":
                raise
            return _inflated(body, _RAW, limit, whole)  # some servers leave out the zlib header
    except zlib.error as error:
        raise _unreadable(f"the provider's compressed answer is damaged: {error}") from error


def _inflated(body: bytes, wbits: int, limit: int, whole: bool) -> bytes:
    out = bytearray()
    while body and len(out) < limit:
        inflater = zlib.decompressobj(wbits)
        out += inflater.decompress(body, limit - len(out))
        if whole and not inflater.eof:
            raise zlib.error("it is over the limit" if inflater.unconsumed_tail else "it is incomplete")
        body = inflater.unused_data  # gzip allows several members in a row
    return bytes(out)


def _unreadable(what: str) -> ServerError:
    return ServerError(what, hint="let the provider answer uncompressed", code="malformed_response")
