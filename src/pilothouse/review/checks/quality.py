"""T3, T5: is the output good, does retrieval find what answers."""

from pilothouse.domain.eval_facts import EvalFacts, TaskFacts
from pilothouse.domain.evaluation import Verdict
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import (
    MIN_N,
    Check,
    Judged,
    Outcome,
    level,
    limit_of,
    no_data,
    not_applicable,
    sampled,
    worst,
)

CASES_PER_TASK = 30
P_HARM = 0.05
EVALUATE = "evaluate the live release: `pilothouse eval run {route}`"
LOW_CONFIDENCE = Limit(warn=0.10, fail=0.20)


def cases_per_task(evidence: Evidence, item: Item) -> Outcome:
    """T3.1: task types of the dataset with at least 30 cases. Each task counts alike: traffic names no tasks."""
    evals = evidence.evals
    if evals is None or not evals.dataset:
        return no_data("no dataset", fix="name a dataset in the route's `gate`, then `pilothouse eval run {route}`")
    if evals.dataset_error:
        return no_data("dataset not readable", detail=evals.dataset_error)
    if not evals.tasks:
        return no_data("no cases", evals.cases)
    thin = [task for task in evals.tasks if task.cases < CASES_PER_TASK]
    rate = (len(evals.tasks) - len(thin)) / len(evals.tasks)
    named = ", ".join(f"{task.task} has {task.cases}" for task in sorted(thin, key=lambda t: (t.cases, t.task))[:3])
    value = f"{len(evals.tasks) - len(thin)} of {words.plural(len(evals.tasks), 'task')}"
    return Outcome(level(rate, limit_of(item)), value, rate, evals.cases, named, "C")


def pass_rate(evidence: Evidence, item: Item) -> Outcome:
    """T3.2: Wilson's lower bound of the pass rate of the live release, of all cases and of the worst task."""
    evals, limit = evidence.evals, limit_of(item)
    if evals is not None and evals.n and evals.release == evidence.live:
        return _run_rate(evals, limit)
    verdict = evidence.release.verdict if evidence.release else None
    if verdict is not None:
        judged = sampled(round(verdict.candidate_rate * verdict.n), verdict.n, limit)
        at = evidence.release.verdict_us if evidence.release else None
        return _rate(judged, verdict.n, f"worst task: {verdict.worst_task}" if verdict.worst_task else "", at)
    if evals is not None and evals.n:
        asked = f"release {evidence.live}" if evidence.live else "nothing is live"
        return Outcome("STALE", f"of release {evals.release}", n=evals.n, detail=f"live: {asked}")
    return no_data("never evaluated", fix=EVALUATE)


def _run_rate(evals: EvalFacts, limit: Limit) -> Outcome:
    whole = _rate(sampled(evals.passed, evals.n, limit), evals.n, "", evals.run_at_us)
    tasks = [(sampled(task.passed, task.n, limit), task) for task in evals.tasks if task.n >= MIN_N]
    failing = min((task for task in evals.tasks if task.n), key=lambda task: task.passed / task.n, default=None)
    detail = "" if failing is None or failing.passed == failing.n else _task(failing)
    lowest = min(tasks, key=lambda pair: pair[0].bound, default=None)
    if not evals.complete:
        detail = words.joined("the run is not complete", detail)
    if lowest is None or lowest[0].bound >= (whole.number or 0.0):
        return Outcome(whole.status, whole.value, whole.number, whole.n, _both(detail, whole), None, whole.measured_us)
    worst_task = _rate(lowest[0], lowest[1].n, "", evals.run_at_us)
    overall = f"overall {whole.value}"
    named = _task(lowest[1]) if lowest[1].passed < lowest[1].n else f"of {lowest[1].task!r}"
    partly = "" if evals.complete else "the run is not complete"
    return Outcome(
        worst(worst_task.status, whole.status),
        worst_task.value,
        worst_task.number,
        worst_task.n,
        words.joined(partly, named, overall, worst_task.detail),
        None,
        worst_task.measured_us,
    )


def _both(detail: str, outcome: Outcome) -> str:
    return words.joined(detail, outcome.detail)


def _task(task: TaskFacts) -> str:
    return f"{task.task!r} fails {task.n - task.passed} of {task.n}"


def _rate(judged: Judged, n: int, detail: str, measured_us: int | None) -> Outcome:
    note = words.joined(detail, judged.detail)
    return Outcome(judged.status, f"{judged.bound:.2f}", judged.bound, n, note, None, measured_us)


