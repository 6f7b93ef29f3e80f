"""The control plane's web app: guard, API, JSON twins and pages in one Starlette app."""

import urllib.parse

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pilothouse.domain.errors import NotFound, RequestError
from pilothouse.server import api, twins
from pilothouse.server.composition import Control
from pilothouse.server.guard import Guard
from pilothouse.server.replies import failure


def make_app(control: Control) -> Starlette:
    """The app over an opened control."""
    host = urllib.parse.urlsplit(f"//{control.listening.host}").hostname or ""
    allowed = frozenset({host, *control.listening.allow_hosts})
    routes: list[BaseRoute] = [Route("/healthz", _healthz), *api.routes(control), *twins.routes(control)]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, gate=control.gate, allowed_hosts=allowed)],
        exception_handlers={HTTPException: _refused},
    )


async def _healthz(request: Request) -> Response:
    del request
    return PlainTextResponse("ok\n")


async def _refused(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (no such path, wrong method) in our shape."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return failure(NotFound(f"nothing is at {request.url.path}"))
    answer = failure(RequestError(f"{request.method} is not for {request.url.path}", code="method_not_allowed"))
    answer.status_code = status
    return answer
