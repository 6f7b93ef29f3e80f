"""A route's runbook, from what is true now."""

import asyncio
from typing import Any

import msgspec

from pilothouse.releases import facts as release_facts
from pilothouse.releases.runbook import runbook
from pilothouse.server import alternates
from pilothouse.server.composition import Control
from pilothouse.store.state import drills


async def show(control: Control, route: str, env: str) -> dict[str, Any]:
    """One page of Markdown. NotFound."""
    return await asyncio.to_thread(_show, control, route, env)


def _show(control: Control, route: str, env: str) -> dict[str, Any]:
    config = control.route(route)
    facts = release_facts.gather(control.state, control.config, route, env, control.clock)
    facts = msgspec.structs.replace(facts, alternates=tuple(alternates.of_route(control, config, env)))
    with control.state.read() as conn:
        practised = drills.list_drills(conn, route, env)
    text = runbook(control.config, config, facts, practised, control.clock.now_us())
    return {"route": route, "env": env, "markdown": text}
