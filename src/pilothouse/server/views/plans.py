"""Plans and releases in the making, as the pages see them: the verbs' own functions, and nothing beside them."""

import asyncio
import functools
from typing import Any

from pilothouse.domain.change import Actor
from pilothouse.releases.edit import Draft, Edit
from pilothouse.server.composition import Control
from pilothouse.server.pages.plan_shown import ApplyAsk, CarriedShown, PlanPages, PlanShown, PlanStep, Start
from pilothouse.server.reach import reach
from pilothouse.server.verbs import carrying, edits, plans
from pilothouse.server.verbs import releases as verbs
from pilothouse.store.state import pointers, releases


def pages(control: Control) -> PlanPages:
    """What the pages work on."""
    return PlanPages(
        plan=functools.partial(plan, control),
        start=functools.partial(start, control),
        draft=functools.partial(_draft, control),
        create=functools.partial(_create, control),
        apply=functools.partial(_apply, control),
        stop=functools.partial(carrying.stop, control),
    )


def plan(control: Control, route: str, release: int, env: str) -> PlanShown:
    """The plan as it stands, and whether it is carried on. Blocking; NotFound."""
    found = plans.planned(control, route, release, env)
    carried = control.carried.get((route, env))
    names = CarriedShown.__struct_fields__
    mine = carried is not None and carried.release == release
    return PlanShown(
        route=route,
        env=env,
        live=found["from"],
        to=found["to"],
        revision=found["revision"],
        state=found["state"],
        steps=tuple(
            PlanStep(kind=step["kind"], text=step["text"], state=step["state"], message=step["message"])
            for step in found["steps"]
        ),
        back_out=found["back_out"],
        carried=CarriedShown(**{name: getattr(carried, name) for name in names}) if mine else None,
    )


async def start(control: Control, route: str, base: int | None) -> Start:
    """What a release is edited from; `base` 0: what prod serves, else the newest, else the app's files."""
    if base is None:
        await control.reread()
    return await asyncio.to_thread(_start, control, route, base)


def _start(control: Control, route: str, base: int | None) -> Start:
    config = control.route(route)
    with control.state.read() as conn:
        found = releases.of_route(conn, route)
        live = pointers.get(conn, route, "prod")
    stable = live.stable if live is not None and live.stable > 0 else None
    if base == 0:
        base = stable or (found[0].number if found else None)
    named = [config.manifest.model, *config.alternates]
    return Start(
        route=route,
        base=base,
        manifest=edits.base(control, config, base),
        newest=found[0].number if found else 0,
        releases=tuple((one.number, one.notes) for one in found),
        stable=stable,
        models=tuple(dict.fromkeys(map(str, named))),
    )


async def _draft(control: Control, route: str, edit: Edit) -> Draft:
    return await edits.draft(control, route, edit)


async def _create(control: Control, route: str, edit: Edit, notes: str, actor: Actor) -> tuple[int, str]:
    made = await verbs.create(control, route, actor, notes, edit)
    if made.reused:
        return made.number, f"Release {made.number} holds exactly this already; nothing was made."
    floating = f"; {made.floating_alias} names no version" if made.floating_alias else ""
    return made.number, f"Release {made.number} is made{floating}. Nothing serves it yet."


async def _apply(control: Control, asked: ApplyAsk, actor: Actor) -> str:
    order = plans.Apply(**{name: getattr(asked, name) for name in plans.Apply.__struct_fields__})
    found = await carrying.carry_on(control, carrying.Order(apply=order, gate=asked.gate), actor)
    return _said(found)


def _said(found: dict[str, Any]) -> str:
    """What the first step did, in a sentence."""
    if found["moved"] is not None:
        return f"{found['step'][:1].upper()}{found['step'][1:]}: {reach(found['moved'])}."
    following = next((step for step in found["steps"] if step["state"] != "done"), None)
    return f"{following['kind']}: {following['message']}." if following is not None else "The plan is done."
