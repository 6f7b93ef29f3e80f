"""The gate: pass, block or inconclusive, from the results of a candidate and of its baseline on the same cases.

Harm is proven where both the exact McNemar mid-p is below α and the upper bound of the pass rate's difference is
below zero; no harm is proven where the lower bound is above −margin. Each error rate is at most 5 %, one-sided.
An error of the candidate counts as a failed case. An error of the baseline counts as a passed one, the worst for the
candidate; where those are more than 1 case in 20, there is no comparison.
"""

from collections.abc import Mapping, Sequence

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.evaluation import CaseResult, Verdict
from pilothouse.stats.paired import agresti_min, mcnemar_midp, minimum_detectable, required
from pilothouse.stats.proportions import wilson

ALPHA = 0.05
POWER = 0.8
PLANNED_DISCORDANCE = 0.10  # share of cases that change between releases, assumed where none was observed
TINY = 0.005  # a proven drop of less than half a point blocks nothing by itself
BASELINE_ERRORS = 0.05


class Changed(msgspec.Struct, frozen=True):
    """Case ids that pass on one release and fail on the other, in the candidate's order."""

    broke: list[str]
    mended: list[str]


class Slice(msgspec.Struct, frozen=True):
    """One task's pass rates. `baseline` None: nothing to compare with."""

    task: str
    n: int
    baseline: float | None
    candidate: float


def detects(n: int, discordance: float = PLANNED_DISCORDANCE) -> float:
    """The smallest drop of the pass rate that `n` cases show with 80 % power, where that share of cases changes."""
    return minimum_detectable(n, discordance, ALPHA, POWER)


def passed(result: CaseResult) -> bool:
    """A case that could not be judged has not passed."""
    return result.passed and not result.error


def _held(result: CaseResult | None) -> bool:
    return result is None or bool(result.error) or result.passed


def changed(baseline: Sequence[CaseResult], candidate: Sequence[CaseResult]) -> Changed:
    """The cases that broke and those that mended."""
    before = _by_id(baseline)
    broke = [one.case_id for one in candidate if _held(before.get(one.case_id)) and not passed(one)]
    mended = [one.case_id for one in candidate if not _held(before.get(one.case_id)) and passed(one)]
    return Changed(broke, mended)


def slices(baseline: Sequence[CaseResult] | None, candidate: Sequence[CaseResult]) -> list[Slice]:
    """Pass rates by task, worst first: the largest drop, or the lowest rate where there is no baseline."""
    before = _by_id(baseline) if baseline is not None else None
    tasks: dict[str, list[CaseResult]] = {}
    for one in candidate:
        tasks.setdefault(one.task, []).append(one)
    found = [
        Slice(
            task=task,
            n=len(ones),
            baseline=None if before is None else sum(_held(before.get(one.case_id)) for one in ones) / len(ones),
            candidate=sum(map(passed, ones)) / len(ones),
        )
        for task, ones in tasks.items()
    ]
    return sorted(found, key=lambda one: (one.candidate - (one.baseline or 0.0), one.candidate, one.task))


def _by_id(results: Sequence[CaseResult]) -> Mapping[str, CaseResult]:
    found = {one.case_id: one for one in results}
    if len(found) != len(results):
        raise PilothouseError(
            "a case was judged more than once", hint="repeats are no independent pairs: compare one of them"
        )
    return found


def judge(
    baseline: Sequence[CaseResult] | None,
    candidate: Sequence[CaseResult],
    margin: float,
    *,
    floor: float = 0.0,
    run_id: int | None = None,
    baseline_run_id: int | None = None,
) -> Verdict:
    """The gate's word. Without a baseline the pass rate's Wilson bounds are held against `floor` (0: none)."""
    if not 0.0 < margin < 1.0:
        raise PilothouseError("a gate's margin lies between 0 and 1", where=f"got {margin}", hint="margin: 3pp")
    if baseline is None:
        verdict = _absolute(candidate, margin, floor)
    else:
        verdict = _compared(baseline, candidate, margin)
    return msgspec.structs.replace(verdict, run_id=run_id, baseline_run_id=baseline_run_id)


def _empty(margin: float) -> Verdict:
    return Verdict(
        verdict="inconclusive", reason="no case was run", n=0, baseline_rate=None, candidate_rate=0.0, delta=None,
        low=None, high=None, p_harm=None, broke=0, mended=0, errors=0, mde=None, margin=margin, alpha=ALPHA,
    )  # fmt: skip


