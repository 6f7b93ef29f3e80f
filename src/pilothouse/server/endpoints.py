"""How an endpoint of the control plane is made: read the body strictly, answer JSON, turn errors into answers."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import BadRequest, PilothouseError, TooLarge, Unauthorized
from pilothouse.server.composition import Control
from pilothouse.server.replies import failure, json

log = structlog.get_logger("pilothouse.control")
T = TypeVar("T")

BODY_MAX = 1 << 20  # bytes; a verb's body is a few names
Handler = Callable[[Control, Request], Awaitable[Any]]


def route(control: Control, method: str, path: str, handler: Handler) -> Route:
    """`handler`'s value as JSON, or its Response as it is."""

    async def endpoint(request: Request) -> Response:
        try:
            value = await handler(control, request)
        except PilothouseError as error:
            return failure(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # request boundary: logged with its trace, answered as an internal error
            log.exception("a request failed", path=request.url.path, error=str(error))
            return failure(PilothouseError("internal error", where=path, hint="see logs/control.log"))
        return value if isinstance(value, Response) else json(value)

    endpoint.__name__ = handler.__name__
    return Route(path, endpoint, methods=[method])


async def body(request: Request, kind: type[T]) -> T:
    """The body as `kind`; BadRequest names the first thing that is wrong with it."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > BODY_MAX:
            raise TooLarge(f"the body is over {BODY_MAX >> 10} KiB")
    try:
        return msgspec.json.decode(bytes(content) or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not as expected: {error}", where=request.url.path) from error


def who(request: Request) -> Actor:
    """The caller, as the guard made sure of; Unauthorized where there is none."""
    actor = request.scope.get("actor")
    if not isinstance(actor, Actor):
        raise Unauthorized("not signed in")
    return actor


def whole(request: Request, name: str) -> int:
    """A query parameter that must be a whole number; BadRequest."""
    text = request.query_params.get(name, "")
    try:
        return int(text)
    except ValueError as error:
        raise BadRequest(f"{name} must be a whole number, not {text!r}", where=request.url.path) from error


def maybe_whole(request: Request, name: str) -> int | None:
    """The same for a parameter that may be absent."""
    return whole(request, name) if request.query_params.get(name) else None
