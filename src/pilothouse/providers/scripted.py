"""`python -m pilothouse.providers.scripted --port P --script FILE`: the public fake, on real sockets.

Answers as its script says (providers/script.py), faults included, in the dialect of the path: OpenAI's chat,
responses, completions, embeddings and moderations, Anthropic's messages, Gemini's generateContent, Bedrock's Converse,
and anything else under `/v1`. For tests and drills: `GET /_received` lists what came in (bodies in base64, byte for
byte), `DELETE /_received` forgets it, `POST /_script` replaces the script and starts its counts anew.
"""

import argparse
import asyncio
import base64
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.tasks import Tasks
from pilothouse.providers.script import Player, Script, load
from pilothouse.providers.scripted_answer import ScriptedAnswer, json_answer
from pilothouse.providers.shapes.bedrock import Converse
from pilothouse.providers.shapes.chat import Chat, Completions, Echo, Embeddings, Moderations
from pilothouse.providers.shapes.gemini import Gemini, GeminiCount
from pilothouse.providers.shapes.messages import CountTokens, Messages
from pilothouse.providers.shapes.responses import Responses
from pilothouse.providers.shapes.shape import CREATED, Shape

log = structlog.get_logger("pilothouse.scripted")
KEPT = 10_000  # requests that /_received remembers
BODY_MAX = 64 << 20
_ECHO = Echo()
_SHAPES: dict[str, Shape] = {
    "/chat/completions": Chat(),
    "/completions": Completions(),
    "/messages": Messages(),
    "/messages/count_tokens": CountTokens(),
    "/responses": Responses(),
    "/embeddings": Embeddings(),
    "/moderations": Moderations(),
    ":generateContent": Gemini(),
    ":streamGenerateContent": Gemini(),
    ":countTokens": GeminiCount(),
    "/converse": Converse(),
    "/converse-stream": Converse(),
}


class Received(msgspec.Struct):
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body_b64: str
    method: str = "POST"
    closed: bool = False  # the caller closed the connection before the answer was complete


class Asked(msgspec.Struct):
    """One HTTP request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Wire(asyncio.StreamReaderProtocol):
    """One connection, which says when its other side has closed."""

    def __init__(self, serve: Callable[["_Wire", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.gone = asyncio.Event()
        reader = asyncio.StreamReader(limit=1 << 20)
        super().__init__(reader, lambda r, w: serve(self, r, w))

    def eof_received(self) -> bool | None:
        """The other side sends nothing more."""
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self.gone.set()
        super().connection_lost(exc)


class ScriptedProvider:
    """The server. `start` binds, `close` ends it; `received` and `play` are what its `/_…` paths show."""

    def __init__(self, script: Script | None = None) -> None:
        self.received: list[Received] = []
        self.player = Player(script or Script())
        self.port = 0
        self._tasks = Tasks()
        self._server: asyncio.Server | None = None
        self._serial = 0

    def play(self, script: Script) -> None:
        """Another script, its counts at zero."""
        self.player = Player(script)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `port` 0 chooses a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Wire(self._serve), host, port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        await self._tasks.drain(0.0)
        await asyncio.sleep(0)  # the transports closed just now say so to their protocols

    async def _serve(self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Held by Tasks, so that `close` can end a stalled answer.
        await asyncio.wait({self._tasks.spawn(self._connection(wire, reader, writer))})

    async def _connection(self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while (asked := await _read(reader)) is not None:
                    await self._answer(asked, wire, writer)
        finally:
            writer.close()

    async def _answer(self, asked: Asked, wire: _Wire, writer: asyncio.StreamWriter) -> None:
        path = asked.path.partition("?")[0]
        if path == "/_script" and asked.method == "POST":
            try:
                self.play(load(asked.body, "/_script"))
                json_answer(writer, 200, {"rules": len(self.player.script.rules)})
            except ConfigError as error:
                json_answer(writer, 400, {"error": {"message": str(error)}})
        elif path == "/_received":
            if asked.method == "DELETE":
                self.received.clear()
            json_answer(writer, 200, self.received)
        elif path in ("/health", "/healthz", "/_health"):
            json_answer(writer, 200, {"status": "ok"})
        elif path.endswith("/models") and asked.method == "GET":
            models = [{"id": self.player.script.model or "scripted", "object": "model", "created": CREATED}]
            json_answer(writer, 200, {"object": "list", "data": models})
        elif (shape := _shape(asked.method, path)) is not None:
            await self._play(asked, shape, wire, writer)
        else:
            json_answer(writer, 404, {"error": {"message": f"no such path: {path}"}})
        await writer.drain()

    async def _play(self, asked: Asked, shape: Shape, wire: _Wire, writer: asyncio.StreamWriter) -> None:
        kept = Received(asked.path, asked.headers, base64.b64encode(asked.body).decode(), method=asked.method)
        if len(self.received) < KEPT:
            self.received.append(kept)
        try:
            body = msgspec.json.decode(asked.body, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError):
            if not isinstance(shape, Echo):
                said = {"message": "the body is not a JSON object", "type": "invalid_request_error"}
                json_answer(writer, 400, {"error": said})
                return
            body = {}
        self._serial += 1
        answer = ScriptedAnswer(
            shape, self.player, shape.asked(body, asked.path.partition("?")[0]), self._serial, writer
        )
        main = self._tasks.spawn(answer.play())
        gone = self._tasks.spawn(wire.gone.wait())
        try:
            await asyncio.wait((main, gone), return_when=asyncio.FIRST_COMPLETED)
            kept.closed = not main.done()
            if kept.closed:
                raise ConnectionAbortedError
            main.result()
        finally:
            main.cancel()
            gone.cancel()


def _shape(method: str, path: str) -> Shape | None:
    """The dialect that a path is asked in."""
    if method == "POST":
        for end, shape in _SHAPES.items():
            if path.endswith(end):
                return shape
    return _ECHO if path.startswith("/v1/") else None


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    """The next request of a connection; None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b"".join([part async for part in _chunks(reader)])
    else:
        body = await reader.readexactly(min(int(headers.get("content-length", "0")), BODY_MAX))
    return Asked(method, path, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).strip() or b"0", 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")


async def serve(port: int, script: Script, host: str = "127.0.0.1", ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    provider = ScriptedProvider(script)
    await provider.start(host, port)
    log.info("scripted provider ready", port=provider.port, rules=len(script.rules))
    if ready is not None:
        ready(provider.port)
    await stop.wait()
    await provider.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="pilothouse.providers.scripted", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--script", type=Path)
    args = parser.parse_args()
    script = load(args.script.read_bytes(), str(args.script)) if args.script else Script()
    uvloop.run(serve(args.port, script, args.host))


if __name__ == "__main__":
    main()
