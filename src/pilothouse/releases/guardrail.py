"""The canary's decision, pure: what two arms have shown → abort, hold, step, promote or no data, in one sentence.

A guardrail is a share of requests that must not rise: failed requests, and outputs that miss their schema at
first. Its limit m = upper bound of the stable release's rate + margin. It trips when the evidence that the canary's
rate is above m reaches k/α for k guardrails (`stats.sequential.tripwire_e_value`; Bonferroni): over all looks
together a canary that is no worse than m is aborted with probability at most α.
"""

from typing import Literal

import msgspec

from pilothouse.stats.proportions import wilson
from pilothouse.stats.samples import UNHEALTHY, srm_p
from pilothouse.stats.sequential import ALPHA, tripwire_e_value

Kind = Literal["abort", "hold", "step", "promote", "no_data"]
STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)
GUARDRAILS = ("failed", "invalid")
_HIGHEST_LIMIT = 0.95


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm did. `requests` are those that the release answers for: without the ones that a client spoilt
    (outcome `refused`, 499); `failures`: outcome `failed` among them; `structured`: with a schema to meet;
    `invalid_first`: of those, the ones whose first output missed it, repaired or not."""

    requests: int = 0
    failures: int = 0
    structured: int = 0
    invalid_first: int = 0
    sessions: int | None = None  # distinct ones; the sample ratio is judged by them where known


class CanaryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When to act. Shares of requests are 0 … 1. `auto`: step and promote too; else only abort."""

    margin: float = 0.02
    floor: float = 0.01  # the stable rate that is assumed at least
    alpha: float = ALPHA
    min_requests: int = 20  # at a share, before the next
    min_seconds: float = 600.0  # likewise
    steps: tuple[float, ...] = STEPS
    auto: bool = False
    baseline_window_s: float = 86_400.0  # of stable traffic before the canary's start
    baseline_min: int = 30  # stable requests under which only `floor` is used


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to decide on. `limits`: those of the last look, which may only rise."""

    share: float
    canary: Counts  # since the canary's start
    stable: Counts  # over the window before it, and since
    canary_step: Counts  # since the present share began
    stable_step: Counts
    step_s: float
    limits: dict[str, float] = {}


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """One guardrail's state: `bad` of `n` against `limit`; trips where `evidence` ≥ `threshold`."""

    name: str
    bad: int
    n: int
    limit: float
    evidence: float
    threshold: float

    @property
    def tripped(self) -> bool:
        """Whether the evidence is enough to abort."""
        return self.evidence >= self.threshold

    def __str__(self) -> str:
        return f"{self.bad} of {self.n} requests {self.name} against {percent(self.limit)} allowed"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and why in one sentence with its numbers. `share`: the next one, where the word is `step`."""

    kind: Kind
    sentence: str
    guardrails: tuple[Guardrail, ...]
    healthy: bool = True  # False: the arms' sizes do not fit the share, so nothing may go forward
    mismatch_p: float | None = None  # of the sample ratio; None where there is too little to say
    share: float | None = None

    @property
    def limits(self) -> dict[str, float]:
        """The limits, for the next look."""
        return {guardrail.name: guardrail.limit for guardrail in self.guardrails}


def decide(seen: Seen, policy: CanaryPolicy) -> Decision:
    """Abort comes first and needs no minimum; then no data, arms out of proportion, too little, too bad; then on."""
    rails = _guardrails(seen, policy)
    tripped = [rail for rail in rails if rail.tripped]
    if tripped:
        worst = max(tripped, key=lambda rail: rail.evidence)
        why = f"aborted: {worst}; evidence {worst.evidence:,.0f} ≥ {worst.threshold:,.0f}"
        return Decision(kind="abort", sentence=why, guardrails=rails)
    if seen.canary.requests == 0:
        why = f"no data: no request has reached the canary at {percent(seen.share)}"
        return Decision(kind="no_data", sentence=why, guardrails=rails)
    p = mismatch(seen.canary_step, seen.stable_step, seen.share)
    if p is not None and p < UNHEALTHY:
        why = f"held, unhealthy: {_arms(seen)} do not fit a share of {percent(seen.share)} (p = {p:.1g})"
        return Decision(kind="hold", sentence=why, guardrails=rails, healthy=False, mismatch_p=p)
    return _forward(seen, policy, rails, p)


def _forward(seen: Seen, policy: CanaryPolicy, rails: tuple[Guardrail, ...], p: float | None) -> Decision:
    n = seen.canary_step.requests
    if n < policy.min_requests or seen.step_s < policy.min_seconds:
        why = (
            f"held: {n} of {policy.min_requests} requests and {seen.step_s:,.0f} of {policy.min_seconds:,.0f} s "
            f"at {percent(seen.share)}"
        )
        return Decision(kind="hold", sentence=why, guardrails=rails, mismatch_p=p)
    above = [rail for rail in rails if rail.n and rail.bad / rail.n > rail.limit]
    if above:
        why = f"held: {above[0]}; evidence {above[0].evidence:,.1f} < {above[0].threshold:,.0f}"
        return Decision(kind="hold", sentence=why, guardrails=rails, mismatch_p=p)
    numbers = "; ".join(str(rail) for rail in rails if rail.n)
    following = [share for share in sorted(policy.steps) if share > seen.share]
    if following:
        why = f"may step to {percent(following[0])}: {numbers}"
        return Decision(kind="step", sentence=why, guardrails=rails, mismatch_p=p, share=following[0])
    return Decision(kind="promote", sentence=f"may be promoted: {numbers}", guardrails=rails, mismatch_p=p)


def _guardrails(seen: Seen, policy: CanaryPolicy) -> tuple[Guardrail, ...]:
    pairs = {
        "failed": ((seen.canary.failures, seen.canary.requests), (seen.stable.failures, seen.stable.requests)),
        "invalid": (
            (seen.canary.invalid_first, seen.canary.structured),
            (seen.stable.invalid_first, seen.stable.structured),
        ),
    }
    rails = []
    for name in GUARDRAILS:
        (bad, n), (stable_bad, stable_n) = pairs[name]
        limit = max(seen.limits.get(name, 0.0), _limit(stable_bad, stable_n, policy))
        evidence = tripwire_e_value(bad, n, limit)
        threshold = len(GUARDRAILS) / policy.alpha
        rails.append(Guardrail(name=name, bad=bad, n=n, limit=limit, evidence=evidence, threshold=threshold))
    return tuple(rails)


def _limit(bad: int, n: int, policy: CanaryPolicy) -> float:
    """Upper 95 % Wilson bound of the stable rate (at least the floor) + margin. It is let rise with the stable
    release's own trouble and never fall, so that evidence is never more than that against the first limit."""
    rate = wilson(bad, n)[1] if n >= policy.baseline_min else 0.0
    return min(max(rate, policy.floor) + policy.margin, _HIGHEST_LIMIT)


def mismatch(canary: Counts, stable: Counts, share: float) -> float | None:
    """p of a χ² test (1 degree of freedom) that the arms' sizes come from `share`; None under 5 expected in one."""
    a, b = _size(canary, stable), _size(stable, canary)
    if (a + b) * min(share, 1 - share) < 5:
        return None
    return srm_p(a, b, share)


def _size(arm: Counts, other: Counts) -> int:
    return arm.sessions if arm.sessions is not None and other.sessions is not None else arm.requests


def _arms(seen: Seen) -> str:
    by_session = seen.canary_step.sessions is not None and seen.stable_step.sessions is not None
    unit = "sessions" if by_session else "requests"
    a, b = _size(seen.canary_step, seen.stable_step), _size(seen.stable_step, seen.canary_step)
    return f"{a:,} {unit} on the canary and {b:,} on the stable release"


def percent(share: float) -> str:
    """A share as people read it: `3 %`, `12.5 %`."""
    return f"{share * 100:.3g} %"
