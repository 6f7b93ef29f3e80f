"""Evals: a dataset through the edge's own pipeline on a release and on its baseline, and the gate's word on them."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from pilothouse.config.route import GateConfig, RouteConfig
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import Refused
from pilothouse.domain.evaluation import CaseResult, Verdict
from pilothouse.domain.table import Live
from pilothouse.evals import dataset as datasets
from pilothouse.evals import gate, run
from pilothouse.evals.dataset import Dataset
from pilothouse.gateway.pipeline import Gateway
from pilothouse.releases import registry
from pilothouse.server.composition import Control
from pilothouse.server.generating import generating, require_providers
from pilothouse.server.streamed import Tell, streamed, threaded
from pilothouse.server.verbs.releases import selectable
from pilothouse.store.state import changes, pointers, releases, runs
from pilothouse.store.state.runs import EvalRun

ENV = "prod"  # the environment that a gate judges for
FRESH_US = 24 * 3_600 * 1_000_000  # a finished run older than this is no evidence any more


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A gate run: `release` against `baseline` (None: what prod points at). `fresh` repeats what is known already."""

    route: str
    release: int
    baseline: int | None = None
    fresh: bool = False


class _Arm(msgspec.Struct, frozen=True):
    live: Live
    run: EvalRun
    done: dict[str, CaseResult]


class _Prepared(msgspec.Struct, frozen=True):
    config: RouteConfig
    gate: GateConfig
    dataset: Dataset
    arms: list[_Arm]  # candidate last


async def judge(control: Control, asked: Asked, actor: Actor) -> AsyncIterator[dict[str, Any]]:
    """Lines of progress, then one of type `result` (or `error`). A broken run goes on where it stopped."""

    def work(tell: Tell) -> dict[str, Any]:
        return _run(control, asked, actor, tell)

    async for line in streamed(control.tasks, f"eval {asked.route}", threaded(work)):
        if line["type"] == "result":
            await selectable(control, asked.route)
        yield line


def _run(control: Control, asked: Asked, actor: Actor, tell: Tell) -> dict[str, Any]:
    """In a thread with an event loop of its own: a long run never delays a rollback."""
    prepared = _prepare(control, asked)
    tell({"type": "started", "cases": len(prepared.dataset.cases), "runs": [arm.run.id for arm in prepared.arms]})

    def progress(done: int, total: int, passed: int, errors: int) -> None:
        tell({"type": "progress", "done": done, "total": total, "passed": passed, "errors": errors})

    async def through(gateway: Gateway) -> list[list[CaseResult]]:
        arms = [run.Arm(arm.live, _keeper(control, arm.run.id), arm.done) for arm in prepared.arms]
        return await run.run(prepared.dataset, arms, gateway.generate, _plan(prepared), progress)

    results = asyncio.run(generating(control, through))
    return _conclude(control, prepared, results, actor)


def _plan(prepared: _Prepared) -> run.Plan:
    return run.Plan(
        route=prepared.config.name,
        env=ENV,
        scorers=prepared.gate.scorers,
        app=prepared.config.app,
        tier=prepared.config.tier,
        concurrency=prepared.gate.concurrency,
        case_timeout_s=prepared.gate.case_timeout_s,
    )


def _prepare(control: Control, asked: Asked) -> _Prepared:
    config = control.route(asked.route)
    if config.gate is None:
        raise Refused(
            f"{asked.route} has no gate",
            where="pilothouse.yaml",
            hint="gate: {dataset: …, scorers: […]}",
            code="no_gate",
        )
    data = datasets.load(config.gate.dataset)
    candidate = registry.release(control.state, asked.route, asked.release)
    lives = [candidate]
    baseline = _baseline(control, asked)
    if baseline is not None:
        lives.insert(0, registry.release(control.state, asked.route, baseline))
    require_providers(control, lives)
    arms = [_arm(control, config, data, live, fresh=asked.fresh) for live in lives]
    return _Prepared(config=config, gate=config.gate, dataset=data, arms=arms)


def _baseline(control: Control, asked: Asked) -> int | None:
    """The release to compare with; None where the candidate is the first, or is live itself."""
    with control.state.read() as conn:
        if asked.baseline is not None:
            return releases.get(conn, asked.route, asked.baseline).number
        pointer = pointers.get(conn, asked.route, ENV)
    return pointer.stable if pointer is not None and pointer.stable != asked.release else None


