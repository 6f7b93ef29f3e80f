"""What the wire tests share: an ask, a flow of given bytes, one entry for each kind of provider."""

from typing import Any

import msgspec

from pilothouse.domain.errors import CutStream
from pilothouse.domain.provider_kinds import PROVIDER_KINDS
from pilothouse.domain.table import ProviderEntry
from pilothouse.providers.chat import CHAT
from pilothouse.providers.openai import Completion
from pilothouse.providers.registry import wire_of
from pilothouse.providers.wire import Ask, Flow, Request

NOW_US = 1_754_049_600_000_000  # 2025-08-01T12:00:00Z
TRACE, SPAN = "a" * 32, "b" * 16
MESSAGES = [{"role": "user", "content": "hi"}]
TRANSLATED = ("anthropic", "gemini", "bedrock")


def entry(kind: str, base_url: str = "", **options: str) -> ProviderEntry:
    base = base_url or PROVIDER_KINDS[kind].base_url.replace("{region}", options.get("region", ""))
    return ProviderEntry("p", kind, base, "", options)


def ask(
    provider: ProviderEntry, body: dict[str, Any] | None = None, *, form: str = "chat", key: str = "sk", **more: Any
) -> Ask:
    made = body if body is not None else {"model": "m", "messages": MESSAGES}
    given: dict[str, Any] = {"model": str(made.get("model", "m")), "stream": bool(made.get("stream"))}
    raw = msgspec.json.encode(made)
    return Ask(
        provider=provider, form=form, body=raw, key=key, trace_id=TRACE, span_id=SPAN, now_us=NOW_US, **(given | more)
    )


def said(asked: Ask) -> Request:
    return wire_of(asked.provider).request(asked)


def body_of(request: Request) -> Any:
    return msgspec.json.decode(request.body)


def chat(kind: str, **body: Any) -> Any:
    """The body that a chat request becomes for this kind."""
    provider = entry(kind, "http://h", region="us-east-1") if kind == "bedrock" else entry(kind)
    return body_of(said(ask(provider, {"model": "m", "messages": MESSAGES} | body)))


class Pieces:
    """A flow of given pieces; `cut`: the connection breaks behind them."""

    def __init__(self, *pieces: bytes, cut: bool = False, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers, self.held = 200, headers or {}, b""
        self._pieces = list(pieces)
        self._cut = cut
        self.closed = False

    async def read(self) -> bytes | None:
        if self._pieces:
            return self._pieces.pop(0)
        if self._cut:
            raise CutStream("the provider's connection broke")
        return None

    async def rest(self, limit: int = 1 << 20) -> bytes:
        return b"".join(self._pieces)[:limit]

    def enough(self) -> None: ...

    async def close(self) -> None:
        self.closed = True


async def drained(flow: Flow) -> bytes:
    out = b""
    while (data := await flow.read()) is not None:
        out += data
    return out


async def assembled(kind: str, *pieces: bytes) -> Completion:
    """The completion that a native stream is, read by way of chat; raises what is wrong with it."""
    flow: Flow = Pieces(*pieces)
    wire = wire_of(entry(kind, "http://h"))
    if "chat" not in wire.native:
        flow = wire.chat_stream(flow)
    assembly = CHAT.assembly()
    assembly.add(await drained(flow))
    return assembly.finished()
