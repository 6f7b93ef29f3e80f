"""The edge's HTTP server, byte for byte: on asyncio's own loop and on uvloop."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.server.edge_http.wire import QUICK, Served, Wire, served

from pilothouse.domain import pace
from pilothouse.server.http import HttpServer
from pilothouse.server.http_limits import Limits


class Rig:
    def __init__(self, seen: Served, server: HttpServer) -> None:
        self.seen, self.server = seen, server
        self.account = server.account
        self.wires: list[Wire] = []

    async def wire(self) -> Wire:
        wire = await Wire.open(self.server)
        self.wires.append(wire)
        return wire


@pytest.fixture(params=[pace.BUSY, -1.0], ids=["calm", "busy"], autouse=True)
def busy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it once with answers that leave at once, and once with answers that leave at the turn's end."""
    monkeypatch.setattr(pace, "BUSY", request.param)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Any]]:
    rigs: list[Rig] = []

    async def made(**limits: Any) -> Rig:
        rig = Rig(*await served(msgspec.structs.replace(QUICK, **limits)))
        rigs.append(rig)
        return rig

    yield made
    for rig in rigs:
        for wire in rig.wires:
            await wire.close()
        rig.seen.go.set()
        await rig.server.close(1.0)
        assert rig.account.held == 0 and not rig.account.connections
        assert not [f for f in rig.account.tasks.failures if not isinstance(f, asyncio.CancelledError)]


@pytest.fixture
async def rig(make: Any) -> Rig:
    return await make()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is awaited is set by sockets
            await asyncio.sleep(0.01)


# -- requests and answers


