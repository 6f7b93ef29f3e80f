"""The manifest: the 8 content-addressed parts that shape an output."""

from typing import Any, Literal

import msgspec

from pilothouse.domain.hashing import content_hash, names_hash

PARTS = ("prompt", "system", "model", "params", "tools", "schema", "index", "policy")

LogMode = Literal["full", "redacted", "metadata", "off"]
ErrorClass = Literal["rate_limit", "server_error", "timeout", "connect_failed", "cut_stream", "invalid_output", "error"]
# "error" stands for every retryable class.


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


class Template(msgspec.Struct, frozen=True):
    """A sandboxed Jinja template and the variables that it must be given."""

    text: str
    variables: tuple[str, ...] = ()
    version: str = ""


class IndexRef(msgspec.Struct, frozen=True):
    """A retrieval index and the version that was live when the release was made."""

    name: str
    version: str = ""


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. `total` spans all attempts of a request; the others are per attempt."""

    connect: float = 2.0
    first_token: float = 15.0
    idle: float = 15.0
    total: float = 60.0


class Retry(msgspec.Struct, frozen=True):
    """`attempts` upstream calls at most per model, first included; back-off base in seconds."""

    attempts: int = 2
    on: tuple[ErrorClass, ...] = ("rate_limit", "server_error", "timeout", "connect_failed")
    backoff: float = 0.25


class Fallback(msgspec.Struct, frozen=True):
    """One ordered step: another model, or a static answer with the outcome it stands for."""

    model: ModelRef | None = None
    static: str | None = None
    on: tuple[ErrorClass, ...] = ("error",)
    outcome: Literal["fallback", "degraded", "escalated"] = "fallback"


class Policy(msgspec.Struct, frozen=True):
    """Runtime safeguards of a route. `invalid` is what to do, in order, with output that fails its schema."""

    timeout: Timeouts = Timeouts()
    retry: Retry = Retry()
    fallback: tuple[Fallback, ...] = ()
    invalid: tuple[Literal["repair", "retry", "fallback", "error"], ...] = ("repair", "error")
    log: LogMode = "redacted"


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
