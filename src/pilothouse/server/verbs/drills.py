"""Drills: what is promised, exercised, and its evidence kept for the review."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import NotFound, Refused
from pilothouse.domain.release_facts import Drill
from pilothouse.server.composition import Control
from pilothouse.server.drills import flip, outage, stage, switches
from pilothouse.server.drills.say import Say
from pilothouse.server.evidence import rescan
from pilothouse.server.streamed import Tell, streamed
from pilothouse.server.verbs import backups
from pilothouse.stats.proportions import wilson
from pilothouse.store.state import changes, drills, pointers
from pilothouse.telemetry.round_trip import round_trip

DAY_US = 86_400_000_000
STRANDED_US = 60_000_000  # after this a pointer at a twin is no drill under way, but one that was cut off
_SELF = Actor(type="policy", id="drills")
Evidence = tuple[str, bool, dict[str, Any]]  # kind as the review knows it, ok, what was measured
Exercise = Callable[[Control, str, str, Actor, Say], Awaitable[list[Evidence]]]


async def _export(control: Control, route: str, env: str, _actor: Actor, say: Say) -> list[Evidence]:
    """The route's newest traces, sent out and taken in again (T2.7)."""
    await control.load()
    now_us = control.clock.now_us()
    window = (now_us - 7 * DAY_US, now_us)
    say("the newest traces are sent out, taken in elsewhere, and compared")
    trip = await asyncio.to_thread(round_trip, control.telemetry, control.clock, route, env, window)
    detail = msgspec.to_builtins(trip)
    return [("export", trip.ok, detail)]


async def _rollback(control: Control, route: str, env: str, actor: Actor, say: Say) -> list[Evidence]:
    """A real flip to a release of the same content, and back (T10.1)."""
    found = await flip.rollback(control, route, env, actor, say)
    return [("rollback", found.pop("ok"), found)]


async def _outage(control: Control, route: str, env: str, _actor: Actor, say: Say) -> list[Evidence]:
    """The provider fails in every way that it can (CR.3), and answers outside the schema (T4.5)."""
    scene = await asyncio.to_thread(stage.scene, control, route, env)
    tried, broken = await outage.faults(control, scene, say)
    wrong = [f"{one.fault}: {one.outcome}, expected {one.expected}" for one in tried if not one.ok]
    detail: dict[str, Any] = {one.fault: f"{one.outcome} by {one.way or one.error or 'retry'}" for one in tried}
    detail |= {"asked": scene.asked, "handled": len(tried) - len(wrong), "of": len(tried), "wrong": "; ".join(wrong)}
    found: list[Evidence] = [("faults", not wrong, detail)]
    if broken is not None:
        found.append(("invalid_output", broken.ok, msgspec.to_builtins(broken)))
    return found


async def _fallback(control: Control, route: str, env: str, _actor: Actor, say: Say) -> list[Evidence]:
    """Each declared way to give less than everything (T6.6)."""
    scene = await asyncio.to_thread(stage.scene, control, route, env)
    tried = await outage.fallbacks(control, scene, say)
    if not tried:
        raise Refused(
            f"{route} declares no fallback that can be staged",
            hint="name a model, `trim` or `static`",
            code="no_fallback",
        )  # fmt: skip
    return [("fallback", one.ok, msgspec.to_builtins(one) | {"way": way}) for way, one in tried.items()]


async def _model_switch(control: Control, route: str, env: str, actor: Actor, say: Say) -> list[Evidence]:
    """Every other model really answers as the release asks (T10.2)."""
    scene = await asyncio.to_thread(stage.scene, control, route, env)
    found = await switches.model_switch(control, scene, actor, say)
    ok = found.pop("ok")
    moved: list[Evidence] = [("model_switch", ok, found)] if "propagated_ms" in found else []
    return [("alternate_model", ok, found), *moved]


async def _kill_switch(control: Control, route: str, env: str, actor: Actor, _say: Say) -> list[Evidence]:
    """The route switched off and on (T10.3)."""
    found = await switches.kill_switch(control, route, env, actor)
    return [("disable_route", found.pop("ok"), found)]


async def _restore(control: Control, _route: str, _env: str, _actor: Actor, say: Say) -> list[Evidence]:
    """The whole state backed up, restored beside, and compared table by table."""
    say("the state is backed up, restored beside, and compared table by table")
    found = await backups.rehearse(control)
    detail = msgspec.to_builtins(found)
    return [("restore", bool(detail.pop("ok")), detail)]


class Kind(msgspec.Struct, frozen=True):
    """A kind of drill. `recorded`: the kind of evidence by which it is seen when it was last done."""

    exercise: Exercise
    recorded: str


KINDS: Final[dict[str, Kind]] = {
    "export": Kind(_export, "export"),
    "rollback": Kind(_rollback, "rollback"),
    "provider-outage": Kind(_outage, "faults"),
    "fallback": Kind(_fallback, "fallback"),
    "model-switch": Kind(_model_switch, "alternate_model"),
    "kill-switch": Kind(_kill_switch, "disable_route"),
    "restore": Kind(_restore, "restore"),
}
DAILY = ("export", "rollback", "provider-outage", "fallback")
QUARTERLY = ("model-switch", "kill-switch", "restore")
QUARTER_US = 80 * DAY_US  # before the 90 days of the checklist are over


