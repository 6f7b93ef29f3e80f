"""A model that a route may be switched to, and whether it was shown to be fit."""

import msgspec

EVALUATED_DAYS = 30  # an alternate's eval is good for so long
PROBED_US = 2 * 3_600 * 1_000_000  # its newest probe is at most this old; they come hourly
SPARE = 1.2  # its quota must hold so many times the route's peak


class Alternate(msgspec.Struct, frozen=True, kw_only=True):
    """One of a route's `alternates`, as last measured. None: never. Rates are requests a minute, times in µs."""

    model: str
    evaluated_us: int | None = None
    passed: bool | None = None  # the gate's rule on its eval
    pass_rate: float | None = None
    n: int = 0
    probed_us: int | None = None
    answered: bool | None = None
    probe_ms: float | None = None
    quota: float | None = None  # as the provider's headers say; None: it says nothing
    own: bool = False  # served by Pilothouse itself, which has no quota
    peak: float | None = None  # of the route, over 7 days

    def objections(self, now_us: int) -> tuple[str, ...]:
        """Why the route must not be switched to it; empty where it may."""
        found = []
        if self.evaluated_us is None:
            found.append("never evaluated")
        elif not self.passed:
            found.append("its eval did not pass")
        elif now_us - self.evaluated_us > EVALUATED_DAYS * 86_400 * 1_000_000:
            found.append(f"evaluated more than {EVALUATED_DAYS} days ago")
        if self.probed_us is None or now_us - self.probed_us > PROBED_US:
            found.append("not probed in the last 2 hours")
        elif not self.answered:
            found.append("its last probe failed")
        if self.quota is not None and self.peak is not None and self.quota < self.peak * SPARE:
            found.append(f"its quota of {self.quota:,.0f}/min is under {SPARE:g} × the peak of {self.peak:,.0f}/min")
        return tuple(found)

    @property
    def quota_known(self) -> bool:
        """Whether it is known how much may be asked of it."""
        return self.own or self.quota is not None
