"""Runbook: what do I do now? With the ids of now in every command; to be printed."""

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pilothouse.domain.errors import BadRequest, NotFound
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.server.pages import markdown
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.render import Page


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /runbook?route=&env=`."""
    query = page.request.query_params
    names = await run_in_threadpool(ctx.routes)
    route, env = query.get("route", "") or (names[0] if names else ""), query.get("env", "prod")
    if env not in ENVIRONMENTS:
        raise BadRequest(f"no environment {env!r}", where="runbook", hint=", ".join(ENVIRONMENTS))
    if route not in names:
        raise NotFound(f"No route {route}", where="runbook", hint=f"routes: {', '.join(names) or 'none'}")
    text = await run_in_threadpool(ctx.runbook, route, env)
    return page.respond(
        "runbook.html",
        title=f"Runbook of {route}",
        at="releases",
        route=route,
        env=env,
        envs=ENVIRONMENTS,
        names=names,
        blocks=markdown.blocks(text),
    )
