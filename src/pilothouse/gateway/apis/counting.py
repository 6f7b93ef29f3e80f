"""Anthropic's messages/count_tokens: asked of providers that count themselves, estimated for the rest."""

import msgspec

from pilothouse.gateway.apis.messages import MessagesApi
from pilothouse.gateway.estimate import estimate
from pilothouse.gateway.types import Incoming, Parsed
from pilothouse.providers.form import Form
from pilothouse.providers.passing import ANY

_encode = msgspec.json.Encoder().encode


class CountApi(MessagesApi):
    """See `Api`."""

    name = "count_tokens"
    form: Form = ANY
    translates = False
    path = "/messages/count_tokens"

    def parse(self, incoming: Incoming) -> Parsed:
        """A request of messages that is not to be answered."""
        parsed = super().parse(incoming)
        parsed.stream = False
        parsed.own = lambda: _encode({"input_tokens": estimate(parsed.raw, "").input})
        return parsed


COUNT_API = CountApi()
