"""A request's head and a chunked body, read strictly: what could be read in two ways is refused.

llhttp (through httptools) reads the headers and refuses contradictory framing, folded lines, bare line feeds, spaces
before colons and control characters (RFC 9112 sections 2.2, 3, 5 and 6). What it lets pass is refused here.
"""

import re
from collections.abc import Callable
from copy import copy
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
_Line = tuple[str, str, str, bool]  # method, path, query, and whether it is HTTP/1.1
# What clients write again and again, looked at once. Emptied when full: whoever fills them loses their gain, no more.
_lines: dict[bytes, _Line] = {}
_names: "dict[tuple[bytes, ...], _Names]" = {}
_SEEN_MAX = 256
_REPEATED_MAX = 2048  # bytes of a head that a connection keeps
_DIGITS = 15  # of a repeated head's length


class _Names(msgspec.Struct, frozen=True):
    """The names in a head. A client writes the same ones in each of its requests: they are looked at once."""

    written: dict[str, bytes]  # as the client writes it, by the lower-case name
    host: bytes | None  # as it is written, None where there is none; so are these:
    connection: bytes | None
    coding: bytes | None
    length: bytes | None
    expect: bytes | None


class Request(msgspec.Struct):
    """One request. `fields`: the headers, by names as the client writes them (see `header`)."""

    method: str
    path: str  # percent-decoded
    query: str  # as it came
    fields: dict[bytes, bytes]
    names: _Names
    keep_alive: bool
    chunks: bool  # whether the client understands a chunked answer (HTTP/1.1)
    body: bytes = b""
    length: int = 0  # of the body in bytes, or CHUNKED
    expects: bool = False  # the client waits for 100 (Continue)
    refused: Exception | None = None  # the body is over the limit, and was not taken

    def header(self, name: str) -> str | None:
        """The value of a header by its lower-case name; several of one name are joined with a comma."""
        written = self.names.written.get(name)
        return None if written is None else self.fields[written].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        """All headers, by their lower-case names."""
        return {name: self.fields[written].decode("latin-1") for name, written in self.names.written.items()}


class _Callbacks(msgspec.Struct):
    on_header: Callable[[bytes, bytes], object]


def read_head(head: bytes, limits: Limits) -> Request:
    """The request whose head this is, up to and with the empty line; raises Refused."""
    end = head.index(b"\r\n")
    count = head.count(b"\r\n") - 2
    if end > limits.line or len(head) > limits.head or count > limits.headers:
        raise too_long(_over(end, len(head), limits))
    if not 65 <= head[0] <= 90:  # llhttp passes over line ends here
        raise malformed("this does not begin as an HTTP request does")
    fields: dict[bytes, bytes] = {}
    _parse(head, fields.setdefault)  # a dict's own method: no Python for each header
    names = (_names.get(tuple(fields)) or _named(fields)) if len(fields) == count else None
    if names is None:
        fields, names = _joined(head, count)
    line = head[:end]
    method, path, query, new = _lines.get(line) or _line(line)
    if new and names.host is None:
        raise malformed("the header Host is missing")
    if method == "CONNECT":
        hint = "ask for the path itself"
        error = RequestError("this is not a proxy", where="method", hint=hint, code="method_not_implemented")
        raise Refused(501, "method", error)
    return _framed(Request(method, path, query, fields, names, new, new))


def _parse(head: bytes, on_header: Callable[[bytes, bytes], object]) -> None:
    try:
        HttpRequestParser(_Callbacks(on_header)).feed_data(head)
    except HttpParserUpgrade:
        pass  # no other protocol is offered: the request is served as it is
    except HttpParserError as error:
        raise malformed(f"the request cannot be read: {error}") from error


def _framed(request: Request) -> Request:
    """With the body's length, whether the connection goes on, and whether the client waits to be told to send more."""
    names, fields = request.names, request.fields
    if names.connection is not None:
        asked = fields[names.connection].lower()
        request.keep_alive = b"close" not in asked and (request.chunks or b"keep-alive" in asked)
    if names.coding is not None:
        if fields[names.coding].lower() != b"chunked":
            raise malformed("the only transfer coding taken is chunked", "transfer_encoding")
        if not request.chunks:
            raise malformed("HTTP/1.0 has no chunked bodies", "transfer_encoding")
        request.length = CHUNKED
    elif names.length is not None:
        request.length = int(fields[names.length])  # digits alone: llhttp has refused all else
    if names.expect is not None and request.chunks:
        if fields[names.expect].lower() != b"100-continue":
            hint = "leave the header out"
            what = "only 100-continue can be expected"
            error = RequestError(what, where="expect", hint=hint, code="expectation_failed")
            raise Refused(417, "expect", error)
        request.expects = True
    return request


