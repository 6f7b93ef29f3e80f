"""Kinds of provider: which ones there are, and which of them Pilothouse runs itself.

Every kind speaks the OpenAI wire format (providers/openai.py); `local` and `scripted` are processes of our own, with
an address that the supervisor chooses.
"""

from typing import Literal

import msgspec

from pilothouse.domain.table import ProviderEntry

Kind = Literal["openai", "local", "scripted"]


class KindInfo(msgspec.Struct, frozen=True):
    """`module` is run as `python -m module` where Pilothouse runs the provider; `what` is for people."""

    name: Kind
    what: str
    module: str = ""


KINDS: dict[str, KindInfo] = {
    "openai": KindInfo("openai", "any server that speaks the OpenAI chat API"),
    "local": KindInfo("local", "llama.cpp with SmolLM2, on this machine", "pilothouse.providers.local"),
    "scripted": KindInfo("scripted", "a fake that follows a script", "pilothouse.providers.scripted"),
}


def chat_url(provider: ProviderEntry) -> str:
    """Where chat requests go. `base_url` is given with or without its `/v1`."""
    base = provider.base_url.rstrip("/")
    if provider.kind != "openai" and not base.endswith("/v1"):
        base += "/v1"
    return f"{base}/chat/completions"
