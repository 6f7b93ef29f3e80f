"""Pointers that were edited beside the verbs are put back, and the workers told, as soon as that is seen."""

import asyncio

import structlog

from pilothouse.releases import integrity
from pilothouse.server.composition import Control

log = structlog.get_logger("pilothouse.control")


async def mend(control: Control) -> None:
    """One look; the change log tells what was found, and so does control's own log."""
    found = await asyncio.to_thread(integrity.mend, control.state, control.clock)
    for stray in found:
        log.warning("a pointer was edited in the database", said=stray.sentence)
    if any(stray.mended for stray in found):
        await control.publish()
