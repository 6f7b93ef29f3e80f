"""Retention: what is due is moved and removed, told once in the change log, and shown."""

import asyncio
from typing import Any

import msgspec
import structlog

from pilothouse.domain.change import Actor, Change
from pilothouse.server.composition import Control
from pilothouse.server.verbs.transfers import exported_us
from pilothouse.store.state import changes
from pilothouse.telemetry.retention import CAP, GENERAL, Removal

log = structlog.get_logger("pilothouse.retention")

RETENTION = Actor(type="policy", id="retention")
SHOWN = 100  # removals


async def tidy(control: Control) -> None:
    """Move payloads into files, remove what is due, and tell of it; raises StoreError."""
    await asyncio.to_thread(_tidy, control)


async def apply(control: Control) -> dict[str, Any]:
    """The same, now, with all that the journals hold; what stands then."""
    await control.load()
    await tidy(control)
    return await asyncio.to_thread(show, control)


def show(control: Control) -> dict[str, Any]:
    """The rules, the disk, and the newest removals."""
    keeper, usage = control.keeper, control.keeper.usage()
    return {
        "rules": msgspec.to_builtins(control.config.retention),
        "usage": {**msgspec.to_builtins(usage), "total": usage.total},
        "over_cap": keeper.over,
        "removals": msgspec.to_builtins(keeper.removals(limit=SHOWN)),
    }


def _tidy(control: Control) -> None:
    keeper, was_over = control.keeper, control.keeper.over
    keeper.tidy(exported_us(control))
    for removal in keeper.removals(untold=True):  # also of a run that was killed before it could tell
        _tell(control, removal)
        keeper.told(removal)
    if keeper.over and not was_over:
        usage = keeper.usage()
        log.error("telemetry is over its disk cap, and the rest may not go", bytes=usage.total, cap=usage.cap)
    keeper.put_together()  # last: a file that cannot be read keeps nothing else from being done and told


def _tell(control: Control, removal: Removal) -> None:
    detail = msgspec.to_builtins(removal)
    note = log.warning if removal.reason == CAP else log.info
    note("records were removed", **detail)
    with control.state.write() as conn:
        change = Change(
            actor=RETENTION,
            action="telemetry.remove",
            object_type="telemetry",
            object_id=f"{removal.what} of {removal.day}",
            route="" if removal.route == GENERAL else removal.route,
            reason=removal.reason,
            detail=detail,
        )
        changes.append(conn, change, control.clock)
