"""The four times of a rollback: when the harm was seen, decided on, ended, and when its last request began."""

import asyncio

from pilothouse.releases.move import Moved
from pilothouse.server.composition import Control
from pilothouse.store.state import alerts, drills
from pilothouse.store.telemetry import dialect

LAST_BAD_S = 3.0  # after the push: until requests that had begun on the bad release have left their records
_FIRING = ("firing", "acknowledged")
_LAST = f"""SELECT max(epoch_us(ts)) FROM requests WHERE source = 'edge' AND route = ? AND env = ? AND release = ?
  AND ts >= {dialect.at()}"""  # noqa: S608  # our own fragment
DAY_US = 86_400 * 1_000_000


async def note(control: Control, moved: Moved, decided_us: int) -> None:
    """Keep when the harm of a rollback was seen and decided on; and, once it is known, when its last request began."""
    if moved.rollback_id is None:
        return
    await asyncio.to_thread(_note, control, moved, decided_us)
    if control.link is not None:  # a verb in its own process ends before that is known, and serves nobody
        control.tasks.spawn(_last_bad(control, moved, decided_us), "last bad request")


def _note(control: Control, moved: Moved, decided_us: int) -> None:
    """The harm was seen when the oldest alert of the route that fires now began to be breached; else nobody knows."""
    assert moved.rollback_id is not None  # noqa: S101  # the caller asked
    with control.state.write() as conn:
        firing = [
            one
            for one in alerts.list_alerts(conn, route=moved.route)
            if one.env == moved.env and one.state in _FIRING and one.fired_us
        ]
        seen = min((one.fired_us for one in firing), default=None)
        drills.timed(conn, moved.rollback_id, detect_us=seen, decide_us=decided_us)


async def _last_bad(control: Control, moved: Moved, decided_us: int) -> None:
    await asyncio.sleep(LAST_BAD_S)
    await control.load()
    await asyncio.to_thread(last_bad, control, moved, decided_us)


def last_bad(control: Control, moved: Moved, decided_us: int) -> None:
    """Note when the last request on the release that was left began, where there was one that day. Blocking."""
    found = control.telemetry.rows(_LAST, [moved.route, moved.env, moved.from_release, decided_us - DAY_US])
    if found[0][0] is not None and moved.rollback_id is not None:
        with control.state.write() as conn:
            drills.last_bad(conn, moved.rollback_id, found[0][0])
