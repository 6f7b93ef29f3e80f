"""The name of a model: the provider's name in the app's config, and the provider's own name for it."""

import msgspec


class ModelRef(msgspec.Struct, frozen=True):
    """A provider's name in the config and the provider's own model name."""

    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """`provider/model`; the model's name may hold further slashes."""
        provider, _, name = text.partition("/")
        return cls(provider=provider, name=name)
