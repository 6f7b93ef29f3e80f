import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.paired import agresti_min, mcnemar_midp, minimum_detectable, required


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mid_p_is_the_exact_binomial_tail_less_half_a_point(b: int, c: int) -> None:
    expected = binom.sf(b - 1, b + c, 0.5) - 0.5 * binom.pmf(b, b + c, 0.5)
    assert mcnemar_midp(b, c) == pytest.approx(expected, rel=1e-7, abs=1e-12)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mid_p_of_harm_and_of_benefit_sum_to_one(b: int, c: int) -> None:
    assert mcnemar_midp(b, c) + mcnemar_midp(c, b) == pytest.approx(1.0)


def test_known_mid_p() -> None:
    assert mcnemar_midp(0, 0) == 0.5
    assert mcnemar_midp(5, 0) == pytest.approx(0.5**5 / 2)
    assert mcnemar_midp(26, 7) == pytest.approx(0.00041, abs=5e-6)


@given(
    st.integers(1, 2000).flatmap(
        lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
    ),
    st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
def test_agresti_min_is_wald_after_half_a_case_in_each_cell(counts: tuple[int, int, int], confidence: float) -> None:
    b, c, n = counts
    delta, low, high = agresti_min(b, c, n, confidence)
    size, cell_b, cell_c = n + 2, b + 0.5, c + 0.5
    p_b, p_c = cell_b / size, cell_c / size
    half = norm.ppf(0.5 + confidence / 2) * math.sqrt((p_b + p_c - (p_c - p_b) ** 2) / size)
    assert delta == (c - b) / n
    assert low == pytest.approx(max(-1.0, p_c - p_b - half))
    assert high == pytest.approx(min(1.0, p_c - p_b + half))
    if confidence >= 0.9 and n >= 5:  # below, the centre is pulled further from the edge than the width reaches
        assert low <= delta <= high
    mirrored = agresti_min(c, b, n, confidence)
    assert (mirrored[1], mirrored[2]) == (pytest.approx(-high), pytest.approx(-low))


def coverage(n: int, p_b: float, p_c: float) -> float:
    """The exact probability that the 90 % interval holds the true difference."""
    held = 0.0
    for b in range(n + 1):
        if (weight_b := float(binom.pmf(b, n, p_b))) < 1e-12:
            continue
        for c in range(n - b + 1):
            weight = weight_b * float(binom.pmf(c, n - b, p_c / (1 - p_b)))
            if weight > 1e-12:
                _, low, high = agresti_min(b, c, n)
                held += weight * (low <= p_c - p_b <= high)
    return held


@pytest.mark.parametrize(("n", "p_b", "p_c"), [(60, 0.05, 0.05), (60, 0.15, 0.05), (120, 0.10, 0.02)])
def test_the_interval_covers_as_often_as_it_says(n: int, p_b: float, p_c: float) -> None:
    assert 0.88 <= coverage(n, p_b, p_c) <= 0.96


@pytest.mark.parametrize(
    ("discordance", "drop", "cases"),
    [(0.10, 0.05, 246), (0.20, 0.05, 493), (0.05, 0.02, 771), (0.20, 0.03, 1372), (0.10, 0.02, 1544)],
)
def test_published_sizes(discordance: float, drop: float, cases: int) -> None:
    assert required(drop, discordance) == cases
    assert minimum_detectable(cases, discordance) == pytest.approx(drop, rel=2e-3)


def test_fifty_golden_questions_see_only_drops_of_eleven_points() -> None:
    assert minimum_detectable(50, 0.10) == pytest.approx(0.11, abs=0.01)


@given(st.integers(0, 100_000), st.floats(0, 1))
def test_more_cases_never_see_less(n: int, discordance: float) -> None:
    assert 0.0 < minimum_detectable(n + 1, discordance) <= minimum_detectable(n, discordance) <= 1.0


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(PilothouseError, match="part of the cases"):
        agresti_min(3, 3, 5)
    with pytest.raises(PilothouseError, match="no pairs"):
        agresti_min(0, 0, 0)
    with pytest.raises(PilothouseError, match="at most the share"):
        required(0.3, 0.1)
    with pytest.raises(PilothouseError, match="shares lie"):
        minimum_detectable(10, 1.5)
