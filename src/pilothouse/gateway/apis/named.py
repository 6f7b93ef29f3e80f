"""The APIs by the name that records carry, and by the path that clients call."""

from pilothouse.gateway.apis.chat import CHAT_API
from pilothouse.gateway.apis.counting import COUNT_API
from pilothouse.gateway.apis.embeddings import EMBEDDINGS_API, MODERATIONS_API
from pilothouse.gateway.apis.messages import MESSAGES_API
from pilothouse.gateway.apis.passing import ANY_API
from pilothouse.gateway.apis.responses import RESPONSES_API
from pilothouse.gateway.types import Api

_ALL: tuple[Api, ...] = (CHAT_API, MESSAGES_API, COUNT_API, RESPONSES_API, EMBEDDINGS_API, MODERATIONS_API, ANY_API)
APIS: dict[str, Api] = {api.name: api for api in _ALL}
# Each is asked with POST. Any other path under /v1/, and any other method, is ANY_API's.
PATHS: dict[str, Api] = {
    "/v1/chat/completions": CHAT_API,
    "/chat/completions": CHAT_API,
    "/v1/messages": MESSAGES_API,
    "/v1/messages/count_tokens": COUNT_API,
    "/v1/responses": RESPONSES_API,
    "/v1/embeddings": EMBEDDINGS_API,
    "/v1/moderations": MODERATIONS_API,
}


def api_named(name: str) -> Api:
    """The API of a record; any path that has none of its own is `any`."""
    return APIS.get(name) or APIS["any"]
