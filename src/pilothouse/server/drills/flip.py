"""The rollback drill: a real flip in the environment itself, between two releases of the same content, and back."""

import asyncio
from typing import Any

from pilothouse.domain.change import Actor
from pilothouse.releases import twin
from pilothouse.server.composition import Control
from pilothouse.server.drills.say import Say
from pilothouse.server.reach import reach
from pilothouse.server.timing import LAST_BAD_S
from pilothouse.server.verbs.releases import settled
from pilothouse.store.telemetry import dialect

_ON = f"""SELECT count(*), max(epoch_us(ts)) FROM requests WHERE source = 'edge' AND route = ? AND env = ?
  AND release = ? AND ts >= {dialect.at()}"""  # noqa: S608  # our own fragment
WITHIN_MS = 60_000.0  # what T10.1 allows


async def rollback(control: Control, route: str, env: str, actor: Actor, say: Say) -> dict[str, Any]:
    """Flip to the twin, see the traffic follow, flip back. Times in ms from the command; Refused while a canary runs.

    `last_old_ms`: when the last request on the release that was left began, 0 where none did after the command.
    """
    began, began_us = control.clock.monotonic(), control.clock.now_us()
    moved = await asyncio.to_thread(twin.flip, control.state, route, env, actor=actor, clock=control.clock)
    there = await settled(control, moved, began)
    say(f"at the twin, {reach(there)}; {LAST_BAD_S:g} s until what began before has left its records")
    try:
        await asyncio.sleep(LAST_BAD_S)
        await control.load()
        old = await asyncio.to_thread(control.telemetry.rows, _ON, [route, env, there["from"], began_us])
        new = await asyncio.to_thread(control.telemetry.rows, _ON, [route, env, there["to"], began_us])
    finally:
        began = control.clock.monotonic()
        back = await asyncio.to_thread(twin.flip_back, control.state, route, env, actor=actor, clock=control.clock)
        home = await settled(control, back, began) if back is not None else there
    say(f"back again, {reach(home)}")
    last = max(0.0, (old[0][1] - began_us) / 1e3) if old[0][1] is not None else 0.0
    slowest = max(there["propagated_ms"], home["propagated_ms"])
    whole = not there["late"] and not home["late"]
    return {
        "ok": whole and max(slowest, last) <= WITHIN_MS,
        "from": there["from"],
        "twin": there["to"],
        "propagated_ms": slowest,
        "back_ms": home["propagated_ms"],
        "last_old_ms": round(last, 1),
        "workers": there["workers"],
        "of": there["of"],
        "requests_on_twin": new[0][0],
        "late": ", ".join(sorted({*there["late"], *home["late"]})),
    }


async def recover(control: Control, actor: Actor, before_us: int) -> int:
    """Put pointers right that a drill which was cut off has left at a twin before that time; their number."""

    def find() -> list[tuple[str, str]]:
        with control.state.read() as conn:
            return [(one.route, one.env) for one in twin.stranded(conn) if one.updated_us < before_us]

    found = await asyncio.to_thread(find)
    for route, env in found:
        began = control.clock.monotonic()
        back = await asyncio.to_thread(twin.flip_back, control.state, route, env, actor=actor, clock=control.clock)
        if back is not None:
            await settled(control, back, began)
    return len(found)
