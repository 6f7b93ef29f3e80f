import math
import sys
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.sequential import ALPHA, Bound, threshold, tripwire_e_value


def requests_until_alarm(rate: float, m: float, most: int, seed: int) -> int | None:
    """Requests until the tripwire trips, looking after every bad one (the evidence only grows there)."""
    bad = 0
    for n, is_bad in enumerate(np.random.default_rng(seed).random(most) < rate, start=1):
        if is_bad:
            bad += 1
            if tripwire_e_value(bad, n, m) >= threshold():
                return n
    return None


@pytest.mark.parametrize(
    ("m", "rate", "published"),
    [(0.03, 0.06, 424), (0.03, 0.09, 128), (0.03, 0.15, 42), (0.03, 0.5, 5), (0.03, 1.0, 2), (0.10, 0.20, 108)],
)
def test_published_detection_medians(m: float, rate: float, published: int) -> None:
    runs = [requests_until_alarm(rate, m, most=6_000, seed=seed) for seed in range(201)]
    assert median(math.inf if run is None else run for run in runs) == pytest.approx(published, rel=0.25, abs=1)


@pytest.mark.parametrize("m", [0.03, 0.10])
def test_false_alarms_stay_below_alpha_however_often_one_looks(m: float) -> None:
    alarms = sum(requests_until_alarm(m, m, most=2_000, seed=seed) is not None for seed in range(300))
    assert alarms / 300 <= 2 * ALPHA  # α plus what 300 runs cannot tell from it


@given(st.floats(0.001, 0.999), st.floats(0, 1), st.integers(0, 60))
def test_wealth_is_a_fair_bet_at_most(m: float, below: float, n: int) -> None:
    """The expectation under any rate up to m is at most 1: the property that makes every look valid."""
    rate = m * below
    expectation = math.fsum(
        math.comb(n, bad) * rate**bad * (1 - rate) ** (n - bad) * tripwire_e_value(bad, n, m) for bad in range(n + 1)
    )
    assert expectation <= 1 + 1e-9


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(1e-9, 1 - 1e-9))
def test_no_count_overflows(bad: int, good: int, m: float) -> None:
    value = tripwire_e_value(bad, bad + good, m)
    assert 0.0 <= value <= sys.float_info.max


def test_no_request_is_no_evidence() -> None:
    assert tripwire_e_value(0, 0, 0.03) == pytest.approx(1.0)
    assert threshold() == pytest.approx(100.0)


def test_impossible_questions_are_refused() -> None:
    for bad, n, m in ((2, 1, 0.1), (-1, 1, 0.1), (0, 1, 0.0), (0, 1, 1.0), (0, 1, math.nan)):
        with pytest.raises(PilothouseError):
            tripwire_e_value(bad, n, m)
    with pytest.raises(PilothouseError):
        threshold(0.0)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_bound_of_a_mean_is_crossed_at_most_as_often_as_stated(alpha: float) -> None:
    """2,000 random walks of 5,000 skewed steps with a known spread, looked at after every one from the 20th."""
    bound, runs, most = Bound(alpha), 2_000, 5_000
    sizes = np.arange(20, most + 1)
    edge = np.array([bound.radius(float(n)) for n in sizes])
    rng = np.random.default_rng(11)
    crossed = 0
    for _ in range(20):
        steps = rng.exponential(size=(runs // 20, most)) - 1
        standard = np.cumsum(steps, axis=1)[:, 19:] / np.sqrt(sizes)
        crossed += int((standard > edge).any(axis=1).sum())
    assert crossed / runs <= alpha + 3 * math.sqrt(alpha / runs)  # what so many walks cannot tell from it


@given(st.floats(1e-6, 0.4), st.floats(1, 1e7))
def test_at_the_bound_the_evidence_is_one_over_the_error(alpha: float, size: float) -> None:
    bound = Bound(alpha)
    assert bound.e_value(bound.radius(size), size) == pytest.approx(1 / alpha, rel=1e-6)
    assert bound.e_value(-1.0, size) == 0.0
    assert bound.e_value(1e9, size) > 1 / alpha


def test_the_bound_is_narrowest_where_it_was_planned() -> None:
    bound = Bound(0.05, planned=1_500)
    width = {n: bound.radius(n) for n in (50, 500, 1_500, 5_000, 100_000)}
    assert min(width, key=lambda n: width[n]) in (1_500, 5_000)
