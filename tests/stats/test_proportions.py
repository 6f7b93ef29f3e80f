import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.proportions import wilson, z


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_is_scipys_wilson(counts: tuple[int, int], confidence: float) -> None:
    k, n = counts
    expected = binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
    low, high = wilson(k, n, confidence)
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)
    assert 0.0 <= low <= k / n <= high <= 1.0


def test_nothing_observed_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_impossible_counts_are_refused() -> None:
    for k, n in ((2, 1), (-1, 5), (0, -1)):
        with pytest.raises(PilothouseError, match="between 0 and its total"):
            wilson(k, n)
    with pytest.raises(PilothouseError, match="confidence"):
        z(1.0)


def test_importing_proportions_loads_no_scipy() -> None:
    code = (
        "import sys, pilothouse.stats.proportions, pilothouse.stats.paired, pilothouse.stats.sequential\n"
        "import pilothouse.stats.histogram, pilothouse.stats.samples\n"
        "sys.exit(any(name.split('.')[0] in ('scipy', 'numpy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