def regression(evidence: Evidence, item: Item) -> Outcome:
    """T3.3: the live release against the one before, case by case."""
    verdict = evidence.release.verdict if evidence.release else None
    if verdict is None:
        return no_data("no verdict", fix=EVALUATE)
    at = evidence.release.verdict_us if evidence.release else None
    if verdict.must_pass_failed:
        failed = ", ".join(verdict.must_pass_failed[:3])
        many = words.plural(len(verdict.must_pass_failed), "must-pass case")
        return Outcome("FAIL", f"{many} failed", verdict.delta, verdict.n, failed, measured_us=at)
    if verdict.delta is None:
        if evidence.live == 1:
            return not_applicable("first release")
        return no_data("no baseline", verdict.n)
    if verdict.n < MIN_N:
        return no_data(words.points(verdict.delta), verdict.n, f"n < {MIN_N}")
    status = _regressed(verdict, limit_of(item))
    return Outcome(status, words.points(verdict.delta), verdict.delta, verdict.n, _broke(verdict), measured_us=at)


def _regressed(verdict: Verdict, limit: Limit) -> Status:
    delta = verdict.delta or 0.0
    status = level(delta, limit)
    harmful = verdict.p_harm is not None and verdict.p_harm < P_HARM
    return "WARN" if status == "FAIL" and not harmful else status


def _broke(verdict: Verdict) -> str:
    interval = ""
    if verdict.low is not None and verdict.high is not None:
        interval = f"[{words.points(verdict.low)}, {words.points(verdict.high)}], "
    return f"{interval}{verdict.broke} broke, {verdict.mended} mended"


# --- T5 ---------------------------------------------------------------------------------------------------------


def hit_at_k(evidence: Evidence, item: Item) -> Outcome:
    """T5.1: labelled cases with a relevant document among the first k retrieved."""
    if not evidence.retrieves:
        return not_applicable("no retrieval")
    retrieval = evidence.evals.retrieval if evidence.evals else None
    if retrieval is None:
        return no_data("no case is labelled")
    judged = sampled(retrieval.hits, retrieval.n, limit_of(item))
    missed = f"missed: {', '.join(retrieval.missed[:3])}" if retrieval.missed else ""
    detail = words.joined(missed, judged.detail)
    value = f"{judged.rate:.2f} at {retrieval.k} (≥ {judged.bound:.2f})"
    at = evidence.evals.run_at_us if evidence.evals else None
    return Outcome(judged.status, value, judged.bound, retrieval.n, detail, measured_us=at)


def nothing_found(evidence: Evidence, item: Item) -> Outcome:
    """T5.4: retrievals without a result, and those whose best document scores low."""
    if not evidence.retrieves:
        return not_applicable("no retrieval")
    use = evidence.facts.retrieval if evidence.facts else None
    if use is None or use.retrievals < MIN_N:
        n = use.retrievals if use else 0
        return no_data(words.plural(n, "retrieval"), n, f"n < {MIN_N}")
    judged = sampled(use.no_result, use.retrievals, limit_of(item))
    value, number, notes = judged.at_most, judged.bound, [judged.detail]
    unsure: Status = "PASS"
    if use.tau is not None and use.scored >= MIN_N:
        low = sampled(use.low_confidence, use.scored, LOW_CONFIDENCE)
        unsure = low.status
        if worst(unsure, judged.status) != judged.status:  # what decides stands first
            value, number = f"{low.at_most} unsure", low.bound
            notes = [f"below a score of {use.tau:.2g}", f"{judged.at_most} without result"]
        else:
            notes.insert(0, f"{low.at_most} unsure, below a score of {use.tau:.2g}")
    grown = _grown(use.no_result, use.retrievals, use.baseline_no_result, use.baseline_retrievals)
    if grown > 1.5:
        notes.insert(0, f"{grown:.1f}× the 4 weeks before")
    status = worst(judged.status, unsure, "WARN" if grown > 1.5 else "PASS")
    return Outcome(status, value, number, use.retrievals, words.joined(*notes))


def _grown(now: int, n: int, before: int, n_before: int) -> float:
    """How many times the rate of before; 0 where either is too thin to compare."""
    if n < MIN_N or n_before < MIN_N or before == 0 or now < 5:
        return 0.0
    return (now / n) / (before / n_before)


CHECKS: dict[str, Check] = {
    "T3.1": cases_per_task,
    "T3.2": pass_rate,
    "T3.3": regression,
    "T5.1": hit_at_k,
    "T5.4": nothing_found,
}
