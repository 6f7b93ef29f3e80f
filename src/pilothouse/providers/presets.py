"""Servers compatible with OpenAI's API: which forms each speaks natively, and where its chat is unlike OpenAI's.

What a server says of usage and errors needs no preset: providers/usage.py and providers/failures.py read them all.
A form is listed only where every version of the server in use speaks it: chat is translated well, a 404 is not.
"""

from pilothouse.providers.compatible import CompatibleWire, Unlike
from pilothouse.providers.embeddings import EMBEDDINGS, MODERATIONS
from pilothouse.providers.messages import MESSAGES
from pilothouse.providers.responses import RESPONSES
from pilothouse.providers.wire import Wire

_OLD_LIMIT = {"max_completion_tokens": "max_tokens"}
PRESETS: dict[str, Wire] = {
    "openai": CompatibleWire(RESPONSES, EMBEDDINGS, MODERATIONS),
    "vllm": CompatibleWire(EMBEDDINGS),
    "ollama": CompatibleWire(EMBEDDINGS, unlike=Unlike(renamed=_OLD_LIMIT)),
    "llama.cpp": CompatibleWire(EMBEDDINGS),
    "groq": CompatibleWire(),  # usage in `x_groq` of a stream's last chunk
    "together": CompatibleWire(EMBEDDINGS, unlike=Unlike(renamed=_OLD_LIMIT)),
    "openrouter": CompatibleWire(EMBEDDINGS),  # comments while it waits, errors inside of streams, its own cost
    # Refuses fields that it does not know with 422; every stream ends with usage, asked for or not.
    "mistral": CompatibleWire(
        EMBEDDINGS,
        MODERATIONS,
        unlike=Unlike(
            frozenset(("stream_options", "user", "store", "metadata", "logit_bias", "service_tier")),
            _OLD_LIMIT | {"seed": "random_seed"},
        ),
    ),
    "deepseek": CompatibleWire(unlike=Unlike(renamed=_OLD_LIMIT)),
    "fireworks": CompatibleWire(EMBEDDINGS, unlike=Unlike(renamed=_OLD_LIMIT)),
    "xai": CompatibleWire(RESPONSES),  # reasoning beside the completion's tokens; its own cost
    "local": CompatibleWire(),
    "scripted": CompatibleWire(MESSAGES, RESPONSES, EMBEDDINGS, MODERATIONS),
}
