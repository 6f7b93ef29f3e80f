"""What an API can say and chat cannot: refused by name, never left out in silence."""

from collections.abc import Collection
from typing import Any

from pilothouse.domain.errors import BadRequest


def unsaid(api: str, where: str, why: str = "") -> BadRequest:
    """The error for what stands at `where`."""
    return BadRequest(
        f"“{where}” cannot be said to this provider, which is spoken to in chat/completions"
        + (f": {why}" if why else ""),
        where=where,
        hint=f"leave it out, or name a model whose provider speaks {api} itself (docs: apis)",
        code="unsupported_parameter",
    )


def only(api: str, body: dict[str, Any], known: Collection[str]) -> None:
    """Raise for the first field of `body` that is not known; null and false say nothing."""
    for name, value in body.items():
        if name not in known and value is not None and value is not False:
            raise unsaid(api, name)
