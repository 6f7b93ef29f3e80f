import functools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.evaluation import CaseResult
from pilothouse.evals.gate import changed, detects, judge, slices
from pilothouse.stats.paired import agresti_min


def results(passes: list[bool | None], *, task: str = "t", must: tuple[int, ...] = ()) -> list[CaseResult]:
    """One result per entry; None is an error."""
    return [
        CaseResult(
            case_id=f"c{i}", task=task, passed=bool(one), error="timeout" if one is None else "", must_pass=i in must
        )
        for i, one in enumerate(passes)
    ]


def moved(both: int, broke: int, mended: int, neither: int = 0) -> tuple[list[CaseResult], list[CaseResult]]:
    before = [True] * (both + broke) + [False] * (mended + neither)
    after = [True] * both + [False] * broke + [True] * mended + [False] * neither
    return results(before), results(after)


def test_proven_harm_blocks() -> None:
    verdict = judge(*moved(194, 26, 7, 19), 0.03, run_id=88, baseline_run_id=87)
    assert verdict.verdict == "block"
    assert (verdict.n, verdict.broke, verdict.mended) == (246, 26, 7)
    assert verdict.baseline_rate == pytest.approx(0.894, abs=5e-4)
    assert verdict.candidate_rate == pytest.approx(0.817, abs=5e-4)
    assert (verdict.delta, verdict.low, verdict.high) == agresti_min(26, 7, 246)
    assert verdict.p_harm == pytest.approx(0.00041, abs=1e-5)
    assert verdict.reason == "the pass rate fell by 7.7 pp, at least 3.9"
    assert (verdict.run_id, verdict.baseline_run_id) == (88, 87)
    assert verdict.mde == pytest.approx(detects(246, 34 / 248))


def test_no_worse_than_the_margin_passes() -> None:
    verdict = judge(*moved(200, 0, 2, 10), 0.03)
    assert verdict.verdict == "pass"
    assert verdict.low is not None
    assert verdict.low > -0.03


def test_too_few_cases_are_inconclusive_and_say_how_many_would_do() -> None:
    verdict = judge(*moved(48, 1, 1), 0.03)
    assert verdict.verdict == "inconclusive"
    assert verdict.reason == "a drop of 3 pp is not excluded; about 395 cases decide"
    assert verdict.mde is not None
    assert verdict.mde > 0.03


def test_a_broken_must_pass_case_blocks_whatever_the_rest() -> None:
    before = results([True] * 300, must=(7,))
    after = results([index != 7 for index in range(300)], must=(7,))
    verdict = judge(before, after, 0.03)
    assert (verdict.verdict, verdict.must_pass_failed) == ("block", ["c7"])
    assert judge(after, after, 0.03).must_pass_failed == []  # it failed before: nothing broke


def test_a_must_pass_case_without_an_answer_cannot_pass() -> None:
    after = results([True if index != 7 else None for index in range(300)], must=(7,))
    verdict = judge(results([True] * 300, must=(7,)), after, 0.03)
    assert verdict.verdict == "inconclusive"
    assert "c7 could not be judged" in verdict.reason


def test_errors_count_against_the_candidate() -> None:
    verdict = judge(results([True] * 100), results([True] * 80 + [None] * 20), 0.03)
    assert (verdict.verdict, verdict.errors, verdict.broke, verdict.n) == ("block", 20, 20, 100)


def test_errors_of_the_baseline_never_help_the_candidate() -> None:
    few = judge(results([None] * 4 + [True] * 96), results([True] * 100), 0.03)
    assert (few.mended, few.baseline_rate, few.verdict) == (0, 1.0, "pass")
    many = judge(results([None] * 50 + [True] * 50), results([True] * 100), 0.03)
    assert many.verdict == "inconclusive"
    assert many.reason == "the baseline could not be run on 50 of 100 cases: no comparison"
    down = judge(results([None] * 100), results([None] * 100), 0.03)
    assert down.verdict == "inconclusive"


def test_a_case_that_the_candidate_has_no_result_for_is_an_error() -> None:
    verdict = judge(results([True] * 100), results([True] * 90), 0.03)
    assert (verdict.n, verdict.errors, verdict.broke, verdict.verdict) == (100, 10, 10, "block")


def test_the_worst_task_is_named() -> None:
    before = results([True] * 40, task="easy") + [
        CaseResult(case_id=f"h{i}", task="multi-hop", passed=i < 26) for i in range(31)
    ]
    after = results([True] * 39 + [False], task="easy") + [
        CaseResult(case_id=f"h{i}", task="multi-hop", passed=i < 19) for i in range(31)
    ]
    verdict = judge(before, after, 0.03)
    assert verdict.worst_task == "multi-hop"
    worst = slices(before, after)[0]
    assert (worst.task, worst.n) == ("multi-hop", 31)
    assert worst.baseline == pytest.approx(26 / 31)
    assert worst.candidate == pytest.approx(19 / 31)
    assert changed(before, after).broke == ["c39", *(f"h{i}" for i in range(19, 26))]
    assert judge(before, before, 0.5).worst_task == ""


