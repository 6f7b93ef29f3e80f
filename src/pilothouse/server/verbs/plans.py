"""Plans: shown as they stand, and carried on one step at a time; what each step rested on is kept."""

import asyncio
from typing import Any

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import BadRequest, Conflict
from pilothouse.domain.release import Pointer, StepEvidence
from pilothouse.releases import plan as plans
from pilothouse.releases.plan import Advanced, StepResult
from pilothouse.server import callers
from pilothouse.server.composition import Control
from pilothouse.server.verbs.releases import settled_or_restored
from pilothouse.store.state import pointers, releases, steps


def planned(control: Control, route: str, release: int | None, env: str) -> dict[str, Any]:
    """The steps from what is live to `release` (the newest where not given), each as it stands now. NotFound."""
    number, tuple_of_steps = _plan(control, route, release, env)
    config = control.route(route)
    now = control.clock.now_us()
    results = plans.dry_run(control.state, config, env, number, tuple_of_steps, now_us=now)
    return _told(control, route, env, number, results)


class Apply(msgspec.Struct, frozen=True, kw_only=True):
    """Carry `release` on in `env`; None: the newest. `revision`: of the pointer that the plan was read from (0: none);
    where it is another one now nothing moves. None where that does not matter."""

    route: str
    env: str
    release: int | None = None
    revision: int | None = None


async def apply(control: Control, order: Apply, actor: Actor) -> dict[str, Any]:
    """Do the step that comes next, where it is ready and moves a pointer; the plan as it stands then, and the move.

    What the plan rests on is kept whenever a step's state changes. A move that cannot be pushed is put back. Conflict
    where the pointer is not the one that was looked at.
    """
    began = control.clock.monotonic()
    await control.load()
    route, env = order.route, order.env
    number, done = await asyncio.to_thread(_advance, control, order, actor)
    moved = None
    if done.moved is not None:
        moved = await settled_or_restored(control, done.moved, began, actor)
    await asyncio.to_thread(_keep, control, (route, env, number), done.results, actor)
    told = await asyncio.to_thread(_told, control, route, env, number, done.results)
    return {**told, "moved": moved, "step": plans.describe(done.step) if done.step is not None else ""}


def _plan(control: Control, route: str, release: int | None, env: str) -> tuple[int, tuple[plans.Step, ...]]:
    config = control.route(route)
    with control.state.read() as conn:
        newest = releases.latest(conn, route)
    if newest is None:
        raise BadRequest(f"{route} has no release yet", hint=f"pilothouse release create {route}")
    number = release if release is not None else newest.number
    seen = callers.of(control, route, env)
    return number, plans.plan(control.state, config, env, number, callers=seen)


def _advance(control: Control, order: Apply, actor: Actor) -> tuple[int, Advanced]:
    number, steps_ = _plan(control, order.route, order.release, order.env)
    config, clock = control.route(order.route), control.clock
    if order.revision is not None:
        with control.state.read() as conn:
            _as_seen(pointers.get(conn, order.route, order.env), order)
    asked = plans.Advance(env=order.env, release=number, actor=actor, expected_revision=order.revision)
    return number, plans.advance(control.state, config, asked, steps_, clock)


def _as_seen(live: Pointer | None, order: Apply) -> None:
    now = live.revision if live is not None else 0
    if now == order.revision:
        return
    serves = f": release {live.stable} is stable" if live is not None else ""
    canary = f", release {live.canary} is the canary" if live is not None and live.canary is not None else ""
    raise Conflict(
        f"the pointer has moved since the plan was looked at{serves}{canary}", where=f"{order.route} in {order.env}",
        hint="look at the plan as it is now, and decide again", code="pointer_moved",
    )  # fmt: skip


def _keep(control: Control, of: tuple[str, str, int], results: tuple[StepResult, ...], actor: Actor) -> None:
    """Store what has been reached: everything done, and the first step that is not."""
    route, env, number = of
    reached = next((i for i, one in enumerate(results) if one.state != "done"), len(results) - 1)
    with control.state.write() as conn:
        for one in results[: reached + 1]:
            seen = StepEvidence(
                route=route,
                env=env,
                release=number,
                kind=kind(one),
                step=plans.describe(one.step),
                state=one.state,
                message=one.message,
                evidence=msgspec.to_builtins(one.evidence),
                actor=str(actor),
                ts_us=control.clock.now_us(),
            )
            steps.keep(conn, seen)


def kind(result: StepResult) -> str:
    """`check`, `gate`, `stage` …"""
    return str(result.step.__struct_config__.tag)


def _told(control: Control, route: str, env: str, number: int, results: tuple[StepResult, ...]) -> dict[str, Any]:
    with control.state.read() as conn:
        live = pointers.get(conn, route, env)
        kept = steps.of_release(conn, route, env, number)
    return {
        "route": route,
        "env": env,
        "from": live.stable if live else None,
        "to": number,
        "revision": live.revision if live else 0,
        "state": standing(results),
        "steps": [
            {"kind": kind(one), "text": plans.describe(one.step), "state": one.state, "message": one.message,
             "evidence": one.evidence}
            for one in results
        ],
        "evidence": kept,
        "back_out": plans.back_out(route, env),
    }  # fmt: skip


def standing(results: tuple[StepResult, ...]) -> str:
    """The plan in one word: the state of the first step that is not done, else `done`."""
    return next((one.state for one in results if one.state != "done"), "done")
