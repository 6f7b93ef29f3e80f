"""Two arms compared on a mean, with observations that come in groups and shares that change on the way.

All observations of a session are on one side, so sessions are what is drawn: errors are computed over groups. Each
share of a canary is a stratum of its own, because an arm's share and the time of day rise together; differences are
taken within strata and then averaged.
"""

import math
from collections.abc import Iterable
from typing import Literal

import msgspec

_ENOUGH_BAD = 10  # of the stable release's, before how they lie together is known
FEWEST_GROUPS = 20  # of either arm, under which a stratum says nothing: errors over groups are not known yet

Scale = Literal["absolute", "relative"]


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """What an arm's observations add up to. A group g has n_g observations with the sum s_g."""

    n: int = 0
    groups: int = 0
    total: float = 0.0  # Σ s_g
    squares: float = 0.0  # Σ s_g²
    crossed: float = 0.0  # Σ s_g n_g
    sizes: float = 0.0  # Σ n_g²

    @classmethod
    def of(cls, groups: Iterable[tuple[int, float]]) -> "Moments":
        """From (n_g, s_g) of each group."""
        known = [(n, s) for n, s in groups if n]
        return cls(
            n=sum(n for n, _ in known),
            groups=len(known),
            total=math.fsum(s for _, s in known),
            squares=math.fsum(s * s for _, s in known),
            crossed=math.fsum(s * n for n, s in known),
            sizes=math.fsum(n * n for n, _ in known),
        )

    @property
    def mean(self) -> float:
        """The mean observation."""
        return self.total / self.n

    @property
    def variance(self) -> float:
        """Of the mean, over groups: Σ(s_g − x̄ n_g)²/n² · G/(G − 1), the sandwich estimator of a ratio of sums."""
        mean = self.mean
        residual = max(0.0, self.squares - 2 * mean * self.crossed + mean * mean * self.sizes)
        return residual / (self.n * self.n) * self.groups / (self.groups - 1)


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """Canary − stable (of logarithms, where it is relative): `difference` with its standard error, after as many
    observations as `size` of equal arms."""

    difference: float
    error: float
    size: float
    n: int  # observations of the canary in it


def contrast(strata: Iterable[tuple[Moments, Moments]], scale: Scale = "absolute") -> Contrast | None:
    """The mean of the strata's differences, weighted by n_T n_C/(n_T + n_C); None where none has groups enough.

    `relative`: ln(mean_T/mean_C). What is skewed, as costs are, has a small spread where it happens to be low; so
    both arms are given the larger of their relative spreads, and bounds on this scale reach further up than down.
    """
    weights = weighted = variance = 0.0
    n = 0
    for canary, stable in strata:
        found = _one(canary, stable, scale)
        if found is None:
            continue
        weight = canary.groups * stable.groups / (canary.groups + stable.groups)
        weights += weight
        weighted += weight * found[0]
        variance += weight * weight * found[1]
        n += canary.n
    if not weights:
        return None
    return Contrast(difference=weighted / weights, error=math.sqrt(variance) / weights, size=4 * weights, n=n)


def design_effect(strata: Iterable[tuple[Moments, Moments]]) -> float:
    """How many of the canary's observations of 0 and 1 say as much as one that stands alone; at least 1.

    What is bad often lies together in a session. Where the stable release has shown enough of it, its variance over
    groups is compared with that of single ones; else all of a session counts as one, the most that it can be.
    """
    arms = list(strata)
    canary, stable = (pooled(pair[side] for pair in arms) for side in (0, 1))
    if not canary.n:
        return 1.0
    most = max(1.0, canary.sizes / canary.n)
    if stable.total < _ENOUGH_BAD or stable.groups < FEWEST_GROUPS or stable.mean >= 1:
        return most
    return min(most, max(1.0, stable.variance * stable.n / (stable.mean * (1 - stable.mean))))


def pooled(arms: Iterable[Moments]) -> Moments:
    """All of them as one."""
    found = list(arms)
    return Moments(**{name: sum(getattr(one, name) for one in found) for name in Moments.__struct_fields__})


def _one(canary: Moments, stable: Moments, scale: Scale) -> tuple[float, float] | None:
    """A stratum's difference and its variance."""
    if min(canary.groups, stable.groups) < FEWEST_GROUPS:
        return None
    if scale == "absolute":
        return canary.mean - stable.mean, canary.variance + stable.variance
    if canary.mean <= 0 or stable.mean <= 0:
        return None
    spread = max(arm.variance * arm.groups / arm.mean**2 for arm in (canary, stable))
    return math.log(canary.mean / stable.mean), spread * (1 / canary.groups + 1 / stable.groups)
