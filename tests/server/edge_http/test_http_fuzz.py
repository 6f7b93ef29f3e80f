"""The edge's HTTP server under inputs that nobody would write: it never crashes, never hangs, and whatever it serves is
what h11, an independent and well-tested parser, reads from the same bytes.

About 2,600 inputs a run (the sum of `max_examples`), over real sockets; PILOTHOUSE_FUZZ multiplies that.
"""

import asyncio
import itertools
import os
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

import h11
import msgspec
import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.server.edge_http.wire import QUICK, Served, served

from pilothouse.domain import pace

MORE = int(os.environ.get("PILOTHOUSE_FUZZ", "1"))
FAST = msgspec.structs.replace(QUICK, head_s=0.1, body_s=0.1, idle_s=0.1, linger_s=0.03, sweep_s=0.02)
END = b"GET /end HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


def tries(n: int) -> Any:
    return settings(
        max_examples=n * MORE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=MORE == 1,
    )


class Target:
    """A server on uvloop in a thread of its own."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.thread = threading.Thread(target=lambda: uvloop.run(self._run()))
        self.thread.start()
        self.up.wait(10)

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.crashes.append(str(context)))
        self.crashes: list[str] = []
        self.over = asyncio.Event()
        self.seen, self.server = await served(FAST)
        self.up.set()
        await self.over.wait()
        await self.server.close(1.0)

    def ask(self, pieces: list[bytes]) -> tuple[list[tuple[str, str, bytes]], bytes]:
        """What was served, and all that came back until the server closed. Raises TimeoutError when it hangs."""
        self.seen.requests.clear()
        back = b""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for piece in pieces:
                    s.sendall(piece)
                while data := s.recv(1 << 16):
                    back += data
            except (ConnectionResetError, BrokenPipeError):
                pass
        return list(self.seen.requests), back


@pytest.fixture(scope="module", params=[pace.BUSY, -1.0], ids=["calm", "busy"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pace, "BUSY", request.param)
        target = Target()
        yield target
    target.loop.call_soon_threadsafe(target.over.set)
    target.thread.join(10)
    assert target.crashes == [] and not target.thread.is_alive()
    account = target.server.account
    assert account.held == 0 and not account.connections and not account.tasks.failures


def answers(back: bytes, methods: list[str]) -> list[int]:
    """The statuses of the answers in `back`, all of it: h11 reads them as a client would."""
    statuses: list[int] = []
    while back:
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        method = methods[len(statuses)] if len(statuses) < len(methods) else "GET"
        client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(back)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                statuses.append(event.status_code)
            assert event is not h11.NEED_DATA, back
        back = client.trailing_data[0]
    return statuses


def as_h11_reads(data: bytes) -> list[tuple[str, str, bytes]]:
    """The requests in `data`, up to what h11 refuses or finds incomplete; an empty line before each is passed over."""
    found = []
    goes_on = True
    while goes_on:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(data.removeprefix(b"\r\n"))
        try:
            head, body = server.next_event(), b""
            if not isinstance(head, h11.Request):
                return found
            while isinstance(event := server.next_event(), h11.Data):
                body += bytes(event.data)
        except (h11.ProtocolError, ValueError):
            return found
        if not isinstance(event, h11.EndOfMessage):
            return found
        found.append((head.method.decode(), head.target.decode("latin-1"), body))
        server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        server.send(h11.EndOfMessage())
        goes_on = server.our_state is h11.DONE
        data = server.trailing_data[0]
    return found


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(lambda t: f"x-{t}")
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
BODY = st.one_of(st.binary(max_size=40), st.just(SMUGGLED), st.binary(min_size=200, max_size=3_000))


@st.composite
def requests(draw: Any) -> tuple[tuple[str, str, bytes], bytes]:
    """A good request: what is to be served, and its bytes."""
    method, path = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE"])), f"/{draw(st.integers(0, 999))}"
    lines = [
        f"{draw(TOKEN)}:{draw(st.sampled_from(['', ' ', '  ']))}{draw(VALUE)}" for _ in range(draw(st.integers(0, 4)))
    ]
    lines.insert(0, draw(st.sampled_from(["host: x", "Host: y", "HOST:z"])))
    body = draw(st.one_of(st.none(), BODY))
    data = b""
    if body is not None and draw(st.booleans()):
        lines.append(draw(st.sampled_from(["transfer-encoding: chunked", "Transfer-Encoding: Chunked"])))
        rest = body
        while rest:
            size = draw(st.integers(1, len(rest)))
            extension = draw(st.sampled_from([b"", b";a=b", b';a="b c"']))
            data += b"%x%b\r\n%b\r\n" % (size, extension, rest[:size])
            rest = rest[size:]
        data += b"0\r\n" + draw(st.sampled_from([b"", b"x-trailer: 1\r\n"])) + b"\r\n"
    elif body is not None:
        lines.append(f"content-length: {len(body)}")
        data = body
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
    return (method, path, body or b""), head.encode() + data


def cut(data: bytes, at: list[int]) -> list[bytes]:
    points = [0, *sorted({a % (len(data) + 1) for a in at}), len(data)]
    return [p for p in (data[a:b] for a, b in itertools.pairwise(points)) if p]


@tries(700)
@given(st.lists(requests(), min_size=1, max_size=6), st.lists(st.integers(0, 20_000), max_size=12))
def test_good_requests_however_they_are_cut_are_answered_in_order(target: Target, asked: Any, at: list[int]) -> None:
    data = b"".join(raw for _, raw in asked) + END
    got, back = target.ask(cut(data, at))
    if b"HTTP/1.1 408" in back or not back:  # a busy machine paused between two pieces for longer than FAST allows
        got, back = target.ask(cut(data, at))
    want = [request for request, _ in asked] + [("GET", "/end", b"")]
    assert got == want == as_h11_reads(data)
    assert answers(back, [method for method, _, _ in want]) == [200] * len(want)


@tries(500)
@given(st.lists(st.binary(max_size=200), max_size=5))
@example([b"\r\n" * 50_000])
@example([b"G" * 40_000])
def test_random_bytes_are_refused_or_let_go(target: Target, pieces: list[bytes]) -> None:
    got, back = target.ask(pieces)
    assert got == []
    assert all(400 <= status < 500 for status in answers(back, []))


NOISE = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"\x0b", b"\x0c", b"\x85", b"\xa0", b"\xff", b",", b"0", b";"]
)


@tries(900)
@given(
    st.lists(requests(), min_size=1, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 5_000), st.sampled_from(["put", "drop", "swap", "copy"]), NOISE),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(0, 20_000), max_size=3),
)
def test_what_is_served_of_mutated_requests_is_what_another_parser_reads(
    target: Target, asked: Any, changes: Any, at: list[int]
) -> None:
    data = b"".join(raw for _, raw in asked)
    for where, what, noise in changes:
        i = where % len(data)
        put = {"put": noise + data[i : i + 1], "drop": b"", "swap": noise, "copy": data[i : i + 30] * 2}[what]
        data = data[:i] + put + data[i + (30 if what == "copy" else 1) :]
    data += END
    got, back = target.ask(cut(data, at))
    read = as_h11_reads(data)
    assert got == read[: len(got)], (data, read)
    statuses = answers(back, [method for method, _, _ in got])
    assert statuses[: len(got)] == [200] * len(got) and all(400 <= s <= 505 for s in statuses[len(got) :])


@tries(700)
@given(
    st.lists(st.tuples(TOKEN, VALUE), max_size=3, unique_by=lambda pair: pair[0]),
    st.sampled_from(["content-length: {n}", "Content-Length:{n}", "content-length:  {n}", "content-length: 0{n}"]),
    st.integers(0, 3),
    st.lists(BODY, min_size=3, max_size=6),
    st.lists(
        st.tuples(st.integers(0, 200), st.sampled_from(["put", "drop", "swap"]), NOISE | st.sampled_from([b"+", b"9"])),
        max_size=2,
    ),
)
def test_a_head_that_is_repeated_is_read_as_if_it_were_the_first(
    target: Target, others: Any, length: str, place: int, bodies: list[bytes], changes: Any
) -> None:
    lines = ["host: x", *(f"{k}: {v}" for k, v in others)]
    lines.insert(place, length)
    head = "POST /same HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
    *before, last = [head.replace("{n}", str(len(body))).encode() + body for body in bodies]
    for where, what, noise in changes:
        i = where % len(last)
        last = last[:i] + {"put": noise + last[i : i + 1], "drop": b"", "swap": noise}[what] + last[i + 1 :]
    data = b"".join(before) + last + END
    got, back = target.ask([*before, last + END])
    read = as_h11_reads(data)
    assert got[: len(before)] == [("POST", "/same", body) for body in bodies[:-1]]
    assert got == read[: len(got)], (data, read)
    if not changes:
        assert got == [("POST", "/same", body) for body in bodies] + [("GET", "/end", b"")]
    statuses = answers(back, [method for method, _, _ in got])
    assert statuses[: len(got)] == [200] * len(got) and all(400 <= s <= 505 for s in statuses[len(got) :])


LENGTHS = [
    "content-length: {n}",
    "Content-Length: {n}",
    "content-length: 0",
    "content-length: {n}, {n}",
    "content-length: +{n}",
]
CODINGS = [
    "transfer-encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "transfer-encoding: identity",
    "transfer-encoding: x",
]
HIDDEN = [
    "content-length : {n}",
    " content-length: {n}",
    "content-length\t: {n}",
    "transfer-encoding : chunked",
    "transfer-encoding:\x0bchunked",
    "transfer-encoding: chunked\x00",
    "x: y\ntransfer-encoding: chunked",
    "x: y\rtransfer-encoding: chunked",
    "x: y\r\n transfer-encoding: chunked",
    "transfer-encoding\x00: chunked",
    'transfer-encoding: "chunked"',
    "transfer-encoding: chunked;q=1",
    "content-length: {n}\x0c",
    "content-length: 0x{n}",
    "content-length: -0",
    "content-length: {n} 0",
    "content-length:",
    "transfer-encoding:",
    "content-length: 1e1",
]


def spelled(line: str, casing: int) -> str:
    """The name in another mixture of cases."""
    name, colon, value = line.partition(":")
    return "".join(c.upper() if casing >> i & 1 else c for i, c in enumerate(name)) + colon + value


@tries(500)
@given(
    st.one_of(
        st.tuples(st.sampled_from(LENGTHS), st.sampled_from(LENGTHS)),
        st.tuples(st.sampled_from(LENGTHS), st.sampled_from(CODINGS)),
        st.tuples(st.sampled_from(CODINGS), st.sampled_from(CODINGS)),
        st.tuples(st.sampled_from(HIDDEN)),
        st.tuples(st.sampled_from(HIDDEN), st.sampled_from(LENGTHS + CODINGS)),
    ),
    st.lists(st.tuples(TOKEN, VALUE), max_size=3),
    st.randoms(use_true_random=False),
    st.integers(0, 1 << 20),
)
def test_contradictory_framing_serves_nothing(target: Target, evil: Any, others: Any, random: Any, casing: int) -> None:
    body = b"0\r\n\r\n" + SMUGGLED
    lines = [spelled(line.format(n=len(body)), casing) for line in evil] + [f"{k}: {v}" for k, v in others]
    random.shuffle(lines)
    head = "POST /front HTTP/1.1\r\nhost: x\r\n" + "\r\n".join(lines) + "\r\n\r\n"
    got, back = target.ask([head.encode("latin-1") + body + END])
    assert got == []
    assert answers(back, []) == [400]
    assert re.search(rb'"code":"malformed_http"', back)


def test_the_server_still_answers(target: Target) -> None:
    got, back = target.ask([END])
    assert got == [("GET", "/end", b"")] and answers(back, ["GET"]) == [200]
    assert isinstance(target.seen, Served)
