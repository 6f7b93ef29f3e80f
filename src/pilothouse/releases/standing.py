"""How each step of a plan stands now: measured, nothing moved."""

from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import RouteConfig
from pilothouse.domain.release import CanaryRun, Pointer, Release
from pilothouse.domain.table import env_option
from pilothouse.releases import admission, history, reopened
from pilothouse.releases.guardrail import percent
from pilothouse.releases.steps import Canary, Check, Gate, Hold, Promote, Stage, State, Step, StepResult
from pilothouse.store.state import canaries, pointers, releases, runs
from pilothouse.store.state.engine import StateStore

Judged = tuple[State, str, dict[str, Any]]


def dry_run(
    store: StateStore, route: RouteConfig, env: str, release: int, steps: tuple[Step, ...], *, now_us: int = 0
) -> tuple[StepResult, ...]:
    """Every step as it stands now, nothing moved. What follows the first that is not done is not reached yet.

    `now_us`: for what waits by the clock; 0 where nobody says what time it is, and then it waits.
    """
    with store.read() as conn:
        live = pointers.get(conn, route.name, env)
        held = reopened.held(conn, route.name, env)
        scene = _Scene(conn, route, env, releases.get(conn, route.name, release), live, now_us, held)
        return tuple(_now(scene, step) for step in steps)


@dataclass(frozen=True)
class _Scene:
    """What the steps are judged on."""

    conn: Connection
    route: RouteConfig
    env: str
    release: Release
    live: Pointer | None
    now_us: int
    held: str  # the sentence of an open review; empty where none is

    @property
    def done(self) -> bool:
        return self.live is not None and self.live.stable == self.release.number

    def signature(self, share: float) -> str:
        """The sentence of an open review that such a share waits for; empty where it waits for none."""
        return "" if self.live is None or share <= reopened.CAP else self.held

    @property
    def running(self) -> CanaryRun | None:
        """The canary of this release, where it runs."""
        if self.live is None or self.live.canary != self.release.number:
            return None
        found = canaries.running(self.conn, self.route.name, self.env)
        return found[-1] if found else None


def _now(scene: _Scene, step: Step) -> StepResult:
    match step:
        case Check():
            state, message, evidence = _check(scene, step)
        case Gate():
            state, message, evidence = _verdict(scene, step)
        case Stage():
            state, message, evidence = _stage(scene, step)
        case Canary():
            state, message, evidence = _share(scene, step)
        case Hold():
            state, message, evidence = _hold(scene, step)
        case Promote():
            state, message, evidence = _promotion(scene)
        case _:
            assert_never(step)
    return StepResult(step=step, state=state, message=message, evidence=evidence)


def _check(scene: _Scene, step: Check) -> Judged:
    conn, release = scene.conn, scene.release
    evidence: dict[str, Any] = {
        "missing": releases.missing(conn, release),
        "floating_alias": release.floating_alias,
        "incompatible": [msgspec.to_builtins(one) | {"breaks": one.breaks} for one in step.incompatible],
        "callers": step.callers,
    }
    if evidence["missing"]:
        return "blocked", f"CR.1: {', '.join(evidence['missing'])} do not resolve", evidence
    if broken := [str(one) for one in step.incompatible if one.breaks]:
        return "blocked", f"T10.1: callers would not survive it: {'; '.join(broken[:3])}", evidence
    said = ["8 of 8 hashes resolve"]
    if release.floating_alias:
        said.append(f"T1.3: {release.floating_alias} is not pinned to a version")
    if step.incompatible:
        said.append(f"T10.1: worth a look: {'; '.join(map(str, step.incompatible[:2]))}")
    elif step.callers is not None:
        said.append(f"compatible with {step.callers:,} requests of callers")
    blocked, way = _way_back(scene)
    return ("blocked", way, evidence) if blocked else ("done", "; ".join([*said, way]), evidence)


def _way_back(scene: _Scene) -> tuple[bool, str]:
    """Whether nothing could be taken back afterwards, and in words where a rollback would go."""
    live = scene.live
    if live is None:
        return False, f"CR.6: the first release in {scene.env} has nothing to go back to"
    if scene.done:
        return False, history.target(scene.conn, live).reason
    gone = releases.missing(scene.conn, releases.get(scene.conn, live.route, live.stable))
    if gone:
        return True, f"CR.6: no way back, {', '.join(gone)} of release {live.stable} do not resolve"
    return False, f"a rollback goes to release {live.stable}"


