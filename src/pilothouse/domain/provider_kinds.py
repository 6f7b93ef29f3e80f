"""Kinds of provider as the app's files name them. How each is spoken to: providers/registry.py."""

import msgspec


class KindOption(msgspec.Struct, frozen=True):
    """A key of a provider in pilothouse.yaml that only some kinds know. `secret`: its value is a reference."""

    name: str
    needed: bool = False
    secret: bool = False


class ProviderKind(msgspec.Struct, frozen=True):
    """`base_url`: where the provider is unless the app says; empty where the app must say, or where Pilothouse runs
    the provider itself (`hosted`). `{region}` in it stands for the option of that name."""

    name: str
    what: str
    base_url: str = ""
    options: tuple[KindOption, ...] = ()
    hosted: bool = False


_API_VERSION = KindOption("api_version")
_AWS = (
    KindOption("region", needed=True),
    KindOption("access_key", secret=True),
    KindOption("secret_key", secret=True),
    KindOption("session_token", secret=True),
)
PROVIDER_KINDS: dict[str, ProviderKind] = {
    kind.name: kind
    for kind in (
        ProviderKind("openai", "OpenAI, and any server that speaks its chat API", "https://api.openai.com/v1"),
        ProviderKind("azure-openai", "Azure OpenAI: a resource's deployments", "", (_API_VERSION,)),
        ProviderKind("anthropic", "Anthropic", "https://api.anthropic.com/v1"),
        ProviderKind("gemini", "Google's Gemini API", "https://generativelanguage.googleapis.com/v1beta"),
        ProviderKind("bedrock", "Amazon Bedrock", "https://bedrock-runtime.{region}.amazonaws.com", _AWS),
        ProviderKind("mistral", "Mistral", "https://api.mistral.ai/v1"),
        ProviderKind("deepseek", "DeepSeek", "https://api.deepseek.com/v1"),
        ProviderKind("xai", "xAI", "https://api.x.ai/v1"),
        ProviderKind("groq", "Groq", "https://api.groq.com/openai/v1"),
        ProviderKind("together", "Together", "https://api.together.xyz/v1"),
        ProviderKind("fireworks", "Fireworks", "https://api.fireworks.ai/inference/v1"),
        ProviderKind("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
        ProviderKind("vllm", "vLLM", "http://127.0.0.1:8000/v1"),
        ProviderKind("ollama", "Ollama", "http://127.0.0.1:11434/v1"),
        ProviderKind("llama.cpp", "llama.cpp's server", "http://127.0.0.1:8080/v1"),
        ProviderKind("local", "llama.cpp with SmolLM2, on this machine", hosted=True),
        ProviderKind("scripted", "a fake that follows a script", hosted=True),
    )
}
SECRET_OPTIONS = frozenset(option.name for kind in PROVIDER_KINDS.values() for option in kind.options if option.secret)
