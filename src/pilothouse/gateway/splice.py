"""A stream that goes on elsewhere when it breaks off: several providers' chunks, to the client one well-formed stream.

Every event is read before it goes on, so that nothing unreadable does. The first provider's chunks go on as they came;
those of the next get the first one's id, model and time of creation, no second role, and usage that is the sum.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pilothouse.domain.errors import CutStream, UpstreamError, UpstreamTimeout
from pilothouse.domain.record import Tokens
from pilothouse.gateway.deadline import Alarm
from pilothouse.gateway.steps import with_messages
from pilothouse.gateway.types import Rendered
from pilothouse.providers.openai import DONE, Assembly, events, read_chunk, text_of, whole_events
from pilothouse.providers.wire import Flow

# Not every model can be given the beginning of its own answer; every model can be told to go on.
GO_ON = (
    "Your answer above was cut off by a technical failure. Continue it exactly where it stops, in the same language "
    "and format. Write only what follows: repeat nothing, explain nothing, do not apologise."
)
_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def can_go_on(rendered: Rendered) -> bool:
    """Whether a stream of this request can be continued: it is chat, with one alternative."""
    return rendered.form == "chat" and _decode(rendered.upstream("")).get("n") in (None, 1)


def continued(rendered: Rendered, text: str) -> Rendered | None:
    """The request for the rest of an answer that begins with `text`."""
    if not text:
        return rendered
    more = [{"role": "assistant", "content": text}, {"role": "user", "content": GO_ON}]
    return with_messages(rendered, lambda messages: [*messages, *more])


class Splice:
    """See `Flow`. `go_on` finds the stream that follows a broken one, whose `error`, `part` and `text` are here."""

    def __init__(self, flow: Flow, idle_s: float, go_on: Callable[["Splice"], Awaitable[Flow | None]]) -> None:
        self.status = flow.status
        self.headers = flow.headers
        self.held = b""
        self.part = Assembly()  # what the present provider said
        self.error: UpstreamError | None = None  # why it ended too early
        self._go_on = go_on
        self._idle_s = idle_s
        self._flow = flow
        self._data = flow.held
        flow.held = b""
        self._texts: list[str] = []
        self._first = b""  # the first event of all
        self._head: dict[str, Any] | None = None  # what later chunks take from it; None while they are not rewritten
        self._before = Tokens()  # used by the parts that are over
        self._tools = False
        self._finished = False  # the finish_reason was there
        self._over = False

    @property
    def text(self) -> str:
        """The answer's text so far, of all parts."""
        return "".join(self._texts)

    def used(self, tokens: Tokens) -> None:
        """What a part that is over used."""
        self._before = Tokens(
            input_uncached=self._before.input_uncached + tokens.input,
            output_text=self._before.output_text + tokens.output,
        )

    async def read(self) -> bytes | None:
        """What can go on; raises the error of the part that broke where nothing follows it."""
        while not self._over:
            if out := self._take():
                return out
            if self.error is None:
                await self._more()
            elif self._finished:  # all was said but the end marker
                self._over = True
                return DONE
            else:
                await self._elsewhere(self.error)
        return None

    async def rest(self, limit: int = 1 << 16) -> bytes:
        """Of no use here: a stream that has begun is no error's body."""
        return await self._flow.rest(limit)

    def enough(self) -> None:
        """See `Flow`."""
        self._flow.enough()

    async def close(self) -> None:
        """Let the present provider go."""
        await self._flow.close()

    async def _more(self) -> None:
        """Read on; whatever ends the stream becomes `error`."""
        try:
            loop = asyncio.get_running_loop()
            with Alarm(loop.time() + self._idle_s, loop):
                data = await self._flow.read()
        except TimeoutError:
            self.error = UpstreamTimeout(
                f"the stream stalled for {self._idle_s:g} s",
                where="policy.timeout.idle",
                hint="the text so far is incomplete: ask again",
                code="timeout_idle",
            )
            return
        except UpstreamError as error:
            self.error = error
            return
        if data is None:
            self.error = _cut("end marker")
            data = b"\n\n" if self._data else b""  # the last blank line may be missing
        self._data += data

    async def _elsewhere(self, error: UpstreamError) -> None:
        await self._flow.close()
        flow = None if self._tools else await self._go_on(self)
        if flow is None:
            raise error
        if self._head is None:
            value = _decode(self._first) if self._first else {}
            self._head = {name: value[name] for name in _HEAD if name in value}
        self._flow, self._data, flow.held = flow, flow.held, b""
        self.part, self.error = Assembly(), None

    def _take(self) -> bytes:
        """The whole events that are there, as far as they are good."""
        end = whole_events(self._data)
        if not end:
            return b""
        block, self._data = self._data[:end], self._data[end:]
        out: list[bytes] = []
        broke = self.error
        for data in events(block):
            if self._over or self.error is not broke:
                break
            self._event(data, out)
        return b"".join(out)

    def _event(self, data: bytes, out: list[bytes]) -> None:
        if data == b"[DONE]":
            if self._finished:
                self._over = True
                out.append(DONE)
            else:
                self.error = _cut("finish_reason")
            return
        try:
            chunk = read_chunk(data)
        except UpstreamError as error:
            self.error = error
            return
        event = b"data: " + data + b"\n\n"
        self.part.add(event)
        for choice in chunk.choices:
            delta = choice.delta
            if delta is not None and delta.content:
                self._texts.append(text_of(delta.content))
            self._tools |= bool(delta is not None and delta.tool_calls)
            self._finished |= bool(choice.finish_reason)
        if chunk.usage is not None and not chunk.choices and not self._finished:
            return  # it will be part of the sum
        self._first = self._first or data
        if self._head is not None:
            event = self._rewritten(data)
        out.append(event)

    def _rewritten(self, data: bytes) -> bytes:
        """A later provider's chunk as the first one's would be; empty where nothing is left of it."""
        value = {**_decode(data), **(self._head or {})}
        choices = value.get("choices") or []
        usage = value.get("usage")
        says = bool(usage)
        for choice in choices:
            delta = choice.get("delta") or {}
            delta.pop("role", None)
            says |= bool(choice.get("finish_reason")) or any(delta.values())
        if usage:
            value["usage"] = self._summed(usage)
        return b"data: " + _encode(value) + b"\n\n" if says else b""

    def _summed(self, usage: dict[str, Any]) -> dict[str, Any]:
        given, taken = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        given, taken = given + self._before.input, taken + self._before.output
        return usage | {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken}


def _cut(missing: str) -> CutStream:
    return CutStream(
        f"the stream ended without its {missing}", hint="the text so far is incomplete: ask again", upstream_status=200
    )
