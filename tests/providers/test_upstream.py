"""The client for upstream calls: framing, keep-alive, limits, cancellation, failures; on both event loops."""

import asyncio
import gc
import gzip
import itertools
import weakref
import zlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.peer import OK, Asked, Peer, eventually, peer, until

from pilothouse.domain.errors import ConnectFailed, CutStream, ServerError
from pilothouse.domain.pace import Pace
from pilothouse.providers import answer as answers
from pilothouse.providers import connection as connections
from pilothouse.providers.connection import Connection
from pilothouse.providers.script import load
from pilothouse.providers.scripted import ScriptedProvider
from pilothouse.providers.upstream import Call, OpenStream, Reply, Upstream

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=[False, True], ids=["calm", "busy"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    """Requests leave at once, or at the turn's end."""
    one = Upstream()
    one.pace.busy = request.param
    yield one
    await one.close()
    assert one.open == 0 and one.idle == 0


async def rest(flow: OpenStream) -> bytes:
    out = b""
    while (data := await flow.read()) is not None:
        assert data
        out += data
    return out


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


FRAMED = [
    (HEAD + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
    (HEAD + b"content-length: 0\r\n\r\n", b"", True),
    (CHUNKED + chunk(b"hel") + chunk(b"lo") + b"0\r\n\r\n", b"hello", True),
    (CHUNKED + b"5;name=value\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n", b"hello", True),
    (HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, b"ok", True),
    (b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", b"", True),
    (b"HTTP/1.1 500\r\ncontent-length: 2\r\n\r\nno", b"no", True),
]


@pytest.mark.parametrize(("data", "body", "kept"), FRAMED, ids=range(len(FRAMED)))
@pytest.mark.parametrize("streamed", [False, True])
async def test_answers_however_they_are_framed(
    upstream: Upstream, data: bytes, body: bytes, kept: bool, streamed: bool
) -> None:
    async with peer(data) as one:
        for _ in range(2):
            if streamed:
                flow = await upstream.stream(one.call())
                status, found = flow.status, await rest(flow)
                assert flow.ended
                await flow.close()
            else:
                reply = await upstream.whole(one.call())
                status, found = reply.status, reply.body
            assert found == body and status == int(data.rpartition(b"HTTP/1.")[2].split()[1])
        assert one.connections == (1 if kept else 2)
        assert (upstream.created, upstream.reused, upstream.aborted) == ((1, 1, 0) if kept else (2, 0, 0))
        assert upstream.idle == (1 if kept else 0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_without_a_length_ends_with_the_connection(upstream: Upstream, streamed: bool) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(HEAD + b"\r\nto the ")
        await asked.send(b"end")
        asked.writer.close()

    async with peer(answer) as one:
        if streamed:
            flow = await upstream.stream(one.call())
            assert await rest(flow) == b"to the end" and await flow.read() is None
        else:
            assert (await upstream.whole(one.call())).body == b"to the end"
        assert upstream.idle == 0 and upstream.aborted == 0


async def test_the_request_as_it_is_sent(upstream: Upstream) -> None:
    async with peer() as one:
        await upstream.whole(one.call(b'{"a":1}', path="/v1/chat?api-version=2", headers=[("x-a", "b"), ("x-c", "d")]))
        await upstream.whole(one.call(b"", method="GET", path=""))
        await upstream.whole(one.call(b"", method="DELETE"))
        await upstream.whole(one.call(b"", method="POST"))
        big = bytes(300_000)
        await upstream.whole(one.call(big, method="PUT"))
    post, get, delete, empty, put = one.asked
    assert post.line == "POST /v1/chat?api-version=2 HTTP/1.1" and post.body == b'{"a":1}'
    assert post.headers == {
        "host": f"127.0.0.1:{one.port}",
        "user-agent": "pilothouse",
        "accept": "*/*",
        "accept-encoding": "identity",
        "x-a": "b",
        "x-c": "d",
        "content-length": "7",
    }
    assert get.line == "GET / HTTP/1.1" and "content-length" not in get.headers
    assert delete.line == "DELETE /v1/x HTTP/1.1" and "content-length" not in delete.headers
    assert empty.headers["content-length"] == "0"
    assert put.line == "PUT /v1/x HTTP/1.1" and put.body == big
    assert one.connections == 1 and upstream.reused == 4


async def test_the_answer_to_head_has_no_body_whatever_it_says(upstream: Upstream) -> None:
    async with peer(HEAD + b"content-length: 5\r\n\r\n") as one:
        reply = await upstream.whole(one.call(b"", method="HEAD"))
        assert (reply.status, reply.body) == (200, b"") and upstream.idle == 0


async def test_headers_that_are_read_and_no_others(upstream: Upstream) -> None:
    lines = (
        b"Retry-After: 3\r\nRETRY-AFTER-MS: 2500\r\nX-RateLimit-Remaining-Tokens: 9\r\nContent-Type: text/x\r\n"
        b"X-Request-Id: r1\r\nRequest-Id: r2\r\nset-cookie: a=b\r\nx-odd: \xe4\r\n"
        b"anthropic-ratelimit-tokens-limit: 7\r\n"
    )
    async with peer(b"HTTP/1.1 429 Slow\r\n" + lines + b"content-length: 0\r\n\r\n") as one:
        for _ in range(2):
            assert (await upstream.whole(one.call())).headers == {
                "retry-after": "3",
                "retry-after-ms": "2500",
                "x-ratelimit-remaining-tokens": "9",
                "content-type": "text/x",
                "x-request-id": "r1",
                "request-id": "r2",
                "anthropic-ratelimit-tokens-limit": "7",
            }


async def test_names_of_headers_are_remembered_up_to_a_limit() -> None:
    for i in range(3000):
        answers.kept_headers({b"x-%d" % i: b""})
    assert answers.kept_headers({b"Retry-After": b"1"}) == {"retry-after": "1"}
    assert len(answers._names) <= 1024


# --- connections -----------------------------------------------------------------------------------------------------


async def test_the_connection_used_last_is_used_first(upstream: Upstream) -> None:
    both = asyncio.Barrier(2)

    async def answer(asked: Asked) -> None:
        if asked.n <= 2:
            await both.wait()
        await asked.send(OK)

    async with peer(answer) as one:
        await asyncio.gather(upstream.whole(one.call()), upstream.whole(one.call()))
        assert (upstream.open, upstream.idle, one.connections) == (2, 2, 2)
        for _ in range(4):
            await upstream.whole(one.call())
        assert len({asked.connection for asked in one.asked[2:]}) == 1
        assert (upstream.created, upstream.reused) == (2, 4)


async def test_an_unused_connection_is_closed_after_its_time() -> None:
    upstream = Upstream(idle_s=0.05)
    async with peer() as one:
        await upstream.whole(one.call())
        assert upstream.idle == 1
        await until(one.closed)
        assert (upstream.idle, upstream.open, upstream.aborted) == (0, 0, 0)
        assert (await upstream.whole(one.call())).body == b"ok" and one.connections == 2
        await upstream.close()


async def test_at_the_limit_calls_wait_in_order() -> None:
    upstream = Upstream(connections=2)
    go = asyncio.Event()
    order: list[bytes] = []

    async def answer(asked: Asked) -> None:
        order.append(asked.body)
        await go.wait()
        await asked.send(OK)

    async def ask(n: int) -> None:
        await upstream.whole(one.call(b"%d" % n))

    async with peer(answer) as one, asyncio.TaskGroup() as group:
        for n in range(6):
            group.create_task(ask(n))
            await asyncio.sleep(0)
        await eventually(lambda: len(order) >= 2)
        group.create_task(given_up(upstream, one))
        await asyncio.sleep(0)
        go.set()
    assert sorted(order[:2]) == [b"0", b"1"] and order[2:] == [b"2", b"3", b"4", b"5"]
    assert upstream.created == 2 and upstream.open <= 2
    await upstream.close()


async def given_up(upstream: Upstream, one: Peer) -> None:
    """One who waits for a connection and is cancelled takes no slot with it."""
    task = asyncio.get_running_loop().create_task(upstream.whole(one.call(b"never")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_waiting_for_a_connection_counts_as_connecting() -> None:
    upstream = Upstream(connections=1)

    async def answer(asked: Asked) -> None:
        await asked.gone()

    async with peer(answer) as one:
        first = asyncio.get_running_loop().create_task(upstream.whole(one.call()))
        await eventually(lambda: one.asked)
        with pytest.raises(ConnectFailed, match=r"within 0\.05 s"):
            await upstream.whole(one.call(connect_s=0.05))
        waiting = asyncio.get_running_loop().create_task(upstream.whole(one.call()))
        await asyncio.sleep(0)
        first.cancel()  # whose slot goes to the one who waits
        await eventually(lambda: len(one.asked) >= 2)
        closing = asyncio.get_running_loop().create_task(upstream.whole(one.call()))
        await asyncio.sleep(0)
        await upstream.close()
        with pytest.raises(ServerError):
            await waiting
        with pytest.raises(ConnectFailed, match="closing"):
            await closing
        with pytest.raises(ConnectFailed, match="closing"):
            await upstream.whole(one.call())
        assert upstream.open == 0


@pytest.mark.parametrize("more", [b"garbage", OK, b"HTTP/1.1 2", b"\0"], ids=["garbage", "answer", "half", "nul"])
async def test_bytes_after_an_answer_end_the_connection(upstream: Upstream, more: bytes) -> None:
    async with peer(OK + more) as one:
        assert (await upstream.whole(one.call())).body == b"ok"
        assert upstream.idle == 0 and one.connections == 1
        flow = await upstream.stream(one.call())
        assert await rest(flow) == b"ok"
        assert upstream.idle == 0 and one.connections == 2


async def test_bytes_while_nothing_was_asked_end_the_connection(upstream: Upstream) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(OK)
        if asked.n == 1:
            await more.wait()
            await asked.send(OK)

    more = asyncio.Event()
    async with peer(answer) as one:
        assert (await upstream.whole(one.call())).body == b"ok"
        assert upstream.idle == 1
        more.set()
        await until(one.closed)
        assert upstream.idle == 0 and (await upstream.whole(one.call())).body == b"ok"


async def test_an_answer_before_the_request_is_out_ends_the_connection(upstream: Upstream) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await gone.wait()
        writer.transport.abort()

    gone = asyncio.Event()
    server = await asyncio.start_server(early, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reply = await upstream.whole(Call(f"http://127.0.0.1:{port}/", [], bytes(64 << 20), 2.0))
    assert reply.status == 413 and upstream.idle == 0
    gone.set()
    server.close()


# --- a kept connection that the provider has closed ------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_kept_connection_found_closed_is_replaced_once(upstream: Upstream, streamed: bool) -> None:
    async def answer(asked: Asked) -> None:
        if asked.n == 2:
            asked.writer.transport.abort()
            return
        await asked.send(OK)

    async with peer(answer) as one:
        await upstream.whole(one.call())
        if streamed:
            flow = await upstream.stream(one.call(b"again"))
            assert await rest(flow) == b"ok"
        else:
            assert (await upstream.whole(one.call(b"again"))).body == b"ok"
        assert [(a.connection, a.body) for a in one.asked] == [(1, b"{}"), (1, b"again"), (2, b"again")]
        assert upstream.aborted == 0


async def test_a_kept_connection_closed_while_idle_is_not_used(upstream: Upstream) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(OK)
        if asked.n == 1:
            asked.writer.close()

    async with peer(answer) as one:
        await upstream.whole(one.call())
        await eventually(lambda: not upstream.open)
        assert upstream.idle == 0
        await upstream.whole(one.call())
        assert len(one.asked) == 2 and upstream.reused == 0


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 2"])
async def test_a_call_that_broke_is_not_sent_again_where_it_may_have_been_answered(
    upstream: Upstream, first: bytes
) -> None:
    async def answer(asked: Asked) -> None:
        if asked.n == 1 and first:
            await asked.send(OK)
            return
        await asked.send(first)
        asked.writer.close()

    async with peer(answer) as one:
        if first:  # a kept connection, on which an answer had begun
            await upstream.whole(one.call())
        with pytest.raises(ServerError, match="closed without an answer"):
            await upstream.whole(one.call())
        assert len(one.asked) == (2 if first else 1)


async def test_a_kept_connection_that_breaks_late_is_not_stale(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STALE_S", 0.0)

    async def answer(asked: Asked) -> None:
        if asked.n == 1:
            await asked.send(OK)
        else:
            asked.writer.close()

    async with peer(answer) as one:
        await upstream.whole(one.call())
        with pytest.raises(ServerError):
            await upstream.whole(one.call())
        assert len(one.asked) == 2


# --- answers that break ----------------------------------------------------------------------------------------------


CUT = [
    HEAD + b"content-length: 9\r\n\r\nhello",
    CHUNKED + chunk(b"hello"),
    CHUNKED + chunk(b"hello") + b"5\r\nwo",
    CHUNKED + chunk(b"hello") + b"0\r\n",
]


@pytest.mark.parametrize("data", CUT, ids=range(len(CUT)))
async def test_a_cut_answer_never_looks_complete(upstream: Upstream, data: bytes) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(data)
        asked.writer.close()

    async with peer(answer) as one:
        with pytest.raises(ServerError, match="closed before the answer was complete"):
            await upstream.whole(one.call())
        flow = await upstream.stream(one.call())
        found = b""
        with pytest.raises(CutStream, match="closed before the answer was complete"):
            while True:
                found += await flow.read() or pytest.fail("it looked complete")
        assert found.startswith(b"hello") and not flow.ended
        with pytest.raises(CutStream):  # and goes on saying so
            flow.take()
        await flow.close()
        assert (upstream.open, upstream.aborted) == (0, 0)


UNREADABLE = [
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nrest",
    HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
    HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"bad header\r\n\r\n",
    CHUNKED + b"xyz\r\n",
    HEAD + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    HEAD + b"".join(b"x-%d: %b\r\n" % (i, b"a" * 90) for i in range(1000)) + b"content-length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 2000,
]


@pytest.mark.parametrize("data", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_what_is_not_an_answer_is_refused(upstream: Upstream, data: bytes) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(data)
        await asked.gone()

    async with peer(answer) as one:
        with pytest.raises(ServerError, match="its answer"):
            await upstream.whole(one.call())
        await until(one.closed)
        with pytest.raises((ServerError, CutStream)):
            await rest(await upstream.stream(one.call()))
        assert (upstream.open, upstream.aborted) == (0, 2)


async def test_a_whole_answer_over_the_limit_is_refused(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_MAX", 100_000)

    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED)
        while not asked.writer.transport.is_closing():
            await asked.send(chunk(bytes(10_000)))

    async with peer(answer) as one:
        with pytest.raises(ServerError, match="over 0 MiB"):
            await upstream.whole(one.call())
        await until(one.closed)


async def test_a_reset_is_a_broken_connection(upstream: Upstream) -> None:
    provider = ScriptedProvider()
    await provider.start()
    call = chat(provider, stream=True)
    provider.play(load(b"rules: [{fault: reset, reply: some words here, chunk_size: 3}]", "test"))
    flow = await upstream.stream(call)
    with pytest.raises(CutStream):
        await rest(flow)
    provider.play(load(b"rules: [{fault: reset, reply: some words here}]", "test"))
    with pytest.raises(ServerError):
        await upstream.whole(chat(provider))
    assert upstream.open == 0
    await provider.close()


def chat(provider: ScriptedProvider, stream: bool = False) -> Call:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
    url = f"http://127.0.0.1:{provider.port}/v1/chat/completions"
    return Call(url, [("content-type", "application/json")], msgspec.json.encode(body), 2.0)


async def test_against_the_scripted_provider(upstream: Upstream) -> None:
    provider = ScriptedProvider()
    await provider.start()
    for _ in range(3):
        reply = await upstream.whole(chat(provider))
        assert msgspec.json.decode(reply.body)["choices"][0]["message"]["content"] == "You said: hello"
        flow = await upstream.stream(chat(provider, stream=True))
        assert flow.headers["content-type"] == "text/event-stream"
        assert (await rest(flow)).endswith(b"data: [DONE]\n\n")
    assert (upstream.created, upstream.reused, upstream.idle) == (1, 5, 1)
    await provider.close()


async def test_a_handled_error_holds_nothing_of_its_caller(upstream: Upstream) -> None:
    class Mark:
        pass

    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED + chunk(b"x") if asked.body == b"stream" else b"")
        asked.writer.close()

    async def caller(body: bytes) -> "weakref.ref[Mark]":
        mark = Mark()
        try:
            await rest(await upstream.stream(one.call(body)))
        except (ServerError, CutStream):
            return weakref.ref(mark)
        raise AssertionError("it broke")

    async with peer(answer) as one:
        gc.disable()
        try:
            for body in (b"stream", b"head"):
                mark = await caller(body)
                await asyncio.sleep(0)  # the loop lets go of what woke us
                assert mark() is None
        finally:
            gc.enable()


# --- compressed all the same -----------------------------------------------------------------------------------------

TEXT = b'{"choices":[]}' * 1000
_raw = zlib.compressobj(wbits=-15)
RAW = _raw.compress(TEXT) + _raw.flush()


def encoded(encoding: bytes, body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        encoding,
        len(body),
        body,
    )


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(TEXT)),
        (b"GZIP", gzip.compress(TEXT[:700]) + gzip.compress(TEXT[700:])),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", RAW),
        (b"identity", TEXT),
    ],
    ids=["gzip", "members", "deflate", "raw", "identity"],
)
async def test_a_whole_answer_is_decoded(upstream: Upstream, encoding: bytes, body: bytes) -> None:
    async with peer(encoded(encoding, body)) as one:
        assert (await upstream.whole(one.call())).body == TEXT


@pytest.mark.parametrize(
    ("encoding", "body", "why"),
    [
        (b"gzip", b"not gzip at all", "damaged"),
        (b"gzip", gzip.compress(TEXT)[:-9], "incomplete"),
        (b"deflate", b"\xff\xff\xff", "damaged"),
        (b"zstd", b"\x28\xb5\x2f\xfd", "zstd"),
        (b"br, gzip", b"x", "br, gzip"),
    ],
    ids=["not", "cut", "bad", "zstd", "two"],
)
async def test_what_cannot_be_decoded_is_an_error(upstream: Upstream, encoding: bytes, body: bytes, why: str) -> None:
    async with peer(encoded(encoding, body)) as one:
        with pytest.raises(ServerError, match=why) as caught:
            await upstream.whole(one.call())
        assert caught.value.kind == "malformed_response" and upstream.idle == 1


async def test_a_bomb_is_not_decoded(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.providers.upstream.BODY_MAX", 1 << 20)
    async with peer(encoded(b"gzip", gzip.compress(bytes(2 << 20)))) as one:
        with pytest.raises(ServerError, match="over the limit"):
            await upstream.whole(one.call())


async def test_a_compressed_stream_is_refused_and_its_error_read(upstream: Upstream) -> None:
    async with peer(encoded(b"gzip", gzip.compress(TEXT))) as one:
        with pytest.raises(ServerError, match="streams in the encoding"):
            await upstream.stream(one.call())
    async with peer(encoded(b"gzip", gzip.compress(TEXT), 429)) as one:
        flow = await upstream.stream(one.call())
        assert flow.status == 429 and await flow.rest() == TEXT


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_what_is_there_is_given_at_once_and_together(upstream: Upstream) -> None:
    more = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED + b"".join(chunk(b"%d," % i) for i in range(5)))
        await more.wait()
        await asked.send(chunk(b"last") + b"0\r\n\r\n")

    async with peer(answer) as one:
        flow = await upstream.stream(one.call())
        assert await flow.read() == b"0,1,2,3,4,"
        assert flow.take() == b"" and not flow.ended
        more.set()
        assert await flow.read() == b"last" and flow.ended and await flow.read() is None


async def test_a_listener_is_called_without_a_task(upstream: Upstream) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED + chunk(b"a"))
        for text in (b"b", b"c"):
            await asyncio.sleep(0)
            await asked.send(chunk(text))
        if asked.body == b"cut":
            asked.writer.close()
        else:
            await asked.send(b"0\r\n\r\n")

    async with peer(answer) as one:
        for body in (b"{}", b"cut"):
            flow = await upstream.stream(one.call(body))
            found: list[bytes] = []
            done = asyncio.get_running_loop().create_future()

            def changed(
                flow: OpenStream = flow, found: list[bytes] = found, done: "asyncio.Future[str]" = done
            ) -> None:
                try:
                    while data := flow.take():
                        found.append(data)
                except CutStream:
                    done.set_result("cut")
                if flow.ended:
                    done.set_result("ended")

            flow.listen(changed)
            changed()
            assert await done == ("cut" if body == b"cut" else "ended") and b"".join(found) == b"abc"


async def test_a_provider_waits_for_a_slow_reader(upstream: Upstream) -> None:
    size = 48 << 20
    blocked = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(HEAD + b"content-length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            asked.writer.write(bytes(1 << 16))
            try:
                await asyncio.wait_for(asked.writer.drain(), 0.3)
            except TimeoutError:
                blocked.set()
                await asked.writer.drain()

    async with peer(answer) as one:
        flow = await upstream.stream(one.call())
        await until(blocked)
        read, most = 0, 0
        while (data := await flow.read()) is not None:
            read, most = read + len(data), max(most, len(data))
        assert read == size and most <= 1 << 20
        assert upstream.idle == 1


async def test_a_stream_closed_early_is_seen_closed_at_once(upstream: Upstream) -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED + chunk(b"a"))
        await asked.gone()

    async with peer(answer) as one:
        flow = await upstream.stream(one.call())
        assert await flow.read() == b"a"
        reading = asyncio.get_running_loop().create_task(flow.read())
        await asyncio.sleep(0)
        await flow.close()
        await until(one.closed)
        with pytest.raises(CutStream, match="closed here"):  # closed is not ended
            await reading
        assert not flow.ended and (upstream.open, upstream.aborted) == (0, 1)
        await flow.close()  # once more does nothing
        assert upstream.aborted == 1


async def test_a_stream_whose_content_is_complete_keeps_its_connection(upstream: Upstream) -> None:
    end = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED + chunk(b"data: [DONE]\n\n"))
        await end.wait()
        await asked.send(chunk(b"more") + b"0\r\n\r\n")

    async with peer(answer) as one:
        flow = await upstream.stream(one.call())
        await flow.read()
        flow.enough()
        await flow.close()
        assert (upstream.open, upstream.idle) == (1, 0)
        end.set()
        await eventually(lambda: upstream.idle)
        assert await rest(await upstream.stream(one.call())) == b"data: [DONE]\n\nmore"
        assert (upstream.created, upstream.reused, upstream.aborted) == (1, 1, 0)


async def test_the_end_of_a_message_is_not_waited_for_long(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.02)
    silent = True

    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED + chunk(b"a"))
        while not silent and not asked.writer.transport.is_closing():
            await asked.send(chunk(bytes(60_000)))
        await asked.gone()

    async with peer(answer) as one:
        for _ in range(2):
            one.closed.clear()
            flow = await upstream.stream(one.call())
            await flow.read()
            flow.enough()
            await flow.close()
            await until(one.closed)
            silent = False
            monkeypatch.setattr(connections, "LINGER_S", 60.0)
        assert (upstream.open, upstream.aborted) == (0, 2)


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_a_call_given_up_before_the_head_is_seen_closed_at_once(
    upstream: Upstream, streamed: bool, first: bytes
) -> None:
    asked_now = asyncio.Event()

    async def answer(asked: Asked) -> None:
        await asked.send(first)
        asked_now.set()
        await asked.gone()

    async with peer(answer) as one:
        send = upstream.stream if streamed else upstream.whole
        task = asyncio.get_running_loop().create_task(send(one.call()))
        await until(asked_now)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(one.closed)
        assert (upstream.open, upstream.aborted) == (0, 1)


@pytest.mark.parametrize("streamed", [False, True])
async def test_giving_up_as_the_answer_comes_leaks_nothing(upstream: Upstream, streamed: bool) -> None:
    """Cancelled after any number of turns of the loop: the connection is either kept whole or closed."""

    async def answer(asked: Asked) -> None:
        await asked.send(CHUNKED + chunk(b"a") + (b"0\r\n\r\n" if asked.n % 2 else b""))
        if not asked.n % 2:
            await asked.gone()

    async with peer(answer) as one:
        send = upstream.stream if streamed else upstream.whole
        for turns in range(60):
            task = asyncio.get_running_loop().create_task(send(one.call()))
            for _ in range(turns % 30):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                flow: Reply | OpenStream = task.result()
                if isinstance(flow, OpenStream):
                    await flow.close()
        await eventually(lambda: upstream.open == upstream.idle == one.open)
        assert upstream.open <= 1


async def mixed(asked: Asked) -> None:
    kind = asked.body
    if kind == b"plain":
        await asked.send(OK)
    elif kind == b"drop":
        asked.writer.close()
    elif kind == b"stall":
        await asked.gone()
    else:
        await asked.send(CHUNKED + b"".join(chunk(b"x" * 500) for _ in range(20)))
        if kind == b"endless":
            await asked.gone()
        await asked.send(b"0\r\n\r\n")


async def one_of_many(upstream: Upstream, one: Peer, i: int) -> None:
    kind = (b"plain", b"stream", b"drop", b"stall", b"endless", b"stream")[i % 6]
    call = one.call(kind)
    if kind == b"plain":
        assert (await upstream.whole(call)).body == b"ok"
    elif kind == b"drop":
        with pytest.raises(ServerError):
            await upstream.whole(call)
    elif kind == b"stall":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await upstream.whole(call)
    else:
        flow = await upstream.stream(call)
        assert await flow.read()
        if kind == b"stream":
            await rest(flow)
        await flow.close()


async def test_a_soak_of_mixed_calls_leaks_no_connection(upstream: Upstream) -> None:
    async with peer(mixed) as one:

        async def worker(first: int) -> None:
            for i in range(first, 600, 16):
                await one_of_many(upstream, one, i)

        await asyncio.gather(*(worker(i) for i in range(16)))
        await eventually(lambda: upstream.open == upstream.idle)
        assert upstream.open <= 16 and upstream.reused > 100
        await eventually(lambda: one.open == upstream.open)


# --- addresses and headers that cannot be used -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://127.0.0.1/x",
        "http://",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:1/with space",
        "http://127.0.0.1:1/ümlaut",
        "http://[::1/x",
        "http://" + "a" * 70 + ".example/",
    ],
)
async def test_an_unusable_address(upstream: Upstream, url: str) -> None:
    with pytest.raises(ConnectFailed, match="address is not usable") as caught:
        await upstream.whole(Call(url, [], b"", 1.0))
    assert "base_url" in caught.value.hint


