"""The Gemini wire: chat translated; embeddings, and what is passed through, by Google's OpenAI-compatible API."""

import urllib.parse
from collections.abc import Mapping

import msgspec

from pilothouse.domain.errors import UpstreamError
from pilothouse.providers.compatible import PATHS
from pilothouse.providers.embeddings import EMBEDDINGS
from pilothouse.providers.failures import failure
from pilothouse.providers.form import Form
from pilothouse.providers.gemini.answer import GeminiTranslator, whole
from pilothouse.providers.gemini.request import to_contents
from pilothouse.providers.openai import request_headers
from pilothouse.providers.passing import ANY
from pilothouse.providers.translated import TranslatedFlow
from pilothouse.providers.wire import Ask, Flow, Request

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class GeminiWire:
    """See `Wire`."""

    native: Mapping[str, Form] = {"embeddings": EMBEDDINGS, "any": ANY}

    def request(self, ask: Ask) -> Request:
        """The model and whether to stream in the path, the key in a header."""
        base = ask.provider.base_url.rstrip("/")
        if ask.form != "chat":
            headers = request_headers(ask.key, ask.trace_id, ask.span_id, ask.headers)
            return Request(f"{base}/openai{PATHS.get(ask.form) or ask.path}", headers, ask.body, ask.method)
        headers = request_headers("", ask.trace_id, ask.span_id)
        headers.append(("x-goog-api-key", ask.key))
        model = urllib.parse.quote(ask.model.removeprefix("models/"), safe="/")
        verb = "streamGenerateContent?alt=sse" if ask.stream else "generateContent"
        path = model if model.startswith("tunedModels/") else f"models/{model}"
        return Request(f"{base}/{path}:{verb}", headers, _encode(to_contents(_decode(ask.body))))

    def error(self, status: int, headers: Mapping[str, str], body: bytes, now_us: int) -> UpstreamError:
        """By status, by the error's details, and by its words."""
        return failure(status, headers, body, now_us)

    def chat_whole(self, body: bytes, now_us: int = 0) -> bytes:
        """An answer of generateContent as a chat completion."""
        return whole(body, now_us)

    def chat_stream(self, flow: Flow, now_us: int = 0) -> Flow:
        """Its stream as chat chunks."""
        return TranslatedFlow(flow, GeminiTranslator(now_us))


GEMINI = GeminiWire()
