"""The APIs by the name that records carry."""

from pilothouse.gateway.apis.chat import CHAT_API
from pilothouse.gateway.types import Api

APIS: dict[str, Api] = {"chat": CHAT_API}


def api_named(name: str) -> Api:
    """The API of a record; any path that has none of its own is `any`."""
    return APIS.get(name) or APIS["any"]
