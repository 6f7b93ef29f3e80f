"""Alerts: what fired, what was done, was it worth it?"""

from collections.abc import Iterable

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from pilothouse.domain.alert import Alert
from pilothouse.domain.errors import BadRequest
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.guard import field, redirect, safe_path
from pilothouse.server.pages.render import Page

_STATE_ORDER = {"firing": 0, "pending": 1, "acknowledged": 2, "no_data": 3}


def ordered(alerts: Iterable[Alert]) -> list[Alert]:
    """What fires first, and of each state the newest first."""
    return sorted(alerts, key=lambda a: (_STATE_ORDER.get(a.state, 9), -a.since_us))


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /alerts`: every instance, what fires first."""
    found = await run_in_threadpool(ctx.alerts)
    judged = [alert.actionable for alert in found if alert.actionable is not None]
    return page.respond(
        "alerts.html", title="Alerts", at="alerts", alerts=ordered(found), judged=len(judged), worth=sum(judged)
    )


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