def _unheard(_: str) -> None:
    """Of drills that run by themselves."""


async def run(control: Control, kind: str, route: str, env: str, actor: Actor, say: Say = _unheard) -> dict[str, Any]:
    """Exercise it and keep the evidence. NotFound; Refused where there is nothing to exercise. `say`: hears how it
    goes."""
    control.route(route)
    if kind == rescan.KIND:
        say("stored rows of the last 7 days are looked through for what redaction left")
        return await _scan_again(control, route, env, actor)
    if kind not in KINDS:
        hint = f"drills: {', '.join((*KINDS, rescan.KIND))}"
        raise NotFound(f"no drill {kind!r}", hint=hint, code="unknown_drill")
    began = control.clock.monotonic()
    found = await KINDS[kind].exercise(control, route, env, actor, say)
    took_ms = round((control.clock.monotonic() - began) * 1e3, 1)
    await asyncio.to_thread(_keep, control, route, env, actor, found)
    detail = found[0][2] if len(found) == 1 else {}
    return {
        "kind": kind,
        "route": route,
        "env": env,
        "ok": all(ok for _, ok, _ in found),
        "took_ms": took_ms,
        "evidence": [{"kind": name, "ok": ok, "detail": measured} for name, ok, measured in found],
        **{name: value for name, value in detail.items() if name not in ("kind", "route", "env", "ok")},
    }


async def _scan_again(control: Control, route: str, env: str, actor: Actor) -> dict[str, Any]:
    """Scan stored rows of a route for what redaction left (T2.5), with Presidio where it is installed."""
    await control.load()
    ner = rescan.installed()
    found = await asyncio.to_thread(rescan.scan, control, route, env, actor, ner=ner)
    low, high = wilson(found.leaks, found.rows)
    told = {"kind": rescan.KIND, "route": route, "env": env, "ok": found.rows > 0 and not found.leaks}
    return {**told, "low": low, "high": high, **msgspec.structs.asdict(found)}


async def lines(control: Control, kind: str, route: str, env: str, actor: Actor) -> AsyncIterator[dict[str, Any]]:
    """A line that says what is begun, lines of type `progress` as it goes, then one of type `result` (or `error`).

    A drill whose listener has left goes on to its end: a pointer that it moved is moved back.
    """

    async def work(tell: Tell) -> dict[str, Any]:
        return await run(control, kind, route, env, actor, lambda text: tell({"type": "progress", "text": text}))

    yield {"type": "started", "kind": kind, "route": route, "env": env}
    async for line in streamed(control.tasks, f"drill {kind} {route}", work):
        yield line


def _keep(control: Control, route: str, env: str, actor: Actor, found: list[Evidence]) -> None:
    now_us = control.clock.now_us()
    with control.state.write() as conn:
        for kind, ok, detail in found:
            if kind == "export" and not detail.get("traces"):
                continue  # nothing that was tried is no evidence
            drills.record(
                conn, Drill(id=0, kind=kind, route=route, env=env, ts_us=now_us, ok=ok, detail=detail), control.clock
            )
            change = Change(
                actor=actor, action=f"drill.{kind}", object_type="route", object_id=route, route=route, env=env,
                detail=_logged(detail) | {"ok": ok},
            )  # fmt: skip
            changes.append(conn, change, control.clock)


def _logged(detail: dict[str, Any]) -> dict[str, Any]:
    """As the change log takes it: without floats, whose text differs between machines."""
    return {name: str(value) if isinstance(value, float) else value for name, value in detail.items()}


async def scheduled(control: Control) -> None:
    """What is due of every route in production: the light ones daily, all of them once a quarter."""
    await asyncio.to_thread(rescan.daily, control)
    await flip.recover(control, _SELF, control.clock.now_us() - STRANDED_US)
    for kind, route in await asyncio.to_thread(_due, control):
        try:
            await run(control, kind, route, "prod", _SELF)
        except Refused:
            continue  # there is nothing to exercise: the review says so


def _due(control: Control) -> list[tuple[str, str]]:
    """Kinds and routes; only of those whose pointer has rested for a day, so that no drill gets in a release's way."""
    now_us = control.clock.now_us()
    due = []
    with control.state.read() as conn:
        for route in control.config.routes:
            live = pointers.get(conn, route, "prod")
            if live is None:
                continue
            resting = live.canary is None and live.updated_us < now_us - DAY_US
            for kind in (*DAILY, *QUARTERLY):
                every_us = DAY_US if kind in DAILY else QUARTER_US
                last = drills.list_drills(conn, route, "prod", KINDS[kind].recorded)[:1]
                if (not last or last[0].ts_us < now_us - every_us) and (kind == "export" or resting):
                    due.append((kind, route))
    return due
