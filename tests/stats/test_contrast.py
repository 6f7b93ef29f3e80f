import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.stats.contrast import FEWEST_GROUPS, Moments, contrast, design_effect

values = st.floats(-1e3, 1e3)
groups = st.lists(st.lists(values, min_size=1, max_size=5), min_size=FEWEST_GROUPS, max_size=40)


def moments(of: list[list[float]]) -> Moments:
    return Moments.of([(len(group), math.fsum(group)) for group in of])


@given(groups)
def test_the_variance_is_that_of_a_ratio_over_groups(of: list[list[float]]) -> None:
    n, sums = np.array([len(g) for g in of]), np.array([math.fsum(g) for g in of])
    mean = sums.sum() / n.sum()
    expected = np.sum((sums - mean * n) ** 2) / n.sum() ** 2 * len(of) / (len(of) - 1)
    found = moments(of)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.variance == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.lists(values, min_size=FEWEST_GROUPS, max_size=40))
def test_single_requests_have_the_usual_error_of_a_mean(of: list[float]) -> None:
    assert moments([[x] for x in of]).variance == pytest.approx(np.var(of, ddof=1) / len(of), rel=1e-6, abs=1e-6)


@given(groups, groups, groups, groups)
def test_a_shift_of_all_is_the_difference_in_every_stratum(
    a: list[list[float]], b: list[list[float]], c: list[list[float]], d: list[list[float]]
) -> None:
    """What time does to both arms of a stratum alike does not move the difference."""
    plain = contrast([(moments(a), moments(b)), (moments(c), moments(d))])
    later = [[[x + 100 for x in group] for group in arm] for arm in (c, d)]
    shifted = contrast([(moments(a), moments(b)), (moments(later[0]), moments(later[1]))])
    assert plain is not None
    assert shifted is not None
    assert shifted.difference == pytest.approx(plain.difference, abs=1e-6)


def test_equal_arms_count_in_full_and_a_small_arm_four_times() -> None:
    half = moments([[float(i % 2)] for i in range(500)])
    small, large = moments([[float(i % 2)] for i in range(20)]), moments([[float(i % 2)] for i in range(100_000)])
    both, few = contrast([(half, half)]), contrast([(small, large)])
    assert both is not None
    assert few is not None
    assert both.size == 1_000
    assert few.size == pytest.approx(80, rel=1e-3)


def test_a_relative_difference_is_of_logarithms_and_its_error_never_too_small() -> None:
    rng = random.Random(5)
    found = []
    for _ in range(400):
        canary, stable = ([[rng.gauss(mean, 0.5)] for _ in range(200)] for mean in (3.0, 2.0))
        one = contrast([(moments(canary), moments(stable))], "relative")
        assert one is not None
        found.append(one)
    assert np.mean([one.difference for one in found]) == pytest.approx(math.log(1.5), abs=0.01)
    assert 1 <= np.mean([one.error for one in found]) / np.std([one.difference for one in found]) <= 1.4


def test_what_lies_together_in_sessions_counts_as_fewer() -> None:
    rng = random.Random(9)
    apart = [[float(rng.random() < 0.1) for _ in range(10)] for _ in range(400)]
    together = [[float(rng.random() < 0.1)] * 10 for _ in range(400)]
    half = [
        [float(rng.random() < 0.5) if struck else 0.0 for _ in range(10)] for struck in [i % 5 == 0 for i in range(400)]
    ]
    apart, together, half = (moments(one) for one in (apart, together, half))
    assert design_effect([(apart, apart)]) == pytest.approx(1.0, abs=0.2)
    assert design_effect([(together, together)]) == pytest.approx(10.0, rel=0.02)
    assert 4 < design_effect([(half, half)]) < 6  # 1 + 9 · 4/9
    good = moments([[0.0] * 10] * 400)
    assert design_effect([(apart, good)]) == 10.0  # nothing is known of how bad ones lie: a session is one
    assert design_effect([(moments([[1.0]] * 30), apart)]) == 1.0
    assert design_effect([]) == 1.0


def test_too_few_groups_or_nothing_to_divide_by_say_nothing() -> None:
    enough, few = moments([[1.0]] * FEWEST_GROUPS), moments([[1.0]] * (FEWEST_GROUPS - 1))
    assert contrast([(few, enough), (enough, few)]) is None
    assert contrast([]) is None
    nothing = moments([[0.0]] * FEWEST_GROUPS)
    assert contrast([(enough, nothing)], "relative") is None
