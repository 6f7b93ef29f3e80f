"""The OpenAI wire, and that of every server compatible with it."""

import functools
from collections.abc import Mapping

import msgspec

from pilothouse.domain.errors import UpstreamError
from pilothouse.domain.table import ProviderEntry
from pilothouse.providers.chat import CHAT
from pilothouse.providers.failures import failure
from pilothouse.providers.form import Form
from pilothouse.providers.openai import request_headers
from pilothouse.providers.passing import ANY
from pilothouse.providers.wire import Ask, Flow, Request

PATHS = {
    "chat": "/chat/completions",
    "messages": "/messages",
    "count_tokens": "/messages/count_tokens",
    "responses": "/responses",
    "embeddings": "/embeddings",
    "moderations": "/moderations",
}
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def base_url(provider: ProviderEntry) -> str:
    """The address up to and with `/v1`. A provider that Pilothouse runs is given without it."""
    return _url(provider.kind, provider.base_url, "")


@functools.lru_cache(maxsize=1024)
def _url(kind: str, url: str, path: str) -> str:
    base = url.rstrip("/")
    if kind in ("local", "scripted") and not base.endswith("/v1"):
        base += "/v1"
    return base + path


class Unlike(msgspec.Struct, frozen=True):
    """Where a server's chat API is unlike OpenAI's. `without`: fields that it refuses and that say nothing to it;
    `renamed`: fields by the name that it knows."""

    without: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = {}

    def body(self, body: bytes) -> bytes:
        """`body` as the server takes it; unchanged, byte for byte, where there is nothing to change."""
        if not any(b'"' + name.encode() + b'"' in body for name in (*self.without, *self.renamed)):
            return body
        fields = _decode(body)
        kept = {
            self.renamed.get(name, name): value
            for name, value in fields.items()
            if name not in self.without and self.renamed.get(name) not in fields
        }
        return _encode(kept) if kept.keys() != fields.keys() else body


class CompatibleWire:
    """See `Wire`. Chat is native, and so is whatever else `forms` names."""

    def __init__(self, *forms: Form, unlike: Unlike | None = None) -> None:
        every: tuple[Form, ...] = (CHAT, ANY, *forms)
        self.native: Mapping[str, Form] = {form.name: form for form in every}
        self._unlike = unlike

    def request(self, ask: Ask) -> Request:
        """The body as it is, with the key as a bearer token."""
        provider, path = ask.provider, PATHS.get(ask.form)
        headers = request_headers(ask.key, ask.trace_id, ask.span_id, ask.headers)
        body = ask.body
        if self._unlike is not None and ask.form == "chat":
            body = self._unlike.body(body)
        # A path that is the client's own is nothing to be kept.
        url = base_url(provider) + ask.path if path is None else _url(provider.kind, provider.base_url, path)
        return Request(url, headers, body, ask.method)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, now_us: int) -> UpstreamError:
        """By status, by the error's names, and by its words."""
        return failure(status, headers, body, now_us)

    def chat_whole(self, body: bytes, now_us: int = 0) -> bytes:  # noqa: ARG002  # it says itself when it answered
        """Chat is native."""
        return body

    def chat_stream(self, flow: Flow, now_us: int = 0) -> Flow:  # noqa: ARG002
        """Chat is native."""
        return flow
