"""A plan carried on by control while a person looks, or not: the loop of `pilothouse release apply`, held by a task.

It ends with its process, as the terminal's does, and goes on when it is asked for again: there is nothing to resume but
the pointers.
"""

from dataclasses import dataclass, replace
from typing import Any

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import Conflict, PilothouseError
from pilothouse.server.composition import Carried, Control
from pilothouse.server.onward import onward
from pilothouse.server.verbs import evals, plans
from pilothouse.server.verbs.plans import Apply

EVERY_S = 1.0  # how often a step that waits is looked at


@dataclass(frozen=True, kw_only=True)
class Order:
    """Carry a plan on. `gate`: run the gate where it was not run."""

    apply: Apply
    gate: bool = True


async def carry_on(control: Control, order: Order, actor: Actor) -> dict[str, Any]:
    """Do the first step now, and the rest in a task; the plan as it stands after the first. Raises what `apply` raises.

    Conflict where a plan of the route is carried on in this environment already.
    """
    key = (order.apply.route, order.apply.env)
    running = control.carried.get(key)
    if running is not None and not running.ended:
        raise Conflict(
            f"release {running.release} is being carried on by {running.actor}", where=f"{key[0]} in {key[1]}",
            hint="wait for its end, or stop it", code="carried_on",
        )  # fmt: skip
    carried = Carried(release=order.apply.release or 0, actor=str(actor), since_us=control.clock.now_us())
    control.carried[key] = carried  # before anything is awaited: a second order finds it
    try:
        found = await plans.apply(control, order.apply, actor)
    except PilothouseError:
        control.carried.pop(key, None)
        raise
    carried.release = found["to"]
    following = replace(order, apply=Apply(route=key[0], env=key[1], release=found["to"]))
    control.tasks.spawn(_rest(control, following, actor, carried, found), f"plan {key[0]}")
    return found


def stop(control: Control, route: str, env: str) -> bool:
    """Carry the plan no further than the step that is under way; whether there was one to stop."""
    carried = control.carried.get((route, env))
    if carried is None or carried.ended:
        return False
    carried.stopped = True
    return True


async def _rest(control: Control, order: Order, actor: Actor, carried: Carried, found: dict[str, Any]) -> None:
    """The steps after the first. What goes wrong is kept for who looks."""
    try:
        while not carried.stopped:
            following = onward(found)
            if following == "end" or (following == "gate" and not order.gate):
                return
            if following == "gate":
                await _gate(control, order, actor, carried)
            elif following == "wait" and not await control.loops.rest(EVERY_S):
                return
            if not carried.stopped:
                found = await plans.apply(control, order.apply, actor)
    except PilothouseError as error:
        carried.error = str(error)
    finally:
        carried.ended = True
        carried.done = carried.total = 0


async def _gate(control: Control, order: Order, actor: Actor, carried: Carried) -> None:
    asked = evals.Asked(route=order.apply.route, release=carried.release)
    async for line in evals.judge(control, asked, actor):
        if line["type"] == "progress":
            carried.done, carried.total = line["done"], line["total"]
        elif line["type"] == "error":
            carried.error = line["error"]["message"]
            carried.stopped = True
    carried.done = carried.total = 0
