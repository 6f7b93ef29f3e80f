"""The canary watch, wired: counts from telemetry, the decision from releases, the push to the workers."""

import asyncio
import functools

from pilothouse.domain.release import CanaryRun
from pilothouse.monitoring import notify
from pilothouse.monitoring.notify import Notice
from pilothouse.releases import canary
from pilothouse.releases.canary import Arm, Watched
from pilothouse.security.secrets import make_secret_reader
from pilothouse.server import arms, timing
from pilothouse.server.composition import Control
from pilothouse.server.verbs.releases import settled
from pilothouse.store.state import canaries


async def watch(control: Control) -> None:
    """Look at every running canary once; a bad one is off every worker when this returns."""
    if not await asyncio.to_thread(_running, control):
        return
    await control.load()
    began = control.clock.monotonic()
    decided_us = control.clock.now_us()
    for seen in await asyncio.to_thread(_look, control):
        if seen.moved is not None:
            await settled(control, seen.moved, began)
            await timing.note(control, seen.moved, decided_us)
            if seen.decision.kind == "abort":
                control.tasks.spawn(_note_last_bad(control, seen.run), "last bad request")
        if seen.news:
            control.tasks.spawn(asyncio.to_thread(_tell, control, seen), "news of a canary")


def _running(control: Control) -> bool:
    with control.state.read() as conn:
        return bool(canaries.running(conn))


def _look(control: Control) -> tuple[Watched, ...]:
    return canary.watch(
        control.state,
        functools.partial(arms.counts, control.telemetry),
        control.clock,
        config=control.config,
        measure=functools.partial(arms.measure, control.telemetry),
    )


def _tell(control: Control, seen: Watched) -> None:
    """Tell the route's owner how a canary ended, or that it stands still and why."""
    run = seen.run
    route = control.config.routes.get(run.route)
    worst = max(seen.decision.guardrails, key=lambda rail: rail.evidence / rail.threshold)
    notice = Notice(
        title=f"canary of release {run.release}, {run.route} in {run.env}",
        text=seen.news,
        alert="",
        rule=f"canary {seen.decision.kind}",
        route=run.route,
        env=run.env,
        state="resolved" if seen.decision.kind == "promote" else "firing",
        owner=route.owner if route is not None else "",
        value=worst.evidence,
        threshold=worst.threshold,
        n=worst.n,
        since_us=run.started_us,
        runbook=f"pilothouse rollback {run.route}",
    )
    notify.make_notify(control.config.people, make_secret_reader(control.app_dir))(notice)


async def _note_last_bad(control: Control, run: CanaryRun) -> None:
    await asyncio.sleep(timing.LAST_BAD_S)
    await control.load()

    def note() -> None:
        asked = Arm(route=run.route, env=run.env, release=run.release, canary=True, since_us=run.started_us)
        found = arms.last(control.telemetry, asked)
        if found is not None:
            canary.record_last_bad(control.state, run.id, found)

    await asyncio.to_thread(note)
