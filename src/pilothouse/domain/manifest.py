"""The manifest: the 8 content-addressed parts that shape an output."""

from typing import Any

import msgspec

from pilothouse.domain.hashing import content_hash, names_hash
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Policy

PARTS = ("prompt", "system", "model", "params", "tools", "schema", "index", "policy")


class Template(msgspec.Struct, frozen=True):
    """A sandboxed Jinja template and the variables that it must be given."""

    text: str
    variables: tuple[str, ...] = ()
    version: str = ""


class IndexRef(msgspec.Struct, frozen=True):
    """A retrieval index and the version that was live when the release was made."""

    name: str
    version: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """Everything that shapes an output. Immutable; equal content has equal hashes."""

    model: ModelRef
    prompt: Template | None = None
    system: Template | None = None
    params: dict[str, Any] = {}
    tools: list[Any] | None = None
    schema: dict[str, Any] | None = None
    index: IndexRef | None = None
    policy: Policy = Policy()

    def part(self, name: str) -> Any:
        """The part's content as plain JSON values."""
        return msgspec.to_builtins(getattr(self, name))

    def hashes(self) -> dict[str, str]:
        """Part name → SHA-256, for all 8 parts; an absent part has the hash of `null`."""
        return {name: content_hash(getattr(self, name)) for name in PARTS}

    def hash(self) -> str:
        """The content address of the whole: the hash of the 8 part hashes."""
        return names_hash(self.hashes())


def manifest_from_parts(parts: dict[str, Any]) -> Manifest:
    """The manifest whose parts have these plain JSON contents; raises `msgspec.ValidationError`."""
    return msgspec.convert(parts, Manifest)
