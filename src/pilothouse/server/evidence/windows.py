"""T7.4: how many tokens models can be given, and about how many of them a route's system prompt takes."""

from collections.abc import Iterable

from genai_prices import data_snapshot

from pilothouse.config.app import AppConfig
from pilothouse.domain.facts import ContextUse
from pilothouse.domain.manifest import Manifest
from pilothouse.gateway.estimate import rough_tokens

OWN_SERVERS = ("vllm", "ollama", "llama.cpp", "local", "scripted")  # their windows are as they were started


def windows(config: AppConfig, used: Iterable[ContextUse]) -> dict[str, int]:
    """`provider/model` → tokens: as the app's `prices` say, else as genai-prices lists the model; others are absent."""
    found = {}
    for use in used:
        name = f"{use.provider}/{use.model}"
        price = config.prices.get(name)
        tokens = price.context_window if price is not None else None
        if tokens is None and _listed(config, use.provider):
            tokens = _of_model(use.model)
        if tokens:
            found[name] = tokens
    return found


def _listed(config: AppConfig, provider: str) -> bool:
    own = config.providers.get(provider)
    return own is None or own.kind not in OWN_SERVERS


def _of_model(model: str) -> int | None:
    try:
        return data_snapshot.get_snapshot().find_provider_model(model, None, None, None)[1].context_window
    except LookupError:
        return None


def system_tokens(manifest: Manifest) -> int | None:
    """About how many tokens the system prompt has, its variables not filled in; None where there is none."""
    return rough_tokens(manifest.system.text.encode()) if manifest.system is not None else None