def _verdict(scene: _Scene, step: Gate) -> Judged:
    route, number = scene.release.route, scene.release.number
    judged = runs.verdict(scene.conn, route, number)
    if judged is None and scene.done:
        return "done", f"not run, and release {number} is the stable one", {}
    if judged is None:
        against = f" --baseline {step.baseline}" if step.baseline is not None else ""
        return "ready", f"pilothouse eval run {route} --release {number}{against}", {}
    evidence = {
        "run": judged.run_id,
        "baseline": judged.baseline,
        "verdict": judged.verdict.verdict,
        "delta": judged.verdict.delta,
        "low": judged.verdict.low,
        "high": judged.verdict.high,
        "n": judged.verdict.n,
    }
    said = f"{judged.verdict.verdict}: {admission.sentence(judged.verdict)}"
    if scene.done and judged.verdict.verdict != "pass":
        return "done", f"release {number} is the stable one all the same; {said}", evidence
    return "done" if judged.verdict.verdict == "pass" else "blocked", said, evidence


def _stage(scene: _Scene, step: Stage) -> Judged:
    number = step.release
    there = pointers.get(scene.conn, scene.route.name, step.env)
    if scene.done or (there is not None and there.stable == number):
        return "done", f"release {number} is the stable one in {step.env}", {"revision": there.revision if there else 0}
    if there is not None and there.canary not in (None, number):
        return "blocked", f"a canary of release {there.canary} is running in {step.env}", {}
    return "ready", f"release {number} becomes the stable one in {step.env}", {}


def _share(scene: _Scene, step: Canary) -> Judged:
    live, number = scene.live, scene.release.number
    if scene.done:
        return "done", f"release {number} is the stable one", {}
    if live is None or live.canary is None:
        return _not_begun(scene, step)
    if live.canary != number:
        return "blocked", f"a canary of release {live.canary} is running", {}
    run = scene.running
    evidence = _evidence(run)
    if live.share > step.share:
        return "done", f"the canary is at {percent(live.share)}", {"share": live.share}
    if live.share < step.share and (signature := scene.signature(step.share)):
        return "waiting", signature, {"share": live.share}
    if live.share < step.share:
        return "ready", f"from {percent(live.share)} to {percent(step.share)}", {"share": live.share}
    seen = str(run.evidence.get("sentence", "")) if run else ""
    if run is not None and run.decision == "inconclusive":
        return "blocked", seen, {**evidence, "verdict": "inconclusive"}
    return "done" if _enough(run) else "waiting", seen or "the watch has not looked yet", evidence


def _not_begun(scene: _Scene, step: Canary) -> Judged:
    """A canary of this release that was taken back does not begin again by itself: a person decides."""
    number = scene.release.number
    earlier = [
        run
        for run in canaries.list_canaries(scene.conn, scene.route.name, scene.env)
        if run.release == number and run.state == "aborted"
    ]
    if earlier:
        why = str(earlier[0].evidence.get("sentence", "")) or "taken back by hand"
        hint = f"pilothouse release promote {scene.route.name} {number} --canary {percent(step.share)}"
        again = hint.replace(" %", "%") + env_option(scene.env)
        return "blocked", f"its canary was taken back: {why}; to begin again: {again}", _evidence(earlier[0])
    if signature := scene.signature(step.share):
        return "waiting", signature, {}
    return "ready", f"release {number} gets {percent(step.share)}", {}


def _hold(scene: _Scene, step: Hold) -> Judged:
    if scene.done:
        return "done", f"release {scene.release.number} is the stable one", {}
    run = scene.running
    if run is None or scene.live is None or scene.live.share < step.share or not _enough(run):
        return "waiting", f"begins when the canary has seen enough at {percent(step.share)}", {}
    held = max(0.0, (scene.now_us - run.stepped_us) / 1_000_000) if scene.now_us else 0.0
    message = f"{held:,.0f} of {step.seconds:,.0f} s at {percent(step.share)}"
    return "done" if held >= step.seconds else "waiting", message, {"seconds": held}


def _enough(run: CanaryRun | None) -> bool:
    return run is not None and run.decision in admission.ENOUGH


def _evidence(run: CanaryRun | None) -> dict[str, Any]:
    return {"canary": run.id, "decision": run.decision, **run.evidence} if run else {}


def _promotion(scene: _Scene) -> Judged:
    number = scene.release.number
    if scene.done:
        return "done", f"release {number} is the stable one", {}
    if signature := scene.signature(1.0):
        return "waiting", signature, {}
    found = admission.objections(scene.conn, scene.route, scene.env, number, pointer=scene.live, canary=False)
    return ("blocked", "; ".join(found), {}) if found else ("ready", f"release {number} becomes the stable one", {})
