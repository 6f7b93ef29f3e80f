"""Review: are we ready? The fragment comes from the review; the page frames it, on screen and on paper."""

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from pilothouse.domain.errors import NotFound
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.render import Page


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /review?route=`."""
    route = page.request.query_params.get("route", "")
    names = await run_in_threadpool(ctx.routes)
    if route and route not in names:
        raise NotFound(f"No route {route}", where="review", hint=f"routes: {', '.join(names) or 'none'}")
    found = await run_in_threadpool(ctx.review, route)
    html = await run_in_threadpool(ctx.review_html, found)
    return page.respond(
        "review.html",
        title=f"Review of {route}" if route else "Review",
        at="review",
        found=found,
        html=Markup(html),  # noqa: S704  # review.render escapes; it is our own fragment
        route=route,
        names=names,
    )
