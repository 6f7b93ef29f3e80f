"""Slopes that a few odd points do not move. Free of scipy, because the review page and the CLI start with it."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.proportions import z


def theil_sen(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The Theil–Sen slope of `y` over `x`, and its interval: the median of the slopes of all pairs (Theil 1950).

    The interval is Sen's (1968), by the normal approximation of Kendall's S with ties in `y`. Raises PilothouseError
    where no two `x` differ.
    """
    points = list(zip(x, y, strict=True))
    slopes = sorted((d - b) / (c - a) for i, (a, b) in enumerate(points) for c, d in points[i + 1 :] if c != a)
    if not slopes:
        raise PilothouseError("a slope takes two points that differ in x", where=f"got {len(points)}")
    n, pairs = len(points), len(slopes)
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(y).values())
    half = z(confidence) * math.sqrt(max(0.0, (n * (n - 1) * (2 * n + 5) - ties) / 18))
    low = max(0, round((pairs - half) / 2) - 1)
    high = min(pairs - 1, round((pairs + half) / 2))
    return median(slopes), slopes[low], slopes[high]
