import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.rate_sequence import rate_sequence


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(1e-6, 0.5))
def test_it_holds_what_was_seen_and_narrows_with_the_error(bad: int, good: int, alpha: float) -> None:
    low, high = rate_sequence(bad, bad + good, alpha)
    wide_low, wide_high = rate_sequence(bad, bad + good, alpha / 10)
    rate = bad / (bad + good) if bad + good else 0.5
    assert 0 <= wide_low <= low <= rate <= high <= wide_high <= 1


@given(st.floats(0.01, 0.99), st.integers(1, 50), st.floats(0.01, 0.5))
def test_the_bet_against_the_true_rate_is_fair(rate: float, n: int, alpha: float) -> None:
    """Markov at one n: the interval misses the true rate with probability at most alpha. Ville makes it all n."""
    missed = math.fsum(
        math.comb(n, bad) * rate**bad * (1 - rate) ** (n - bad)
        for bad in range(n + 1)
        if not (interval := rate_sequence(bad, n, alpha))[0] <= rate <= interval[1]
    )
    assert missed <= alpha


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_it_holds_at_every_count_together(rate: float) -> None:
    runs, most, alpha = 400, 3_000, 0.1
    missed = 0
    for seed in range(runs):
        bad = np.cumsum(np.random.default_rng(seed).random(most) < rate)
        looks = np.unique(np.geomspace(1, most, 40).astype(int))
        bounds = [(n, rate_sequence(int(bad[n - 1]), int(n), alpha)) for n in looks]
        missed += any(not low <= rate <= high for _, (low, high) in bounds)
    assert missed / runs <= alpha


def test_known_values() -> None:
    assert rate_sequence(0, 0, 0.05) == (0.0, 1.0)
    low, high = rate_sequence(0, 400, 0.025)
    assert low == 0.0
    assert high == pytest.approx(0.0138, abs=2e-4)  # (1 − p)^400 = 0.025 · B(½, 410)/B(½, 10)
    assert rate_sequence(7, 7, 0.05)[1] == 1.0
    for bad, n, alpha in ((2, 1, 0.1), (-1, 1, 0.1), (0, 1, 0.0), (0, 1, 1.0)):
        with pytest.raises(PilothouseError):
            rate_sequence(bad, n, alpha)
