"""The canary's guardrails, pure: for each the evidence that it got worse, and the bounds of how much.

A mean (latency, cost, tokens, numeric scores) is compared with the stable release beside it (`contrast`), between the
bounds of an asymptotic confidence sequence. It trips when the lower one is above half the margin and is cleared when
the upper one is below the margin.

A rate (failed requests, refusals, outputs that miss their schema at first, guardrail hits, answers over the objective,
scores of 0 and 1) is compared in the same way once some of the canary's were bad. Before that it has a tripwire, which
is exact at any count: it trips when the evidence that the canary's rate is above a limit m is enough
(`tripwire_e_value`); m = upper bound of the stable release's rate + margin. Requests of a session that are bad together
count as fewer (`design_effect`). It is cleared when in addition the exact bounds of both arms leave no room for a
difference of the margin (`rate_sequence`).

α' is a part of α (Bonferroni), of which a rate spends a half on each of its two tests: over all guardrails and looks
together a canary that is no worse than allowed is aborted with probability at most α. Clearing needs no correction,
because all have to be cleared.
"""

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from pilothouse.config.canary import CanaryPolicy
from pilothouse.releases.arms import Seen, Strata
from pilothouse.stats.contrast import Contrast, Scale, contrast, design_effect
from pilothouse.stats.proportions import wilson
from pilothouse.stats.rate_sequence import rate_sequence
from pilothouse.stats.sequential import Bound, tripwire_e_value

__all__ = ["CanaryPolicy", "Guardrail", "guardrails", "percent"]

Form = Literal["rate", "ratio", "difference"]
_HIGHEST_LIMIT = 0.95
_FEWEST_BAD = 10  # of the canary's, before a rate's bounds beside the stable release may abort: few are too skewed
_MOST = 1e15  # evidence: more says nothing more
PREFERRED = "preferred"  # blind comparisons of the shadow stage


class Guardrail(msgspec.Struct, frozen=True, kw_only=True):
    """One guardrail's state. It trips where `evidence` ≥ `threshold`.

    `difference`: canary − stable so that more is worse, between `low` (at the error of an abort) and `high` (at that
    of a promotion): of rates, of relative means (`ratio`) or of means. None: too little to say. Of a rate also `bad`
    of `n` against `limit`; of a mean `n` are the canary's observations.
    """

    name: str
    n: int
    evidence: float
    threshold: float
    margin: float
    form: Form = "rate"
    bad: int = 0
    limit: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    cleared: bool = False

    @property
    def tripped(self) -> bool:
        """Whether the evidence is enough to abort."""
        return self.evidence >= self.threshold

    @property
    def above(self) -> bool:
        """Whether what was seen is worse than allowed, proven or not."""
        if self.limit is not None:
            return self.n > 0 and self.bad / self.n > self.limit
        return self.difference is not None and self.difference > self.margin

    def __str__(self) -> str:
        if self.limit is not None:
            return f"{self.bad} of {self.n} {_words(self.name)} against {percent(self.limit)} allowed"
        if self.difference is None or self.low is None or self.high is None:
            return f"{self.name} is not comparable yet"
        shown = percent if self.form == "ratio" else number
        bounds = f"[{shown(self.low, sign=True)}, {shown(self.high, sign=True)}]"
        worse = "" if self.form == "ratio" else "worse by "
        return f"{self.name} {worse}{shown(self.difference, sign=True)} {bounds} against {shown(self.margin)} allowed"


def guardrails(seen: Seen, policy: CanaryPolicy) -> tuple[Guardrail, ...]:
    """Every guardrail that has something to look at; `failed` always."""
    slots = _slots(policy)
    alpha = policy.alpha / (len(slots) + 1)  # one more for all the scores that nobody announced
    rails = list(_rates(seen, policy, slots, alpha))
    rails += _means(seen, policy, alpha)
    if policy.shadow is not None and seen.canary.decided:
        rails.append(_preferred(seen, alpha))
    return tuple(rails)


