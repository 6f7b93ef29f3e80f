"""The simulation of docs/canary.md: its arrays are the product's own functions, and a small one of a fixed seed."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pilothouse.stats.proportions import wilson
from pilothouse.stats.rate_sequence import rate_sequence
from pilothouse.stats.sequential import Bound, tripwire_e_value


def script(name: str) -> ModuleType:
    """A module of bench/, which is not installed."""
    path = Path(__file__).resolve().parents[2] / "bench" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


canary, canary_ramp = script("canary"), script("canary_ramp")


def test_the_arrays_are_the_products_functions() -> None:
    rng = np.random.default_rng(3)
    n = rng.integers(1, 5_000, size=(4, 25)).astype(float)
    bad = np.floor(rng.random(n.shape) ** 3 * (n + 1))
    m = rng.uniform(0.01, 0.19, size=n.shape)
    for one in np.ndindex(*n.shape):
        b, k = int(bad[one]), int(n[one])
        assert canary.wilson_high(bad, n)[one] == pytest.approx(wilson(b, k)[1])
        low, high = rate_sequence(b, k, 0.025)
        assert canary.rate_bound(bad, n, 0.025, high=True)[one] == pytest.approx(high, abs=1e-6)
        assert canary.rate_bound(bad, n, 0.025, high=False)[one] == pytest.approx(low, abs=1e-6)
        assert canary.radius(n, 0.01)[one] == pytest.approx(Bound(0.01).radius(float(k)))
        value = tripwire_e_value(b, k, float(m[one]))
        assert (
            canary.log_tripwire(bad, n, m)[one] == pytest.approx(min(709.78, np.log(value)), abs=1e-6) or value > 1e300
        )


def test_no_canary_that_is_as_good_is_aborted_and_a_bad_one_soon_is() -> None:
    same = canary.detection((0.02, 0.02), 0.5, runs=50, most=4_000, seed=1)
    assert np.isfinite(same["Pilothouse"]).sum() <= 3
    half = canary.detection((0.5, 0.02), 0.5, runs=50, most=400, seed=1)
    assert np.median(half["canary requests"]) <= 15
    assert np.isinf(half["clears"]).all()
    slow = canary.means(1.0, 0.5, runs=50, most=1_000, seed=1)
    assert np.median(slow["aborts"]) <= 300


def test_whole_canaries_end_as_they_should() -> None:
    good = [canary_ramp.run({}, seed)[0] for seed in range(10)]
    assert good.count("promote") >= 9
    assert {canary_ramp.run({"latency": 1.0}, seed)[0] for seed in range(3)} == {"abort"}
