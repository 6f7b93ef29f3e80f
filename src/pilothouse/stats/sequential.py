"""Evidence that may be looked at after every request: the canary's tripwire, and bounds of means.

An e-value is a bet's wealth that has expectation at most 1 while the release is no worse than allowed;
by Ville's inequality it reaches 1/α, ever, with probability at most α, however often one looks.
"""

import math
import sys
from typing import NamedTuple

from pilothouse.domain.errors import PilothouseError

ALPHA = 0.01
PLANNED = 1_500.0  # observations at which bounds of means are narrowest

_MULTIPLES = (1.5, 2.0, 3.0, 5.0)
_LEVELS = (0.3, 0.5, 0.9)
_LARGEST_LOG = math.log(sys.float_info.max)


def threshold(alpha: float = ALPHA) -> float:
    """The e-value at which to act, for a false alarm probability of `alpha` over all looks together."""
    if not 0.0 < alpha < 1.0:
        raise PilothouseError("an error rate lies between 0 and 1", where=f"got {alpha}")
    return 1.0 / alpha


def tripwire_e_value(bad: float, n: float, m: float) -> float:
    """Evidence that the rate of bad requests is above `m`, after `bad` of `n`.

    E = mean over q of (q/m)^bad · ((1−q)/(1−m))^(n−bad), q ∈ {1.5m, 2m, 3m, 5m, 0.3, 0.5, 0.9}. A q that is not
    in (m, 1) is left out: below m it would be no e-value. Counts need not be whole: requests of one session that are
    alike count as fewer. Capped at the largest float.
    """
    if not 0 <= bad <= n:
        raise PilothouseError("bad requests are part of all requests", where=f"got {bad} of {n}")
    if not 0.0 < m < 1.0:
        raise PilothouseError("the allowed rate of bad requests lies between 0 and 1", where=f"got {m}")
    logs = [_log_e_value(bad, n, m, q) for q in _grid(m)]
    top = max(logs)
    log_mean = top + math.log(math.fsum(math.exp(one - top) for one in logs) / len(logs))
    return math.exp(min(log_mean, _LARGEST_LOG))


def _grid(m: float) -> list[float]:
    grid = [q for q in (*(k * m for k in _MULTIPLES), *_LEVELS) if m < q < 1.0]
    return grid or [(1.0 + m) / 2]


def _log_e_value(bad: float, n: float, m: float, q: float) -> float:
    return bad * math.log(q / m) + (n - bad) * (math.log1p(-q) - math.log1p(-m))


class Bound(NamedTuple):
    """One side of an asymptotic confidence sequence, at the error `alpha`, narrowest at the size `planned`."""

    alpha: float
    planned: float = PLANNED

    def radius(self, size: float) -> float:
        """How many standard errors the bound lies from the estimate, after `size` observations.

        √(2(nρ² + 1)/(nρ²) · ln(1 + √(nρ² + 1)/(2α))): the one-sided asymptotic confidence sequence of Waudby-Smith,
        Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences"
        (arXiv 2103.06476). It holds at all sizes together where the estimate is near enough to normal at the first.
        """
        scaled = size * self._rho_squared()
        return math.sqrt(2 * (scaled + 1) / scaled * math.log1p(math.sqrt(scaled + 1) / (2 * self.alpha)))

    def e_value(self, standard_errors: float, size: float) -> float:
        """The evidence that the estimate lies above what is allowed by more than chance; 1/alpha is at the bound."""
        if standard_errors <= 0 or size <= 0:
            return 0.0
        scaled = size * self._rho_squared()
        log = standard_errors**2 * scaled / (2 * (scaled + 1))
        return 2 * math.expm1(min(log, _LARGEST_LOG - 1)) / math.sqrt(scaled + 1)

    def _rho_squared(self) -> float:
        # The tuning of the same paper, for its two-sided bound: near the best for one side too.
        bits = -2 * math.log(self.alpha)
        return (bits + math.log1p(bits)) / self.planned
