"""Alerts: what fired, what was done, was it worth it?"""

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from pilothouse.domain.errors import BadRequest
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.guard import field, redirect, safe_path
from pilothouse.server.pages.render import Page


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /alerts`: every instance, newest first."""
    found = await run_in_threadpool(ctx.alerts)
    judged = [alert.actionable for alert in found if alert.actionable is not None]
    return page.respond("alerts.html", title="Alerts", at="alerts", alerts=found, judged=len(judged), worth=sum(judged))


async def acknowledge(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /alerts/{id}/ack`."""
    await ctx.acknowledge(page.request.path_params["ident"], page.actor)
    return redirect(page, safe_path(field(form, "next") or "/alerts"))


async def judge(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /alerts/{id}/actionable`: yes or no."""
    value = field(form, "value")
    if value not in {"yes", "no"}:
        raise BadRequest("say yes or no", where="alerts")
    await ctx.set_actionable(page.request.path_params["ident"], value == "yes", page.actor)
    return redirect(page, safe_path(field(form, "next") or "/alerts"))
