"""Two releases judged on the same cases: exact McNemar test, Agresti–Min interval, sizes and detectable drops.

`b` counts cases that pass on the baseline and fail on the candidate (broke), `c` the opposite (mended).
Repeats and clusters of cases are not independent pairs: these formulas do not hold for them.
"""

import math
from statistics import NormalDist

from pilothouse.domain.errors import PilothouseError
from pilothouse.stats.proportions import z

_NORMAL = NormalDist()


def _check(b: int, c: int, n: int) -> None:
    if b < 0 or c < 0 or b + c > n:
        raise PilothouseError("broke and mended cases are part of the cases", where=f"got {b} and {c} of {n}")


def mcnemar_midp(b: int, c: int) -> float:
    """One-sided mid-p of harm: P[Bin(b + c, ½) ≥ b] − ½·P[Bin(b + c, ½) = b].

    Mid-p regains the power that the exact test loses to discreteness (Fagerland et al. 2013). 0.5 where
    no case changed: no evidence either way.
    """
    _check(b, c, b + c)
    m = b + c
    at_b = _pmf_half(m, b)
    return min(1.0, math.fsum(_pmf_half(m, k) for k in range(b + 1, m + 1)) + at_b / 2)


def _pmf_half(m: int, k: int) -> float:
    return math.exp(math.lgamma(m + 1) - math.lgamma(k + 1) - math.lgamma(m - k + 1) - m * math.log(2))


def agresti_min(b: int, c: int, n: int, confidence: float = 0.90) -> tuple[float, float, float]:
    """(candidate − baseline as observed, low, high) of the pass rate's difference over `n` pairs.

    Agresti & Min (2005): 0.5 is added to each of the four cells before the Wald interval, which is therefore
    centred a little nearer to zero than the observed difference. Each one-sided bound of a 90 % interval has 5 % error.
    """
    _check(b, c, n)
    if n == 0:
        raise PilothouseError("no pairs to compare", hint="give cases that both releases were run on")
    broke, mended, size = b + 0.5, c + 0.5, n + 2
    centre = (mended - broke) / size
    error = math.sqrt(broke + mended - (mended - broke) ** 2 / size) / size
    half = z(confidence) * error
    return (c - b) / n, max(-1.0, centre - half), min(1.0, centre + half)


def required(drop: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Cases needed to see a drop of the pass rate with this power, one-sided, where a share `discordance` changes.

    n = ((z_α·√p_d + z_β·√(p_d − δ²)) / δ)² (Connor 1987). The exact test needs about 8 % more.
    """
    if not 0.0 < drop <= discordance <= 1.0:
        raise PilothouseError("a drop is at most the share of cases that change", where=f"got {drop} of {discordance}")
    return math.ceil(_size(drop, discordance, alpha, power))


def _size(drop: float, discordance: float, alpha: float, power: float) -> float:
    z_alpha, z_beta = _NORMAL.inv_cdf(1 - alpha), _NORMAL.inv_cdf(power)
    spread = math.sqrt(max(0.0, discordance - drop * drop))
    return float(((z_alpha * math.sqrt(discordance) + z_beta * spread) / drop) ** 2)


def minimum_detectable(n: int, discordance: float, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest drop of the pass rate that `n` cases show with this power; 1.0 where they can show none.

    The inverse of `required`. A drop above `discordance` needs that many cases to change at least, so the
    share that changes is taken as the larger of the two.
    """
    if n < 0 or not 0.0 <= discordance <= 1.0:
        raise PilothouseError("cases are counted from 0, shares lie between 0 and 1", where=f"got {n}, {discordance}")
    if n == 0 or _size(1.0, 1.0, alpha, power) > n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):  # halving: 2⁻⁶⁰ is below the rounding of the result
        middle = (low + high) / 2
        if _size(middle, max(middle, discordance), alpha, power) > n:
            low = middle
        else:
            high = middle
    return high
