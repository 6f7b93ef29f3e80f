"""Drills of the switches: another model, and no answer at all. Outside prod the pointer really moves, and back."""

import asyncio
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.errors import Refused, RouteDisabled
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Live, Table
from pilothouse.domain.wires import GenerateReply, GenerateRequest
from pilothouse.gateway.pipeline import Gateway
from pilothouse.gateway.resolve import resolve
from pilothouse.gateway.types import Parsed
from pilothouse.releases import pointer
from pilothouse.releases.pointer import Moved
from pilothouse.server.composition import Control
from pilothouse.server.drills.say import Say
from pilothouse.server.drills.stage import Scene
from pilothouse.server.generating import generating, require_providers
from pilothouse.server.verbs.releases import settled
from pilothouse.store.state import pointers

ASKED = 3  # times that each alternate is asked
REASON = "drill"


def alternates(scene: Scene) -> list[ModelRef]:
    """The models that the route may be switched to: those it names, then those of its fallbacks."""
    steps = [step.model for step in scene.manifest.policy.fallback if step.model is not None]
    return [model for model in dict.fromkeys([*scene.route.alternates, *steps]) if model != scene.manifest.model]


async def model_switch(control: Control, scene: Scene, actor: Actor, say: Say) -> dict[str, Any]:
    """Each alternate really answers the scene's request, as the release asks; outside prod one is pinned and unpinned.

    Refused where the route has no other model.
    """
    models = alternates(scene)
    if not models:
        raise Refused(
            f"{scene.route.name} names no other model",
            hint="add `alternates:`, or a fallback with a model",
            code="no_alternate",
        )  # fmt: skip
    lives = [_with_model(scene.live, model) for model in models]
    require_providers(control, lives)
    answered = []
    for n, (model, live) in enumerate(zip(models, lives, strict=True), start=1):
        say(f"{n} of {len(models)}  {model}: asked {ASKED} times")
        answered.append(await asyncio.to_thread(_answers, control, scene, live))
    detail: dict[str, Any] = {"models": ", ".join(map(str, models)), "asked": ASKED * len(models)}
    bad = [str(model) for model, good in zip(models, answered, strict=True) if good < ASKED]
    detail |= {"answered": sum(answered), "failed": ", ".join(bad)}
    if scene.env != "prod" and not bad:
        name, env = scene.route.name, scene.env

        def to(model: str) -> Callable[[], Moved]:
            return lambda: pointer.pin_model(
                control.state, name, env, model, actor=actor, reason=REASON, clock=control.clock
            )

        detail |= await _there_and_back(control, to(str(models[0])), to(""))
    return {"ok": not bad and not detail.get("late"), **detail}


def _with_model(live: Live, model: ModelRef) -> Live:
    return msgspec.structs.replace(live, manifest=msgspec.structs.replace(live.manifest, model=model))


def _answers(control: Control, scene: Scene, live: Live) -> int:
    """How many of ASKED requests the model answers as the route's schema wants it, without help from a fallback."""
    policy = msgspec.structs.replace(live.manifest.policy, fallback=(), cache=None, limits=())
    alone = msgspec.structs.replace(live, manifest=msgspec.structs.replace(live.manifest, policy=policy))

    async def ask(gateway: Gateway) -> list[GenerateReply]:
        request = GenerateRequest(
            route=scene.route.name, env=scene.env, live=alone, body=dict(scene.body), app=scene.route.app,
            tier=scene.route.tier, source="drill",
        )  # fmt: skip
        return [await gateway.generate(request) for _ in range(ASKED)]

    replies = asyncio.run(generating(control, ask))
    return sum(_good(reply, scene.manifest.schema) for reply in replies)


def _good(reply: GenerateReply, schema: dict[str, Any] | None) -> bool:
    if reply.error or not reply.text.strip():
        return False
    if schema is None:
        return True
    try:
        return jsonschema_rs.is_valid(schema, msgspec.json.decode(reply.text))
    except msgspec.DecodeError:
        return False


async def kill_switch(control: Control, name: str, env: str, actor: Actor) -> dict[str, Any]:
    """What a disabled route answers, by the gateway's own reading of a table; outside prod it really is switched."""
    table = control.current_table()
    entry = table.entry(name, env)
    if entry is None:
        raise Refused(f"{name} is not live in {env}", hint="promote a release first", code="not_live")
    off = msgspec.structs.replace(entry, disabled=True, disabled_reason=REASON)
    without = msgspec.structs.replace(table, entries=table.entries | {f"{name}@{env}": off})
    detail: dict[str, Any] = {"refused": _refused(without, name, env)}
    with control.state.read() as conn:
        now = pointers.get(conn, name, env)
    if env != "prod" and now is not None and not now.disabled:

        def turn(disabled: bool) -> Callable[[], Moved]:
            return lambda: pointer.set_disabled(
                control.state, name, env, disabled, actor=actor, reason=REASON, clock=control.clock
            )

        detail |= await _there_and_back(control, turn(True), turn(False))
    return {"ok": bool(detail["refused"]) and not detail.get("late"), **detail}


def _refused(table: Table, route: str, env: str) -> bool:
    try:
        resolve(Parsed(raw=b"", body={}, model=route, messages=[]), env, table, "drill")
    except RouteDisabled:
        return True
    return False


async def _there_and_back(control: Control, there: Callable[[], Moved], back: Callable[[], Moved]) -> dict[str, Any]:
    began = control.clock.monotonic()
    first = await settled(control, await asyncio.to_thread(there), began)
    try:
        late = list(first["late"])
    finally:
        began = control.clock.monotonic()
        second = await settled(control, await asyncio.to_thread(back), began)
    return {
        "propagated_ms": max(first["propagated_ms"], second["propagated_ms"]),
        "workers": first["workers"],
        "late": ", ".join(sorted({*late, *second["late"]})),
    }
