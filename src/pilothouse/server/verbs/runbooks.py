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
    text = await asyncio.to_thread(markdown, control, route, env)
    return {"route": route, "env": env, "markdown": text}


def markdown(control: Control, route: str, env: str) -> str:
    """The page itself. Blocking; NotFound."""
    config = control.route(route)
    facts = release_facts.gather(control.state, control.config, route, env, control.clock)
    facts = msgspec.structs.replace(facts, alternates=tuple(alternates.of_route(control, config, env)))
    with control.state.read() as conn:
        practised = drills.list_drills(conn, route, env)
    return runbook(control.config, config, facts, practised, control.clock.now_us())
