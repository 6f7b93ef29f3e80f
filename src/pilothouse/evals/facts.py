"""What the evals know of a route, read for the review: its dataset, its latest run, its verdict, its retrieval."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from pilothouse.config.route import RouteConfig
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.eval_facts import EvalFacts, RetrievalFacts, TaskFacts
from pilothouse.domain.evaluation import Case, CaseResult
from pilothouse.evals import retrieval
from pilothouse.evals.dataset import Dataset, load
from pilothouse.evals.gate import passed
from pilothouse.stats.proportions import wilson
from pilothouse.store.state import runs
from pilothouse.store.state.runs import EvalRun


def read(
    conn: Connection,
    route: RouteConfig,
    release: int | None,
    *,
    k: int = 5,
    retrieved: Mapping[str, Sequence[str]] | None = None,
) -> EvalFacts:
    """The facts of `route` whose live release is `release`: its latest finished run, else that of another release.

    `retrieved` gives what the index returns now by case id, see `retrieval.measure`. A dataset that cannot be read
    is a fact too: `dataset_error`.
    """
    if route.gate is None:
        return EvalFacts(route=route.name, release=release)
    run = _latest(conn, route.name, release)
    results = runs.cases(conn, run.id) if run is not None else []
    base = EvalFacts(route=route.name, dataset=str(route.gate.dataset), scorers=list(route.gate.scorers))
    if run is not None:
        base = _of_run(conn, base, run, results)
    try:
        dataset = load(Path(route.gate.dataset))
        found = retrieval.measure(dataset.cases, k, retrieved)
    except ConfigError as error:
        return msgspec.structs.replace(base, dataset_error=str(error), tasks=_tasks((), results))
    return _with_dataset(base, dataset, results, found)


def _of_run(conn: Connection, base: EvalFacts, run: EvalRun, results: Sequence[CaseResult]) -> EvalFacts:
    verdict = runs.verdict(conn, run.route, run.release)
    return msgspec.structs.replace(
        base,
        release=run.release,
        run_dataset_hash=run.dataset_hash,
        run_id=run.id,
        run_at_us=run.finished_us,
        passed=sum(map(passed, results)),
        n=len(results),
        errors=sum(bool(one.error) for one in results),
        verdict=verdict.verdict if verdict is not None else None,
    )


def _latest(conn: Connection, route: str, release: int | None) -> EvalRun | None:
    finished = [one for one in runs.list_runs(conn, route=route) if one.status == "done"]
    of_release = (one for one in finished if one.release == release)
    return next(of_release, finished[0] if finished else None)


def _with_dataset(
    base: EvalFacts, dataset: Dataset, results: Sequence[CaseResult], found: RetrievalFacts | None
) -> EvalFacts:
    judged = {one.case_id for one in results}
    return msgspec.structs.replace(
        base,
        dataset_hash=dataset.hash,
        complete=bool(results) and all(case.id in judged for case in dataset.cases),
        cases=len(dataset.cases),
        must_pass=sum(case.must_pass for case in dataset.cases),
        tasks=_tasks(dataset.cases, results),
        retrieval=found,
    )


def _tasks(cases: Sequence[Case], results: Sequence[CaseResult]) -> list[TaskFacts]:
    """By task, in the dataset's order; tasks that only the run has come last."""
    names = dict.fromkeys([case.task for case in cases] + [one.task for one in results])
    return [_task(name, cases, [one for one in results if one.task == name]) for name in names]


def _task(name: str, cases: Sequence[Case], results: Sequence[CaseResult]) -> TaskFacts:
    k, n = sum(map(passed, results)), len(results)
    low, high = wilson(k, n) if n else (None, None)
    return TaskFacts(task=name, cases=sum(case.task == name for case in cases), passed=k, n=n, low=low, high=high)
