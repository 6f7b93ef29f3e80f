"""A route served by another model: the alternates qualified beforehand, the switch a move like any other."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from pilothouse.config.route import RouteConfig
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import BadRequest, Refused
from pilothouse.domain.evaluation import CaseResult
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.release_facts import Drill
from pilothouse.domain.table import Live
from pilothouse.evals import dataset as datasets
from pilothouse.evals import gate, run
from pilothouse.gateway.pipeline import Gateway
from pilothouse.releases import pointer, registry
from pilothouse.server import alternates
from pilothouse.server.alternates import ENV, EVALUATED
from pilothouse.server.composition import Control
from pilothouse.server.generating import generating, require_providers
from pilothouse.server.streamed import Tell, streamed, threaded
from pilothouse.server.verbs.releases import settled
from pilothouse.store.state import changes, drills, pointers

SWITCHED = "model_switch"


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """Serve `route` in `env` by `model`, or by the first alternate that is qualified. `force`: one that is not; needs
    a reason."""

    route: str
    env: str
    model: str = ""
    reason: str = ""
    force: bool = False


def listed(control: Control, route: str) -> dict[str, Any]:
    """Each alternate with what is known of it, and why it may not be switched to."""
    config = control.route(route)
    now = control.clock.now_us()
    with control.state.read() as conn:
        live = pointers.get(conn, route, ENV)
    return {
        "route": route,
        "model": str(config.manifest.model),
        "pinned": live.pinned_model if live else "",
        "alternates": [
            {**msgspec.to_builtins(one), "objections": one.objections(now)}
            for one in alternates.of_route(control, config)
        ],
    }


async def switch(control: Control, order: Switch, actor: Actor) -> dict[str, Any]:
    """On every worker when this returns; Refused where no alternate is qualified."""
    began = control.clock.monotonic()
    config = control.route(order.route)
    model, overridden = await asyncio.to_thread(_chosen, control, config, order)
    reason = control.typed(order.reason) + (f" (over: {'; '.join(overridden)})" if overridden else "")
    moved = await asyncio.to_thread(
        pointer.pin_model, control.state, order.route, order.env, model, actor=actor, reason=reason, clock=control.clock
    )
    told_ = await settled(control, moved, began)
    if told_["of"]:
        await asyncio.to_thread(_switched, control, order, model, told_)
    return {**told_, "model": model, "overridden": overridden}


async def switch_back(control: Control, route: str, env: str, actor: Actor, reason: str) -> dict[str, Any]:
    """The release's own model again."""
    began = control.clock.monotonic()
    reason = control.typed(reason)
    moved = await asyncio.to_thread(
        pointer.pin_model, control.state, route, env, "", actor=actor, reason=reason, clock=control.clock
    )
    return {**await settled(control, moved, began), "model": "", "overridden": ()}


def _chosen(control: Control, config: RouteConfig, order: Switch) -> tuple[str, tuple[str, ...]]:
    """The model to switch to, and what is gone over."""
    now = control.clock.now_us()
    known = {one.model: one for one in alternates.of_route(control, config)}
    if not order.model:
        fit = next((one.model for one in known.values() if not one.objections(now)), None)
        if fit is not None:
            return fit, ()
        why = "; ".join(f"{one.model}: {', '.join(one.objections(now))}" for one in known.values())
        hint = f"pilothouse model qualify {config.name}"
        raise Refused(why or f"{config.name} names no alternates", where=config.name, hint=hint, code="not_qualified")
    if order.model not in known and not order.force:
        names = ", ".join(known) or "none"
        raise Refused(
            f"{order.model} is no alternate of {config.name}", hint=f"alternates: {names}", code="not_qualified"
        )
    found = known[order.model].objections(now) if order.model in known else (f"{order.model} is no alternate",)
    if found and not (order.force and order.reason.strip()):
        hint = f"pilothouse model qualify {config.name}; to go over it: force, with a reason"
        raise Refused(f"{order.model}: {', '.join(found)}", where=config.name, hint=hint, code="not_qualified")
    return order.model, found


