"""`/api/v1`: the verbs over HTTP."""

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute

from pilothouse.releases.pointer import Promotion
from pilothouse.server.composition import Control
from pilothouse.server.endpoints import body, maybe_whole, route, who
from pilothouse.server.verbs import keys, releases

PREFIX = "/api/v1"


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """POST /keys."""

    name: str
    env: str
    owner: str = ""


class NewRelease(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/releases."""

    notes: str = ""


class Promote(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/promote. No `release`: the newest. No `share`: stable at once."""

    release: int
    env: str = "prod"
    share: float | None = None
    force: bool = False
    reason: str = ""


class RollBack(msgspec.Struct, forbid_unknown_fields=True):
    """POST /routes/{route}/rollback."""

    env: str = "prod"
    to: int | None = None
    reason: str = ""


async def status(control: Control, request: Request) -> dict[str, Any]:
    """What runs, who holds which table, how the loops fare."""
    del request
    return {
        "revision": control.table.revision if control.table else None,
        "workers": control.link.workers() if control.link else [],
        "loops": list(control.loops.states.values()),
        "config_error": control.config_error,
        "gateway": control.listening.gateway,
        "routes": sorted(control.config.routes),
    }


async def sign_in_link(control: Control, request: Request) -> dict[str, str]:
    """A one-time token for a person; only for programs, which show the admin token."""
    who(request)
    return {"token": await asyncio.to_thread(control.gate.issue_link)}


async def create_key(control: Control, request: Request) -> dict[str, Any]:
    """A new key, shown this once."""
    asked = await body(request, NewKey)
    return await keys.create(control, asked.name, asked.env, who(request), owner=asked.owner)


async def list_keys(control: Control, request: Request) -> dict[str, Any]:
    """Every key without its secret."""
    del request
    return {"keys": await asyncio.to_thread(keys.every, control)}


async def revoke_key(control: Control, request: Request) -> dict[str, Any]:
    """End a key."""
    return await keys.revoke(control, request.path_params["id"], who(request))


async def create_release(control: Control, request: Request) -> dict[str, Any]:
    """The next release from the app's files."""
    asked = await body(request, NewRelease)
    made = await releases.create(control, request.path_params["route"], who(request), asked.notes)
    return releases.shown(made)


async def list_releases(control: Control, request: Request) -> dict[str, Any]:
    """Releases, pointers and moves of a route."""
    env = request.query_params.get("env") or None
    return await asyncio.to_thread(releases.history, control, request.path_params["route"], env)


async def diff(control: Control, request: Request) -> dict[str, Any]:
    """The 8 parts of two releases."""
    a, b = maybe_whole(request, "a"), maybe_whole(request, "b")
    return await asyncio.to_thread(releases.compare, control, request.path_params["route"], a, b)


async def promote(control: Control, request: Request) -> dict[str, Any]:
    """Make a release stable, or canary for a share."""
    asked = await body(request, Promote)
    order = Promotion(
        env=asked.env,
        release=asked.release,
        actor=who(request),
        reason=asked.reason,
        share=asked.share,
        force=asked.force,
    )
    return await releases.promote(control, request.path_params["route"], order)


async def roll_back(control: Control, request: Request) -> dict[str, Any]:
    """Back to the release before, or off the canary."""
    asked = await body(request, RollBack)
    return await releases.rollback(
        control, request.path_params["route"], asked.env, who(request), to=asked.to, reason=asked.reason
    )


def routes(control: Control) -> list[BaseRoute]:
    """Everything under `/api/v1`."""
    table = (
        ("GET", "/status", status),
        ("POST", "/sign-in-links", sign_in_link),
        ("GET", "/keys", list_keys),
        ("POST", "/keys", create_key),
        ("DELETE", "/keys/{id}", revoke_key),
        ("GET", "/routes/{route}/releases", list_releases),
        ("POST", "/routes/{route}/releases", create_release),
        ("GET", "/routes/{route}/diff", diff),
        ("POST", "/routes/{route}/promote", promote),
        ("POST", "/routes/{route}/rollback", roll_back),
    )
    return [route(control, method, PREFIX + path, handler) for method, path, handler in table]
