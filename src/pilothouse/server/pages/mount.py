"""The routes of the pages, and the page for what is not there."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from pilothouse.domain.errors import NotFound, PilothouseError
from pilothouse.server.pages import (
    alerts,
    drafting,
    flags,
    live,
    overview,
    planning,
    releases,
    review,
    runbook,
    sessions,
    sign_in,
    trace,
    traces,
)
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.guard import done, failure, seen
from pilothouse.server.pages.render import HEADERS, STATIC, Page


class _Static(StaticFiles):
    """Static files: addressed by a hash of them all, so a browser may keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        lasting = b"v=" in scope.get("query_string", b"")
        answer.headers.update(
            {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable" if lasting else "no-cache"}
        )
        return answer


def routes(ctx: PageContext) -> list[BaseRoute]:
    """Every page, its form targets and its static files, reading through `ctx`.

    Mount after the API and the JSON twins: `/traces/{ident}` would take `/traces/ID.json` too.
    """
    enter = sign_in.sign_in(ctx)
    packed = [Middleware(GZipMiddleware, minimum_size=1_000)]  # a review of many routes: 150 KB become 12
    return [
        Route("/", seen(ctx, overview.show), methods=["GET"], middleware=packed),
        *_traces(ctx, packed),
        *_releases(ctx, packed),
        Route("/runbook", seen(ctx, runbook.show), methods=["GET"], middleware=packed),
        Route("/flags", seen(ctx, flags.show), methods=["GET"], middleware=packed),
        Route("/flags/{key}", seen(ctx, flags.one), methods=["GET"], middleware=packed),
        Route("/flags/{key}", done(ctx, flags.change), methods=["POST"], middleware=packed),
        Route("/review", seen(ctx, review.show), methods=["GET"], middleware=packed),
        Route("/alerts", seen(ctx, alerts.show), methods=["GET"], middleware=packed),
        Route("/alerts/{ident}/ack", done(ctx, alerts.acknowledge), methods=["POST"], middleware=packed),
        Route("/alerts/{ident}/actionable", done(ctx, alerts.judge), methods=["POST"], middleware=packed),
        Route("/login", enter, methods=["GET", "POST"], middleware=packed),
        Route("/logout", done(ctx, sign_in.sign_out), methods=["POST"], middleware=packed),
        Mount("/static", _Static(directory=STATIC), name="static", middleware=packed),
    ]


def _releases(ctx: PageContext, packed: list[Middleware]) -> list[BaseRoute]:
    """The board of a route, a release in the making, its plan."""
    pages = (("", releases.show), ("/new", drafting.show), ("/plan", planning.show))
    forms = (
        ("/new", drafting.edit),
        ("/promote", releases.promote),
        ("/rollback", releases.rollback),
        ("/apply", planning.apply),
        ("/apply/stop", planning.stop),
    )
    return [
        *(Route(f"/releases{path}", seen(ctx, view), methods=["GET"], middleware=packed) for path, view in pages),
        *(Route(f"/releases{path}", done(ctx, verb), methods=["POST"], middleware=packed) for path, verb in forms),
    ]


def _traces(ctx: PageContext, packed: list[Middleware]) -> list[BaseRoute]:
    """The list, its live tail, one trace, sessions and users."""
    tails = live.Tails(ctx)
    pages = (
        ("/traces", traces.show),
        ("/traces/complete", traces.complete),
        ("/traces/{ident}", trace.show),
        ("/traces/{ident}/rows", trace.rows),
        ("/traces/{ident}/step", trace.step),
        ("/payload", trace.payload),
        ("/compare", trace.compare),
        ("/sessions", sessions.sessions),
        ("/sessions/one", sessions.one),
        ("/users", sessions.users),
    )
    forms = (("/traces/{ident}/replay", trace.replay), ("/views", traces.save), ("/views/delete", traces.drop))
    return [
        Route("/traces/live", seen(ctx, tails.show), methods=["GET"]),  # not packed: an event is sent when it happens
        *(Route(path, seen(ctx, view), methods=["GET"], middleware=packed) for path, view in pages),
        *(Route(path, done(ctx, verb), methods=["POST"], middleware=packed) for path, verb in forms),
    ]


def fault(request: Request, error: Exception) -> PilothouseError:
    """What people are told of an error that nobody has foreseen."""
    return PilothouseError(
        f"Pilothouse itself failed here ({type(error).__name__})", where=request.url.path,
        hint="the whole of it is in the data directory, logs/control.log; please report it",
    )  # fmt: skip


def refused(ctx: PageContext) -> Callable[[Request, Exception], Awaitable[Response]]:
    """An exception handler for Starlette's own refusals and for our own faults, as a page."""

    async def handler(request: Request, error: Exception) -> Response:
        page = Page(ctx, request, ctx.session(request.cookies))
        if not isinstance(error, HTTPException):
            return failure(page, fault(request, error))
        answer = failure(page, NotFound(f"Nothing is at {request.url.path}", hint="start from the overview"))
        answer.status_code = error.status_code
        return answer

    return handler
