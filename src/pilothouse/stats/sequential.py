"""Evidence that may be looked at after every request: the canary's tripwire.

An e-value is a bet's wealth that has expectation at most 1 while the release is no worse than allowed;
by Ville's inequality it reaches 1/α, ever, with probability at most α, however often one looks.
"""

import math
import sys

from pilothouse.domain.errors import PilothouseError

ALPHA = 0.01

_MULTIPLES = (1.5, 2.0, 3.0, 5.0)
_LEVELS = (0.3, 0.5, 0.9)
_LARGEST_LOG = math.log(sys.float_info.max)


def threshold(alpha: float = ALPHA) -> float:
    """The e-value at which to act, for a false alarm probability of `alpha` over all looks together."""
    if not 0.0 < alpha < 1.0:
        raise PilothouseError("an error rate lies between 0 and 1", where=f"got {alpha}")
    return 1.0 / alpha


def tripwire_e_value(bad: int, n: int, m: float) -> float:
    """Evidence that the rate of bad requests is above `m`, after `bad` of `n`.

    E = mean over q of (q/m)^bad · ((1−q)/(1−m))^(n−bad), q ∈ {1.5m, 2m, 3m, 5m, 0.3, 0.5, 0.9}. A q that is not
    in (m, 1) is left out: below m it would be no e-value. Capped at the largest float.
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


def _log_e_value(bad: int, n: int, m: float, q: float) -> float:
    return bad * math.log(q / m) + (n - bad) * (math.log1p(-q) - math.log1p(-m))