def _absolute(candidate: Sequence[CaseResult], margin: float, floor: float) -> Verdict:
    n = len(_by_id(candidate))
    if n == 0:
        return _empty(margin)
    k = sum(map(passed, candidate))
    low, high = wilson(k, n)
    span = f"{k / n:.3f} [{low:.3f}, {high:.3f}]"
    failed_must = [one.case_id for one in candidate if one.must_pass and not one.error and not one.passed]
    if failed_must:
        verdict, reason = "block", f"must-pass {_cases(failed_must)} failed"
    elif floor <= 0:
        verdict, reason = "inconclusive", f"first release, no floor set: pass rate {span}"
    elif low >= floor:
        verdict, reason = "pass", f"first release: pass rate {span} is above the floor {floor:.3f}"
    elif high < floor:
        verdict, reason = "block", f"first release: pass rate {span} is below the floor {floor:.3f}"
    else:
        verdict, reason = "inconclusive", f"first release: pass rate {span} may be on either side of {floor:.3f}"
    errors = sum(bool(one.error) for one in candidate)
    if verdict == "pass" and (unknown := _unknown_must_pass(candidate)):
        verdict, reason = "inconclusive", f"must-pass {_cases(unknown)} could not be judged"
    return Verdict(
        verdict=verdict,  # type: ignore[arg-type]  # one of the three words above
        reason=reason,
        n=n,
        baseline_rate=None,
        candidate_rate=k / n,
        delta=None,
        low=None,
        high=None,
        p_harm=None,
        broke=0,
        mended=0,
        errors=errors,
        mde=detects(n),
        margin=margin,
        alpha=ALPHA,
        worst_task=_worst(None, candidate),
        must_pass_failed=failed_must,
    )


def _unknown_must_pass(candidate: Sequence[CaseResult]) -> list[str]:
    return [one.case_id for one in candidate if one.must_pass and one.error]


def _compared(baseline: Sequence[CaseResult], candidate: Sequence[CaseResult], margin: float) -> Verdict:
    before = _by_id(baseline)
    results = list(_by_id(candidate).values())
    absent = [
        CaseResult(case_id=one.case_id, task=one.task, must_pass=one.must_pass, error="no result of the candidate")
        for one in baseline
        if one.case_id not in {result.case_id for result in results}
    ]
    results += absent
    n = len(results)
    if n == 0:
        return _empty(margin)
    moved = changed(baseline, results)
    broke, mended = len(moved.broke), len(moved.mended)
    delta, low, high = agresti_min(broke, mended, n, 1 - 2 * ALPHA)
    p_harm = mcnemar_midp(broke, mended)
    by_id = {one.case_id: one for one in results}
    broken_must = [one for one in moved.broke if by_id[one].must_pass and not by_id[one].error]
    blind = sum(one.case_id not in before or bool(before[one.case_id].error) for one in results)
    discordance = (broke + mended + 1) / (n + 2)  # as the interval sees it: half a case more in each cell
    verdict, reason = _decide(
        _Evidence(n, delta, low, high, p_harm, margin, blind, discordance), broken_must, _unknown_must_pass(results)
    )
    return Verdict(
        verdict=verdict,  # type: ignore[arg-type]  # one of the three words of _decide
        reason=reason,
        n=n,
        baseline_rate=sum(_held(before.get(one.case_id)) for one in results) / n,
        candidate_rate=sum(map(passed, results)) / n,
        delta=delta,
        low=low,
        high=high,
        p_harm=p_harm,
        broke=broke,
        mended=mended,
        errors=sum(bool(one.error) for one in results),
        mde=detects(n, discordance),
        margin=margin,
        alpha=ALPHA,
        worst_task=_worst(baseline, results),
        must_pass_failed=broken_must,
    )


class _Evidence(msgspec.Struct, frozen=True):
    n: int
    delta: float
    low: float
    high: float
    p_harm: float
    margin: float
    blind: int  # cases that the baseline gave no answer to
    discordance: float


def _decide(seen: _Evidence, broken_must: list[str], unknown_must: list[str]) -> tuple[str, str]:
    if broken_must:
        return "block", f"must-pass {_cases(broken_must)} broke"
    if seen.blind > BASELINE_ERRORS * seen.n:
        return "inconclusive", f"the baseline could not be run on {seen.blind} of {seen.n} cases: no comparison"
    if seen.high < 0 and seen.p_harm < ALPHA and seen.delta < -TINY:
        return "block", f"the pass rate fell by {-seen.delta * 100:.1f} pp, at least {-seen.high * 100:.1f}"
    if unknown_must:
        return "inconclusive", f"must-pass {_cases(unknown_must)} could not be judged"
    if seen.low > -seen.margin:
        return "pass", f"the pass rate fell by less than {seen.margin * 100:g} pp"
    cases = required(seen.margin, max(seen.margin, seen.discordance), ALPHA, POWER)
    return (
        "inconclusive",
        f"a drop of {seen.margin * 100:g} pp is not excluded; about {max(cases, seen.n + 1)} cases decide",
    )


def _cases(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
    return f"case {shown}" if len(ids) == 1 else f"cases {shown}"


def _worst(baseline: Sequence[CaseResult] | None, candidate: Sequence[CaseResult]) -> str:
    """The worst slice's task; empty where no task lost anything."""
    worst = slices(baseline, candidate)[0]
    lost = worst.candidate < (1.0 if worst.baseline is None else worst.baseline)
    return worst.task if lost else ""
