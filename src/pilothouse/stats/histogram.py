"""Quantiles from bucket counts, so that percentiles of a million requests are read from minute rollups."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from pilothouse.domain.errors import PilothouseError


def quantile(counts: Sequence[int], bounds: Sequence[float], q: float) -> float | None:
    """The value below which a share `q` of observations lies, in the unit of `bounds`; None without observations.

    `counts[i]` observations lie in (bounds[i−1], bounds[i]], the first bucket starting at 0; one count more than
    bounds is the open bucket above the last, whose quantiles are given as the last bound: a lower limit.
    Interpolated linearly within the bucket.
    """
    if len(counts) not in (len(bounds), len(bounds) + 1) or not bounds:
        raise PilothouseError("counts and bounds differ in length", where=f"{len(counts)} and {len(bounds)}")
    if not 0.0 <= q <= 1.0:
        raise PilothouseError("a quantile lies between 0 and 1", where=f"got {q}")
    through = list(accumulate(counts))  # observations up to the end of each bucket
    if through[-1] == 0:
        return None
    rank = q * through[-1]
    at = bisect_left(through, rank) if rank > 0 else bisect_right(through, 0)  # a bucket that is not empty
    if at >= len(bounds):
        return float(bounds[-1])
    start = bounds[at - 1] if at else 0.0
    return start + (bounds[at] - start) * (rank - through[at] + counts[at]) / counts[at]


def merge(histograms: Iterable[Sequence[int]]) -> list[int]:
    """Counts added bucket by bucket; empty where there are none."""
    merged: list[int] = []
    for counts in histograms:
        if not merged:
            merged = list(counts)
        elif len(merged) != len(counts):
            raise PilothouseError("histograms of different buckets", where=f"{len(merged)} and {len(counts)}")
        else:
            merged = [a + b for a, b in zip(merged, counts, strict=True)]
    return merged
