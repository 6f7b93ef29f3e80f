"""Flags: what is on, for whom, and does anybody still need it?"""

from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from pilothouse.config.quantities import share
from pilothouse.domain.errors import BadRequest
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.server.pages import marks
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.flag_shown import FlagAsk, FlagBoard
from pilothouse.server.pages.guard import field, redirect, whole
from pilothouse.server.pages.lanes import Outcome
from pilothouse.server.pages.render import Page

VERBS = ("enable", "disable", "set", "rollout", "reset")


def _environment(name: str) -> str:
    return name if name in ENVIRONMENTS else "prod"


async def show(ctx: PageContext, page: Page) -> Response:
    """`GET /flags?env=`: every flag."""
    env = _environment(page.request.query_params.get("env", ""))
    rows = await run_in_threadpool(ctx.flags.rows, env)
    troubled = sum(bool(row.troubles) for row in rows)
    envs = [(name, name) for name in reversed(ENVIRONMENTS)]
    return page.respond("flags.html", title="Flags", at="flags", rows=rows, env=env, envs=envs, troubled=troubled)


async def one(ctx: PageContext, page: Page) -> Response:
    """`GET /flags/{key}?env=`: one flag."""
    query = page.request.query_params
    board = await run_in_threadpool(
        ctx.flags.board, page.request.path_params["key"], _environment(query.get("env", ""))
    )
    return page.respond(
        "flag.html",
        title=board.row.key,
        at="flags",
        board=board,
        row=board.row,
        env=board.row.env,
        envs=[(name, name) for name in reversed(ENVIRONMENTS)],
        values={name: msgspec.json.encode(value).decode() for name, value in board.variants.items()},
        uses={use.variant: use for use in board.uses},
        series=_series(board),
        said=query.get("said", "")[:400],
    )


def _series(board: FlagBoard) -> tuple[Outcome, ...]:
    """Evaluations of each variant over time, all on one scale."""
    top = max((n for counts in board.series.values() for n in counts), default=0)
    named = sorted(board.series.items(), key=lambda each: -sum(each[1]))
    return tuple(
        Outcome(name or "the code's default", "n", marks.spark([float(n) for n in counts], top=float(top)))
        for name, counts in named
    )


async def change(ctx: PageContext, page: Page, form: FormData) -> Response:
    """`POST /flags/{key}`: only with the flag's key typed."""
    key, env = page.request.path_params["key"], _environment(field(form, "env"))
    if field(form, "confirm") != key:
        raise BadRequest(f"the key typed is not {key}", where="flags", hint="type the flag's key; nothing was changed")
    what, _, variant = field(form, "what").partition(":")
    if what not in VERBS:
        raise BadRequest("say what is to change", where="flags")
    revision = field(form, "revision")
    ask = FlagAsk(
        key=key,
        env=env,
        what=what,
        variant=variant or field(form, "variant"),
        share=_share(field(form, "share")) if what == "rollout" else 0.0,
        reason=field(form, "reason"),
        revision=whole(revision, "revision", "flags") if revision else None,
    )
    told = await ctx.flags.change(ask, page.actor)
    return redirect(page, f"/flags/{quote(key, safe='')}?env={env}&said={quote(told, safe='')}")


def _share(text: str) -> float:
    try:
        return share(text if text.endswith("%") else f"{text}%")
    except ValueError as error:
        raise BadRequest(str(error), where="share", hint="such as 25 %") from error
