"""The Bedrock wire: chat translated to Converse, signed with SigV4, or with a Bedrock API key as a bearer token."""

import urllib.parse
from collections.abc import Mapping

import msgspec

from pilothouse.domain.errors import UpstreamError
from pilothouse.providers.bedrock.answer import ConverseTranslator, whole
from pilothouse.providers.bedrock.request import to_converse
from pilothouse.providers.bedrock.sigv4 import Credentials, Scope, Signable, signed
from pilothouse.providers.failures import failure
from pilothouse.providers.form import Form
from pilothouse.providers.openai import request_headers
from pilothouse.providers.translated import TranslatedFlow
from pilothouse.providers.wire import Ask, Flow, Request

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_JSON = ("content-type", "application/json")


class BedrockWire:
    """See `Wire`."""

    native: Mapping[str, Form] = {}

    def request(self, ask: Ask) -> Request:
        """The model, percent-encoded, in the path; signed for the option `region`."""
        base = ask.provider.base_url.rstrip("/")
        verb = "converse-stream" if ask.stream else "converse"
        url = f"{base}/model/{urllib.parse.quote(ask.model, safe='')}/{verb}"
        body = _encode(to_converse(_decode(ask.body)))
        headers = request_headers(ask.key, ask.trace_id, ask.span_id)
        if not ask.key:
            secrets = ask.secrets
            keys = Credentials(
                secrets.get("access_key", ""), secrets.get("secret_key", ""), secrets.get("session_token", "")
            )
            scope = Scope(ask.provider.options.get("region", ""), "bedrock")
            headers += signed(Signable("POST", url, [_JSON], body), keys, scope, ask.now_us)
        return Request(url, headers, body)

    def error(self, status: int, headers: Mapping[str, str], body: bytes, now_us: int) -> UpstreamError:
        """By status, and by the exception's name in `x-amzn-errortype`."""
        return failure(status, headers, body, now_us)

    def chat_whole(self, body: bytes, now_us: int = 0) -> bytes:
        """An answer of Converse as a chat completion."""
        return whole(body, now_us)

    def chat_stream(self, flow: Flow, now_us: int = 0) -> Flow:
        """Its binary event stream as chat chunks."""
        return TranslatedFlow(flow, ConverseTranslator(flow.headers.get("x-amzn-requestid", ""), now_us))


BEDROCK = BedrockWire()
