"""Drills: what is promised, exercised, and its evidence kept for the review."""

import asyncio
from typing import Any

import msgspec

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.release_facts import Drill
from pilothouse.server.composition import Control
from pilothouse.server.evidence import rescan
from pilothouse.stats.proportions import wilson
from pilothouse.store.state import changes, drills
from pilothouse.telemetry.round_trip import round_trip

DAY_US = 86_400_000_000
EXPORT_EVERY_US = DAY_US
_SELF = Actor(type="policy", id="drills")


async def export(control: Control, route: str, env: str, actor: Actor) -> dict[str, Any]:
    """Send the route's newest traces out and in again (T2.7); the evidence is kept."""
    control.route(route)
    await control.load()
    return await asyncio.to_thread(_export, control, route, env, actor)


def _export(control: Control, route: str, env: str, actor: Actor) -> dict[str, Any]:
    now_us = control.clock.now_us()
    trip = round_trip(control.telemetry, control.clock, route, env, (now_us - 7 * DAY_US, now_us))
    detail = msgspec.to_builtins(trip)
    if trip.traces:  # nothing that was tried is no evidence
        with control.state.write() as conn:
            drill = Drill(id=0, kind="export", route=route, env=env, ts_us=now_us, ok=trip.ok, detail=detail)
            drills.record(conn, drill, control.clock)
            change = Change(
                actor=actor, action="drill.export", object_type="route", object_id=route, route=route, env=env,
                detail=detail,
            )  # fmt: skip
            changes.append(conn, change, control.clock)
    return {"kind": "export", "route": route, "env": env, "ok": trip.ok, **detail}


async def scan_again(control: Control, route: str, env: str, actor: Actor) -> dict[str, Any]:
    """Scan stored rows of a route for what redaction left (T2.5), with Presidio where it is installed."""
    control.route(route)
    await control.load()
    ner = rescan.installed()
    found = await asyncio.to_thread(rescan.scan, control, route, env, actor, ner=ner)
    low, high = wilson(found.leaks, found.rows)
    told = {"kind": rescan.KIND, "route": route, "env": env, "ok": found.rows > 0 and not found.leaks}
    return {**told, "low": low, "high": high, **msgspec.structs.asdict(found)}


async def daily(control: Control) -> None:
    """Of every route in production the export drill and the scan of stored rows, where it had none for a day."""
    await asyncio.to_thread(rescan.daily, control)
    due = await asyncio.to_thread(_due, control)
    for route in due:
        await export(control, route, "prod", _SELF)


def _due(control: Control) -> list[str]:
    since_us = control.clock.now_us() - EXPORT_EVERY_US
    with control.state.read() as conn:
        last = {route: drills.list_drills(conn, route, "prod", "export")[:1] for route in control.config.routes}
    return [route for route, found in last.items() if not found or found[0].ts_us < since_us]