@pytest.mark.parametrize(
    ("passes", "floor", "verdict", "said"),
    [
        ([True] * 60, 0.90, "pass", r"pass rate 1.000 \[0.940, 1.000\] is above the floor 0.900"),
        ([True] * 20 + [False] * 40, 0.90, "block", "is below the floor"),
        ([True] * 55 + [False] * 5, 0.90, "inconclusive", "either side of 0.900"),
        ([True] * 60, 0.0, "inconclusive", "no floor set"),
        ([True] * 57 + [None] * 3, 0.94, "inconclusive", "either side"),
        ([], 0.90, "inconclusive", "no case"),
    ],
)
def test_a_first_release_is_held_against_the_floor(
    passes: list[bool | None], floor: float, verdict: str, said: str
) -> None:
    judged = judge(None, results(passes), 0.03, floor=floor)
    assert judged.verdict == verdict
    assert judged.delta is None
    assert re.search(said, judged.reason)


def test_a_first_release_must_pass_what_must_pass() -> None:
    judged = judge(None, results([True] * 99 + [False], must=(99,)), 0.03, floor=0.5)
    assert (judged.verdict, judged.must_pass_failed) == ("block", ["c99"])
    unknown = judge(None, results([True] * 99 + [None], must=(99,)), 0.03, floor=0.5)
    assert unknown.verdict == "inconclusive"


def test_repeats_are_refused_and_so_is_a_margin_that_is_none() -> None:
    twice = results([True]) * 2
    with pytest.raises(PilothouseError, match="more than once"):
        judge(twice, twice, 0.03)
    with pytest.raises(PilothouseError, match="margin"):
        judge([], [], 0.0)


outcomes = st.lists(st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False, None])), max_size=80)


@given(outcomes, st.floats(0.01, 0.5))
def test_a_verdict_is_consistent_with_its_own_numbers(
    pairs: list[tuple[bool | None, bool | None]], margin: float
) -> None:
    verdict = judge(results([a for a, _ in pairs]), results([b for _, b in pairs]), margin)
    assert verdict.n == len(pairs)
    assert verdict.errors == sum(b is None for _, b in pairs)
    if verdict.delta is None or verdict.low is None or verdict.high is None:
        assert not pairs
        return
    assert verdict.baseline_rate is not None
    assert verdict.candidate_rate - verdict.baseline_rate == pytest.approx(verdict.delta)
    assert verdict.delta == pytest.approx((verdict.mended - verdict.broke) / verdict.n)
    if verdict.verdict == "pass":
        assert verdict.low > -margin
    if verdict.verdict == "block":
        assert verdict.high < 0


@given(outcomes.filter(bool), st.data())
def test_breaking_one_more_case_never_turns_a_verdict_into_a_pass(
    pairs: list[tuple[bool | None, bool | None]], data: st.DataObject
) -> None:
    before = results([a for a, _ in pairs])
    index = data.draw(st.integers(0, len(pairs) - 1))
    better = [b for _, b in pairs]
    worse = [False if i == index else b for i, b in enumerate(better)]
    if judge(before, results(worse), 0.1).verdict == "pass":
        assert judge(before, results(better), 0.1).verdict == "pass"


@functools.cache
def word(n: int, broke: int, mended: int, margin: float) -> str:
    return judge(*moved(n - broke - mended, broke, mended), margin).verdict


def rate_of(verdict: str, *, p_broke: float, p_mended: float, n: int, margin: float, runs: int = 400) -> float:
    rng = np.random.default_rng(7)
    counts = rng.multinomial(n, (p_broke, p_mended, 1 - p_broke - p_mended), size=runs)
    return sum(word(n, int(broke), int(mended), margin) == verdict for broke, mended, _ in counts) / runs


def test_error_rates_are_what_they_are_said_to_be() -> None:
    """5 % each, one-sided, plus what 400 runs cannot tell from it (3 standard errors: 3.3 points)."""
    assert rate_of("block", p_broke=0.05, p_mended=0.05, n=200, margin=0.03) <= 0.083
    assert rate_of("pass", p_broke=0.065, p_mended=0.035, n=400, margin=0.03) <= 0.083
    assert rate_of("block", p_broke=0.09, p_mended=0.02, n=246, margin=0.03) >= 0.8
