"""The G-test: do two samples of classes come from one distribution?"""

import math
from collections.abc import Mapping

from pilothouse.domain.errors import PilothouseError


def g_test(a: Mapping[str, int], b: Mapping[str, int]) -> tuple[float, float] | None:
    """(G, p) of homogeneity of two counts by class; None where one is empty or there is one class alone.

    p is by the χ² distribution with (classes − 1) degrees of freedom, after Williams's correction, without which G is
    too large in small samples.
    """
    if any(count < 0 for count in (*a.values(), *b.values())):
        raise PilothouseError("counts start at 0", where="G-test")
    classes = [name for name in {**a, **b} if a.get(name, 0) + b.get(name, 0)]
    n_a, n_b = sum(a.values()), sum(b.values())
    if not n_a or not n_b or len(classes) < 2:
        return None
    n = n_a + n_b
    g = 0.0
    for name in classes:
        both = a.get(name, 0) + b.get(name, 0)
        for count, size in ((a.get(name, 0), n_a), (b.get(name, 0), n_b)):
            g += 2 * count * math.log(count * n / (size * both)) if count else 0.0
    df = len(classes) - 1
    over_rows = n * (1 / n_a + 1 / n_b) - 1
    over_classes = n * sum(1 / (a.get(name, 0) + b.get(name, 0)) for name in classes) - 1
    g /= 1 + over_rows * over_classes / (6 * n * df)
    g = max(0.0, g)
    return g, chi_square_above(g, df)


def chi_square_above(x: float, df: int) -> float:
    """The chance that χ² with `df` degrees of freedom is above `x`: the regularised upper incomplete gamma function."""
    if df < 1 or not math.isfinite(x):
        raise PilothouseError("χ² needs at least one degree of freedom and a finite value", where=f"{x}, {df}")
    a, half = df / 2, x / 2
    if half <= 0:  # the smallest number above 0 has no half
        return 1.0
    scale = math.exp(a * math.log(half) - half - math.lgamma(a))
    return 1.0 - scale * _series(a, half) if half < a + 1 else scale * _fraction(a, half)


def _series(a: float, x: float) -> float:
    """P(a, x) / scale, by its power series: it converges fast below a + 1."""
    term = total = 1 / a
    n = a
    while abs(term) > abs(total) * 1e-15:
        n += 1
        term *= x / n
        total += term
    return total


def _fraction(a: float, x: float) -> float:
    """Q(a, x) / scale, by Lentz's continued fraction: it converges fast above a + 1."""
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    h = d
    for i in range(1, 1_000):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        h *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return h
