import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chi2, chi2_contingency

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.gtest import chi_square_above, g_test

COUNTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 200))


@example(x=5e-324, df=1)
@given(x=st.floats(0, 300), df=st.integers(1, 60))
def test_the_tail_is_scipys(x, df):
    assert math.isclose(chi_square_above(x, df), chi2.sf(x, df), rel_tol=1e-9, abs_tol=1e-13)


@given(a=COUNTS, b=COUNTS)
def test_g_is_scipys_after_williams(a, b):
    found = g_test(a, b)
    classes = [name for name in "abcde" if a.get(name, 0) + b.get(name, 0)]
    n_a, n_b = sum(a.values()), sum(b.values())
    if not n_a or not n_b or len(classes) < 2:
        assert found is None
        return
    table = [[one.get(name, 0) for name in classes] for one in (a, b)]
    g, _, df, _ = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    n = n_a + n_b
    over_classes = n * sum(1 / (a.get(name, 0) + b.get(name, 0)) for name in classes) - 1
    williams = 1 + (n / n_a + n / n_b - 1) * over_classes / (6 * n * df)
    assert math.isclose(found[0], max(0.0, g / williams), rel_tol=1e-9, abs_tol=1e-9)
    assert math.isclose(found[1], chi2.sf(found[0], df), rel_tol=1e-9, abs_tol=1e-12)


def test_false_alarms_are_as_rare_as_stated():
    """30 answers against 210 of the same kind, 4,000 times: p under 0.01 about 40 times; under 70 is 4.7 σ."""
    random_ = random.Random(5)
    kinds, weights = "abcd", (40, 30, 20, 10)

    def draw(n):
        drawn = random_.choices(kinds, weights, k=n)
        return {kind: drawn.count(kind) for kind in kinds}

    alarms = sum((g_test(draw(30), draw(210)) or (0, 1.0))[1] < 0.01 for _ in range(4_000))
    assert alarms < 70


def test_nonsense_is_refused():
    with pytest.raises(PilothouseError):
        g_test({"a": -1, "b": 2}, {"a": 1})
    with pytest.raises(PilothouseError):
        chi_square_above(math.nan, 2)
