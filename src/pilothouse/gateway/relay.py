"""The rest of a stream: each chunk goes on as it came, as soon as its events are whole, except the very last.

The end is held back until the record is written. A stream that breaks off, stalls or turns to garbage raises, so
that the client gets an explicit error event and never a [DONE].
"""

import asyncio
import contextlib

from pilothouse.domain.errors import UpstreamError, UpstreamTimeout
from pilothouse.gateway.types import Send
from pilothouse.providers.form import Form
from pilothouse.providers.openai import Completion
from pilothouse.providers.wire import Flow


class Relay:
    """One stream on its way through. `idle_s` bounds each silence, `deadline` (event loop's clock) all of it."""

    def __init__(self, flow: Flow, form: Form, idle_s: float, deadline: float, *, strip_usage: bool) -> None:
        self._flow = flow
        self._form = form
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
        while not self._form.ends(block):
            if block and (visible := self._visible(block)):
                self._since = None  # a slow client is not a silent provider
                await send(visible)
            self._since = now()
            data = await self._flow.read()
            if data is None:
                return b""
            block = self._take(data)
        self._flow.enough()
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
        assembly = self._form.assembly()
        with contextlib.suppress(UpstreamError):
            assembly.add(b"".join(self._blocks))
        return assembly.completion()

    def _take(self, data: bytes) -> bytes:
        """The whole events that are there now."""
        if self._rest:
            data = self._rest + data
        end = self._form.whole(data)
        block, self._rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        if block:
            self._blocks.append(block)
        return block

    def _visible(self, block: bytes) -> bytes:
        """What of `block` the client asked for: without the usage event that only we wanted."""
        return self._form.without_usage(block) if self._strip else block

    def _end(self, block: bytes) -> tuple[Completion, bytes]:
        if self._rest and not self._form.ends(block):
            block = self._take(b"\n\n")  # a provider that leaves out the last blank line has still said its piece
        assembly = self._form.assembly()
        assembly.add(b"".join(self._blocks))
        completion = assembly.finished()
        tail = self._visible(block)
        done = self._form.done
        return completion, tail if not done or tail.rstrip().endswith(done.strip()) else tail + done

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