def _arm(control: Control, config: RouteConfig, data: Dataset, live: Live, *, fresh: bool) -> _Arm:
    """The run of this release: a new one, or one with the same work that was broken off or is still fresh."""
    scorers = config.gate.scorers if config.gate else ()
    key = run.key(config.name, live, data, scorers)
    with control.state.write() as conn:
        known = None if fresh else runs.by_key(conn, key)
        if known is not None and _usable(control, known):
            return _Arm(live, known, {one.case_id: one for one in runs.cases(conn, known.id)})
        new = EvalRun(
            id=0,
            route=config.name,
            release=live.release,
            env=ENV,
            dataset=str(data.path),
            dataset_hash=data.hash,
            key=key,
            n=len(data.cases),
        )
        return _Arm(live, runs.start(conn, new, control.clock), {})


def _usable(control: Control, known: EvalRun) -> bool:
    """Whether a run with the same work may be gone on with: unfinished, or finished not long ago."""
    return known.finished_us is None or control.clock.now_us() - known.finished_us < FRESH_US


def _keeper(control: Control, run_id: int) -> Callable[[CaseResult], None]:
    return functools.partial(_keep, control, run_id)


def _keep(control: Control, run_id: int, result: CaseResult) -> None:
    with control.state.write() as conn:
        runs.put_case(conn, run_id, result)


def _conclude(control: Control, prepared: _Prepared, results: list[list[CaseResult]], actor: Actor) -> dict[str, Any]:
    """Close the runs, judge, keep the verdict, log it."""
    *before, candidate = results
    arms = prepared.arms
    arm, other = arms[-1], arms[0] if len(arms) > 1 else None
    verdict = gate.judge(
        before[0] if before else None,
        candidate,
        prepared.gate.margin,
        floor=prepared.gate.floor,
        run_id=arm.run.id,
        baseline_run_id=other.run.id if other else None,
    )
    baseline = other.live.release if other else None
    with control.state.write() as conn:
        for one in arms:
            runs.finish(conn, one.run.id, control.clock)
        runs.put_verdict(conn, prepared.config.name, arm.live.release, baseline, verdict, control.clock)
        changes.append(conn, _change(prepared, verdict, baseline, actor), control.clock)
    return outcome(prepared.config.name, arm.live.release, baseline, verdict, candidate, before[0] if before else None)


def _change(prepared: _Prepared, verdict: Verdict, baseline: int | None, actor: Actor) -> Change:
    release = prepared.arms[-1].live
    return Change(
        actor=actor,
        action="release.gate",
        object_type="release",
        object_id=f"{prepared.config.name}#{release.release}",
        route=prepared.config.name,
        env=ENV,
        after_hash=release.hash,
        reason=verdict.reason,
        detail={"verdict": verdict.verdict, "baseline": baseline, "run": verdict.run_id, "n": verdict.n},
    )


def outcome(
    route: str,
    release: int,
    baseline: int | None,
    verdict: Verdict,
    candidate: list[CaseResult],
    before: list[CaseResult] | None,
) -> dict[str, Any]:
    """A judged run as JSON: the verdict, and every case with its baseline beside it."""
    moved = gate.changed(before, candidate) if before is not None else None
    return {
        "route": route,
        "release": release,
        "baseline": baseline,
        "run": verdict.run_id,
        "verdict": verdict,
        "broke": moved.broke if moved else [],
        "mended": moved.mended if moved else [],
        "slices": gate.slices(before, candidate),
        "cases": candidate,
        "baseline_cases": before or [],
    }


def show(control: Control, run_id: int) -> dict[str, Any]:
    """A run with its cases, and the verdict that rests on it; NotFound."""
    with control.state.read() as conn:
        found = runs.get(conn, run_id)
        cases = runs.cases(conn, run_id)
        judged = [one for one in runs.list_verdicts(conn, found.route) if one.run_id == run_id]
        before = (
            runs.cases(conn, judged[0].verdict.baseline_run_id)
            if judged and judged[0].verdict.baseline_run_id is not None
            else None
        )
    if not judged:
        return {"route": found.route, "release": found.release, "run": run_id, "state": found.status, "cases": cases}
    told = outcome(found.route, found.release, judged[0].baseline, judged[0].verdict, cases, before)
    return {**told, "state": found.status, "dataset": found.dataset, "finished_us": found.finished_us}


def every(control: Control, route: str | None = None) -> list[EvalRun]:
    """Runs, newest first."""
    with control.state.read() as conn:
        return runs.list_runs(conn, route=route)
