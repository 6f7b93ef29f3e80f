import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.finding import STATUS_ORDER, Limit
from pilothouse.review.result import MIN_N, enough, level, sampled, worst

LOW = Limit(warn=0.98, fail=0.95, worse="below")
HIGH = Limit(warn=0.01, fail=0.05)


@pytest.mark.parametrize(
    ("value", "limit", "status"),
    [
        (0.980, LOW, "PASS"),
        (0.9799, LOW, "WARN"),
        (0.950, LOW, "WARN"),
        (0.9499, LOW, "FAIL"),
        (0.010, HIGH, "PASS"),
        (0.0101, HIGH, "WARN"),
        (0.050, HIGH, "WARN"),
        (0.0501, HIGH, "FAIL"),
        (1e9, Limit(), "PASS"),
        (1.0, Limit(fail=0.0), "FAIL"),
        (0.0, Limit(fail=0.0), "PASS"),
    ],
)
def test_a_limit_is_crossed_only_beyond_it(value, limit, status):
    assert level(value, limit) == status


@pytest.mark.parametrize(
    ("counted", "n", "limit", "status"),
    [
        (29, 29, LOW, "NO_DATA"),  # too few, however good
        (30, 30, LOW, "NO_DATA"),  # nothing bad, but 30 cannot rule out a failing share
        (29, 30, LOW, "FAIL"),
        (100, 100, LOW, "WARN"),  # bound 0.963
        (188, 188, LOW, "WARN"),
        (189, 189, LOW, "PASS"),
        (995, 1_000, LOW, "PASS"),
        (980, 1_000, LOW, "WARN"),  # the share is on the limit, its bound beyond
        (950, 1_000, LOW, "FAIL"),
        (0, 60, HIGH, "NO_DATA"),
        (1, 60, HIGH, "FAIL"),
        (0, 381, HIGH, "PASS"),
        (2, 1_000, HIGH, "PASS"),
        (20, 1_000, HIGH, "WARN"),
        (45, 1_000, HIGH, "FAIL"),
    ],
)
def test_a_share_is_judged_by_its_bound_on_the_bad_side(counted, n, limit, status):
    assert sampled(counted, n, limit).status == status


@pytest.mark.parametrize("limit", [LOW, HIGH, Limit(warn=0.9, fail=0.85, worse="below"), Limit(warn=0.005, fail=0.02)])
def test_enough_is_the_least_spotless_sample_that_passes(limit):
    n = enough(limit)
    good = n if limit.worse == "below" else 0
    assert sampled(good, n, limit).status == "PASS"
    fewer = sampled(good - (limit.worse == "below"), n - 1, limit)
    assert fewer.status != "PASS"
    assert n == MIN_N or f"{n:,}" in fewer.detail


def test_no_sample_is_enough_for_a_limit_of_nothing_bad():
    assert enough(Limit(fail=0.0)) == 0
    assert enough(Limit(warn=1.0, fail=0.95, worse="below")) == 0


SCORE = {"PASS": 3, "WARN": 2, "NO_DATA": 1, "FAIL": 0}


@given(st.integers(MIN_N, 3_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_one_more_bad_observation_never_improves_the_status(pair):
    n, bad = pair
    before, after = sampled(bad, n, HIGH), sampled(bad + 1, n, HIGH)
    assert SCORE[after.status] <= SCORE[before.status]
    assert after.bound >= before.bound


@given(st.lists(st.sampled_from(sorted(STATUS_ORDER)), min_size=1))
def test_the_worst_of_several_is_the_first_in_the_order(statuses):
    assert STATUS_ORDER[worst(*statuses)] == min(STATUS_ORDER[status] for status in statuses)
