"""The plan of a release: one tuple of steps, which is shown, tried dry, and executed.

What a step's state is now is measured by `dry_run`; `advance` walks the same results and does the first that is
ready. So the plan cannot say one thing and do another.
"""

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import RouteConfig
from pilothouse.config.canary import CanaryPolicy
from pilothouse.domain.callers import Callers
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import Clock
from pilothouse.domain.release import Pointer, Release
from pilothouse.domain.table import ENVIRONMENTS, env_option
from pilothouse.releases import admission, compatibility, pointer
from pilothouse.releases.move import Moved
from pilothouse.releases.standing import dry_run
from pilothouse.releases.steps import Canary, Check, Gate, Hold, Promote, Stage, Step, StepResult, describe
from pilothouse.stats.paired import minimum_detectable
from pilothouse.store.state import pointers, releases, runs
from pilothouse.store.state.engine import StateStore

__all__ = [
    "Advanced", "Canary", "Check", "Gate", "Hold", "Promote", "Stage", "Step", "StepResult", "advance", "back_out",
    "describe", "dry_run", "plan",
]  # fmt: skip

ASSUMED_DISCORDANCE = 0.1  # share of cases that change between releases, where no gate has measured it yet
HOLD_S = {"high": 600.0}  # by tier: at the canary's last share, before it becomes the stable release


class Advanced(msgspec.Struct, frozen=True, kw_only=True):
    """What `advance` did: the steps before it and after it, and the move, where there was one to make."""

    results: tuple[StepResult, ...]
    moved: Moved | None = None
    step: Step | None = None  # the one that was done


def plan(
    store: StateStore,
    route: RouteConfig,
    env: str,
    release: int,
    policy: CanaryPolicy | None = None,
    callers: Callers | None = None,
) -> tuple[Step, ...]:
    """The steps from what is live to `release`; NotFound where there is no such release.

    The environments before `env` in which the route is live come first. Outside prod, and for the first release of an
    environment, there is nothing to compare with and no canary. `callers`: who the candidate is checked against.
    """
    canary = policy or route.canary
    with store.read() as conn:
        candidate = releases.get(conn, route.name, release)
        live = pointers.get(conn, route.name, env)
        steps: list[Step] = [_check(conn, candidate, live, callers)]
        compared = env in admission.GATED_ENVIRONMENTS and live is not None
        if compared and live is not None and route.gate is not None:
            steps.append(_gate(conn, route, live.stable if live.stable != release else None))
        before = ENVIRONMENTS[: ENVIRONMENTS.index(env)] if env in ENVIRONMENTS else ()
        steps += [Stage(one, release) for one in before if pointers.get(conn, route.name, one) is not None]
        if compared:
            shares = [share for share in sorted(canary.steps) if share < 1.0]
            if shares and canary.shadow is not None:
                steps.append(Canary(0.0, canary.shadow.requests, 0.0))
            steps += [Canary(share, canary.min_requests, canary.min_seconds) for share in shares]
            if shares and route.tier in HOLD_S:
                steps.append(Hold(shares[-1], HOLD_S[route.tier]))
        return (*steps, Promote(release))


def _check(conn: Connection, candidate: Release, live: Pointer | None, callers: Callers | None) -> Check:
    if callers is None or live is None or live.stable == candidate.number:
        return Check()
    stable = releases.get(conn, live.route, live.stable)
    if releases.missing(conn, stable) or releases.missing(conn, candidate):
        return Check()  # the check itself says what does not resolve
    found = compatibility.compare(releases.manifest(conn, stable), releases.manifest(conn, candidate), callers)
    return Check(incompatible=found, callers=callers.sample)


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


def back_out(route: str, env: str) -> str:
    """The command that undoes whatever step was reached."""
    return f"pilothouse rollback {route}{env_option(env)}"


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """An order to carry `release` on in `env` by one step. `expected_revision`: of the pointer of `env` that was looked
    at (0: there was none); None: the one of now."""

    env: str
    release: int
    actor: Actor
    expected_revision: int | None = None


def advance(store: StateStore, route: RouteConfig, order: Advance, steps: tuple[Step, ...], clock: Clock) -> Advanced:
    """Do the first step that is not done, if it is ready and ours to do; the gate is run by its own command.

    Refused or Conflict where the pointer's own rules stand against it, or where it is not the one that was looked at.
    """
    with store.read() as conn:
        live = {one.env: one.revision for one in pointers.every(conn, route.name)}
    if order.expected_revision is not None:
        live[order.env] = order.expected_revision
    results = dry_run(store, route, order.env, order.release, steps, now_us=clock.now_us())
    following = next((result for result in results if result.state != "done"), None)
    if following is None or following.state != "ready" or isinstance(following.step, Check | Gate | Hold):
        return Advanced(results=results)
    step = following.step
    where = step.env if isinstance(step, Stage) else order.env
    share = step.share if isinstance(step, Canary) else None
    asked = pointer.Promotion(
        env=where,
        release=order.release,
        actor=order.actor,
        reason="plan",
        share=share,
        expected_revision=live.get(where, 0),
    )
    moved = pointer.promote(store, route, asked, clock)
    after = dry_run(store, route, order.env, order.release, steps, now_us=clock.now_us())
    return Advanced(results=after, moved=moved, step=step)
