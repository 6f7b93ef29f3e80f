"""`python -m bench.upstream`: what one upstream call costs in CPU, with our client and with pyreqwest, on uvloop."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import uvloop
from pyreqwest.client import ClientBuilder

from bench import load
from pilothouse.providers.upstream import Call, Upstream

PLAIN = b'{"model":"m","messages":[{"role":"user","content":"Say hello in one sentence, please."}]}'
STREAM = PLAIN[:-1] + b',"stream":true}'
HEADERS = [
    ("content-type", "application/json"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("authorization", "Bearer sk-0123456789abcdef0123456789abcdef"),
]
KEPT = ("retry-after", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "content-type")
One = Callable[[], Awaitable[None]]


async def ours(url: str) -> tuple[One, One, One, Callable[[], Awaitable[None]]]:
    upstream = Upstream()
    plain, stream = (Call(url, HEADERS, body, 1.0) for body in (PLAIN, STREAM))

    async def whole() -> None:
        assert (await upstream.whole(plain)).status == 200

    async def streamed() -> None:
        flow = await upstream.stream(stream)
        last = b""
        while (data := await flow.read()) is not None:
            last = data
        assert b"[DONE]" in last
        await flow.close()

    async def listened() -> None:
        flow = await upstream.stream(stream)
        done = asyncio.get_running_loop().create_future()
        last = b""

        def changed() -> None:
            nonlocal last
            last = flow.take() or last
            if flow.ended:
                done.set_result(None)

        flow.listen(changed)
        changed()
        await done
        assert b"[DONE]" in last
        await flow.close()

    return whole, streamed, listened, upstream.close


async def pyreqwest(url: str) -> tuple[One, One, None, Callable[[], Awaitable[None]]]:
    client = ClientBuilder().connect_timeout(timedelta(seconds=1)).follow_redirects(False).build()

    async def whole() -> None:
        response = (
            await client.post(url).timeout(timedelta(seconds=30)).headers(HEADERS).body_bytes(PLAIN).build().send()
        )
        [response.get_header(name) for name in KEPT]
        assert (await response.bytes()).to_bytes() and response.status == 200

    async def streamed() -> None:
        builder = client.post(url).timeout(timedelta(seconds=30)).headers(HEADERS).body_bytes(STREAM)
        request = builder.streamed_read_buffer_limit(0).build_streamed()
        response = await request.__aenter__()
        [response.get_header(name) for name in KEPT]
        last = b""
        while (chunk := await response.body_reader.read_chunk()) is not None:
            last = chunk.to_bytes()
        assert b"[DONE]" in last
        await request.__aexit__(None, None, None)

    return whole, streamed, None, client.close


async def measure(one: One, connections: int, calls: int) -> tuple[float, float]:
    """CPU ms per call (user and system, all threads of this process) and calls per second."""
    left = calls

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await one()

    await asyncio.gather(*(one() for _ in range(connections)))  # connect
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return (time.process_time() - cpu) * 1e3 / calls, calls / (time.perf_counter() - began)


async def table(urls: dict[str, str], calls: int) -> None:
    print(f"{'client':10} {'work':12} {'C':>3} {'CPU ms':>8} {'calls/s':>9}")
    for connections in (1, 8, 32):
        for work, url in urls.items():
            for name, make in (("pyreqwest", pyreqwest), ("ours", ours)):
                whole, streamed, listened, close = await make(url)
                kinds = {"plain": [("", whole)]}.get(work, [("", streamed), ("/listen", listened)])
                for suffix, one in kinds:
                    if one is None:
                        continue
                    n = {"plain": calls, "burst": calls // 4}.get(work, 60 * connections)
                    runs = sorted([await measure(one, connections, n) for _ in range(3)])
                    cpu, rate = runs[1]
                    print(f"{name:10} {work + suffix:12} {connections:3} {cpu:8.4f} {rate:9,.0f}", flush=True)
                await close()


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    path = "/v1/chat/completions"
    with load.mock() as burst, load.mock(gap_ms=1) as paced:
        urls = {"plain": burst + path, "burst": burst + path, "paced": paced + path}
        uvloop.run(table(urls, calls))


if __name__ == "__main__":
    main()
