"""`/api/v1`: plans carried on, parts taken back, indexes, models and kill switches."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pilothouse.domain.release import IndexVersion
from pilothouse.server.composition import Control
from pilothouse.server.endpoints import Handler, body, maybe_whole, who
from pilothouse.server.verbs import indexes, models, plans, releases, reverts, routes


class RollBack(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/rollback. `part`: take back that part alone; `force`: also where no input is recorded."""

    env: str = "prod"
    to: int | None = None
    reason: str = ""
    part: str = ""
    force: bool = False


class Apply(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/apply. No `release`: the newest. `revision`: 409 where the pointer's is another."""

    release: int | None = None
    env: str = "prod"
    revision: int | None = None


class NewIndexVersion(msgspec.Struct, forbid_unknown_fields=True):
    """POST /indexes."""

    name: str
    version: str
    notes: str = ""
    documents: int | None = None
    built_us: int | None = None


class Flip(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/disable and /enable."""

    env: str = "prod"
    reason: str = ""


class SwitchModel(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/models/switch. No `model`: the first that is qualified; `back`: the release's own."""

    env: str = "prod"
    model: str = ""
    reason: str = ""
    force: bool = False
    back: bool = False


class Qualify(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/models/qualify. No `model`: all alternates."""

    model: str = ""


async def roll_back(control: Control, request: Request) -> dict[str, Any]:
    """Back to the release before, off the canary, or one part alone."""
    asked, route = await body(request, RollBack), request.path_params["route"]
    if asked.part:
        order = reverts.Order(
            route=route, env=asked.env, part=asked.part, to=asked.to, reason=asked.reason, force=asked.force
        )
        return await reverts.revert(control, order, who(request))
    return await releases.rollback(control, route, asked.env, who(request), to=asked.to, reason=asked.reason)


async def plan(control: Control, request: Request) -> dict[str, Any]:
    """The steps to a release, as they stand now."""
    release, env = maybe_whole(request, "release"), request.query_params.get("env", "prod")
    await control.load()
    return await asyncio.to_thread(plans.planned, control, request.path_params["route"], release, env)


async def apply(control: Control, request: Request) -> dict[str, Any]:
    """The next step, done where it is ready."""
    asked = await body(request, Apply)
    name = request.path_params["route"]
    order = plans.Apply(route=name, env=asked.env, release=asked.release, revision=asked.revision)
    return await plans.apply(control, order, who(request))


async def list_indexes(control: Control, request: Request) -> dict[str, Any]:
    """Every version of every index, and what serves it."""
    del request
    return await asyncio.to_thread(indexes.every, control)


async def register_index(control: Control, request: Request) -> IndexVersion:
    """A new version of an index."""
    asked = await body(request, NewIndexVersion)
    version = msgspec.convert(msgspec.structs.asdict(asked), IndexVersion)
    return await asyncio.to_thread(indexes.register, control, version, who(request))


async def show_part(control: Control, request: Request) -> dict[str, Any]:
    """A part by its hash, and the releases that it is in."""
    return await asyncio.to_thread(releases.part, control, request.path_params["hash"])


async def disable(control: Control, request: Request) -> dict[str, Any]:
    """The kill switch."""
    asked = await body(request, Flip)
    return await routes.disable(control, request.path_params["route"], asked.env, who(request), asked.reason)


async def enable(control: Control, request: Request) -> dict[str, Any]:
    """Serve it again."""
    asked = await body(request, Flip)
    return await routes.enable(control, request.path_params["route"], asked.env, who(request), asked.reason)


async def list_models(control: Control, request: Request) -> dict[str, Any]:
    """The alternates, and how fit they are."""
    return await asyncio.to_thread(models.listed, control, request.path_params["route"])


async def switch_model(control: Control, request: Request) -> dict[str, Any]:
    """Another model for the route, or its own again."""
    asked, route = await body(request, SwitchModel), request.path_params["route"]
    if asked.back:
        return await models.switch_back(control, route, asked.env, who(request), asked.reason)
    order = models.Switch(route=route, env=asked.env, model=asked.model, reason=asked.reason, force=asked.force)
    return await models.switch(control, order, who(request))


async def qualify_model(control: Control, request: Request) -> Response:
    """Evaluate and probe alternates; NDJSON with progress."""
    asked = await body(request, Qualify)
    return streamed(models.qualify(control, request.path_params["route"], asked.model, who(request)))


def streamed(lines: AsyncIterator[dict[str, Any]]) -> Response:
    """One JSON document a line, as they come."""

    async def encoded() -> AsyncIterator[bytes]:
        async for line in lines:
            yield msgspec.json.encode(line) + b"\n"

    return StreamingResponse(encoded(), media_type="application/x-ndjson")


TABLE: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/routes/{route}/rollback", roll_back),
    ("GET", "/routes/{route}/plan", plan),
    ("POST", "/routes/{route}/apply", apply),
    ("GET", "/indexes", list_indexes),
    ("POST", "/indexes", register_index),
    ("GET", "/parts/{hash}", show_part),
    ("POST", "/routes/{route}/disable", disable),
    ("POST", "/routes/{route}/enable", enable),
    ("GET", "/routes/{route}/models", list_models),
    ("POST", "/routes/{route}/models/switch", switch_model),
    ("POST", "/routes/{route}/models/qualify", qualify_model),
)
