"""The control plane's web app: guard, API, JSON twins and pages in one Starlette app."""

import urllib.parse
from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pilothouse.domain.errors import NotFound, RequestError
from pilothouse.server import api, api_flags, meters, twins
from pilothouse.server.composition import Control
from pilothouse.server.endpoints import route
from pilothouse.server.guard import Guard, wants_json
from pilothouse.server.pages import mount
from pilothouse.server.pagewire import page_context
from pilothouse.server.replies import failure

log = structlog.get_logger("pilothouse.control")

Refusal = Callable[[Request, Exception], Awaitable[Response]]


def make_app(control: Control) -> Starlette:
    """The app over an opened control."""
    host = urllib.parse.urlsplit(f"//{control.listening.host}").hostname or ""
    allowed = frozenset({host, *control.listening.allow_hosts})
    routes: list[BaseRoute] = [
        Route("/healthz", _healthz),
        route(control, "GET", "/metrics", meters.metrics),
        *api.routes(control),
        *api_flags.routes(control),
        *twins.routes(control),
    ]
    context = page_context(control)
    routes += mount.routes(context)
    page = mount.refused(context)
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, gate=control.gate, allowed_hosts=allowed)],
        exception_handlers={HTTPException: _refused(page), Exception: _failed(page)},
    )


async def _healthz(request: Request) -> Response:
    del request
    return PlainTextResponse("ok\n")


def _refused(page: Refusal) -> Refusal:
    """Starlette's own refusals (no such path, wrong method): in our JSON shape for programs, as a page for people."""

    async def handler(request: Request, error: Exception) -> Response:
        path = request.url.path
        if not wants_json(path):
            return await page(request, error)
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404:
            return failure(NotFound(f"nothing is at {path}"))
        answer = failure(RequestError(f"{request.method} is not for {path}", code="method_not_allowed"))
        answer.status_code = status
        return answer

    return handler


def _failed(page: Refusal) -> Refusal:
    """An error that nobody has foreseen: in the log with all that is known, and said to who asked."""

    async def handler(request: Request, error: Exception) -> Response:
        path = request.url.path
        log.error("a request failed", method=request.method, path=path, exc_info=error)
        return failure(mount.fault(request, error)) if wants_json(path) else await page(request, error)

    return handler
