"""The canary's decision, pure: what two arms have shown → abort, hold, step, promote, no data or inconclusive, in one
sentence with its numbers."""

from typing import Literal

import msgspec

from pilothouse.config.canary import CanaryPolicy
from pilothouse.releases.arms import Counts, Seen, Split
from pilothouse.releases.guardrail import Guardrail, guardrails, percent, unasked
from pilothouse.releases.reopened import CAP
from pilothouse.stats.samples import UNHEALTHY, srm_p

Kind = Literal["abort", "hold", "step", "promote", "no_data", "inconclusive"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and why in one sentence with its numbers. `share`: the next one, where the word is `step`."""

    kind: Kind
    sentence: str
    guardrails: tuple[Guardrail, ...]
    healthy: bool = True  # False: the arms' sizes do not fit the share, so nothing may go forward
    mismatch_p: float | None = None  # of the sample ratio; None where there is too little to say
    share: float | None = None
    unasked: tuple[str, ...] = ()
    left_out: int = 0  # requests of users since the canary began that count for neither side, since a flag chose
    late: bool = False  # past the longest time: nothing goes forward by itself any more

    @property
    def limits(self) -> dict[str, float]:
        """The limits, for the next look."""
        return {rail.name: rail.limit for rail in self.guardrails if rail.limit is not None}


def decide(seen: Seen, policy: CanaryPolicy) -> Decision:
    """Abort comes first and needs no minimum; then hosts that are missing, no data, arms out of proportion, too little,
    too bad; then on.

    An abort may rest on a part of the hosts: what they have shown is a stream of its own order, which the outcomes have
    no part in, and the evidence holds at every point of it. What goes forward must have seen what every host served.

    Past the longest time what would be held or stepped is inconclusive: it stays at its share until a person decides.
    What is proven by then may still be promoted, but by a person too.
    """
    found = _capped(_decide(seen, policy), seen)
    found = _with_fed_out(msgspec.structs.replace(found, unasked=unasked(seen, policy)), seen)
    found = _with_left_out(found, seen)
    if seen.elapsed_s < policy.max_seconds or found.kind == "abort":
        return found
    if found.kind == "promote":
        return msgspec.structs.replace(found, late=True)
    days = _time(policy.max_seconds)
    why = f"inconclusive after {days}, a person has to decide; it stays at {percent(seen.share)}: {found.sentence}"
    return msgspec.structs.replace(found, kind="inconclusive", sentence=why, share=None, late=True)


def _capped(found: Decision, seen: Seen) -> Decision:
    """The decision, or hold, where it goes above what a release may have while a review is open."""
    further = 1.0 if found.kind == "promote" else found.share if found.kind == "step" else None
    if not seen.review or further is None or further <= CAP:
        return found
    why = f"held at {percent(seen.share)}: {seen.review}"
    return msgspec.structs.replace(found, kind="hold", sentence=why, share=None)


def _with_fed_out(found: Decision, seen: Seen) -> Decision:
    """The decision with why nothing more comes, where it waits."""
    if not seen.fed_out or found.kind not in ("hold", "no_data"):
        return found
    return msgspec.structs.replace(found, sentence=f"{found.sentence}; {seen.fed_out}")


def _with_left_out(found: Decision, seen: Seen) -> Decision:
    """The decision with what counts for neither side."""
    left_out = seen.canary.flagged + (seen.stable if seen.beside is None else seen.beside).flagged
    if not left_out:
        return found
    many = "requests" if left_out > 1 else "request"
    why = f"{found.sentence}; {left_out:,} {many} left out: a flag chose the release, a part of it, or that it is off"
    return msgspec.structs.replace(found, sentence=why, left_out=left_out)


def _decide(seen: Seen, policy: CanaryPolicy) -> Decision:
    rails = guardrails(seen, policy)
    tripped = [rail for rail in rails if rail.tripped]
    if tripped:
        worst = max(tripped, key=lambda rail: rail.evidence / rail.threshold)
        why = f"aborted: {worst}; evidence {_evidence(worst.evidence)} ≥ {_evidence(worst.threshold)}"
        why += f" (on a part of the traffic: {seen.missing})" if seen.missing else ""
        return Decision(kind="abort", sentence=why, guardrails=rails)
    if seen.missing:
        why = f"held: {seen.missing}; nothing goes forward on a part of the traffic"
        return Decision(kind="hold", sentence=why, guardrails=rails)
    if seen.canary.requests == 0:
        why = f"no data: no request has reached the canary at {percent(seen.share)}"
        return Decision(kind="no_data", sentence=why, guardrails=rails)
    if seen.canary_step.requests == 0 and seen.step_s >= policy.min_seconds > 0:
        why = f"no data: no request has reached the canary in {_time(seen.step_s)} at {percent(seen.share)}"
        return Decision(kind="no_data", sentence=why, guardrails=rails)
    p, split = _split(seen)
    if p is not None and p < UNHEALTHY:
        why = f"held, unhealthy: {_arms(split)} do not fit a share of {percent(seen.share)} (p = {p:.1g})"
        return Decision(kind="hold", sentence=why, guardrails=rails, healthy=False, mismatch_p=p)
    return _forward(seen, policy, rails, p)


def _forward(seen: Seen, policy: CanaryPolicy, rails: tuple[Guardrail, ...], p: float | None) -> Decision:
    def hold(why: str) -> Decision:
        return Decision(kind="hold", sentence=f"held: {why}", guardrails=rails, mismatch_p=p)

    n = seen.canary_step.requests
    least = policy.min_requests
    if seen.share == 0 and policy.shadow is not None:
        least = max(least, policy.shadow.requests)
    if n < least or seen.step_s < policy.min_seconds:
        return hold(
            f"{n} of {least} requests and {seen.step_s:,.0f} of {policy.min_seconds:,.0f} s at {percent(seen.share)}"
        )
    above = [rail for rail in rails if rail.above]
    if above:
        return hold(f"{above[0]}; evidence {_evidence(above[0].evidence)} < {_evidence(above[0].threshold)}")
    following = [share for share in sorted(policy.steps) if share > seen.share]
    open_ = [rail for rail in rails if not rail.cleared]
    if open_ and seen.share > 0 and (not following or following[0] >= 1.0):
        return hold("not yet shown to be no worse: " + "; ".join(map(_room, open_)))
    numbers = "; ".join(str(rail) for rail in rails if rail.n)
    if following:
        why = f"may step to {percent(following[0])}: {numbers}"
        return Decision(kind="step", sentence=why, guardrails=rails, mismatch_p=p, share=following[0])
    return Decision(kind="promote", sentence=f"may be promoted: {numbers}", guardrails=rails, mismatch_p=p)


def _room(rail: Guardrail) -> str:
    """How much worse a guardrail may still be."""
    if rail.high is None:
        return str(rail)
    if rail.form == "rate":
        return f"{rail}, at most {rail.high * 100:+.2g} pp of {rail.margin * 100:.2g} pp"
    return str(rail)


def _split(seen: Seen) -> tuple[float | None, Split]:
    """p that the sizes fit the share, and where they fit least. Each host is looked at for itself, since a session
    that meets two is in both, and the smallest p is multiplied by their number (Bonferroni)."""
    splits = seen.splits or (Split(host="", canary=seen.canary_step, stable=seen.stable_step),)
    known = [(mismatch(one.canary, one.stable, seen.share), one) for one in splits]
    found = [(p, one) for p, one in known if p is not None]
    if not found:
        return None, splits[0]
    least, where = min(found, key=lambda one: one[0])
    return min(1.0, least * len(found)), where


def mismatch(canary: Counts, stable: Counts, share: float) -> float | None:
    """p of a χ² test (1 degree of freedom) that the arms' sizes come from `share`; None under 5 expected in one."""
    a, b = _size(canary, stable), _size(stable, canary)
    if (a + b) * min(share, 1 - share) < 5:
        return None
    return srm_p(a, b, share)


def _size(arm: Counts, other: Counts) -> int:
    """Of an arm, without what was asked again: that was not assigned by share."""
    if arm.sessions is not None and other.sessions is not None:
        return arm.sessions
    return arm.requests - arm.fed


def _arms(split: Split) -> str:
    by_session = split.canary.sessions is not None and split.stable.sessions is not None
    unit = "sessions" if by_session else "requests"
    a, b = _size(split.canary, split.stable), _size(split.stable, split.canary)
    where = f" of {split.host}" if split.host else ""
    return f"{a:,} {unit} on the canary and {b:,} on the stable release{where}"


def _evidence(value: float) -> str:
    """`12.3`, `1,204`; a number that nobody reads digit by digit as a power of ten."""
    if value >= 1e6:
        return f"{value:.0e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _time(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h`, `7 d`."""
    for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size or (seconds >= size and seconds % size == 0):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
