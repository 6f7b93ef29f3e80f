"""The plan of a release: one tuple of steps, which is shown, tried dry, and executed.

What a step's state is now is measured by `dry_run`; `advance` walks the same results and does the first that is
ready. So the plan cannot say one thing and do another.
"""

from dataclasses import dataclass
from typing import Literal, assert_never

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import RouteConfig
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import Clock
from pilothouse.domain.release import Pointer, Release
from pilothouse.releases import admission, history, pointer
from pilothouse.releases.guardrail import CanaryPolicy, percent
from pilothouse.releases.move import Moved
from pilothouse.stats.paired import minimum_detectable
from pilothouse.store.state import canaries, pointers, releases, runs
from pilothouse.store.state.engine import StateStore

State = Literal["done", "ready", "waiting", "blocked"]
ASSUMED_DISCORDANCE = 0.1  # share of cases that change between releases, where no gate has measured it yet


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Items that are measured before anything moves."""

    items: tuple[str, ...] = ("CR.1", "T1.3", "CR.6")


class Gate(msgspec.Struct, frozen=True, tag="gate"):
    """An eval of `n` cases against the stable release. `detects`: the smallest drop seen with 80 % power, given that a
    share `discordance` of the cases changes; cost and time as of the last run, None where there was none."""

    n: int
    margin: float
    detects: float
    discordance: float
    cost_usd: float | None = None
    seconds: float | None = None
    baseline: int | None = None


class Canary(msgspec.Struct, frozen=True, tag="canary"):
    """A share of sessions, until enough requests and seconds have gone by without harm."""

    share: float
    min_requests: int
    min_seconds: float


class Promote(msgspec.Struct, frozen=True, tag="promote"):
    """The release becomes the stable one."""

    release: int


Step = Check | Gate | Canary | Promote


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """A step now. `blocked`: it cannot be done as things are; `waiting`: it is under way; `ready`: it comes next."""

    step: Step
    state: State
    message: str


class Advanced(msgspec.Struct, frozen=True, kw_only=True):
    """What `advance` did: the steps after it, and the move, where there was one to make."""

    results: tuple[StepResult, ...]
    moved: Moved | None = None


def plan(
    store: StateStore,
    route: RouteConfig,
    env: str,
    release: int,
    policy: CanaryPolicy = CanaryPolicy(),  # noqa: B008  # immutable
) -> tuple[Step, ...]:
    """The steps from what is live to `release`; NotFound where there is no such release.

    Outside prod, and for the first release of an environment, there is nothing to compare with and no canary.
    """
    with store.read() as conn:
        releases.get(conn, route.name, release)
        live = pointers.get(conn, route.name, env)
        steps: list[Step] = [Check()]
        if env in admission.GATED_ENVIRONMENTS and live is not None:
            if route.gate is not None:
                steps.append(_gate(conn, route, live.stable if live.stable != release else None))
            shares = [share for share in sorted(policy.steps) if share < 1.0]
            steps += [Canary(share, policy.min_requests, policy.min_seconds) for share in shares]
        return (*steps, Promote(release))


def _gate(conn: Connection, route: RouteConfig, baseline: int | None) -> Gate:
    assert route.gate is not None  # noqa: S101  # the caller asked
    try:
        lines = route.gate.dataset.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []  # the dataset is read again, and missed loudly, when the gate runs
    n = sum(bool(line.strip()) for line in lines)
    judged = [one.verdict for one in runs.list_verdicts(conn, route.name) if one.verdict.n]
    discordance = (judged[0].broke + judged[0].mended) / judged[0].n if judged else ASSUMED_DISCORDANCE
    cost, seconds = _last_run(conn, route.name, n)
    return Gate(
        n=n,
        margin=route.gate.margin,
        detects=minimum_detectable(n, discordance),
        discordance=discordance,
        cost_usd=cost,
        seconds=seconds,
        baseline=baseline,
    )


def _last_run(conn: Connection, route: str, n: int) -> tuple[float | None, float | None]:
    """(USD, seconds) of the last finished run, scaled to `n` cases; None where unknown, an unpriced model included."""
    done = [run for run in runs.list_runs(conn, route=route, limit=20) if run.finished_us and run.n]
    if not done or done[0].finished_us is None:
        return None, None
    costs = [case.cost_usd for case in runs.cases(conn, done[0].id, repeat=None)]
    known = [cost for cost in costs if cost is not None]
    usd = sum(known) / done[0].n * n if len(known) == len(costs) and known else None
    return usd, (done[0].finished_us - done[0].started_us) / 1_000_000 / done[0].n * n


def describe(step: Step) -> str:
    """A step in one line, as the terminal and the page show it."""
    match step:
        case Check(items):
            return "check " + " ".join(items)
        case Gate():
            cost = "cost unknown" if step.cost_usd is None else f"about {step.cost_usd:.2f} USD"
            took = "" if step.seconds is None else f", {step.seconds / 60:.0f} min"
            seen = f"detects ≥ {step.detects * 100:.1f} pp at 80 % power"
            return f"gate {step.n} cases, margin {step.margin * 100:.3g} pp, {seen}, {cost}{took}"
        case Canary(share, requests, seconds):
            return f"canary {percent(share)}, at least {seconds / 60:.3g} min and {requests} requests"
        case Promote(release):
            return f"promote release {release}"
        case _:
            assert_never(step)


def back_out(route: str, env: str) -> str:
    """The command that undoes whatever step was reached."""
    return f"pilothouse rollback {route}" + ("" if env == "prod" else f" --env {env}")


def dry_run(
    store: StateStore, route: RouteConfig, env: str, release: int, steps: tuple[Step, ...]
) -> tuple[StepResult, ...]:
    """Every step as it stands now, nothing moved. What follows the first that is not done is not reached yet."""
    with store.read() as conn:
        live = pointers.get(conn, route.name, env)
        scene = _Scene(conn, route, env, releases.get(conn, route.name, release), live)
        return tuple(_now(scene, step) for step in steps)


@dataclass(frozen=True)
class _Scene:
    """What the steps are judged on."""

    conn: Connection
    route: RouteConfig
    env: str
    release: Release
    live: Pointer | None

    @property
    def done(self) -> bool:
        return self.live is not None and self.live.stable == self.release.number


def _now(scene: _Scene, step: Step) -> StepResult:
    match step:
        case Check():
            state, message = _check(scene)
        case Gate():
            state, message = _verdict(scene, step)
        case Canary():
            state, message = _share(scene, step)
        case Promote():
            state, message = _promotion(scene)
        case _:
            assert_never(step)
    return StepResult(step=step, state=state, message=message)


def _check(scene: _Scene) -> tuple[State, str]:
    conn, release, live = scene.conn, scene.release, scene.live
    if missing := releases.missing(conn, release):
        return "blocked", f"CR.1: {', '.join(missing)} do not resolve"
    said = ["8 of 8 hashes resolve"]
    if release.floating_alias:
        said.append(f"T1.3: {release.floating_alias} is not pinned to a version")
    if live is None:
        said.append(f"CR.6: the first release in {scene.env} has nothing to go back to")
    elif scene.done:
        said.append(history.target(conn, live).reason)
    elif gone := releases.missing(conn, releases.get(conn, live.route, live.stable)):
        return "blocked", f"CR.6: no way back, {', '.join(gone)} of release {live.stable} do not resolve"
    else:
        said.append(f"a rollback goes to release {live.stable}")
    return "done", "; ".join(said)


def _verdict(scene: _Scene, step: Gate) -> tuple[State, str]:
    route, number = scene.release.route, scene.release.number
    judged = runs.verdict(scene.conn, route, number)
    if judged is None:
        against = f" --baseline {step.baseline}" if step.baseline is not None else ""
        return "ready", f"pilothouse eval run {route} --release {number}{against}"
    passed = judged.verdict.verdict == "pass"
    return "done" if passed else "blocked", f"{judged.verdict.verdict}: {admission.sentence(judged.verdict)}"


def _share(scene: _Scene, step: Canary) -> tuple[State, str]:
    live, number = scene.live, scene.release.number
    if scene.done:
        return "done", f"release {number} is the stable one"
    if live is None or live.canary is None:
        return "ready", f"release {number} gets {percent(step.share)}"
    if live.canary != number:
        return "blocked", f"a canary of release {live.canary} is running"
    if live.share > step.share:
        return "done", f"the canary is at {percent(live.share)}"
    if live.share < step.share:
        return "ready", f"from {percent(live.share)} to {percent(step.share)}"
    running = canaries.running(scene.conn, live.route, live.env)
    enough = bool(running) and running[-1].decision in admission.ENOUGH
    seen = str(running[-1].evidence.get("sentence", "")) if running else ""
    return "done" if enough else "waiting", seen or "the watch has not looked yet"


def _promotion(scene: _Scene) -> tuple[State, str]:
    number = scene.release.number
    if scene.done:
        return "done", f"release {number} is the stable one"
    found = admission.objections(scene.conn, scene.route, scene.env, number, pointer=scene.live, canary=False)
    return ("blocked", "; ".join(found)) if found else ("ready", f"release {number} becomes the stable one")


def advance(
    store: StateStore,
    route: RouteConfig,
    env: str,
    release: int,
    steps: tuple[Step, ...],
    *,
    actor: Actor,
    clock: Clock,
) -> Advanced:
    """Do the first step that is not done, if it is ready and ours to do; the gate is run by its own command.

    Refused or Conflict where the pointer's own rules stand against it.
    """
    results = dry_run(store, route, env, release, steps)
    following = next((result for result in results if result.state != "done"), None)
    if following is None or following.state != "ready" or isinstance(following.step, Check | Gate):
        return Advanced(results=results)
    share = following.step.share if isinstance(following.step, Canary) else None
    order = pointer.Promotion(env=env, release=release, actor=actor, reason="plan", share=share)
    moved = pointer.promote(store, route, order, clock)
    return Advanced(results=dry_run(store, route, env, release, steps), moved=moved)
