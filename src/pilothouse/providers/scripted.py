"""`python -m pilothouse.providers.scripted --port P --script FILE`: the public fake, on real sockets.

Answers `POST /v1/chat/completions` as its script says (providers/script.py), faults included. For tests and drills:
`GET /_received` lists what came in (bodies in base64, byte for byte), `DELETE /_received` forgets it,
`POST /_script` replaces the script and starts its counts anew.
"""

import argparse
import asyncio
import base64
import contextlib
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.tasks import Tasks
from pilothouse.providers.script import Player, Rule, Script, last_user, load

log = structlog.get_logger("pilothouse.scripted")
KEPT = 10_000  # requests that /_received remembers
BODY_MAX = 64 << 20
CREATED = 1_750_000_000
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
_encode = msgspec.json.encode


class Received(msgspec.Struct):
    """A request that came in."""

    path: str
    headers: dict[str, str]
    body_b64: str
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
        if asked.method == "POST" and path.endswith("/chat/completions"):
            await self._chat(asked, wire, writer)
        elif path == "/_script" and asked.method == "POST":
            try:
                self.play(load(asked.body, "/_script"))
                _json(writer, 200, {"rules": len(self.player.script.rules)})
            except ConfigError as error:
                _json(writer, 400, {"error": {"message": str(error)}})
        elif path == "/_received":
            if asked.method == "DELETE":
                self.received.clear()
            _json(writer, 200, self.received)
        elif path in ("/health", "/healthz", "/_health"):
            _json(writer, 200, {"status": "ok"})
        elif path.endswith("/models"):
            _json(writer, 200, {"object": "list", "data": [{"id": self.player.script.model or "scripted"}]})
        else:
            _json(writer, 404, {"error": {"message": f"no such path: {path}"}})
        await writer.drain()

    async def _chat(self, asked: Asked, wire: _Wire, writer: asyncio.StreamWriter) -> None:
        kept = Received(asked.path, asked.headers, base64.b64encode(asked.body).decode())
        if len(self.received) < KEPT:
            self.received.append(kept)
        try:
            body = msgspec.json.decode(asked.body, type=dict[str, Any])
        except (msgspec.DecodeError, msgspec.ValidationError):
            _json(writer, 400, {"error": {"message": "the body is not a JSON object", "type": "invalid_request_error"}})
            return
        rule = self.player.choose(body)
        self._serial += 1
        answer = _Answer(rule, self.player, body, f"chatcmpl-{self._serial}", writer)
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


