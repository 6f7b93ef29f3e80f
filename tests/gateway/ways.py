"""Every way through the gateway: an API and a provider that speaks it, or one for which it is translated."""

from typing import Any

from tests.gateway import fault_said
from tests.gateway.doors import ApiStack

from pilothouse.domain.model_ref import ModelRef

# API of the client, kind of its provider
WAYS = [("chat", "fake"), ("chat", "claude"), ("messages", "claude"), ("messages", "plain"), ("responses", "openai"),
        ("responses", "plain")]  # fmt: skip
EVERY = [(api, at, stream) for api, at in WAYS for stream in (False, True)]
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


def model(at: str) -> ModelRef:
    return ModelRef(at, "small")


class Got:
    """An answer: what the client reads of it in words, its text, its bytes."""

    def __init__(self, status: int, headers: dict[str, str], data: bytes, api: str) -> None:
        self.status, self.headers, self.data, self._api = status, headers, data, api

    @property
    def words(self) -> str:
        plain = self.headers | {"retry-after": "", "x-pilothouse-cache": ""}
        return fault_said.answer(self.status, plain, self.data, self._api, None)

    def says(self, text: str) -> None:
        fault_said.answer(self.status, self.headers, self.data, self._api, text)


async def ask(apis: ApiStack, api: str, text: str, *, stream: bool = False, **more: Any) -> Got:
    """One request to the route `answer`. `headers` are its headers, all else goes into its body."""
    headers: dict[str, str] = more.pop("headers", {})
    key = more.pop("key", None)
    body: dict[str, Any] = {"model": "answer"} | ({"stream": True} if stream else {})
    if api == "responses":
        body["input"] = text
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if api == "messages":
        body["max_tokens"] = 100
    reply = await apis.post(body | more, PATHS[api], **({"key": key} if key else {}), **headers)
    names = ("content-type", "retry-after", "x-pilothouse-cache", "age")
    return Got(reply.status, {n: reply.get_header(n) or "" for n in names}, bytes(await reply.bytes()), api)
