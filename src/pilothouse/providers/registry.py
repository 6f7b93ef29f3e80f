"""Kinds of provider: which ones there are, how each is spoken to, and which of them Pilothouse runs itself."""

import msgspec

from pilothouse.domain.provider_kinds import PROVIDER_KINDS
from pilothouse.domain.table import ProviderEntry
from pilothouse.providers.anthropic.wire import ANTHROPIC
from pilothouse.providers.azure import AZURE
from pilothouse.providers.bedrock.wire import BEDROCK
from pilothouse.providers.gemini.wire import GEMINI
from pilothouse.providers.presets import PRESETS
from pilothouse.providers.wire import Wire


class KindInfo(msgspec.Struct, frozen=True):
    """`module` is run as `python -m module` where Pilothouse runs the provider; `what` is for people."""

    name: str
    what: str
    wire: Wire
    module: str = ""


_WIRES: dict[str, Wire] = {
    **PRESETS,
    "azure-openai": AZURE,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "bedrock": BEDROCK,
}
KINDS: dict[str, KindInfo] = {
    kind.name: KindInfo(
        kind.name, kind.what, _WIRES[kind.name], f"pilothouse.providers.{kind.name}" if kind.hosted else ""
    )
    for kind in PROVIDER_KINDS.values()
}


def wire_of(provider: ProviderEntry) -> Wire:
    """How this provider is spoken to."""
    return KINDS[provider.kind].wire
