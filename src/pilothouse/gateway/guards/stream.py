"""A stream of events through the guardrails: text is held back as `Holdback` says, tool calls until their end.

Events in which nothing was changed leave as the bytes that came. Text that is let go later or masked leaves in events
of the stream's own form. Tool calls are never cut anew: their events leave as they came, once the call is judged.
"""

from typing import Any

import msgspec

from pilothouse.domain.errors import GuardrailBlocked
from pilothouse.domain.record import GuardHit
from pilothouse.gateway.guards import walk
from pilothouse.gateway.guards.engine import Guards, Hits, judge
from pilothouse.gateway.guards.forms import FORMS, Event, Form, Key, Reading, Text
from pilothouse.gateway.guards.holdback import Holdback
from pilothouse.gateway.guards.protocol import Seen, ToolCall

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class _Open(msgspec.Struct):
    """A text on its way, and the last event that said some of it."""

    holdback: Holdback
    like: Event


class _Held(msgspec.Struct):
    """A part's events as they came, and as they are read."""

    raw: list[bytes]
    events: list[Event]


class GuardedStream:
    """One stream. Give it blocks of whole events; what it returns may be sent. Raises GuardrailBlocked."""

    def __init__(self, guards: Guards, form: str, hits: Hits, route: str = "") -> None:
        self._guards = guards
        self._form: Form = FORMS.get(form, FORMS["chat"])()
        self._named = form in ("messages", "responses")  # events have an `event:` line
        self._hits = hits
        self._route = route
        self._texts: dict[Key, _Open] = {}
        self._parts: dict[Key, _Held] = {}
        self._calls: list[ToolCall] = []
        self._numbers = form == "responses"  # events are numbered without gaps
        self._next: int | None = None

    async def feed(self, block: bytes) -> bytes:
        """What of these whole events, and of those before, may be sent now."""
        out: list[bytes] = []
        for raw in _events(block):
            data = _data(raw)
            if data == b"[DONE]":
                await self._close((), out)
                out.append(raw)
            elif data is None:
                out.append(raw)  # a comment: keeps the connection awake
            else:
                await self._event(raw, data, out)
        return self._joined(out)

    async def end(self) -> bytes:
        """All that is still held, where the stream ends without saying so."""
        out: list[bytes] = []
        await self._close((), out)
        return self._joined(out)

    async def _event(self, raw: bytes, data: bytes, out: list[bytes]) -> None:
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeError):
            event = data.decode("utf-8", "replace")
        if not isinstance(event, dict):
            out.append(self._said(raw, event, await self._guards.output(event, self._hits, self._route)))
            return
        reading = self._form.read(event)
        if reading.part is not None:
            await self._part(raw, event, reading, out)
            return
        own = {text.key for text in reading.texts}
        changed = False
        said = False
        for text in reading.texts:
            piece = text.holder[text.field]
            safe = await self._feed(text, event, ended=_ended(text.key, reading.ends))
            said |= bool(safe) or not piece
            if safe != piece:
                text.holder[text.field] = safe
                changed = True
        for key in reading.ends:
            await self._close(key, out, but=own)
        if reading.sealed:
            out.append(self._said(raw, event, await self._guards.output(event, self._hits, self._route)))
        elif said or reading.ends or not reading.texts or _says_more(event):
            out.append(self._encoded(event) if changed else raw)

    async def _feed(self, text: Text, event: Event, *, ended: bool) -> str:
        opened = self._texts.get(text.key)
        if opened is None:
            rails = self._guards.output_rails
            opened = self._texts[text.key] = _Open(Holdback(rails, self._hits, self._route), event)
        opened.like = event
        safe = await opened.holdback.feed(text.holder[text.field])
        if ended:
            del self._texts[text.key]
            safe += await opened.holdback.end()
        return safe

    async def _part(self, raw: bytes, event: Event, reading: Reading, out: list[bytes]) -> None:
        """An event of a part is held; text that came with it goes its own way."""
        key = reading.part
        if key is None:
            raise AssertionError("only an event of a part is held")
        for text in reading.texts:
            safe = await self._feed(text, event, ended=False)
            if safe:
                out.append(self._encoded(self._form.more(text.key, event, safe)))
            if text.holder.get(text.field):
                text.holder[text.field] = ""
                raw = self._encoded(event)
        for ended in reading.ends:
            if ended != key[: len(ended)]:
                await self._close(ended, out)
        held = self._parts.setdefault(key, _Held([], []))
        held.raw.append(raw)
        held.events.append(event)
        for ended in reading.ends:
            if ended == key[: len(ended)]:
                await self._close(ended, out)

    async def _close(self, prefix: Key, out: list[bytes], but: set[Key] | None = None) -> None:
        """The texts and parts whose keys begin so are complete."""
        for key in [k for k in self._texts if k[: len(prefix)] == prefix and k not in (but or ())]:
            opened = self._texts.pop(key)
            if rest := await opened.holdback.end():
                out.append(self._encoded(self._form.more(key, opened.like, rest)))
        for key in [k for k in self._parts if k[: len(prefix)] == prefix]:
            out += await self._judged(self._parts.pop(key))

    async def _judged(self, held: _Held) -> list[bytes]:
        """A part's events, as they came or with masks."""
        call = self._form.call(held.events)
        if call is None:
            return await self._whole(held)
        name, arguments = call
        self._calls.append(ToolCall(name, arguments))
        rails = self._guards.output_rails
        await judge(rails, Seen("", "output", self._route, calls=tuple(self._calls)), self._hits)
        clean = await self._guards.output({"name": name, "arguments": arguments}, self._hits, self._route)
        if clean["arguments"] == arguments and clean["name"] == name:
            return held.raw
        self._form.rewrite(held.events, clean["arguments"])
        return [self._encoded(event) for event in held.events]

    async def _whole(self, held: _Held) -> list[bytes]:
        """A part that is no call: its texts, put together over its events. It cannot be masked, so it is blocked."""
        joined: dict[walk.Path, str] = {}
        for event in held.events:
            for path, text, _ in walk.texts(event):
                joined[path] = joined.get(path, "") + text
        for text in joined.values():
            if await judge(self._guards.output_rails, Seen(text, "output", self._route), self._hits):
                self._hits.append(GuardHit("stream", "output", "block", "no_mask"))
                raise GuardrailBlocked("a part of the stream cannot be masked", where="output", output=True)
        return held.raw

    def _joined(self, out: list[bytes]) -> bytes:
        """What leaves; events that were left out or put in leave no gap in its numbers."""
        if self._numbers:
            out = [self._numbered(raw) for raw in out]
        return b"".join(out)

    def _numbered(self, raw: bytes) -> bytes:
        if b'"sequence_number"' not in raw or (data := _data(raw)) is None:
            return raw
        try:
            event = _decode(data)
        except (msgspec.DecodeError, UnicodeError):
            return raw
        number = event.get("sequence_number") if isinstance(event, dict) else None
        if not isinstance(number, int):
            return raw
        own = number if self._next is None else self._next
        self._next = own + 1
        return raw if own == number else self._encoded(event | {"sequence_number": own})

    def _said(self, raw: bytes, before: Any, after: Any) -> bytes:
        return raw if after is before else self._encoded(after)

    def _encoded(self, event: Any) -> bytes:
        data = event.encode() if isinstance(event, str) else _encode(event)
        name = f"event: {event.get('type')}\n".encode() if self._named and isinstance(event, dict) else b""
        return name + b"data: " + data + b"\n\n"


def _ended(key: Key, ends: list[Key]) -> bool:
    return any(key[: len(prefix)] == prefix for prefix in ends)


def _says_more(event: Event) -> bool:
    """Whether a chat event without text is still worth sending: its role, its usage."""
    choices = event.get("choices") or ()
    return bool(event.get("usage")) or any((c.get("delta") or {}).get("role") for c in choices if isinstance(c, dict))


def _events(block: bytes) -> list[bytes]:
    """The events of a block of whole ones, each with its blank line."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    return [event + b"\n\n" for event in block.split(b"\n\n") if event.strip()]


def _data(raw: bytes) -> bytes | None:
    """An event's data; None where it has none."""
    lines = [line[5:].removeprefix(b" ") for line in raw.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
