"""The rest of a stream: each chunk goes on as it came, as soon as its events are whole, except the very last.

The end is held back until the record is written. A stream that breaks off, stalls or turns to garbage raises, so
that the client gets an explicit error event and never a [DONE].
"""

import asyncio
import contextlib
from typing import Any

import msgspec

from pilothouse.domain.errors import UpstreamError, UpstreamTimeout
from pilothouse.gateway.types import Send
from pilothouse.providers.openai import DONE, Assembly, Completion, events, whole_events
from pilothouse.providers.upstream import OpenStream

_decode = msgspec.json.Decoder().decode


class Relay:
    """One stream on its way through. `idle_s` bounds each silence, `deadline` (event loop's clock) all of it."""

    def __init__(self, flow: OpenStream, idle_s: float, deadline: float, *, strip_usage: bool) -> None:
        self._flow = flow
        self._idle_s = idle_s
        self._deadline = deadline
        self._strip = strip_usage
        self._blocks: list[bytes] = []  # whole events seen so far, for the record
        self._rest = b""  # the beginning of an event whose end has not come
        self._since: float | None = None  # since when the provider is waited for
        self._timer: asyncio.TimerHandle

    async def run(self, send: Send) -> tuple[Completion, bytes]:
        """Pass everything on with `send` but the end, which is returned with the completion that went by."""
        block = self._take(self._flow.held)
        self._flow.held = b""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(self._deadline) as limit:
                self._timer = loop.call_later(self._idle_s, self._look, limit)
                try:
                    block = await self._pass_on(block, send)
                finally:
                    self._timer.cancel()
        except TimeoutError as error:
            raise self._stalled() from error
        return self._end(block)

    async def _pass_on(self, block: bytes, send: Send) -> bytes:
        """Everything up to the block that ends the stream, which is returned."""
        now = asyncio.get_running_loop().time
        while not _ends(block):
            if block and (visible := self._visible(block)):
                self._since = None  # a slow client is not a silent provider
                await send(visible)
            self._since = now()
            data = await self._flow.read()
            if data is None:
                return b""
            block = self._take(data)
        return block

    def _look(self, limit: asyncio.Timeout) -> None:
        """Is the provider silent for too long? One timer looks now and then: setting one per chunk costs more."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        quiet = now - self._since if self._since is not None else 0.0
        if quiet >= self._idle_s:
            limit.reschedule(now)
        else:
            self._timer = loop.call_later(self._idle_s - quiet, self._look, limit)

    def so_far(self) -> Completion:
        """What has gone by when the stream broke; unreadable events are left out."""
        assembly = Assembly()
        with contextlib.suppress(UpstreamError):
            assembly.add(b"".join(self._blocks))
        return assembly.completion()

    def _take(self, data: bytes) -> bytes:
        """The whole events that are there now."""
        if self._rest:
            data = self._rest + data
        end = whole_events(data)
        block, self._rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        if block:
            self._blocks.append(block)
        return block

    def _visible(self, block: bytes) -> bytes:
        """What of `block` the client asked for: without the usage chunk that only we wanted."""
        if not self._strip or b'"usage"' not in block or not (b'"choices":[]' in block or b'"choices": []' in block):
            return block
        kept = [data for data in events(block) if not _only_usage(data)]
        return b"".join(b"data: " + data + b"\n\n" for data in kept)

    def _end(self, block: bytes) -> tuple[Completion, bytes]:
        if self._rest and not _ends(block):
            block = self._take(b"\n\n")  # a provider that leaves out the last blank line has still said its piece
        assembly = Assembly()
        assembly.add(b"".join(self._blocks))
        completion = assembly.finished()
        tail = self._visible(block)
        return completion, tail if tail.rstrip().endswith(b"[DONE]") else tail + DONE

    def _stalled(self) -> UpstreamTimeout:
        total = asyncio.get_running_loop().time() >= self._deadline
        which = "total" if total else "idle"
        return UpstreamTimeout(
            "the stream was not complete when its time was up"
            if total
            else f"the stream stalled for {self._idle_s:g} s",
            where=f"policy.timeout.{which}",
            hint="the text so far is incomplete: ask again",
            code=f"timeout_{which}",
        )


def _ends(block: bytes) -> bool:
    return b"[DONE]" in block and any(data == b"[DONE]" for data in events(block))


def _only_usage(data: bytes) -> bool:
    if b'"usage"' not in data:
        return False
    try:
        value: Any = _decode(data)
    except msgspec.DecodeError:
        return False
    return isinstance(value, dict) and not value.get("choices") and bool(value.get("usage"))
