"""Runs: every case of a dataset through the edge's own pipeline, on one release or on two at the same time.

A result is kept as soon as it is known, so that a killed run goes on where it stopped and repeats no call.
Baseline and candidate are interleaved case by case: a provider that drifts during the run drifts for both.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pilothouse.domain.errors import INVALID_OUTPUT_CODES, PilothouseError
from pilothouse.domain.evaluation import Case, CaseResult, Score
from pilothouse.domain.hashing import content_hash
from pilothouse.domain.table import Live
from pilothouse.domain.wires import Generate, GenerateReply, GenerateRequest
from pilothouse.evals import scorers
from pilothouse.evals.dataset import Dataset

Keep = Callable[[CaseResult], None]
Progress = Callable[[int, int, int, int], None]  # done, total, passed, errors; over all arms


class Arm(msgspec.Struct, frozen=True):
    """A release to run. `done`: results kept before, by case id; those with an error are tried again."""

    live: Live
    keep: Keep
    done: Mapping[str, CaseResult] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to run: `scorers` are the route's, `case_timeout_s` spans one case, queueing in the gateway included."""

    route: str
    env: str
    scorers: tuple[str, ...]
    app: str = ""
    tier: str = "standard"
    concurrency: int = 2
    case_timeout_s: float = 120.0


def key(route: str, live: Live, dataset: Dataset, route_scorers: Sequence[str], repeat: int = 0) -> str:
    """Equal for runs that would do the same work: manifest, dataset's content, scorers, repetition."""
    parts = [route, live.hash, dataset.hash, scorers.fingerprint(route_scorers), repeat]
    return content_hash(parts)


async def run(
    dataset: Dataset,
    arms: Sequence[Arm],
    generate: Generate,
    plan: Plan,
    progress: Progress | None = None,
) -> list[list[CaseResult]]:
    """The results of each arm, in the dataset's order.

    Raises ConfigError before the first call where a case cannot be judged. A reply's error, a case over its
    deadline and a scorer that fails become the case's `error`. What `generate` raises beyond the product's own
    errors ends the run; what is kept stays kept.
    """
    judges = [scorers.build(plan.scorers, dataset.cases, arm.live.manifest, dataset.at) for arm in arms]
    results: list[dict[str, CaseResult]] = [
        {case_id: result for case_id, result in arm.done.items() if not result.error and case_id in dataset.lines}
        for arm in arms
    ]
    tally = _Tally(len(dataset.cases) * len(arms), [one for kept in results for one in kept.values()], progress)
    work = _interleaved(dataset.cases, results)

    async def worker() -> None:
        for index, case in work:
            result = await _case(case, arms[index].live, judges[index], generate, plan)
            await asyncio.to_thread(arms[index].keep, result)  # a store's lock must not hold up the loop
            results[index][case.id] = result
            tally.add(result)

    async with asyncio.TaskGroup() as group:
        for _ in range(max(1, plan.concurrency)):
            group.create_task(worker())
    return [[kept[case.id] for case in dataset.cases] for kept in results]


def _interleaved(cases: Sequence[Case], results: Sequence[Mapping[str, CaseResult]]) -> Iterator[tuple[int, Case]]:
    """Arm and case still to be run, the arms by turns; which goes first alternates, so that order favours neither."""
    for number, case in enumerate(cases):
        arms = range(len(results)) if number % 2 == 0 else reversed(range(len(results)))
        for index in arms:
            if case.id not in results[index]:
                yield index, case


class _Tally:
    """What the progress bar shows."""

    def __init__(self, total: int, before: Sequence[CaseResult], progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = len(before)
        self._passed = sum(result.passed for result in before)
        self._errors = 0
        self._report()

    def add(self, result: CaseResult) -> None:
        self._done += 1
        self._passed += result.passed
        self._errors += bool(result.error)
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total, self._passed, self._errors)


def body(case: Case, route: str) -> dict[str, Any]:
    """The OpenAI body that a client of the route would send for this case."""
    sent: dict[str, Any] = {"model": route}
    messages = case.messages or ([{"role": "user", "content": case.input}] if case.input else [])
    sent["messages"] = messages
    if case.variables:
        sent["prompt"] = {"id": route, "variables": case.variables}
    return sent


async def _case(
    case: Case, live: Live, judges: Mapping[str, scorers.Scorer], generate: Generate, plan: Plan
) -> CaseResult:
    request = GenerateRequest(
        route=plan.route, env=plan.env, live=live, body=body(case, plan.route), app=plan.app, tier=plan.tier
    )
    try:
        async with asyncio.timeout(plan.case_timeout_s):
            reply = await generate(request)
    except TimeoutError:
        return _blank(case, error=f"case_timeout: no answer within {plan.case_timeout_s:g} s")
    except PilothouseError as error:
        return _blank(case, error=f"{error.kind}: {error}")
    return _judged(case, reply, judges, plan)


def _blank(case: Case, *, error: str) -> CaseResult:
    return CaseResult(case_id=case.id, task=case.task, must_pass=case.must_pass, error=error)


def _judged(case: Case, reply: GenerateReply, judges: Mapping[str, scorers.Scorer], plan: Plan) -> CaseResult:
    result = CaseResult(
        case_id=case.id,
        task=case.task,
        output=reply.text,
        request_id=reply.request_id,
        duration_ms=reply.duration_ms,
        cost_usd=reply.cost_usd,
        must_pass=case.must_pass,
    )
    if reply.error in INVALID_OUTPUT_CODES:  # the model's doing: a fail, not an error
        result.scores = [Score(scorer="valid_output", passed=False, why="fails its schema after the allowed repairs")]
        return result
    if reply.error:
        result.error = reply.error
        return result
    for name in scorers.names(case, plan.scorers):
        try:
            result.scores.append(judges[name](case, reply.text))
        except Exception as error:  # noqa: BLE001  # plugin call: a scorer that fails is the case's error, recorded
            result.error = f"scorer {name}: {type(error).__name__}: {error}"
            return result
    result.passed = bool(result.scores) and all(score.passed for score in result.scores)
    return result