async def test_a_request_and_its_answer(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("POST", "/a%20b?q=%20", b"hello", "X-Mixed: Case", "cookie: a=1", "cookie: b=2", "accept: x", "accept: y")
    answer = await wire.answer()
    said = answer.json()
    assert (answer.status, said["method"], said["path"], said["query"]) == (200, "POST", "/a b", "q=%20")
    assert said["size"] == 5 and said["headers"]["x-mixed"] == "Case"
    assert said["headers"]["cookie"] == "a=1; b=2" and said["headers"]["accept"] == "x, y"
    assert answer.headers["content-length"] == str(len(answer.body)) and "connection" not in answer.headers
    assert answer.headers["date"].endswith(" GMT")


async def test_many_requests_on_one_connection_one_task(rig: Rig) -> None:
    wire = await rig.wire()
    for i in range(20):
        wire.ask("POST", f"/{i}", b"x" * i)
        assert (await wire.answer()).json()["size"] == i
    assert len(rig.account.connections) == 1 and len(rig.account.tasks) == 1


async def test_a_repeated_head_is_served_whatever_its_length(make: Any) -> None:
    rig = await make(body=100_000)
    wire = await rig.wire()
    sizes = [3, 4, 5, 6, 70_000, 0, 12, 7]
    for size in sizes:
        wire.send(b"POST /s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\nx-last: y\r\n\r\n" % size + b"x" * size)
        said = (await wire.answer()).json()
        assert said["size"] == size and said["headers"]["x-last"] == "y"
    (connection,) = rig.account.connections
    assert connection._repeated is not None
    wire.send(b"POST /s HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\nx-last: y\r\n\r\n")
    assert (await wire.answer()).status == 413
    assert await wire.ended() == b""


async def test_heads_that_are_never_the_same_are_not_kept_for_long(rig: Rig) -> None:
    wire = await rig.wire()
    for i in range(8):
        wire.ask("POST", "/x", b"x" * i, f"traceparent: {i}")
        assert (await wire.answer()).json()["headers"]["traceparent"] == str(i)
    (connection,) = rig.account.connections
    assert connection._learns == 0


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/wait")
    for i in range(5):
        wire.ask("POST", f"/{i}", b"b" * i)
    await asyncio.wait_for(rig.seen.waiting.wait(), 5)
    await asyncio.sleep(0.05)
    assert len(rig.seen.requests) == 1
    rig.seen.go.set()
    assert (await wire.answer()).body == b"went"
    assert [(await wire.answer()).json()["path"] for _ in range(5)] == [f"/{i}" for i in range(5)]


async def test_what_is_sent_ahead_is_bounded(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/wait")
    await asyncio.wait_for(rig.seen.waiting.wait(), 5)
    (connection,) = rig.account.connections
    one = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n" + b"z" * 60_000
    wire.send(one * 200)  # 12 MB: more than sockets hold
    await until(lambda: connection._deaf)
    assert len(connection._rest) < 1 << 20
    rig.seen.go.set()
    assert (await wire.answer()).status == 200
    for _ in range(200):
        assert (await wire.answer()).json()["size"] == 60_000


@pytest.mark.parametrize("pieces", [1, 2, 7, 64])
async def test_a_request_in_pieces(rig: Rig, pieces: int) -> None:
    wire = await rig.wire()
    data = b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 300\r\n\r\n" + b"p" * 300
    step = -(-len(data) // pieces)
    for at in range(0, len(data), step):
        wire.send(data[at : at + step])
        await asyncio.sleep(0)
    assert (await wire.answer()).json()["size"] == 300


async def test_a_chunked_request(rig: Rig) -> None:
    wire = await rig.wire()
    wire.send(b"POST /c HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n")
    wire.send(b'0006;a=b;c="d"\r\n world\r\n0\r\nx-trailer: 1\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n\r\n')
    assert (await wire.answer()).json()["size"] == 11
    assert (await wire.answer()).json()["path"] == "/next"
    assert rig.seen.requests[0][2] == b"hello world"


async def test_a_stream_is_chunked_and_not_kept_by_caches(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/stream?40")
    answer = await wire.answer()
    assert answer.body == b"".join(b"data: %d\n\n" % i for i in range(40))
    assert answer.headers["cache-control"] == "no-cache" and "content-length" not in answer.headers
    wire.ask("GET", "/again")
    assert (await wire.answer()).json()["path"] == "/again"


async def test_the_first_piece_of_a_stream_does_not_wait_for_the_second(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/hold")
    await wire.head()
    assert await asyncio.wait_for(wire.reader.readexactly(8), 5) == b"3\r\none\r\n"
    rig.seen.go.set()
    assert await asyncio.wait_for(wire.reader.readexactly(5), 5) == b"0\r\n\r\n"


async def test_http_1_0(rig: Rig) -> None:
    wire = await rig.wire()
    wire.send(b"GET /old HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    answer = await wire.answer()
    assert answer.headers["connection"] == "keep-alive" and answer.json()["path"] == "/old"
    wire.send(b"GET /stream HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    answer = await wire.answer()
    assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert answer.headers["connection"] == "close" and "transfer-encoding" not in answer.headers
    wire = await rig.wire()
    wire.send(b"GET /old HTTP/1.0\r\n\r\n")
    assert (await wire.answer()).headers["connection"] == "close"
    assert await wire.ended() == b""


async def test_connection_close_is_honoured(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/", b"", "connection: Close")
    assert (await wire.answer()).headers["connection"] == "close"
    assert await wire.ended() == b""


async def test_head_has_the_lengths_but_no_body(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("HEAD", "/big?500")
    assert (await wire.answer(head_only=True)).headers["content-length"] == "500"
    wire.ask("HEAD", "/stream")
    assert (await wire.answer(head_only=True)).status == 200
    wire.ask("GET", "/empty")
    answer = await wire.answer(head_only=True)
    assert answer.status == 204 and "content-length" not in answer.headers
    wire.ask("GET", "/last")
    assert (await wire.answer()).json()["path"] == "/last"


async def test_continue_is_said_to_those_who_wait_for_it(rig: Rig) -> None:
    wire = await rig.wire()
    wire.send(b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n")
    assert await asyncio.wait_for(wire.reader.readexactly(25), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"abc")
    assert (await wire.answer()).json()["size"] == 3
    wire.send(b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\nabc")
    assert (await wire.answer()).json()["size"] == 3  # sent already: nothing to be told
    wire.ask("POST", "/e", b"abc", "expect: tea")
    assert (await wire.answer()).status == 417


async def test_an_upgrade_is_not_taken_and_the_request_served(rig: Rig) -> None:
    wire = await rig.wire()  # Java's HttpClient asks every plain server so
    wire.ask("POST", "/u", b"abc", "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: x")
    wire.ask("GET", "/v")
    assert (await wire.answer()).json()["size"] == 3
    assert (await wire.answer()).json()["path"] == "/v"


@pytest.mark.parametrize("target", ["http://host:80/a?b=c", "/a?b=c"])
async def test_forms_of_the_target(rig: Rig, target: str) -> None:
    wire = await rig.wire()
    wire.ask("GET", target)
    said = (await wire.answer()).json()
    assert (said["path"], said["query"]) == ("/a", "b=c")
    wire.ask("OPTIONS", "*")
    assert (await wire.answer()).json()["path"] == "*"


async def test_an_empty_line_before_a_request_is_passed_over(rig: Rig) -> None:
    wire = await rig.wire()
    for _ in range(2):
        wire.send(b"\r\nGET /a HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await wire.answer()).status == 200


async def test_a_large_answer(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/big?3000000")
    wire.ask("GET", "/after")
    assert len((await wire.answer()).body) == 3_000_000
    assert (await wire.answer()).json()["path"] == "/after"


# -- handlers that go wrong


async def test_a_failing_handler_is_a_500_or_a_cut_stream(rig: Rig) -> None:
    for path in ("/fail", "/silent"):
        wire = await rig.wire()
        wire.ask("GET", path)
        answer = await wire.answer()
        assert answer.status == 500 and answer.json()["error"]["code"] == "internal"
        assert await wire.ended() == b""
    wire = await rig.wire()
    wire.ask("GET", "/fail_late")
    await wire.head()
    assert b"\r\n0\r\n" not in await wire.ended()  # never looks complete


@pytest.mark.parametrize("what", ["crlf", "lf", "cr", "nul"])
async def test_an_answer_is_never_split(rig: Rig, what: str) -> None:
    wire = await rig.wire()
    wire.ask("GET", f"/split?{what}")
    answer = await wire.answer()
    assert answer.status == 500 and "set-cookie" not in answer.headers and "x-said" not in answer.headers


async def test_framing_is_the_servers_alone(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/framed")
    status, headers = await wire.head()
    assert status == 200 and headers["content-length"] == "4" and headers["x-kept"] == "1"
    assert "transfer-encoding" not in headers and "Connection" not in headers
    assert await wire.reader.readexactly(4) == b"four"


# -- refusals

OK = "host: x\r\n"
MALFORMED = {
    "two lengths": f"POST / HTTP/1.1\r\n{OK}content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
    "the same length twice": f"POST / HTTP/1.1\r\n{OK}content-length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "lengths in a list": f"POST / HTTP/1.1\r\n{OK}content-length: 3, 3\r\n\r\nabc",
    "length and coding": f"POST / HTTP/1.1\r\n{OK}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "a signed length": f"POST / HTTP/1.1\r\n{OK}content-length: +3\r\n\r\nabc",
    "a negative length": f"POST / HTTP/1.1\r\n{OK}content-length: -3\r\n\r\nabc",
    "a hexadecimal length": f"POST / HTTP/1.1\r\n{OK}content-length: 0x3\r\n\r\nabc",
    "an empty length": f"POST / HTTP/1.1\r\n{OK}content-length:\r\n\r\nabc",
    "an endless length": f"POST / HTTP/1.1\r\n{OK}content-length: {'9' * 40}\r\n\r\nabc",
    "gzip coding": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding identity": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "a coding that looks like one": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding twice": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "coding in 1.0": f"POST / HTTP/1.0\r\n{OK}transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a vertical tab": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": f"POST / HTTP/1.1\r\n{OK}content-length : 3\r\n\r\nabc",
    "a space before the name": f"POST / HTTP/1.1\r\n content-length: 3\r\n{OK}\r\nabc",
    "a folded line": f"POST / HTTP/1.1\r\n{OK}a: b\r\n c: d\r\n\r\n",
    "a bare line feed": f"POST / HTTP/1.1\r\n{OK}a: b\nc: d\r\n\r\n",
    "bare line feeds alone": "POST / HTTP/1.1\nhost: x\n\n",
    "a bare carriage return": f"POST / HTTP/1.1\r\n{OK}a: b\rc: d\r\n\r\n",
    "a NUL": f"POST / HTTP/1.1\r\n{OK}a: b\0c\r\n\r\n",
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "two hosts": "GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n",
    "no name": f"GET / HTTP/1.1\r\n{OK}: x\r\n\r\n",
    "no colon": f"GET / HTTP/1.1\r\n{OK}abc\r\n\r\n",
    "two spaces": f"GET  / HTTP/1.1\r\n{OK}\r\n",
    "a fragment": f"GET /#a HTTP/1.1\r\n{OK}\r\n",
    "a lower-case method": f"get / HTTP/1.1\r\n{OK}\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a chunk without end": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "a chunk size that is none": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\nxyz\r\n",
    "a signed chunk size": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with 0x": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with a space": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    "an endless chunk size": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n{'f' * 17}\r\nabc\r\n",
    "a chunk line without return": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "a chunk extension with a line feed": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n",
    "an endless chunk extension": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n3;{'a' * 500}",
    "a trailer that is none": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n0\r\nab c: d\r\n\r\n",
    "an endless trailer": f"POST / HTTP/1.1\r\n{OK}transfer-encoding: chunked\r\n\r\n0\r\n" + "a: b\r\n" * 2_000,
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_could_be_read_in_two_ways_is_refused(rig: Rig, what: str) -> None:
    wire = await rig.wire()
    wire.send(MALFORMED[what].encode("latin-1") + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = await wire.answer()
    assert answer.status == 400 and answer.headers["connection"] == "close"
    assert answer.json()["error"]["code"] == "malformed_http"
    assert await wire.ended() == b""
    assert rig.seen.requests == [] and sum(rig.account.refused.values()) == 1


@pytest.mark.parametrize("what", MALFORMED)
async def test_it_is_refused_too_where_good_requests_with_such_heads_came_before(rig: Rig, what: str) -> None:
    wire = await rig.wire()
    for _ in range(3):
        wire.send(f"POST / HTTP/1.1\r\n{OK}content-length: 3\r\n\r\nabc".encode())
        assert (await wire.answer()).status == 200
    rig.seen.requests.clear()
    wire.send(MALFORMED[what].encode("latin-1") + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await wire.answer()).json()["error"]["code"] == "malformed_http"
    assert await wire.ended() == b"" and rig.seen.requests == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/2.0\r\nhost: x", 505),
        ("GET / HTTP/0.9\r\nhost: x", 505),
        ("CONNECT a:1 HTTP/1.1\r\nhost: x", 501),
        ("GET /" + "a" * 9_000 + " HTTP/1.1\r\nhost: x", 431),
        ("GET / HTTP/1.1\r\nhost: x\r\na: " + "b" * 40_000, 431),
        ("GET / HTTP/1.1\r\nhost: x" + "\r\na: b" * 100, 431),
    ],
)
async def test_other_refusals_have_their_own_status(rig: Rig, head: str, status: int) -> None:
    wire = await rig.wire()
    wire.send(head.encode() + b"\r\n\r\n")
    answer = await wire.answer()
    assert answer.status == status and answer.json()["error"]["hint"]
    assert await wire.ended() == b"" and rig.seen.requests == []


async def test_an_endless_head_is_refused_before_it_ends(rig: Rig) -> None:
    wire = await rig.wire()
    wire.send(b"GET / HTTP/1.1\r\na: " + b"b" * 50_000)
    assert (await wire.answer()).status == 431


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_answered_before_it_is_taken(make: Any, chunked: bool) -> None:
    rig = await make(body=100_000)
    wire = await rig.wire()
    if chunked:
        wire.send(b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(60):
            wire.send(b"ea60\r\n" + b"z" * 60_000 + b"\r\n")
    else:
        wire.send(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3600000\r\n\r\n" + b"z" * 3_600_000)
    answer = await wire.answer()
    assert answer.status == 413 and answer.headers["connection"] == "close"
    assert rig.seen.requests == [("POST", "/x", b"")]
    assert await wire.ended() == b""


async def test_a_body_at_the_limit_is_taken(make: Any) -> None:
    rig = await make(body=100_000)
    wire = await rig.wire()
    wire.ask("POST", "/x", b"z" * 100_000)
    assert (await wire.answer()).json()["size"] == 100_000
    wire.send(b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n" + b"z" * 100_000)
    wire.send(b"\r\n0\r\n\r\n")
    assert (await wire.answer()).json()["size"] == 100_000


async def test_bodies_of_all_connections_together_are_bounded(make: Any) -> None:
    rig = await make(held=50_000, body_s=60.0)
    one, other = await rig.wire(), await rig.wire()
    one.send(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 40000\r\n\r\n" + b"z" * 30_000)
    await until(lambda: rig.account.held == 30_000)
    other.send(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 40000\r\n\r\n" + b"z" * 30_000)
    answer = await other.answer()
    assert answer.status == 503 and answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "overloaded" and rig.account.refused["memory"] == 1
    one.send(b"z" * 10_000)
    assert (await one.answer()).json()["size"] == 40_000
    await until(lambda: rig.account.held == 0)


async def test_connections_are_bounded(make: Any) -> None:
    rig = await make(connections=4, idle_s=60.0, head_s=60.0)
    wires = [await rig.wire() for _ in range(5)]
    for wire in wires[:4]:
        wire.ask("GET", "/in")
        assert (await wire.answer()).status == 200
    wires[4].ask("GET", "/out")
    answer = await wires[4].answer()
    assert answer.status == 503 and answer.headers["retry-after"] == "1"
    await until(lambda: len(rig.account.connections) <= 5)
    extra = [await rig.wire() for _ in range(4)]
    assert await extra[-1].ended() == b""  # too many even to be told
    assert rig.account.refused["connections"] >= 2
    for wire in [*wires, *extra]:
        await wire.close()
    await until(lambda: not rig.account.connections)
    wire = await rig.wire()
    wire.ask("GET", "/again")
    assert (await wire.answer()).status == 200


# -- slow clients


async def test_a_head_that_does_not_end_is_a_408(rig: Rig) -> None:
    wire = await rig.wire()
    wire.send(b"GET / HTTP/1.1\r\nhost: x\r\n")
    answer = await wire.answer()
    assert answer.status == 408 and answer.json()["error"]["code"] == "request_timeout"
    assert await wire.ended() == b"" and rig.account.refused["slow_head"] == 1


async def test_bytes_now_and_then_do_not_keep_a_head_or_body_alive(make: Any) -> None:
    rig = await make(body_rate=1_000)
    for start, reason in (
        (b"G", "slow_head"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n", "slow_body"),
    ):
        wire = await rig.wire()
        wire.send(start)
        for letter in b"ET / HTTP/1.1\r\na: " + b"b" * 200:
            if rig.account.refused[reason]:
                break
            wire.send(bytes([letter]))
            await asyncio.sleep(0.02)
        assert (await wire.answer()).status == 408 and rig.account.refused[reason] == 1


async def test_a_body_that_comes_steadily_is_given_time(make: Any) -> None:
    rig = await make(body_rate=1_000)
    wire = await rig.wire()
    wire.send(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 40000\r\n\r\n")
    for _ in range(40):  # 0.8 s, the bare limit being 0.3
        wire.send(b"z" * 1_000)
        await asyncio.sleep(0.02)
    assert (await wire.answer()).json()["size"] == 40_000


async def test_idle_and_silent_connections_are_closed_without_a_word(rig: Rig) -> None:
    silent, idle = await rig.wire(), await rig.wire()
    idle.ask("GET", "/")
    assert (await idle.answer()).status == 200
    assert await silent.ended() == b"" and await idle.ended() == b""
    assert not rig.account.refused


async def test_a_long_request_is_not_idle(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/wait")
    await asyncio.sleep(0.6)
    rig.seen.go.set()
    assert (await wire.answer()).body == b"went"


async def test_a_client_that_reads_nothing_holds_the_handler_back_and_is_cut_in_the_end(make: Any) -> None:
    rig = await make(write_s=1.0)
    wire = await rig.wire()
    wire.ask("GET", "/flood?2000")  # 130 MB
    await until(lambda: rig.seen.sent)
    await asyncio.sleep(0.5)
    sent = rig.seen.sent
    assert sent < 30_000_000
    (connection,) = rig.account.connections
    assert connection._transport.get_write_buffer_size() < 256 << 10
    await until(lambda: rig.seen.cancelled)
    assert rig.account.refused["slow_reader"] == 1
    await until(lambda: not rig.account.connections)


async def test_a_client_that_reads_slowly_is_served(make: Any) -> None:
    rig = await make(write_s=0.4)
    wire = await rig.wire()
    wire.ask("GET", "/flood?150")  # 10 MB
    await wire.head()
    got = 0
    async with asyncio.timeout(20):
        while got < 150 * 65_000:
            got += len(await wire.reader.read(200_000))
            await asyncio.sleep(0.02)
    assert not rig.account.refused and rig.seen.sent == 150 * 65_000


# -- clients that leave


@pytest.mark.parametrize("path", ["/wait", "/hold"])
@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_client_that_leaves_cancels_its_request_at_once(rig: Rig, path: str, how: str) -> None:
    wire = await rig.wire()
    wire.ask("GET", path)
    await asyncio.wait_for(rig.seen.waiting.wait(), 5)
    if how == "half":
        wire.writer.write_eof()
    elif how == "reset":
        wire.writer.transport.abort()
    else:
        wire.writer.close()
    await until(lambda: rig.seen.cancelled == 1)
    assert rig.account.left == 1
    await until(lambda: not rig.account.connections and not len(rig.account.tasks))


async def test_a_request_that_came_whole_is_begun_though_its_client_has_left(rig: Rig) -> None:
    for _ in range(20):
        wire = await rig.wire()
        wire.ask("GET", "/wait")
        wire.writer.write_eof()
        await wire.close()
    await until(lambda: rig.seen.cancelled == 20)


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_forgotten(rig: Rig) -> None:
    for data in (b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nabc"):
        wire = await rig.wire()
        wire.send(data)
        await until(lambda: rig.account.connections)
        await wire.close()
        await until(lambda: not rig.account.connections)
    assert rig.seen.requests == [] and rig.account.held == 0


# -- the end


async def test_a_drain_finishes_what_is_in_flight_and_closes_what_is_idle(rig: Rig) -> None:
    busy, idle, ahead = await rig.wire(), await rig.wire(), await rig.wire()
    idle.ask("GET", "/")
    assert (await idle.answer()).status == 200
    busy.ask("GET", "/wait")
    ahead.send(b"POST /late HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
    await until(lambda: rig.account.held == 2)
    await asyncio.wait_for(rig.seen.waiting.wait(), 5)
    closing = asyncio.ensure_future(rig.server.close(5.0))
    assert await idle.ended() == b""
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", rig.server.port)
    ahead.send(b"cd")
    answer = await ahead.answer()
    assert answer.status == 200 and answer.headers["connection"] == "close"
    rig.seen.go.set()
    answer = await busy.answer()
    assert answer.body == b"went" and answer.headers["connection"] == "close"
    assert await closing == 0


async def test_what_does_not_end_is_cut(rig: Rig) -> None:
    wire = await rig.wire()
    wire.ask("GET", "/wait")
    await asyncio.wait_for(rig.seen.waiting.wait(), 5)
    assert await rig.server.close(0.1) == 1
    assert rig.seen.cancelled == 1 and await wire.ended() == b""


async def test_nothing_is_left_of_many_connections(make: Any) -> None:
    rig = await make(idle_s=60.0)
    for _ in range(200):
        wire = await Wire.open(rig.server)
        wire.ask("POST", "/x", b"a" * 5_000)
        assert (await wire.answer()).status == 200
        await wire.close()
    await until(lambda: not rig.account.connections and not len(rig.account.tasks))
    gc.collect()
    assert sum(type(o).__name__ == "Connection" for o in gc.get_objects()) < 20


async def test_metrics_count_what_was_refused(rig: Rig) -> None:
    wire = await rig.wire()
    wire.send(b"nonsense\r\n\r\n")
    assert (await wire.answer()).status == 400
    text = rig.account.metrics()
    assert 'pilothouse_http_refused_total{reason="malformed"} 1' in text
    assert "pilothouse_http_connections 1" in text and json.dumps(text)


def test_the_limits_are_those_of_the_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "edge.md").read_text()
    for name in Limits.__struct_fields__:
        assert f"`{name}`" in text, name
