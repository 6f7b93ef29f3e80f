"""The OpenAI wire, and that of every server compatible with it."""

from collections.abc import Mapping

from pilothouse.domain.errors import UpstreamError
from pilothouse.domain.table import ProviderEntry
from pilothouse.providers.chat import CHAT
from pilothouse.providers.failures import failure
from pilothouse.providers.form import Form
from pilothouse.providers.openai import request_headers
from pilothouse.providers.wire import Ask, Flow, Request

_PATHS = {"chat": "/chat/completions"}


def base_url(provider: ProviderEntry) -> str:
    """The address up to and with `/v1`. A provider that Pilothouse runs is given without it."""
    base = provider.base_url.rstrip("/")
    if provider.kind in ("local", "scripted") and not base.endswith("/v1"):
        base += "/v1"
    return base


class CompatibleWire:
    """See `Wire`."""

    native: Mapping[str, Form] = {"chat": CHAT}

    def request(self, ask: Ask) -> Request:
        """The body as it is, with the key as a bearer token."""
        path = _PATHS.get(ask.form) or ask.path
        headers = request_headers(ask.key, ask.trace_id, ask.span_id)
        headers += ask.headers
        return Request(base_url(ask.provider) + path, headers, ask.body, ask.method)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, now_us: int) -> UpstreamError:
        """By status, with the provider's own words."""
        return failure(status, headers, body, now_us)

    def chat_whole(self, body: bytes) -> bytes:
        """Chat is native."""
        return body

    def chat_stream(self, flow: Flow) -> Flow:
        """Chat is native."""
        return flow


COMPATIBLE = CompatibleWire()
