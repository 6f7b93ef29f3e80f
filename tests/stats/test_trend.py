import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import theilslopes

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.trend import theil_sen

VALUES = st.integers(-1_000, 1_000).map(float)


@given(st.lists(VALUES, min_size=5, max_size=40), st.floats(0.5, 0.99))
def test_the_slope_and_its_interval_are_scipys(y: list[float], confidence: float) -> None:
    x = [float(i) for i in range(len(y))]
    expected = theilslopes(y, x, confidence)
    slope, low, high = theil_sen(x, y, confidence)
    assert slope == pytest.approx(expected.slope, abs=1e-9)
    assert low <= slope <= high
    # scipy corrects for ties in x as well, and rounds once: a neighbour in the sorted slopes at most.
    if len(set(y)) == len(y):
        assert (low, high) == pytest.approx((expected.low_slope, expected.high_slope), abs=1e-9)


@given(st.lists(VALUES, min_size=7, max_size=20), st.floats(-5, 5))
def test_a_line_added_is_a_slope_added(y: list[float], more: float) -> None:
    x = [float(i) for i in range(len(y))]
    steeper = [value + more * at for at, value in zip(x, y, strict=True)]
    assert theil_sen(x, steeper)[0] == pytest.approx(theil_sen(x, y)[0] + more, abs=1e-6)


def test_one_odd_point_moves_nothing() -> None:
    x = [float(i) for i in range(20)]
    assert theil_sen(x, [2.0 * i if i != 7 else 1e9 for i in range(20)])[0] == pytest.approx(2.0)


def test_one_place_has_no_slope() -> None:
    with pytest.raises(PilothouseError, match="two points"):
        theil_sen([1.0, 1.0], [1.0, 2.0])
