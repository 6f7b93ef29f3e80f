"""T3, T4, T5: is the output good, does it meet its schema, does retrieval find what answers."""

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
STEPS_ON_INVALID = ("error", "fallback")  # the ends of `policy.invalid` that hand nothing invalid on
FINAL_INVALID = Limit(warn=0.005, fail=0.02)
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


# --- T4 ---------------------------------------------------------------------------------------------------------


def _structured(evidence: Evidence) -> Outcome | None:
    """Why T4 cannot be judged, or None where it can."""
    if not evidence.structured:
        return not_applicable("no schema")
    if evidence.facts is None:
        return no_data("no traffic", 0)
    n = evidence.facts.schema.structured
    return no_data(words.plural(n, "structured request"), n, f"n < {MIN_N}") if n < MIN_N else None


def valid_first(evidence: Evidence, item: Item) -> Outcome:
    """T4.1: outputs that met their schema as the model wrote them."""
    if (early := _structured(evidence)) or evidence.facts is None:
        return early or no_data("no traffic", 0)
    schema = evidence.facts.schema
    judged = sampled(schema.valid_first, schema.structured, limit_of(item))
    value = f"{words.share(judged.rate)} (≥ {words.share(judged.bound)})"
    why = max(schema.errors, key=lambda error: schema.errors[error], default="")
    detail = words.joined(why, judged.detail)
    return Outcome(judged.status, value, judged.bound, schema.structured, detail)


def repaired(evidence: Evidence, item: Item) -> Outcome:
    """T4.2: outputs that needed repair or another try, and those that were invalid in the end."""
    if (early := _structured(evidence)) or evidence.facts is None:
        return early or no_data("no traffic", 0)
    schema = evidence.facts.schema
    n = schema.structured
    judged = sampled(min(n, schema.repaired + schema.retried), n, limit_of(item))
    final = sampled(n - schema.valid, n, FINAL_INVALID)
    value = f"{words.share(judged.rate)} (≤ {words.share(judged.bound)})"
    invalid = f"{words.share(final.rate)} invalid in the end (≤ {words.share(final.bound)})"
    cost = f"{words.usd(schema.invalid_attempt_cost)} thrown away" if schema.invalid_attempt_cost else ""
    detail = words.joined(invalid, cost, judged.detail)
    return Outcome(worst(judged.status, final.status), value, judged.bound, n, detail)


def missing_fields(evidence: Evidence, item: Item) -> Outcome:
    """T4.3: the required field that is missing most often."""
    if (early := _structured(evidence)) or evidence.facts is None:
        return early or no_data("no traffic", 0)
    return _worst_field(evidence.facts.schema.missing, evidence.facts.schema.structured, limit_of(item))


def mismatched_fields(evidence: Evidence, item: Item) -> Outcome:
    """T4.4: the field that has the wrong type, or a value outside its enum, most often."""
    if (early := _structured(evidence)) or evidence.facts is None:
        return early or no_data("no traffic", 0)
    return _worst_field(evidence.facts.schema.mismatched, evidence.facts.schema.structured, limit_of(item))


def _worst_field(fields: dict[str, int], n: int, limit: Limit) -> Outcome:
    field = min(fields, key=lambda name: (-fields[name], name), default="")
    judged = sampled(min(n, fields.get(field, 0)), n, limit)
    detail = words.joined(f"worst: {field}" if field else "", judged.detail)
    return Outcome(
        judged.status, f"{words.share(judged.rate)} (≤ {words.share(judged.bound)})", judged.bound, n, detail
    )


def on_invalid(evidence: Evidence, _item: Item) -> Outcome:
    """T4.5: what the policy does with invalid output, whether a drill has shown it, and what reached callers."""
    if not evidence.structured:
        return not_applicable("no schema")
    steps = evidence.config.manifest.policy.invalid
    declared = " → ".join(steps)
    if not steps or steps[-1] not in STEPS_ON_INVALID:
        return Outcome("FAIL", declared or "undeclared", grade="C")
    delivered = 0 if evidence.facts is None else evidence.facts.schema.delivered_invalid
    n = 0 if evidence.facts is None else evidence.facts.schema.structured
    if delivered:
        return Outcome("FAIL", f"{delivered:,} invalid delivered", float(delivered), n, declared)
    drill = evidence.drill("invalid_output")
    if drill is None:
        return no_data(
            "never exercised", n, f"declared: {declared}", "practise with output that breaks the schema, in staging"
        )
    age_days = (evidence.now_us - drill.ts_us) / 86_400_000_000
    status: Status = "FAIL" if not drill.ok else "WARN" if age_days > 30 else "PASS"
    return Outcome(status, f"exercised {age_days:.0f} d ago", age_days, n, declared, "D", drill.ts_us)


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
    unsure: Status = "PASS"
    notes = [judged.detail]
    if use.tau is not None and use.scored >= MIN_N:
        low = sampled(use.low_confidence, use.scored, LOW_CONFIDENCE)
        unsure = low.status
        notes.insert(0, f"{words.share(low.rate)} below a score of {use.tau:.2g}")
    grown = _grown(use.no_result, use.retrievals, use.baseline_no_result, use.baseline_retrievals)
    if grown > 1.5:
        notes.insert(0, f"{grown:.1f}× the 4 weeks before")
    status = worst(judged.status, unsure, "WARN" if grown > 1.5 else "PASS")
    value = f"{words.share(judged.rate)} (≤ {words.share(judged.bound)})"
    return Outcome(status, value, judged.bound, use.retrievals, words.joined(*notes))


def _grown(now: int, n: int, before: int, n_before: int) -> float:
    """How many times the rate of before; 0 where either is too thin to compare."""
    if n < MIN_N or n_before < MIN_N or before == 0 or now < 5:
        return 0.0
    return (now / n) / (before / n_before)


CHECKS: dict[str, Check] = {
    "T3.1": cases_per_task,
    "T3.2": pass_rate,
    "T3.3": regression,
    "T4.1": valid_first,
    "T4.2": repaired,
    "T4.3": missing_fields,
    "T4.4": mismatched_fields,
    "T4.5": on_invalid,
    "T5.1": hit_at_k,
    "T5.4": nothing_found,
}