def _switched(control: Control, order: Switch, model: str, told_: dict[str, Any]) -> None:
    detail = {"model": model, "propagated_ms": told_["propagated_ms"], "workers": told_["workers"], "real": True}
    with control.state.write() as conn:
        drill = Drill(
            id=0, kind=SWITCHED, route=order.route, env=order.env, ts_us=0, ok=not told_["late"], detail=detail
        )
        drills.record(conn, drill, control.clock)


async def qualify(control: Control, route: str, model: str, actor: Actor) -> AsyncIterator[dict[str, Any]]:
    """Evaluate and probe an alternate (all of them where none is named): progress, then type `result`."""
    config = control.route(route)
    wanted = [one for one in config.alternates if model in ("", str(one))]
    if not wanted:
        names = ", ".join(map(str, config.alternates)) or "none"
        raise BadRequest(f"{model or 'no model'} is no alternate of {route}", hint=f"alternates: {names}")
    if config.gate is None:
        raise Refused(f"{route} has no gate to evaluate with", where="pilothouse.yaml", code="no_gate")

    def work(tell: Tell) -> dict[str, Any]:
        for one in wanted:
            _evaluate(control, config, one, actor, tell)
        alternates.probe(control, [(route, one) for one in wanted])
        return listed(control, route)

    async for line in streamed(control.tasks, f"qualify {route}", threaded(work)):
        yield line


def _evaluate(control: Control, config: RouteConfig, model: ModelRef, actor: Actor, tell: Tell) -> None:
    """The route's dataset on its live release with `model` in its place, judged like a release."""
    assert config.gate is not None  # noqa: S101  # the caller asked
    with control.state.read() as conn:
        live = pointers.get(conn, config.name, ENV)
    if live is None:
        raise Refused(f"{config.name} is not live in {ENV}", hint="promote a release first", code="not_live")
    release = registry.release(control.state, config.name, live.stable)
    manifest = alternates.on(release.manifest, model)
    candidate = Live(release=release.release, manifest=manifest, parts=manifest.hashes(), hash=manifest.hash())
    require_providers(control, [release, candidate])
    data = datasets.load(config.gate.dataset)
    how = run.Plan(
        route=config.name, env=ENV, scorers=config.gate.scorers, app=config.app, tier=config.tier,
        concurrency=config.gate.concurrency, case_timeout_s=config.gate.case_timeout_s,
    )  # fmt: skip
    tell({"type": "started", "model": str(model), "cases": len(data.cases)})

    def progress(done: int, total: int, passed: int, errors: int) -> None:
        tell({"type": "progress", "done": done, "total": total, "passed": passed, "errors": errors})

    async def through(gateway: Gateway) -> list[list[CaseResult]]:
        arms = [run.Arm(one, _unkept) for one in (release, candidate)]
        return await run.run(data, arms, gateway.generate, how, progress)

    before, after = asyncio.run(generating(control, through))
    verdict = gate.judge(before, after, config.gate.margin, floor=config.gate.floor)
    detail: dict[str, Any] = {
        "model": str(model),
        "release": release.release,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "pass_rate": verdict.candidate_rate,
        "baseline_rate": verdict.baseline_rate,
        "n": verdict.n,
    }
    ok = verdict.verdict == "pass"
    with control.state.write() as conn:
        drill = Drill(id=0, kind=EVALUATED, route=config.name, env=ENV, ts_us=0, ok=ok, detail=detail)
        drills.record(conn, drill, control.clock)
        change = Change(
            actor=actor, action="model.qualify", object_type="model", object_id=str(model), route=config.name, env=ENV,
            reason=verdict.reason, detail=detail,
        )  # fmt: skip
        changes.append(conn, change, control.clock)


def _unkept(result: CaseResult) -> None:
    """An alternate's cases are not a release's: only the verdict is kept."""
    del result
