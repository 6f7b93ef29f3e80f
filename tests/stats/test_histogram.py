from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.histogram import merge, quantile
from pilothouse.store.telemetry.schema import HISTOGRAM_MS


def counted(values: list[float]) -> list[int]:
    counts = [0] * (len(HISTOGRAM_MS) + 1)
    for value in values:
        counts[bisect_left(HISTOGRAM_MS, value)] += 1
    return counts


@given(st.lists(st.floats(1.01, HISTOGRAM_MS[-1]), min_size=1, max_size=300), st.floats(0, 1))
def test_quantile_lies_in_the_bucket_of_the_exact_one(values: list[float], q: float) -> None:
    found = quantile(counted(values), HISTOGRAM_MS, q)
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert found is not None
    assert exact / 1.26 <= found <= exact * 1.26


def test_percentiles_of_a_lognormal_are_within_a_tenth() -> None:
    values = np.random.default_rng(1).lognormal(mean=6.5, sigma=0.8, size=20_000).tolist()
    for q in (0.5, 0.9, 0.95, 0.99):
        assert quantile(counted(values), HISTOGRAM_MS, q) == pytest.approx(float(np.quantile(values, q)), rel=0.1)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_never_fall_as_q_grows(counts: list[int], a: float, b: float) -> None:
    low, high = (quantile(counts, (1.0, 2.0, 4.0), q) for q in sorted((a, b)))
    assert low is not None
    assert high is not None
    assert low <= high <= 4.0


def test_no_observation_is_no_quantile() -> None:
    assert quantile([0, 0, 0], (1.0, 2.0), 0.5) is None


def test_the_open_bucket_answers_with_its_lower_limit() -> None:
    assert quantile([0, 0, 7], (1.0, 2.0), 0.5) == 2.0
    assert quantile([4, 0], (1.0, 2.0), 0.5) == 0.5


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=5))
def test_merged_counts_are_the_sums(histograms: list[list[int]]) -> None:
    assert merge(histograms) == ([sum(column) for column in zip(*histograms, strict=True)] if histograms else [])


def test_mismatched_buckets_are_refused() -> None:
    with pytest.raises(PilothouseError, match="length"):
        quantile([1, 2], (1.0, 2.0, 3.0), 0.5)
    with pytest.raises(PilothouseError, match="different buckets"):
        merge([[1], [1, 2]])
    with pytest.raises(PilothouseError, match="between 0 and 1"):
        quantile([1], (1.0,), 1.5)