def unasked(seen: Seen, policy: CanaryPolicy) -> tuple[str, ...]:
    """Scores of 0 and 1 without a margin of their own, in the order in which they came up."""
    new = (seen.canary.scores.keys() | seen.stable.scores.keys()) - _slots(policy).keys() - set(seen.unasked)
    return (*seen.unasked, *sorted(new))


def _slots(policy: CanaryPolicy) -> dict[str, float]:
    """The guardrails that are known before anything was seen → their margins; each has an equal part of α."""
    margins = policy.margins
    slots = {
        "failed": margins.failed, "refused": margins.refused, "invalid": margins.invalid, "guarded": margins.guarded,
    }  # fmt: skip
    if policy.slo_ms is not None:
        slots["slow"] = margins.slow
    means = {"latency": margins.latency, "cost": margins.cost, "tokens": margins.tokens}
    slots |= {name: margin for name, margin in means.items() if margin is not None}
    if policy.shadow is not None:
        slots[PREFERRED] = 0.0
    return slots | margins.scores | margins.means


def _rates(seen: Seen, policy: CanaryPolicy, slots: dict[str, float], alpha: float) -> Iterator[Guardrail]:
    canary, stable = seen.canary.rates(), seen.stable.rates()
    beside = (seen.beside or seen.stable).rates()
    errors = dict.fromkeys(slots, alpha)
    # The part of α that is left for scores nobody announced is halved for each: the sum stays below it.
    errors |= {name: alpha / 2 ** (order + 1) for order, name in enumerate(unasked(seen, policy))}
    for name, error in errors.items():
        if name not in canary and name not in stable:
            continue
        if name != "failed" and not (canary.get(name, (0, 0))[1] or stable.get(name, (0, 0))[1]):
            continue
        margin = slots.get(name, policy.margins.score)
        (bad, n), other = canary.get(name, (0, 0)), beside.get(name, (0, 0))
        alike = design_effect(seen.strata.get(name, ()))  # requests of a session are not as many witnesses
        before = _limit(*stable.get(name, (0, 0)), margin, policy, alike)
        limit = max(seen.limits.get(name, 0.0), before)
        exact = _exact((bad, n), other, policy.alpha_promote)
        rail = Guardrail(
            name=name,
            bad=bad,
            n=n,
            limit=limit,
            evidence=min(_MOST, tripwire_e_value(bad / alike, n / alike, limit)),
            threshold=2 / error,
            margin=margin,
            difference=bad / n - other[0] / other[1] if n and other[1] else None,
            low=exact[0],
            high=exact[1],
            cleared=exact[1] < margin,
        )
        yield _beside(rail, seen.strata.get(name, ()), (error / 2, policy.alpha_promote))


def _exact(canary: tuple[int, int], stable: tuple[int, int], error: float) -> tuple[float, float]:
    """The difference of two rates at its least and at its most, at every count."""
    low, high = rate_sequence(*canary, error / 2)
    other_low, other_high = rate_sequence(*stable, error / 2)
    return low - other_high, high - other_low


def _beside(rail: Guardrail, strata: Strata, errors: tuple[float, float]) -> Guardrail:
    """The rate with the bounds of its difference to the stable release beside it, where there are enough for them."""
    found = contrast(strata)
    if found is None or not found.error:
        return rail
    abort, promote = (Bound(error) for error in errors)
    low = found.difference - found.error * abort.radius(found.size)
    high = found.difference + found.error * promote.radius(found.size)
    evidence = abort.e_value(_errors(found, rail.margin / 2), found.size) if rail.bad >= _FEWEST_BAD else 0.0
    return msgspec.structs.replace(
        rail,
        evidence=max(rail.evidence, min(_MOST, evidence)),
        difference=found.difference,
        low=low,
        high=max(high, rail.high or 0.0),
        cleared=rail.cleared and high < rail.margin,
    )


