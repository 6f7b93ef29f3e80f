"""Guardrails on the request path: the request before it is rendered, the answer before it leaves, whole or streamed."""

import msgspec

from pilothouse.domain.errors import GuardrailBlocked
from pilothouse.domain.record import Record
from pilothouse.gateway.guards.engine import Guards
from pilothouse.gateway.guards.stream import GuardedStream
from pilothouse.gateway.types import Draft, Resolved
from pilothouse.providers.form import Form
from pilothouse.providers.openai import Completion, whole_events
from pilothouse.providers.wire import Flow

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


async def guarded_request(guards: Guards, draft: Draft, resolved: Resolved) -> Resolved:
    """The request as it may be sent: itself, or read anew with masks. Raises GuardrailBlocked."""
    parsed = resolved.parsed
    if not parsed.body and parsed.raw:
        clean = await _guarded_bytes(guards, parsed.raw, draft, resolved.route)
        if clean is parsed.raw:
            return resolved
    else:
        body = await guards.input(parsed.body, draft.record.guards, resolved.route)
        if body is parsed.body:
            return resolved
        clean = _encode(body)
    draft.reshaped = True
    again = draft.api.parse(msgspec.structs.replace(draft.incoming, body=clean))
    return msgspec.structs.replace(resolved, parsed=again)


async def _guarded_bytes(guards: Guards, raw: bytes, draft: Draft, route: str) -> bytes:
    """A body that is no JSON object (a form, a text), looked at as it reads. Raises GuardrailBlocked."""
    text = raw.decode("utf-8", "replace")
    clean = await guards.text(text, "input", draft.record.guards, route)
    if clean == text:
        return raw
    if text.encode() != raw:
        raise GuardrailBlocked(
            "a guardrail would mask a part of a body that is no text",
            where="body",
            hint="send what it found apart from the file, or not at all",
        )
    return clean.encode()


async def guarded_answer(guards: Guards, body: bytes, record: Record) -> bytes:
    """A whole answer in the client's form as it may be delivered. Raises GuardrailBlocked."""
    if not guards.output_rails:
        return body
    try:
        value = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
        clean = await guards.text(text, "output", record.guards, record.route)
        return body if clean is text else clean.encode()
    clean = await guards.output(value, record.guards, record.route)
    return body if clean is value else _encode(clean)


class GuardedFlow:
    """A stream in the client's form, of which only leaves what the guardrails let go. See Flow."""

    def __init__(self, flow: Flow, guards: Guards, form: Form, record: Record) -> None:
        self.status, self.headers = flow.status, flow.headers
        self.held = b""
        self._flow = flow
        self._rest = flow.held
        flow.held = b""
        self._form = form
        self._came: list[bytes] = []
        self._stream = GuardedStream(guards, form.name, record.guards, record.route)
        self._ended = False

    async def read(self) -> bytes | None:
        """What may leave now; None at the end. Raises GuardrailBlocked, CutStream."""
        while not self._ended:
            block = self._whole(b"")
            while not block:
                data = await self._flow.read()
                if data is None:
                    self._ended = True
                    last = await self._stream.feed(self._rest) if self._rest else b""
                    return (last + await self._stream.end()) or None
                block = self._whole(data)
            if out := await self._stream.feed(block):
                return out
        return None

    def _whole(self, data: bytes) -> bytes:
        """The whole events that are there now."""
        self._rest += data
        end = whole_events(self._rest)
        block, self._rest = self._rest[:end], self._rest[end:]
        self._came.append(block)
        return block

    def said(self) -> Completion:
        """All that has come so far, let go or not: the provider has made it, and will be paid for it."""
        assembly = self._form.assembly()
        assembly.add(b"".join(self._came))
        return assembly.completion()

    async def rest(self, limit: int = 64 << 10) -> bytes:
        """What is left of an error body, which is not guarded."""
        return await self._flow.rest(limit)

    def enough(self) -> None:
        """The content is complete."""
        self._flow.enough()

    async def close(self) -> None:
        """Let the connection go."""
        await self._flow.close()
