"""One answer of the scripted provider on its way out, in any shape, with what its fault makes of it."""

import asyncio
import socket
import struct
from typing import Any

import msgspec

from pilothouse.providers.script import Player, Rule, last_user
from pilothouse.providers.shapes.shape import Counts, Said, Shape

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}
_encode = msgspec.json.encode


class ScriptedAnswer:
    """One answer. `asked`: the request's body in chat's words."""

    def __init__(
        self, shape: Shape, player: Player, asked: dict[str, Any], serial: int, writer: asyncio.StreamWriter
    ) -> None:
        self._shape = shape
        self._player = player
        self._rule = rule = player.choose(asked)
        self._writer = writer
        self._streams = bool(asked.get("stream"))
        text = player.text(rule, asked)
        model = rule.served_model or player.script.model or str(asked.get("model", ""))
        self._said = Said(rule, asked, serial, model, text, _counts(rule, asked, text))

    async def play(self) -> None:
        """Send it, or what its fault makes of it."""
        rule = self._rule
        if rule.fault == "drop":
            self._writer.close()
            raise ConnectionAbortedError
        if rule.fault == "stall_head":
            await asyncio.Event().wait()
        await asyncio.sleep(self._player.seconds(rule.latency))
        refused = rule.refuse is not None and rule.fault != "error_event" and self._shape.failure(rule).status != 200
        if rule.status != 200 or refused or rule.fault == "error_body":
            self._refuse()
        elif self._streams:
            await self._stream()
        else:
            await self._whole()
        await self._writer.drain()

    def _refuse(self) -> None:
        failure = self._shape.failure(self._rule)
        if self._rule.status != 200:
            status = self._rule.status
        else:
            status = 200 if self._rule.fault == "error_body" else failure.status
        json_answer(self._writer, status, failure.body, failure.headers | self._headers())

    def _headers(self) -> dict[str, str]:
        headers = dict(self._rule.headers)
        if self._rule.retry_after is not None:
            after = self._rule.retry_after
            headers["retry-after"] = after if isinstance(after, str) else f"{after:g}"
        return headers

    async def _whole(self) -> None:
        fault = self._rule.fault
        data = _encode(self._shape.whole(self._said))
        if fault in ("malformed", "garbage"):
            data = data[: len(data) // 2] + b"}}garbage"
        head = {"content-type": "application/json", "content-length": str(len(data))}
        _start(self._writer, 200, head | self._headers())
        if fault in ("stall", "stall_mid", "cut", "cut_before", "reset"):
            await self._break(data[: len(data) // 2] if fault not in ("stall", "cut_before") else b"")
        self._writer.write(data)

    async def _stream(self) -> None:
        rule, writer = self._rule, self._writer
        head = {"content-type": self._shape.stream_type, "transfer-encoding": "chunked"}
        _start(writer, 200, head | self._headers())
        if rule.fault in ("stall", "cut_before"):
            await self._break(b"")
        events = self._shape.events(self._said)
        half = len(events) // 2
        await asyncio.sleep(self._player.seconds(rule.first_token))
        for i, event in enumerate(events):
            if i == half and rule.fault in ("stall_mid", "cut", "reset"):
                await self._break(b"")
            if i == half and rule.fault in ("garbage", "malformed"):
                _chunk(writer, self._shape.garbage())
            if i == half and rule.fault == "error_event":
                _chunk(writer, self._shape.error_event(rule))
            _chunk(writer, event)
            await writer.drain()
            if delay := self._player.seconds(rule.chunk_delay):
                await asyncio.sleep(delay)
        writer.write(b"0\r\n\r\n")

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


def _counts(rule: Rule, asked: dict[str, Any], text: str) -> Counts | None:
    """What the rule says was counted; about four characters a token where it does not say."""
    usage = rule.usage
    if usage == "none":
        return None
    if usage is None:
        return Counts(len(last_user(asked.get("messages") or [])) // 4 + 4, len(text) // 4 + 1)
    return Counts(usage.prompt, usage.completion, usage.cached, usage.reasoning, usage.cache_write)


def _start(writer: asyncio.StreamWriter, status: int, headers: dict[str, str]) -> None:
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    writer.write(f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n{lines}\r\n".encode("latin-1"))


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def json_answer(writer: asyncio.StreamWriter, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
    """A whole JSON answer."""
    data = _encode(value)
    _start(writer, status, {"content-type": "application/json", "content-length": str(len(data))} | (headers or {}))
    writer.write(data)
