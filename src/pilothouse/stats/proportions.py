"""Shares of a whole with their uncertainty. Free of scipy, because the review page and the CLI start with it."""

import math
from statistics import NormalDist

from pilothouse.domain.errors import PilothouseError

_NORMAL = NormalDist()


def z(confidence: float) -> float:
    """The half-width, in standard errors, of a two-sided interval with this confidence."""
    if not 0.0 < confidence < 1.0:
        raise PilothouseError("a confidence lies between 0 and 1", where=f"got {confidence}")
    return _NORMAL.inv_cdf(0.5 + confidence / 2)


def wilson(k: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) for a share of `k` out of `n`; (0, 1), knowing nothing, where n is 0."""
    if not 0 <= k <= n:
        raise PilothouseError("a count lies between 0 and its total", where=f"got {k} of {n}")
    if n == 0:
        return 0.0, 1.0
    q = z(confidence)
    share = k / n
    scale = 1 + q * q / n
    centre = (share + q * q / (2 * n)) / scale
    half = q / scale * math.sqrt(share * (1 - share) / n + q * q / (4 * n * n))
    # At the ends the bound is exact; rounding would leave 1e-17 on the wrong side of it.
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return low, high
