"""The review: gathered, judged, and kept where it is asked to be."""

import asyncio
from typing import Any

import msgspec

from pilothouse.config.route import RouteConfig
from pilothouse.domain.change import Actor
from pilothouse.domain.errors import BadRequest
from pilothouse.domain.finding import Review
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.review import judge
from pilothouse.review.triggers import REOPENS
from pilothouse.server.composition import Control
from pilothouse.server.evidence import rescan
from pilothouse.server.evidence.gather import gather
from pilothouse.store.state import waivers


async def review(control: Control, route: str = "", env: str = "prod") -> Review:
    """The review of one route, or of all; NotFound, BadRequest."""
    if env not in ENVIRONMENTS:
        raise BadRequest(f"there is no environment {env!r}", hint=f"environments: {', '.join(ENVIRONMENTS)}")
    routes = [control.route(route)] if route else list(control.config.routes.values())
    await control.load()
    made = await asyncio.to_thread(compute, control, routes, env)
    if not route and env == "prod":
        control.review = made
    return made


def compute(control: Control, routes: list[RouteConfig], env: str) -> Review:
    """Gather and judge; `took_ms` covers both."""
    began = control.clock.monotonic()
    rescan.refresh(control, [route.name for route in routes], env)
    made = judge.review(gather(control, env, routes), control.clock)
    hosts = control.hosts
    over = (
        (hosts.name, *(one.host for one in hosts.others)) if hosts is not None and hosts.name and hosts.others else ()
    )
    return msgspec.structs.replace(made, took_ms=(control.clock.monotonic() - began) * 1_000, hosts=over)


async def sign(control: Control, route: str, env: str, actor: Actor, reason: str) -> dict[str, Any]:
    """Keep the route's review of now and log who signed it; closed is what fired before it. NotFound, Refused."""
    measured_us = control.clock.now_us()
    made, said = await review(control, route, env), control.typed(reason)

    def put() -> str:
        with control.state.write() as conn:
            return waivers.sign(conn, made, actor=actor, reason=said, clock=control.clock, measured_us=measured_us)

    address = await asyncio.to_thread(put)
    [one] = made.routes
    return {
        "route": route, "env": env, "review": address, "ready": one.ready, "by": str(actor), "reason": said,
        "closed": [row.id for row in one.findings if row.id in REOPENS and row.status in ("WARN", "FAIL")],
    }  # fmt: skip