def _limit(bad: int, n: int, margin: float, policy: CanaryPolicy, alike: float) -> float:
    """Upper 95 % Wilson bound of the stable rate (at least the floor) + margin. It is let rise with the stable
    release's own trouble and never fall, so that evidence is never more than that against the first limit."""
    rate = wilson(bad / alike, n / alike)[1] if n >= policy.baseline_min or bad else 0.0
    return min(max(rate, policy.floor) + margin, _HIGHEST_LIMIT)


def _means(seen: Seen, policy: CanaryPolicy, alpha: float) -> Iterator[Guardrail]:
    margins = policy.margins
    relative = {"latency": margins.latency, "cost": margins.cost, "tokens": margins.tokens}
    for name, margin in relative.items():
        strata = seen.strata.get(name, ())
        if margin is not None and any(arm.n for pair in strata for arm in pair):
            yield _mean(name, strata, margin, (alpha, policy.alpha_promote), "ratio")
    for name, margin in margins.means.items():
        strata = seen.strata.get(name, ())
        if any(arm.n for pair in strata for arm in pair):
            yield _mean(name, strata, margin, (alpha, policy.alpha_promote), "difference")


def _mean(name: str, strata: Strata, margin: float, errors: tuple[float, float], form: Form) -> Guardrail:
    """`errors`: of an abort and of a promotion."""
    found = contrast(strata, _scale(name, form))
    n = sum(canary.n for canary, _ in strata)
    if found is None or found.size <= 0:
        return Guardrail(name=name, n=n, evidence=0.0, threshold=1 / errors[0], margin=margin, form=form)
    if form == "difference":  # of scores, where more is better
        found = msgspec.structs.replace(found, difference=-found.difference)
    logs = form == "ratio"
    tolerated, shown = (math.log1p(margin / 2), math.expm1) if logs else (margin / 2, float)
    abort, promote = (Bound(error) for error in errors)
    low = shown(found.difference - found.error * abort.radius(found.size))
    high = shown(found.difference + found.error * promote.radius(found.size))
    return Guardrail(
        name=name,
        n=n,
        evidence=min(_MOST, abort.e_value(_errors(found, tolerated), found.size)),
        threshold=1 / errors[0],
        margin=margin,
        form=form,
        difference=shown(found.difference),
        low=low,
        high=high,
        cleared=high < margin,
    )


def _errors(found: Contrast, tolerated: float) -> float:
    """How many standard errors the difference is above what is tolerated; without any spread, none or many."""
    above = found.difference - tolerated
    return above / found.error if found.error > 0 else math.copysign(1e3, above)


def _scale(name: str, form: Form) -> Scale:
    return "relative" if form == "ratio" and name != "latency" else "absolute"


def _preferred(seen: Seen, alpha: float) -> Guardrail:
    """Of the comparisons that one side won, the stable release may not win more than half."""
    lost, decided = seen.canary.lost, seen.canary.decided
    evidence = min(_MOST, tripwire_e_value(lost, decided, 0.5))
    return Guardrail(
        name=PREFERRED, bad=lost, n=decided, limit=0.5, evidence=evidence, threshold=1 / alpha, margin=0.0, cleared=True
    )


_NOUNS = {
    "failed": "requests failed",
    "refused": "requests refused",
    "invalid": "requests invalid",
    "guarded": "requests with a guardrail's finding",
    "slow": "answers too slow",
    PREFERRED: "comparisons lost",
}


def _words(name: str) -> str:
    return _NOUNS.get(name, f"scores of {name} bad")


def percent(share: float, *, sign: bool = False) -> str:
    """A share as people read it: `3 %`, `12.5 %`; with `sign` also `+3 %`."""
    return f"{share * 100:+.3g} %" if sign else f"{share * 100:.3g} %"


def number(value: float, *, sign: bool = False) -> str:
    """A value in its own unit, likewise."""
    return f"{value:+.3g}" if sign else f"{value:.3g}"
