"""A rate's confidence sequence: an interval that holds at every count together, so that one may always look."""

import math
from collections.abc import Callable

from pilothouse.domain.errors import PilothouseError

# What is watched is rare: the mixing distribution has its mean near 5 %. Any would do; this is narrow where it matters.
_A, _B = 0.5, 10.0
_HALVINGS = 32


def rate_sequence(bad: int, n: int, alpha: float) -> tuple[float, float]:
    """(low, high) for a rate after `bad` of `n`; with probability 1 − alpha it holds the rate at every n.

    The p with B(a + bad, b + n − bad) / B(a, b) / (p^bad (1 − p)^(n − bad)) < 1/alpha: Robbins' method of mixtures with
    a beta distribution (Robbins 1970; Howard, Ramdas, McAuliffe & Sekhon 2021). It is exact at any n.
    """
    if not 0 <= bad <= n or not 0.0 < alpha < 1.0:
        raise PilothouseError("bad ones are part of all, an error is between 0 and 1", where=f"{bad}, {n}, {alpha}")
    if n == 0:
        return 0.0, 1.0
    most = _log_beta(_A + bad, _B + n - bad) - _log_beta(_A, _B) + math.log(alpha)  # of the log-likelihood outside

    def inside(p: float) -> bool:
        return bad * math.log(p) + (n - bad) * math.log1p(-p) > most

    rate = bad / n
    low = 0.0 if bad == 0 else _edge(inside, rate if bad < n else 1.0 - 1e-12, 1e-300)
    high = 1.0 if bad == n else _edge(inside, rate if bad else 1e-300, 1.0 - 1e-12)
    return low, high


def _edge(inside: Callable[[float], bool], within: float, outside: float) -> float:
    """The place between a p inside and the end of the scale where the sequence ends."""
    if inside(outside):
        return round(outside, 9)
    for _ in range(_HALVINGS):
        middle = (within + outside) / 2
        if inside(middle):
            within = middle
        else:
            outside = middle
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
