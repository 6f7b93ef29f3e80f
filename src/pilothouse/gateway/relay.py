"""The rest of a stream: each chunk goes on as it came, as soon as its events are whole, except the very last.

The end is held back until the record is written. A stream that breaks off, stalls or turns to garbage raises, so
that the client gets an explicit error event and never a [DONE]; what is unreadable does not go on at all.
"""

import asyncio

from pilothouse.domain.errors import UpstreamTimeout
from pilothouse.gateway.deadline import Alarm
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
        self._assembly = form.assembly()
        self._rest = b""  # the beginning of an event whose end has not come
        self._since: float | None = None  # since when the provider is waited for
        self._timer: asyncio.TimerHandle

    async def run(self, send: Send) -> tuple[Completion, bytes]:
        """Pass everything on with `send` but the end, which is returned with the completion that went by."""
        data, self._flow.held = self._flow.held, b""
        try:
            loop = asyncio.get_running_loop()
            with Alarm(self._deadline, loop) as alarm:
                self._timer = loop.call_later(self._idle_s, self._look, alarm)
                try:
                    block = await self._pass_on(data, send)
                finally:
                    self._timer.cancel()
        except TimeoutError as error:
            raise self._stalled() from error
        return self._end(block)

    async def _pass_on(self, data: bytes | None, send: Send) -> bytes:
        """Everything up to the block that ends the stream, which is returned."""
        flow, form, now = self._flow, self._form, asyncio.get_running_loop().time
        add, ends, read = self._assembly.add, form.ends, flow.read
        while data is not None:
            block = self._take(data)
            if block:
                add(block)
                if ends(block):
                    flow.enough()
                    return block
                visible = form.without_usage(block) if self._strip else block
                if visible:
                    self._since = None  # a slow client is not a silent provider
                    await send(visible)
            self._since = now()
            data = await read()
        return b""

    def _look(self, alarm: Alarm) -> None:
        """Is the provider silent for too long? One timer looks now and then: setting one per chunk costs more."""
        loop = asyncio.get_running_loop()
        quiet = loop.time() - self._since if self._since is not None else 0.0
        if quiet >= self._idle_s:
            alarm.ring()
        else:
            self._timer = loop.call_later(self._idle_s - quiet, self._look, alarm)

    def so_far(self) -> Completion:
        """What has gone by when the stream broke."""
        return self._assembly.completion()

    def _take(self, data: bytes) -> bytes:
        """The whole events that are there now."""
        if self._rest:
            data = self._rest + data
        end = self._form.whole(data)
        if end == len(data):
            self._rest = b""
            return data
        self._rest = data[end:]
        return data[:end]

    def _end(self, block: bytes) -> tuple[Completion, bytes]:
        if self._rest and not self._form.ends(block):
            block = self._take(b"\n\n")  # a provider that leaves out the last blank line has still said its piece
            self._assembly.add(block)
        completion = self._assembly.finished()
        tail = self._form.without_usage(block) if self._strip else block
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
