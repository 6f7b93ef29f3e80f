"""Kinds of provider: which ones there are, how each is spoken to, and which of them Pilothouse runs itself."""

import msgspec

from pilothouse.domain.table import ProviderEntry
from pilothouse.providers.compatible import COMPATIBLE
from pilothouse.providers.wire import Wire


class KindInfo(msgspec.Struct, frozen=True):
    """`module` is run as `python -m module` where Pilothouse runs the provider; `what` is for people."""

    name: str
    what: str
    wire: Wire
    module: str = ""


KINDS: dict[str, KindInfo] = {
    kind.name: kind
    for kind in (
        KindInfo("openai", "any server that speaks the OpenAI chat API", COMPATIBLE),
        KindInfo("local", "llama.cpp with SmolLM2, on this machine", COMPATIBLE, "pilothouse.providers.local"),
        KindInfo("scripted", "a fake that follows a script", COMPATIBLE, "pilothouse.providers.scripted"),
    )
}


def wire_of(provider: ProviderEntry) -> Wire:
    """How this provider is spoken to."""
    return KINDS[provider.kind].wire