@pytest.mark.parametrize("value", ["secret\r\nx: y", "secret\nx", "secret\0", "secret\r", "secretü"])
async def test_a_header_that_no_header_may_hold_is_not_sent_nor_shown(upstream: Upstream, value: str) -> None:
    async with peer() as one:
        with pytest.raises(ConnectFailed, match="header") as caught:
            await upstream.whole(one.call(headers=[("authorization", f"Bearer {value}")]))
        assert "secret" not in f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"
        assert not one.asked


# --- any way the bytes are cut ---------------------------------------------------------------------------------------


class Sink(asyncio.Transport):
    """Takes what is written, and closes on request."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = False
        self.written: list[object] = []

    def write(self, data: object) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Only:
    """A pool of one."""

    where = "test"

    def __init__(self) -> None:
        self.released = 0
        self.pace = Pace()

    def opened(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...
    def drop(self, connection: Connection, *, aborted: bool) -> None: ...
    def release(self, connection: Connection) -> None:  # noqa: ARG002
        self.released += 1


async def fed(parts: list[bytes], streamed: bool) -> tuple[int, bytes, bool]:
    """Status, body and whether the connection is kept, of an answer that arrives in these parts."""
    pool = Only()
    connection = Connection(pool)
    connection.connection_made(Sink())
    task = asyncio.get_running_loop().create_task(connection.ask((b"",), streamed=streamed))
    await asyncio.sleep(0)
    for i, part in enumerate(parts):
        if part:
            connection.data_received(part)
        if i % 2:
            await asyncio.sleep(0)
    answer = await task
    body = await rest(answer) if streamed else answer.body
    return answer.status, body, pool.released == 1


@pytest.mark.parametrize(("data", "body", "kept"), FRAMED, ids=range(len(FRAMED)))
async def test_an_answer_reads_the_same_wherever_it_is_split(data: bytes, body: bytes, kept: bool) -> None:
    for streamed in (False, True):
        whole = await fed([data], streamed)
        assert whole[1:] == (body, kept)
        for at in range(1, len(data)):
            assert await fed([data[:at], data[at:]], streamed) == whole
        assert await fed([data[i : i + 1] for i in range(len(data))], streamed) == whole


@given(
    st.lists(st.binary(max_size=300), max_size=6),
    st.lists(st.integers(0, 2500), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_any_body_in_any_pieces(pieces: list[bytes], cuts: list[int], streamed: bool, in_chunks: bool) -> None:
    body = b"".join(pieces)
    if in_chunks:
        data = CHUNKED + b"".join(chunk(p) for p in pieces if p) + b"0\r\n\r\n"
    else:
        data = HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    at = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    parts = [data[a:b] for a, b in itertools.pairwise(at)]
    assert asyncio.run(fed(parts, streamed)) == (200, body, True)


async def test_an_answer_that_comes_before_the_request_has_left_ends_the_connection() -> None:
    """Kept, the connection would bring the request's true answer to whoever asks next."""
    pool = Only()
    pool.pace.busy = True
    connection, sink = Connection(pool), Sink()
    connection.connection_made(sink)
    task = asyncio.get_running_loop().create_task(connection.ask((b"request",), streamed=False))
    await asyncio.sleep(0)
    connection.data_received(OK)
    assert (await task).body == b"ok"
    await asyncio.sleep(0)
    assert pool.released == 0 and sink.closing and not sink.written


async def test_requests_of_one_turn_leave_at_its_end_while_the_worker_is_busy() -> None:
    pool = Only()
    pool.pace.busy = True
    sinks = [Sink(), Sink()]
    tasks = []
    for sink in sinks:
        connection = Connection(pool)
        connection.connection_made(sink)
        tasks.append(asyncio.get_running_loop().create_task(connection.ask((b"request",), streamed=False)))
    await asyncio.sleep(0)
    assert [sink.written for sink in sinks] == [[], []]
    await asyncio.sleep(0)
    assert [sink.written for sink in sinks] == [[b"request"], [b"request"]]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(sink.closing for sink in sinks)
