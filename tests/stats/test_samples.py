import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.samples import UNHEALTHY, srm_p


@given(st.integers(0, 100_000), st.integers(1, 100_000), st.floats(0.01, 0.99))
def test_mismatch_is_pearsons_chi_square(canary: int, stable: int, share: float) -> None:
    n = canary + stable
    expected = chisquare([canary, stable], [n * share, n - n * share]).pvalue
    assert srm_p(canary, stable, share) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_a_broken_split_is_unhealthy_and_a_sound_one_is_not() -> None:
    broken, sound = srm_p(800, 9_200, 0.10), srm_p(1_010, 8_990, 0.10)
    assert broken is not None
    assert sound is not None
    assert broken < UNHEALTHY < sound


def test_no_request_is_no_answer() -> None:
    assert srm_p(0, 0, 0.5) is None
    with pytest.raises(PilothouseError):
        srm_p(1, 1, 1.0)