class _Answer:
    """One answer on its way out."""

    def __init__(
        self, rule: Rule, player: Player, body: dict[str, Any], name: str, writer: asyncio.StreamWriter
    ) -> None:
        self._rule = rule
        self._player = player
        self._body = body
        self._writer = writer
        self._text = player.text(rule, body)
        self._head = {
            "id": name,
            "created": CREATED,
            "model": rule.served_model or player.script.model or str(body.get("model", "")),
            "system_fingerprint": rule.fingerprint,
        }

    async def play(self) -> None:
        """Send it, or what its fault makes of it."""
        rule = self._rule
        if rule.fault == "drop":
            self._writer.close()
            raise ConnectionAbortedError
        if rule.fault == "stall_head":
            await asyncio.Event().wait()
        await asyncio.sleep(self._player.seconds(rule.latency))
        if rule.status != 200:
            _json(self._writer, rule.status, {"error": {"message": rule.error, "type": "scripted"}}, self._headers())
        elif self._body.get("stream"):
            await self._stream()
        else:
            await self._whole()
        await self._writer.drain()

    def _headers(self) -> dict[str, str]:
        headers = dict(self._rule.headers)
        if self._rule.retry_after is not None:
            after = self._rule.retry_after
            headers["retry-after"] = after if isinstance(after, str) else f"{after:g}"
        return headers

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text or None}
        if self._rule.tool_calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{i}",
                    "type": "function",
                    "function": {"name": c.name, "arguments": _encode(c.arguments).decode()},
                }
                for i, c in enumerate(self._rule.tool_calls)
            ]
        return message

    def _finish(self) -> str:
        return self._rule.finish_reason or ("tool_calls" if self._rule.tool_calls else "stop")

    def _usage(self) -> dict[str, Any] | None:
        rule = self._rule.usage
        if rule == "none":
            return None
        if rule is None:
            asked = last_user(self._body.get("messages") or [])
            prompt, completion, cached, reasoning = len(asked) // 4 + 4, len(self._text) // 4 + 1, 0, 0
        else:
            prompt, completion, cached, reasoning = rule.prompt, rule.completion, rule.cached, rule.reasoning
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    async def _whole(self) -> None:
        rule = self._rule
        choice: dict[str, Any] = {"index": 0, "message": self._message(), "finish_reason": self._finish()}
        if rule.fault == "no_finish":
            choice["finish_reason"] = None
        answer = self._head | {"object": "chat.completion", "choices": [choice]}
        if (usage := self._usage()) is not None:
            answer["usage"] = usage
        data = _encode(answer)
        if rule.fault in ("malformed", "garbage"):
            data = data[: len(data) // 2] + b"}}garbage"
        _start(
            self._writer, 200, {"content-type": "application/json", "content-length": str(len(data))} | self._headers()
        )
        if rule.fault in ("stall", "stall_mid", "cut", "cut_before", "reset"):
            await self._break(data[: len(data) // 2] if rule.fault not in ("stall", "cut_before") else b"")
        self._writer.write(data)

    async def _stream(self) -> None:
        rule, writer = self._rule, self._writer
        head = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        _start(writer, 200, head | self._headers())
        if rule.fault in ("stall", "cut_before"):
            await self._break(b"")
        events = self._events()
        half = len(events) // 2
        await asyncio.sleep(self._player.seconds(rule.first_token))
        for i, event in enumerate(events):
            if i == half and rule.fault in ("stall_mid", "cut", "reset"):
                await self._break(b"")
            if i == half and rule.fault in ("garbage", "malformed"):
                _chunk(writer, b"data: {not json]\n\n")
            if i == half and rule.fault == "error_event":
                _chunk(writer, b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n')
            _chunk(writer, event)
            await writer.drain()
            if delay := self._player.seconds(rule.chunk_delay):
                await asyncio.sleep(delay)
        writer.write(b"0\r\n\r\n")

    def _events(self) -> list[bytes]:
        rule = self._rule
        head = self._head | {"object": "chat.completion.chunk"}

        def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return b"data: " + _encode(head | {"choices": [choice]}) + b"\n\n"

        size = max(rule.chunk_size, 1)
        out = [event({"role": "assistant", "content": ""})]
        out += [event({"content": self._text[i : i + size]}) for i in range(0, len(self._text), size)]
        for i, call in enumerate(self._message().get("tool_calls", [])):
            whole = call["function"]["arguments"]
            function = {"name": call["function"]["name"], "arguments": ""}
            out.append(
                event({"tool_calls": [{"index": i, "id": call["id"], "type": "function", "function": function}]})
            )
            for at in range(0, len(whole), size):
                out.append(event({"tool_calls": [{"index": i, "function": {"arguments": whole[at : at + size]}}]}))
        if rule.fault != "no_finish":
            out.append(event({}, self._finish()))
        options = self._body.get("stream_options") or {}
        if options.get("include_usage") and (usage := self._usage()) is not None:
            out.append(b"data: " + _encode(head | {"choices": [], "usage": usage}) + b"\n\n")
        if rule.fault != "no_done":
            out.append(b"data: [DONE]\n\n")
        return out

    async def _break(self, first: bytes) -> None:
        """Send `first`, then go silent or close, as the fault says."""
        if first:
            self._writer.write(first)
        await self._writer.drain()
        fault = self._rule.fault
        if fault in ("stall", "stall_mid"):
            await asyncio.Event().wait()
        if fault == "reset":
            raw = self._writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            self._writer.close()
        raise ConnectionAbortedError


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


def _start(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    writer.write(f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n{lines}\r\n".encode("latin-1"))


def _json(writer: asyncio.StreamWriter, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
    data = _encode(value)
    _start(writer, status, {"content-type": "application/json", "content-length": str(len(data))} | (headers or {}))
    writer.write(data)


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


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
