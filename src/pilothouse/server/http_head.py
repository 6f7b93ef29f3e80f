"""A request's head and a chunked body, read strictly: what could be read in two ways is refused.

llhttp (through httptools) reads the headers and refuses contradictory framing, folded lines, bare line feeds, spaces
before colons and control characters (RFC 9112 sections 2.2, 3, 5 and 6). What it lets pass is refused here.
"""

import contextlib
import re
from urllib.parse import unquote

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from pilothouse.domain.errors import RequestError
from pilothouse.server.http_limits import Limits, Refused, malformed, too_long

CHUNKED = -1  # as a Request's length
CHUNK_LINE = 256  # bytes of a chunk's size and extensions
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
_KEEP = {b"HTTP/1.1": True, b"HTTP/1.0": False}


class Request(msgspec.Struct):
    """One request. `headers`: lower-case names; several of one name are joined with a comma."""

    method: str
    path: str  # percent-decoded
    query: str  # as it came
    headers: dict[bytes, bytes]
    body: bytes = b""
    length: int = 0  # of the body in bytes, or CHUNKED
    keep_alive: bool = True
    chunks: bool = True  # whether the client understands a chunked answer (HTTP/1.1)
    expects: bool = False  # the client waits for 100 (Continue)
    refused: Exception | None = None  # the body is over the limit, and was not taken

    def header(self, name: str) -> str | None:
        """The value of a header by its lower-case name."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")


class _Fields:
    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name.lower(), value))


def read_head(head: bytes, limits: Limits) -> Request:
    """The request whose head this is, up to and with the empty line; raises Refused."""
    end = head.index(b"\r\n")
    count = head.count(b"\r\n") - 2
    if end > limits.line or len(head) > limits.head or count > limits.headers:
        raise too_long(_over(end, len(head), limits))
    if not 65 <= head[0] <= 90:  # llhttp passes over line ends here
        raise malformed("this does not begin as an HTTP request does")
    fields = _Fields()
    try:
        with contextlib.suppress(HttpParserUpgrade):  # no other protocol is offered: the request is served as it is
            HttpRequestParser(fields).feed_data(head)
    except HttpParserError as error:
        raise malformed(f"the request cannot be read: {error}") from error
    if len(fields.pairs) != count:
        raise malformed("the request cannot be read: a header spans several lines")
    headers = dict(fields.pairs)
    if len(headers) != count:
        headers = _joined(fields.pairs)
    line = head[:end].split(b" ")
    if len(line) != 3:
        raise malformed("the request line is not method, target and version")
    method, target, version = line
    path, query = _target(target)
    request = Request(method.decode(), path, query, headers)
    _version(request, version)
    return _framed(request)


def _version(request: Request, version: bytes) -> None:
    new = _KEEP.get(version)
    if new is None:
        error = RequestError("only HTTP/1.1 and HTTP/1.0 are spoken", hint="use HTTP/1.1", code="http_version")
        raise Refused(505, "version", error)
    if new and b"host" not in request.headers:
        raise malformed("the header Host is missing")
    if request.method == "CONNECT":
        hint = "ask for the path itself"
        error = RequestError("this is not a proxy", where="method", hint=hint, code="method_not_implemented")
        raise Refused(501, "method", error)
    request.chunks = request.keep_alive = new
    asked = request.headers.get(b"connection")
    if asked is not None:
        asked = asked.lower()
        request.keep_alive = b"close" not in asked and (new or b"keep-alive" in asked)


def _framed(request: Request) -> Request:
    """With the body's length, and whether the client waits to be told to send it."""
    headers = request.headers
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise malformed("the only transfer coding taken is chunked", "transfer_encoding")
        if not request.chunks:
            raise malformed("HTTP/1.0 has no chunked bodies", "transfer_encoding")
        request.length = CHUNKED
    elif (length := headers.get(b"content-length")) is not None:
        request.length = int(length)  # digits alone: llhttp has refused all else
    if b"expect" in headers and request.chunks:
        if headers[b"expect"].lower() != b"100-continue":
            hint = "leave the header out"
            what = "only 100-continue can be expected"
            error = RequestError(what, where="expect", hint=hint, code="expectation_failed")
            raise Refused(417, "expect", error)
        request.expects = True
    return request


def _target(target: bytes) -> tuple[str, str]:
    """Path and query of an origin-form, absolute-form or asterisk-form target (RFC 9112 section 3.2)."""
    if b"#" in target:
        raise malformed("the request's target has a fragment")
    text = target.decode("latin-1")
    if not text.startswith("/") and text != "*":
        text = "/" + text.partition("://")[2].partition("/")[2]
    path, _, query = text.partition("?")
    return (unquote(path) if "%" in path else path), query


def _joined(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in headers:
            headers[name] = value
        elif name in (b"host", b"content-length", b"transfer-encoding"):
            raise malformed(f"there are several headers {name.decode()}")
        else:
            headers[name] += (b"; " if name == b"cookie" else b", ") + value
    return headers


def _over(line: int, head: int, limits: Limits) -> str:
    if line > limits.line:
        return f"the request line is longer than {limits.line} bytes"
    if head > limits.head:
        return f"the headers are longer than {limits.head} bytes"
    return f"there are more than {limits.headers} headers"


class Chunks:
    """A chunked body on its way in (RFC 9112 section 7.1). Trailers are checked and left out."""

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self.over = False  # the body is larger than `limit`
        self._limit = limit
        self._rest = b""
        self._left = 0  # bytes of the chunk that are still to come
        self._ends = False  # the line end after a chunk is due
        self._trailers = -1  # bytes of trailers that have come, once the last chunk has

    def feed(self, data: bytes) -> bytes | None:
        """What follows the body once it is complete, None before; raises Refused. Look at `over` after each call."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while True:
            at = self._part(data, at)
            if self._left:
                return None
            end = data.find(b"\r\n", at, at + CHUNK_LINE + 2)
            if end < 0:
                self._wait(data[at:])
                return None
            if self._trailers >= 0 and end == at:
                return data[at + 2 :]
            self._line(data[at:end])
            if self.over:
                return None
            at = end + 2

    def _part(self, data: bytes, at: int) -> int:
        """Take what is there of the chunk; where it ends."""
        if self._left:
            part = data[at : at + self._left]
            self.body += part
            self._left -= len(part)
            self._ends = not self._left
            return at + len(part)
        return at

    def _line(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailer(line)
        elif not self._ends:
            self._size(line)
        elif line:
            raise malformed("a chunk is longer than it says", "chunk")
        else:
            self._ends = False

    def _wait(self, rest: bytes) -> None:
        """Nothing more can be read until a line end comes; refuse what can never become one."""
        if self._ends and rest not in (b"", b"\r"):
            raise malformed("a chunk is longer than it says", "chunk")
        if len(rest) > CHUNK_LINE or b"\n" in rest:
            raise malformed("a chunk's size or a trailer cannot be read", "chunk")
        self._rest = rest

    def _size(self, line: bytes) -> None:
        """Begin a chunk."""
        found = _SIZE.fullmatch(line)
        if found is None:
            raise malformed("a chunk's size cannot be read", "chunk")
        self._left = int(found[1], 16)
        if not self._left:
            self._trailers = 0
        self.over = len(self.body) + self._left > self._limit

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if _TRAILER.fullmatch(line) is None or self._trailers > CHUNK_LINE * 16:
            raise malformed("a trailer cannot be read, or there are too many", "chunk")
