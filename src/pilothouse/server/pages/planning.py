"""The plan of a release: what comes next, what does it wait for? Carried on from here, or looked at while it is."""

from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from pilothouse.domain.errors import BadRequest, PilothouseError
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.server.pages import difference
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.guard import field, redirect, whole
from pilothouse.server.pages.plan_shown import ApplyAsk, PlanShown, PlanStep
from pilothouse.server.pages.render import HEADERS, Page

CARRIED_EVERY_S, WAITING_EVERY_S = 2, 5  # how often the page asks for its news
WORDS = {"done": "PASS", "ready": "N/A", "waiting": "STALE", "blocked": "FAIL"}


class Standing(msgspec.Struct, frozen=True):
    """A step as it is drawn. `reached`: everything before it is done."""

    step: PlanStep
    reached: bool
    status: str


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /releases/plan?route=&release=&env=`.

    Where the page asks for its news it gets the steps alone; when the plan that it followed is carried on no more, it
    is told to load itself anew.
    """
    query = page.request.query_params
    plan = await _read(ctx, query.get("route", ""), query.get("release", ""), query.get("env", "prod"))
    if page.partial and query.get("followed") and not _carried(plan):
        return Response(status_code=204, headers={**HEADERS, "HX-Refresh": "true"})
    return await _respond(ctx, page, plan, said=query.get("said", "")[:400])


async def apply(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /releases/apply`: only with the route's name typed, and only on the plan that was looked at."""
    plan = await _read(ctx, field(form, "route"), field(form, "release"), field(form, "env"))
    gate = field(form, "gate") == "yes"
    try:
        if field(form, "confirm") != plan.route:
            raise BadRequest(
                f"the name typed is not {plan.route}",
                where="confirm",
                hint="type the route's name; nothing was changed",
            )
        revision = whole(field(form, "revision"), "the revision of the plan that was looked at", "apply")
        asked = ApplyAsk(route=plan.route, env=plan.env, release=plan.to, revision=revision, gate=gate)
        said = await ctx.plans.apply(asked, page.actor)
    except PilothouseError as error:
        return await _respond(ctx, page, plan, wrong=error, typed=field(form, "confirm"), gate=gate)
    return redirect(page, _address(plan, said))


async def stop(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /releases/apply/stop`: no step follows the one that is under way; nothing is taken back."""
    plan = await _read(ctx, field(form, "route"), field(form, "release"), field(form, "env"))
    stopped = ctx.plans.stop(plan.route, plan.env)
    said = "The plan is carried on no further; what is live stays so." if stopped else "Nothing was being carried on."
    return redirect(page, _address(plan, said))


async def _read(ctx: PageContext, route: str, release: str, env: str) -> PlanShown:
    if env not in ENVIRONMENTS:
        raise BadRequest(f"no environment {env!r}", where="plan", hint=", ".join(ENVIRONMENTS))
    return await run_in_threadpool(ctx.plans.plan, route, whole(release, "the release", "plan"), env)


def _address(plan: PlanShown, said: str) -> str:
    query = {"route": plan.route, "release": str(plan.to), "env": plan.env, "said": said}
    return f"/releases/plan?{urlencode(query)}"


def _carried(plan: PlanShown) -> bool:
    return plan.carried is not None and not plan.carried.ended


def standing(plan: PlanShown) -> list[Standing]:
    """The steps; what follows the first that is not done is not reached yet, whatever stands against it now."""
    first = next((i for i, step in enumerate(plan.steps) if step.state != "done"), len(plan.steps))
    return [Standing(step, i <= first, WORDS[step.state]) for i, step in enumerate(plan.steps)]


async def _respond(
    ctx: PageContext,
    page: Page,
    plan: PlanShown,
    *,
    said: str = "",
    wrong: PilothouseError | None = None,
    typed: str = "",
    gate: bool = True,
) -> Response:
    carried = _carried(plan)
    every = CARRIED_EVERY_S if carried else WAITING_EVERY_S if plan.state == "waiting" else 0
    shown: dict[str, Any] = {"plan": plan, "steps": standing(plan), "carried": carried}
    if page.partial:
        return page.respond("plan_part.html", **shown, every=every)
    parts: tuple[difference.PartDifference, ...] = ()
    if plan.live is not None and plan.live != plan.to:
        before = await run_in_threadpool(ctx.manifest, plan.route, plan.live)
        after = await run_in_threadpool(ctx.manifest, plan.route, plan.to)
        parts = difference.between(before, after) if before is not None and after is not None else ()
    return page.respond(
        "plan.html",
        status=wrong.status if wrong is not None else 200,
        title=f"Plan of {plan.route} {plan.to}",
        at="releases",
        **shown,
        every=every,
        parts=parts,
        envs=[(name, name) for name in reversed(ENVIRONMENTS)],
        said=said,
        wrong=wrong,
        typed=typed,
        gate=gate,
        gated=any(step.kind == "gate" and step.state == "ready" for step in plan.steps),
    )
