"""Whether traffic was split as it was meant to be: a canary compared on the wrong requests proves nothing."""

import math

from pilothouse.domain.errors import PilothouseError

UNHEALTHY = 1e-3


def srm_p(canary: int, stable: int, share: float) -> float | None:
    """p of a sample-ratio mismatch: Pearson's χ², one degree of freedom, of the split against `share`.

    None without requests. Below `UNHEALTHY` the split itself is broken and no comparison of its sides holds.
    """
    if canary < 0 or stable < 0 or not 0.0 < share < 1.0:
        raise PilothouseError("counts start at 0, a share is between 0 and 1", where=f"{canary}, {stable}, {share}")
    n = canary + stable
    if n == 0:
        return None
    expected = n * share
    chi_square = (canary - expected) ** 2 * (1 / expected + 1 / (n - expected))
    return math.erfc(math.sqrt(chi_square / 2))
