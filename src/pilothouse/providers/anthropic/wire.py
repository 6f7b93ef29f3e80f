"""The Anthropic wire: messages natively, chat translated."""

from collections.abc import Mapping

import msgspec

from pilothouse.domain.errors import UpstreamError
from pilothouse.providers.anthropic.answer import MessagesTranslator, whole
from pilothouse.providers.anthropic.request import to_messages
from pilothouse.providers.failures import failure
from pilothouse.providers.form import Form
from pilothouse.providers.messages import MESSAGES
from pilothouse.providers.openai import request_headers
from pilothouse.providers.passing import ANY
from pilothouse.providers.translated import TranslatedFlow
from pilothouse.providers.wire import Ask, Flow, Request

VERSION = "2023-06-01"
_PATHS = {"messages": "/messages", "chat": "/messages", "count_tokens": "/messages/count_tokens"}
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class AnthropicWire:
    """See `Wire`."""

    native: Mapping[str, Form] = {"messages": MESSAGES, "count_tokens": ANY, "any": ANY}

    def request(self, ask: Ask) -> Request:
        """The key in `x-api-key`; the client's `anthropic-version` and `anthropic-beta` are passed on."""
        base = ask.provider.base_url.rstrip("/")
        if not base.endswith("/v1"):
            base += "/v1"
        headers = request_headers("", ask.trace_id, ask.span_id, ask.headers)
        headers.append(("x-api-key", ask.key))
        if not any(name.lower() == "anthropic-version" for name, _ in ask.headers):
            headers.append(("anthropic-version", VERSION))
        body = _encode(to_messages(_decode(ask.body))) if ask.form == "chat" else ask.body
        return Request(base + (_PATHS.get(ask.form) or ask.path), headers, body, ask.method)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, now_us: int) -> UpstreamError:
        """By status, by the error's type, and by its words."""
        return failure(status, headers, body, now_us)

    def chat_whole(self, body: bytes, now_us: int = 0) -> bytes:
        """A message as a chat completion."""
        return whole(body, now_us)

    def chat_stream(self, flow: Flow, now_us: int = 0) -> Flow:
        """Messages events as chat chunks."""
        return TranslatedFlow(flow, MessagesTranslator(now_us))


ANTHROPIC = AnthropicWire()
