"""The canary watch, wired: counts from telemetry, the decision from releases, the push to the workers."""

import asyncio

from pilothouse.domain.release import CanaryRun
from pilothouse.releases import canary
from pilothouse.releases.canary import Arm, Counts, Watched
from pilothouse.server.composition import Control
from pilothouse.server.verbs.releases import settled
from pilothouse.store.state import canaries
from pilothouse.store.telemetry import dialect

LAST_BAD_S = 3.0  # after the push: until requests that had begun on the bad release have left their records
# A request that its client spoilt says nothing of the release.
_COUNTS = f"""SELECT count(*), count(*) FILTER (outcome = 'failed'), count(*) FILTER (structured),
  count(*) FILTER (structured AND NOT valid_first), count(DISTINCT nullif(session, ''))
FROM requests WHERE source = 'edge' AND route = ? AND env = ? AND release = ? AND canary = ? AND ts >= {dialect.at()}
  AND outcome <> 'refused' AND status <> 499"""  # noqa: S608  # our own fragment
_LAST = f"""SELECT max(epoch_us(ts)) FROM requests WHERE source = 'edge' AND route = ? AND env = ? AND release = ?
  AND canary AND ts >= {dialect.at()}"""  # noqa: S608  # likewise


async def watch(control: Control) -> None:
    """Look at every running canary once; a bad one is off every worker when this returns."""
    if not await asyncio.to_thread(_running, control):
        return
    await control.load()
    began = control.clock.monotonic()
    for seen in await asyncio.to_thread(_look, control):
        if seen.moved is None:
            continue
        await settled(control, seen.moved, began)
        if seen.decision.kind == "abort":
            control.tasks.spawn(_note_last_bad(control, seen.run), "last bad request")


def _running(control: Control) -> bool:
    with control.state.read() as conn:
        return bool(canaries.running(conn))


def _look(control: Control) -> tuple[Watched, ...]:
    return canary.watch(control.state, lambda arm: counts(control, arm), control.clock, config=control.config)


def counts(control: Control, arm: Arm) -> Counts:
    """What one side of a canary did."""
    found = control.telemetry.rows(_COUNTS, [arm.route, arm.env, arm.release, arm.canary, arm.since_us])[0]
    requests, failures, structured, invalid, sessions = found
    return Counts(
        requests=requests,
        failures=failures,
        structured=structured,
        invalid_first=invalid,
        sessions=sessions or None,
    )


async def _note_last_bad(control: Control, run: CanaryRun) -> None:
    await asyncio.sleep(LAST_BAD_S)
    await control.load()

    def note() -> None:
        found = control.telemetry.rows(_LAST, [run.route, run.env, run.release, run.started_us])
        if found[0][0] is not None:
            with control.state.write() as conn:
                canaries.last_bad(conn, run.id, found[0][0])

    await asyncio.to_thread(note)
