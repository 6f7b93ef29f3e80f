"""The canary watch, wired: counts from telemetry, the decision from releases, the push to the workers."""

import asyncio
import functools

import msgspec

from pilothouse.domain.release import CanaryRun
from pilothouse.monitoring import notify
from pilothouse.monitoring.notify import Notice
from pilothouse.releases import canary
from pilothouse.releases.canary import Watched
from pilothouse.releases.shown import Arm, Questions, Shown, of_one_store
from pilothouse.security.secrets import make_secret_reader
from pilothouse.server import arms, sharing, timing
from pilothouse.server.composition import Control
from pilothouse.server.sharing import Telling
from pilothouse.server.verbs.releases import settled
from pilothouse.store.state import canaries

ELSEWHERE_S = 7.0  # until the other hosts have told of requests that had begun before an abort


async def watch(control: Control, telling: Telling) -> None:
    """Look at every running canary once; a bad one is off every worker when this returns.

    Of several hosts each tells what it has seen, and the one that leads looks at all of it.
    """
    since_us = control.clock.now_us() - sharing.AFTER_US
    if not await asyncio.to_thread(_any, control, since_us):
        return
    await control.load()
    hosts = control.hosts
    if hosts is not None:
        running = await asyncio.to_thread(telling.tell, control, hosts)
        if not hosts.leads or not running:
            return
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


def _any(control: Control, since_us: int) -> bool:
    with control.state.read() as conn:
        return bool(canaries.running(conn) if control.hosts is None else canaries.recent(conn, since_us))


def _look(control: Control) -> tuple[Watched, ...]:
    store = control.telemetry
    alone = of_one_store(functools.partial(arms.counts, store), functools.partial(arms.measure, store))
    ask = alone if control.hosts is None else functools.partial(sharing.show, control)

    def show(asked: Questions) -> Shown:
        return msgspec.structs.replace(ask(asked), fed_out=control.fed_out.get(asked.run.id, ""))

    return canary.watch(control.state, show, control.clock, config=control.config)


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
    await asyncio.to_thread(_last_bad, control, run)
    if control.hosts is not None and control.hosts.others:
        await asyncio.sleep(ELSEWHERE_S - timing.LAST_BAD_S)
        await asyncio.to_thread(_last_bad, control, run)


def _last_bad(control: Control, run: CanaryRun) -> None:
    asked = Arm(route=run.route, env=run.env, release=run.release, canary=True, since_us=run.started_us)
    found = arms.last(control.telemetry, asked)
    if control.hosts is not None:
        found = max((one for one in (found, sharing.last_us(control, run.id)) if one is not None), default=None)
    if found is not None:
        canary.record_last_bad(control.state, run.id, found)