class Repeated(msgspec.Struct, frozen=True):
    """A head that a client writes again in each of its requests, but for the number that is its body's length."""

    before: bytes  # what stands before that number
    behind: bytes  # and behind it
    fresh: Callable[[], Request]  # what it asks for, each time anew

    def read(self, data: bytes | bytearray) -> tuple[Request, int] | None:
        """What `data` asks for if it begins with this very head, and where that ends; None if it does not."""
        before, behind = self.before, self.behind
        if not data.startswith(before):
            return None
        at = data.find(b"\r", len(before), len(before) + _DIGITS + 1)
        digits = data[len(before) : at]
        if at < 0 or not digits.isdigit() or not data.startswith(behind, at):
            return None
        request = self.fresh()
        request.length = int(digits)
        return request, at + len(behind)


def repeated(head: bytes, request: Request, limits: Limits) -> Repeated | None:
    """What to know this head by when it comes again; None where that is not worth it, or it has no plain length."""
    length = request.names.length
    if length is None or request.expects or not request.keep_alive or len(head) > min(_REPEATED_MAX, limits.head // 2):
        return None
    before, mark, behind = head.partition(b"\r\n%b: %b\r\n" % (length, request.fields[length]))
    number = b"%d" % request.length
    if not mark.endswith(b" %b\r\n" % number):
        return None
    # The copy that copy() makes, without its look-ups; of a copy, since `request` itself is still to be served.
    fresh = copy(request).__copy__  # type: ignore[attr-defined]  # every Struct has it
    return Repeated(before + mark[: -len(number) - 2], b"\r\n" + behind, fresh)


def _line(line: bytes) -> _Line:
    """What a request line says, from now on to be found in `_lines` where others are likely to say the same."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise malformed("the request line is not method, target and version")
    method, target, version = parts
    path, query = _target(target)
    new = _KEEP.get(version)
    if new is None:
        error = RequestError("only HTTP/1.1 and HTTP/1.0 are spoken", hint="use HTTP/1.1", code="http_version")
        raise Refused(505, "version", error)
    found = (method.decode(), path, query, new)
    if len(line) <= 128 and not query:
        if len(_lines) >= _SEEN_MAX:
            _lines.clear()
        _lines[line] = found
    return found


def _target(target: bytes) -> tuple[str, str]:
    """Path and query of an origin-form, absolute-form or asterisk-form target (RFC 9112 section 3.2)."""
    if b"#" in target:
        raise malformed("the request's target has a fragment")
    text = target.decode("latin-1")
    if not text.startswith("/") and text != "*":
        text = "/" + text.partition("://")[2].partition("/")[2]
    path, _, query = text.partition("?")
    return (unquote(path) if "%" in path else path), query


def _named(fields: dict[bytes, bytes]) -> _Names | None:
    """The names of these headers, from now on to be found in `_names`; None where one is there twice."""
    written = {name.lower().decode("latin-1"): name for name in fields}
    if len(written) != len(fields):
        return None
    get = written.get
    names = _Names(
        written, get("host"), get("connection"), get("transfer-encoding"), get("content-length"), get("expect")
    )
    if len(fields) <= 32 and sum(map(len, fields)) <= 1024:
        if len(_names) >= _SEEN_MAX:
            _names.clear()
        _names[tuple(fields)] = names
    return names


def _joined(head: bytes, count: int) -> tuple[dict[bytes, bytes], _Names]:
    """The headers of a head in which one name is there twice, by their lower-case names; raises Refused."""
    pairs: list[tuple[bytes, bytes]] = []
    _parse(head, lambda name, value: pairs.append((name.lower(), value)))
    if len(pairs) != count:
        raise malformed("the request cannot be read: a header spans several lines")
    fields: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif name in (b"host", b"content-length", b"transfer-encoding"):
            raise malformed(f"there are several headers {name.decode()}")
        else:
            fields[name] += (b"; " if name == b"cookie" else b", ") + value
    names = _named(fields)
    if names is None:
        raise AssertionError("names in lower case are told apart")
    return fields, names


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
