"""`/api/v1/flags`, the route's kill switch, and the flags' JSON twins."""

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute

from pilothouse.config.flags import rules_of
from pilothouse.domain.flag import Share
from pilothouse.domain.flag_evaluation import Evaluation
from pilothouse.releases import flags as flagged
from pilothouse.releases.flags import FlagOrder
from pilothouse.server.composition import Control
from pilothouse.server.endpoints import body, route, who
from pilothouse.server.pages.flag_shown import FlagBoard
from pilothouse.server.twins import moment
from pilothouse.server.verbs import flags
from pilothouse.server.views import flags as views

PREFIX = "/api/v1"


class ChangeFlag(msgspec.Struct, forbid_unknown_fields=True):
    """POST /flags/{key}: one of `enabled`, `variant`, `rollout` (variant → share), `rules` and `reset`.

    `if_revision`: only if the flag is at this revision still. `rules` are written as in pilothouse.yaml, as JSON
    or as YAML's text.
    """

    env: str = "prod"
    enabled: bool | None = None
    variant: str | None = None
    rollout: dict[str, float] | None = None
    rules: list[Any] | str | None = None
    reset: bool = False
    reason: str = ""
    if_revision: int | None = None


class EvaluateFlag(msgspec.Struct, forbid_unknown_fields=True):
    """POST /flags/{key}/evaluate."""

    env: str = "prod"
    context: dict[str, Any] = {}


async def list_flags(control: Control, request: Request) -> dict[str, Any]:
    """Every flag in an environment; with `stale` those alone that somebody should look at."""
    asked = request.query_params
    env = views.environment(asked.get("env", "") or "prod")
    await control.load()
    found = await asyncio.to_thread(views.rows, control, env)
    return {"env": env, "flags": [row for row in found if row.troubles or not asked.get("stale")]}


async def show_flag(control: Control, request: Request) -> FlagBoard:
    """One flag."""
    await control.load()
    env = request.query_params.get("env", "") or "prod"
    return await asyncio.to_thread(views.board, control, request.path_params["key"], env)


async def change_flag(control: Control, request: Request) -> dict[str, Any]:
    """Change a flag; on every worker when it answers."""
    asked, key = await body(request, ChangeFlag), request.path_params["key"]
    flag = flagged.require(control.config, key, asked.env)
    order = FlagOrder(
        key=key,
        env=asked.env,
        actor=who(request),
        reason=asked.reason,
        enabled=asked.enabled,
        variant=asked.variant,
        rollout=None if asked.rollout is None else tuple(Share(name, part) for name, part in asked.rollout.items()),
        rules=None if asked.rules is None else rules_of(asked.rules, flag, f"rules of {key}"),
        reset=asked.reset,
        expected_revision=asked.if_revision,
    )
    return await flags.change(control, order)


async def evaluate_flag(control: Control, request: Request) -> Evaluation:
    """What a worker would say; it is not counted."""
    asked = await body(request, EvaluateFlag)
    return await asyncio.to_thread(flags.evaluated, control, request.path_params["key"], asked.env, asked.context)


async def flag_history(control: Control, request: Request) -> dict[str, Any]:
    """What happened to a flag, newest first; with `at` also what it was then, in prod where no `env` is named."""
    key, asked = request.path_params["key"], request.query_params
    env, at = asked.get("env", ""), moment(asked.get("at", ""), control.clock)
    found = {"flag": key, "changes": await asyncio.to_thread(flags.history, control, key, env)}
    return found | ({"then": await asyncio.to_thread(flags.then, control, key, env or "prod", at)} if at else {})


def routes(control: Control) -> list[BaseRoute]:
    """Everything about flags."""
    table = (
        ("GET", PREFIX + "/flags", list_flags),
        ("GET", PREFIX + "/flags/{key}", show_flag),
        ("POST", PREFIX + "/flags/{key}", change_flag),
        ("POST", PREFIX + "/flags/{key}/evaluate", evaluate_flag),
        ("GET", PREFIX + "/flags/{key}/history", flag_history),
        ("GET", "/flags.json", list_flags),
        ("GET", "/flags/{key}.json", show_flag),
    )
    return [route(control, method, path, handler) for method, path, handler in table]
