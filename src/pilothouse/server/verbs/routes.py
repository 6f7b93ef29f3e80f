"""A route's kill switch, by hand; its use is evidence that it works."""

import asyncio
from typing import Any

from pilothouse.domain.change import Actor
from pilothouse.domain.release_facts import Drill
from pilothouse.releases import pointer
from pilothouse.server.composition import Control
from pilothouse.server.verbs.releases import settled
from pilothouse.store.state import drills


async def disable(control: Control, route: str, env: str, actor: Actor, reason: str) -> dict[str, Any]:
    """Serve nothing of the route in `env` from now on, on every worker when this returns; Refused where it is so."""
    return await _switch(control, route, env, True, actor, reason)


async def enable(control: Control, route: str, env: str, actor: Actor, reason: str) -> dict[str, Any]:
    """Serve it again; Refused where it is."""
    return await _switch(control, route, env, False, actor, reason)


async def _switch(control: Control, route: str, env: str, disabled: bool, actor: Actor, reason: str) -> dict[str, Any]:
    began = control.clock.monotonic()
    reason = control.typed(reason)
    moved = await asyncio.to_thread(
        pointer.set_disabled, control.state, route, env, disabled, actor=actor, reason=reason, clock=control.clock
    )
    told = await settled(control, moved, began)
    if disabled and told["of"]:
        await asyncio.to_thread(_exercised, control, route, env, told)
    return told


def _exercised(control: Control, route: str, env: str, told: dict[str, Any]) -> None:
    """T10.3: the switch was thrown, and every worker took it."""
    detail = {"propagated_ms": told["propagated_ms"], "workers": told["workers"], "of": told["of"], "real": True}
    with control.state.write() as conn:
        drill = Drill(id=0, kind="disable_route", route=route, env=env, ts_us=0, ok=not told["late"], detail=detail)
        drills.record(conn, drill, control.clock)
