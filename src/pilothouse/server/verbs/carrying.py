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
UNFORESEEN = "Pilothouse itself failed; logs/control.log says how"
NO_VERDICT = "the gate ended without a verdict; logs/control.log says how"


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
    begun = False
    try:
        found = await plans.apply(control, order.apply, actor)
        carried.release = found["to"]
        following = replace(order, apply=Apply(route=key[0], env=key[1], release=found["to"]))
        control.tasks.spawn(_rest(control, following, actor, carried, found), f"plan {key[0]}")
        begun = True
    finally:
        if not begun:  # whatever it was, or a caller who has left: the plan can be carried on again
            control.carried.pop(key, None)
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
    error = UNFORESEEN
    try:
        error = await _steps(control, order, actor, carried, found)
    except PilothouseError as failed:
        error = str(failed)
    finally:
        carried.error, carried.ended = error, True
        carried.done = carried.total = 0


async def _steps(control: Control, order: Order, actor: Actor, carried: Carried, found: dict[str, Any]) -> str:
    """Carry on until nothing follows, or until it is stopped; what the gate ended with instead of a verdict."""
    while not carried.stopped:
        following = onward(found)
        if following == "end" or (following == "gate" and not order.gate):
            return ""
        if following == "gate" and (error := await _gate(control, order, actor, carried)):
            return error
        if following == "wait" and not await control.loops.rest(EVERY_S):
            return ""
        if not carried.stopped:
            found = await plans.apply(control, order.apply, actor)
    return ""


async def _gate(control: Control, order: Order, actor: Actor, carried: Carried) -> str:
    """Run the gate; why there is no verdict, empty where there is one. A gate without one is never run again here."""
    error = NO_VERDICT
    asked = evals.Asked(route=order.apply.route, release=carried.release)
    async for line in evals.judge(control, asked, actor):
        if line["type"] == "progress":
            carried.done, carried.total = line["done"], line["total"]
        elif line["type"] == "error":
            error = line["error"]["message"]
        elif line["type"] == "result":
            error = ""
    carried.done = carried.total = 0
    return error
