"""The HTTP server under test with handlers that tell what they were asked, and a client that sees every byte."""

import asyncio
import contextlib
import hashlib
import json
from typing import Any

from pilothouse.gateway.types import Client
from pilothouse.server.http import HttpServer
from pilothouse.server.http_head import Request
from pilothouse.server.http_limits import Limits

QUICK = Limits(head_s=0.3, body_s=0.3, idle_s=0.3, write_s=0.5, linger_s=0.3, sweep_s=0.05)


class Served:
    """What the handlers saw."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []  # method, path with query, body
        self.cancelled = 0
        self.sent = 0
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()

    async def handler(self, request: Request, client: Client) -> None:
        target = request.path + (f"?{request.query}" if request.query else "")
        self.requests.append((request.method, target, request.body))
        if request.refused is not None:
            client.whole(413, [], b"too large")
            return
        await getattr(self, request.path.strip("/") or "echo", self.echo)(request, client)

    async def echo(self, request: Request, client: Client) -> None:
        said = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "size": len(request.body),
            "sha": hashlib.sha256(request.body).hexdigest(),
            "headers": request.headers,
        }
        client.whole(200, [("content-type", "application/json")], json.dumps(said).encode())

    async def stream(self, request: Request, client: Client) -> None:
        client.begin(200, [("content-type", "text/event-stream")])
        for i in range(int(request.query or 3)):
            await client.send(b"data: %d\n\n" % i)
            await client.send(b"")
            await asyncio.sleep(0)

    async def hold(self, request: Request, client: Client) -> None:
        """A stream that says one thing, then waits."""
        client.begin(200, [])
        await client.send(b"one")
        await self.wait(request, client, answer=False)

    async def wait(self, _request: Request, client: Client, answer: bool = True) -> None:
        self.waiting.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if answer:
            client.whole(200, [], b"went")

    async def flood(self, request: Request, client: Client) -> None:
        client.begin(200, [])
        try:
            for _ in range(int(request.query)):
                await client.send(b"x" * 65_000)
                self.sent += 65_000
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def big(self, request: Request, client: Client) -> None:
        client.whole(200, [], b"y" * int(request.query))

    async def empty(self, _request: Request, client: Client) -> None:
        client.whole(204, [], b"")

    async def fail(self, _request: Request, _client: Client) -> None:
        raise KeyError("a bug")

    async def fail_late(self, _request: Request, client: Client) -> None:
        client.begin(200, [])
        await client.send(b"half")
        await asyncio.sleep(0)
        raise KeyError("a bug")

    async def silent(self, _request: Request, _client: Client) -> None:
        return

    async def split(self, request: Request, client: Client) -> None:
        evil = {"crlf": "a\r\nset-cookie: b", "lf": "a\nb", "cr": "a\rb", "nul": "a\0b"}[request.query]
        client.whole(200, [("x-said", evil)], b"ok")

    async def framed(self, _request: Request, client: Client) -> None:
        ours = [("Content-Length", "1"), ("transfer-encoding", "chunked"), ("Connection", "x"), ("x-kept", "1")]
        client.whole(200, ours, b"four")


async def served(limits: Limits = QUICK) -> tuple[Served, HttpServer]:
    seen = Served()
    server = HttpServer(seen.handler, limits)
    await server.start("127.0.0.1", 0)
    return seen, server


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, server: HttpServer) -> "Wire":
        return cls(*await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 20))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(self, method: str, target: str, body: bytes = b"", *headers: str) -> None:
        lines = [f"{method} {target} HTTP/1.1", "host: x", *headers]
        if body:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(5):
            lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/1.1 ")
        return int(lines[0].split(" ")[1]), dict(line.split(": ", 1) for line in lines[1:])

    async def answer(self, head_only: bool = False) -> Answer:
        status, headers = await self.head()
        async with asyncio.timeout(5):
            body = b"" if head_only else await self._body(headers)
        return Answer(status, headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            out = b""
            while size := int(await self.reader.readline(), 16):
                out += (await self.reader.readexactly(size + 2))[:-2]
            assert await self.reader.readline() == b"\r\n"
            return out
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()

    async def ended(self) -> bytes:
        """What still comes until the server closes the connection."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await self.writer.wait_closed()
