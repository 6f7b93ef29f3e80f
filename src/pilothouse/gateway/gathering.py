"""A whole answer out of a stream of chat, given up as soon as it certainly cannot meet the route's schema.

The client of a route with a schema gets an answer when it is complete and valid. Where it asked for a stream, so is
the provider: what is lost shows at the character that loses it, and nothing more is written, waited for or paid.
"""

from typing import Any

import msgspec

from pilothouse.domain.errors import InvalidOutput
from pilothouse.domain.record import Record
from pilothouse.gateway.explain import reask_messages
from pilothouse.gateway.types import Rendered
from pilothouse.gateway.verdict import begin, invalid
from pilothouse.gateway.watch import PROSE_MAX, Watch
from pilothouse.providers.chat import CHAT
from pilothouse.providers.openai import Completion, events, text_of
from pilothouse.providers.wire import Flow

_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
Json = dict[str, Any]


class Gathering:
    """One answer of one choice while it arrives. `why`: how it failed for certain, None while it may be right."""

    def __init__(self, rendered: Rendered) -> None:
        manifest = rendered.resolved.live.manifest
        self.why: str | None = None
        self._schema: Json = manifest.schema or {}
        self._invalid = manifest.policy.invalid
        self._watch = Watch(manifest.schema, lenient="repair" in manifest.policy.invalid)
        self._assembly = CHAT.assembly()
        self._head: Json = {"object": "chat.completion"}
        self._message: Json = {"role": "assistant", "content": None}
        self._calls: dict[int, Json] = {}
        self._choice: Json = {"index": 0, "message": self._message, "finish_reason": None}
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        """What the answer says so far."""
        return "".join(self._texts)

    def so_far(self) -> Completion:
        """All that has come, of a stream that broke up to the event that broke it."""
        return self._assembly.completion()

    async def read(self, flow: Flow) -> None:
        """Until the answer is complete, or has failed; raises UpstreamError, CutStream as the stream does."""
        rest, data = b"", flow.held or await flow.read()
        flow.held = b""
        while data is not None:
            data = rest + data
            end = CHAT.whole(data)
            block, rest = data[:end], data[end:]
            self._add(block)
            if self.why is not None:
                return
            if block and CHAT.ends(block):
                flow.enough()
                return
            data = await flow.read()
        if rest.strip():
            self._add(rest + b"\n\n")  # a provider that leaves out the last blank line has still said its piece

    def body(self) -> bytes:
        """The whole answer; raises CutStream where the stream only seemed to be at its end."""
        usage = self._assembly.finished().usage
        if usage is not None:  # some say it in a place of their own
            self._head.setdefault("usage", usage)
        if self._calls:
            self._message["tool_calls"] = [self._calls[at] for at in sorted(self._calls)]
        if self._texts or not self._calls:
            self._message["content"] = self.text
        return _encode(self._head | {"choices": [self._choice]})

    def lost(self, record: Record) -> InvalidOutput:
        """The error of an answer that was given up, noted in the record."""
        result, why = begin(record), self.why or ""
        result.stages.append("watch")
        result.first_ok = False
        again = reask_messages(self.text, [why], self._schema) if "reask" in self._invalid else None
        return invalid(result, why, "see the record's validation", reask=again)

    def _add(self, block: bytes) -> None:
        self._assembly.add(block)  # raises what the provider says of itself
        for data in events(block):
            if data == b"[DONE]":
                return
            chunk: Json = _decode(data)
            for name in _HEAD:
                if chunk.get(name) is not None:
                    self._head.setdefault(name, chunk[name])
            if chunk.get("usage") is not None:
                self._head["usage"] = chunk["usage"]
            for choice in chunk.get("choices") or ():
                if choice.get("index", 0) == 0:
                    self._delta(choice.get("delta") or {})
                    self._choice["finish_reason"] = choice.get("finish_reason") or self._choice["finish_reason"]

    def _delta(self, delta: Json) -> None:
        for name, value in delta.items():
            if name == "content":
                if text := text_of(value):
                    self._texts.append(text)
                    self._judge(text)
            elif name == "tool_calls":
                for call in value or ():
                    _merge(self._calls, call)
            elif name != "role" and value is not None:
                before = self._message.get(name)
                same = type(before) is type(value) and isinstance(value, str | list)
                self._message[name] = before + value if same else value

    def _judge(self, text: str) -> None:
        why = self._watch.feed(text)
        # A few words alone may be a refusal, which is told apart at its end.
        if why is not None and (self.text.lstrip()[:1] in ("{", "[") or len(self.text) > PROSE_MAX):
            self.why = self.why or why


def _merge(calls: dict[int, Json], call: Any) -> None:
    """Some more of a tool call, whose arguments come in pieces."""
    if not isinstance(call, dict):
        return
    given = call.get("index")
    at = given if isinstance(given, int) else len(calls)
    kept = calls.setdefault(at, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    kept["id"] = call.get("id") or kept["id"]
    function = call.get("function")
    if isinstance(function, dict):
        for name in ("name", "arguments"):
            kept["function"][name] += function.get(name) or ""
