"""Releases: what changed, and can I take it back?"""

import math
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from pilothouse.domain.errors import BadRequest, NotFound
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.server.pages import difference, evidence, lanes, marks, overview, planning
from pilothouse.server.pages.context import (
    BUCKET_S,
    PageContext,
    Promotion,
    ReleaseBoard,
    Return,
)
from pilothouse.server.pages.guard import field, redirect, whole
from pilothouse.server.pages.plan_shown import PlanShown
from pilothouse.server.pages.practised import practised
from pilothouse.server.pages.render import Page

SHARES = ((0.01, "1 %"), (0.05, "5 %"), (0.1, "10 %"), (0.25, "25 %"), (0.5, "50 %"), (1.0, "all traffic"))
HISTORY_SHOWN = 40
LIVE_EVERY_S = 5  # how often a page with a canary on it asks for its news


class Comparison(msgspec.Struct, frozen=True):
    """Two releases side by side."""

    a: int
    b: int
    parts: tuple[difference.PartDifference, ...]
    plan: PlanShown
    steps: tuple[planning.Standing, ...]


def _window(board: ReleaseBoard) -> str:
    return next((window for window, bucket_s in BUCKET_S.items() if bucket_s == board.bucket_s), "")


def _release(text: str, name: str) -> int | None:
    return whole(text, name, "releases") if text else None


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /releases?route=&a=&b=&env=`: the board of one route, and a comparison where one is asked for.

    Where the page asks for its news it gets what is now and its canary alone.
    """
    query = page.request.query_params
    names = await run_in_threadpool(ctx.routes)
    route = query.get("route", "") or (names[0] if names else "")
    if not route:
        return page.respond("releases_none.html", title="Releases", at="releases")
    read = ctx.releases_now if page.partial else ctx.releases
    found = await run_in_threadpool(read, route)
    if found is None:
        raise NotFound(f"No route {route}", where="releases", hint=f"routes: {', '.join(names) or 'none'}")
    shown: dict[str, Any] = {
        "board": found,
        "canaries": [evidence.drawn(one, page.now_us) for one in found.canaries],
        "evident": {one.env for one in found.canaries},
        "e_value": evidence.e_value,
        "envs": ENVIRONMENTS,
        "live": {p.env: p for p in found.pointers},
        "every": LIVE_EVERY_S if any(one.state == "running" for one in found.canaries) else 0,
    }
    if not isinstance(found, ReleaseBoard):
        return page.respond("releases_now.html", **shown)
    board = found
    env = query.get("env", "prod") if query.get("env", "prod") in ENVIRONMENTS else "prod"
    comparison = await _comparison(ctx, board, env, *(_release(query.get(name, ""), name) for name in "ab"))
    return page.respond(
        "releases.html",
        title=f"Releases of {route}",
        at="releases",
        **shown,
        names=names,
        lanes=lanes.lanes(board),
        outcomes=lanes.outcomes(board),
        reach=overview.WINDOW_NAMES.get(_window(board), ""),
        ticks=marks.time_ticks(board.since_us, board.until_us, lanes.WIDTH),
        comparison=comparison,
        drills=[practised(one) for one in board.drills],
        parts=PARTS,
        shares=SHARES,
        history=board.history[:HISTORY_SHOWN],
        said=query.get("said", "")[:400],
    )


async def _comparison(
    ctx: PageContext, board: ReleaseBoard, env: str, a: int | None, b: int | None
) -> Comparison | None:
    """`b` against `a`; where neither is named, the newest against what `env` serves, or against the one before."""
    numbers = [row.number for row in board.releases]
    if b is None and numbers:
        b = numbers[0]
    if a is None and b is not None:
        stable = next((p.stable for p in board.pointers if p.env == env), None)
        older = [n for n in numbers if n < b]
        a = stable if stable is not None and stable != b else (older[0] if older else None)
    if a is None or b is None:
        return None
    before = await run_in_threadpool(ctx.manifest, board.route, a)
    after = await run_in_threadpool(ctx.manifest, board.route, b)
    if before is None or after is None:
        raise NotFound(f"{board.route} has no release {a if before is None else b}", where="releases")
    plan = await run_in_threadpool(ctx.plans.plan, board.route, b, env)
    return Comparison(a, b, difference.between(before, after), plan, tuple(planning.standing(plan)))


def _back(route: str, said: str) -> str:
    return f"/releases?route={quote(route, safe='')}&said={quote(said, safe='')}"


def _environment(form: FormData) -> str:
    env = field(form, "env")
    if env not in ENVIRONMENTS:
        raise BadRequest(f"no environment {env!r}", where="releases", hint=", ".join(ENVIRONMENTS))
    return env


async def promote(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /releases/promote`: release, env, share, and a reason where the gate is overruled."""
    route, release = field(form, "route"), _release(field(form, "release"), "release")
    if release is None:
        raise BadRequest("no release was chosen", where="promote", hint="choose one from the list")
    try:
        share = float(field(form, "share") or "1")
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise BadRequest("the share must lie between 0 and 1", where="promote")
    force, reason = field(form, "force") == "yes", field(form, "reason")
    if force and not reason:
        raise BadRequest("overruling the gate needs a reason", where="promote", hint="it is kept in the change log")
    order = Promotion(route=route, release=release, env=_environment(form), share=share, force=force, reason=reason)
    return redirect(page, _back(route, await ctx.promote(order, page.actor)))


async def rollback(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /releases/rollback`: only with the route's name typed. `part`: that part alone."""
    route = field(form, "route")
    if field(form, "confirm") != route:
        raise BadRequest(
            f"the name typed is not {route}", where="roll back", hint="type the route's name; nothing was changed"
        )
    target, part = _release(field(form, "to"), "to"), field(form, "part")
    if part and part not in PARTS:
        raise BadRequest(f"no part {part!r}", where="roll back", hint=", ".join(PARTS))
    force, reason = field(form, "force") == "yes", field(form, "reason")
    if force and not reason:
        raise BadRequest(
            "a part that is not tried first needs a reason", where="roll back", hint="it is kept in the change log"
        )
    order = Return(route=route, env=_environment(form), to=target, reason=reason, part=part, force=force)
    return redirect(page, _back(route, await ctx.rollback(order, page.actor)))
