"""T6: rate limits, retries, timeouts and fallbacks."""

from pilothouse.domain.facts import ProviderFacts
from pilothouse.domain.finding import STATUS_ORDER, Item, Limit, Status
from pilothouse.domain.policy import Policy
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Judged, Outcome, level, limit_of, no_data, sampled, worst
from pilothouse.stats.proportions import wilson

HEADROOM = Limit(warn=0.20, fail=0.05, worse="below")
AMPLIFICATION = Limit(warn=1.10, fail=1.30)
DEGRADED = Limit(warn=0.05)
BACKOFF_MAX_S = 20.0
PRACTISE = "practise with the provider switched off, in staging"


def rate_limited(evidence: Evidence, item: Item) -> Outcome:
    """T6.1: attempts answered 429, of the worst provider and its worst hour; what is left of the quota."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    providers = evidence.facts.runtime.providers
    judged = [(_rate_limited(use, limit_of(item)), use) for use in providers if use.attempts >= MIN_N]
    if not judged:
        n = sum(use.attempts for use in providers)
        return no_data(words.plural(n, "attempt"), n, f"n < {MIN_N}")
    (share, status), use = min(judged, key=lambda pair: (STATUS_ORDER[pair[0][1]], -pair[0][0].bound))
    left, headroom = _headroom(providers)
    hour = (
        f"worst hour {use.worst_hour_rate_limited} of {use.worst_hour_attempts}" if use.worst_hour_rate_limited else ""
    )
    value = f"{words.share(share.rate)} (≤ {words.share(share.bound)})"
    named = use.provider if len(providers) > 1 else ""
    detail = words.joined(named, hour, headroom, share.detail)
    return Outcome(worst(status, left), value, share.bound, use.attempts, detail)


def _headroom(providers: list[ProviderFacts]) -> tuple[Status, str]:
    """The least share of a quota that was left, where a provider reports it."""
    told = [use.headroom_min for use in providers if use.headroom_min is not None]
    if not told:
        return "PASS", "headroom not reported"
    return level(min(told), HEADROOM), f"least headroom {words.share(min(told))}"


def _rate_limited(use: ProviderFacts, limit: Limit) -> tuple[Judged, Status]:
    """The window by its upper bound; its worst hour, being picked for its height, only where that is certain."""
    share = sampled(use.rate_limited, use.attempts, limit)
    if use.worst_hour_attempts < MIN_N:
        return share, share.status
    surely, _ = wilson(use.worst_hour_rate_limited, use.worst_hour_attempts)
    return share, worst(share.status, level(surely, limit))


def retries(evidence: Evidence, item: Item) -> Outcome:
    """T6.2: retried requests that succeed without a fallback, and upstream calls per request."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    runtime = evidence.facts.runtime
    reached = runtime.reached_provider
    if reached < MIN_N:
        return no_data(words.plural(reached, "request"), reached, f"n < {MIN_N}")
    calls = runtime.attempts / reached
    status = level(calls, AMPLIFICATION)
    amplified = f"{calls:.2f} calls per request"
    if runtime.retried < MIN_N:
        few = (
            f"{runtime.retried_recovered} of {runtime.retried} retried succeeded" if runtime.retried else "none retried"
        )
        return Outcome(status, amplified, calls, reached, few)
    judged = sampled(runtime.retried_recovered, runtime.retried, limit_of(item))
    value = f"{words.share(judged.rate)} (≥ {words.share(judged.bound)})"
    return Outcome(worst(status, judged.status), value, judged.bound, runtime.retried, amplified)


def tries_s(policy: Policy) -> float:
    """The longest that the tries of one model can take until the last begins to answer, in seconds.

    Σ of first_token over the tries + the back-offs between them, which double, are jittered by at most a half,
    and stop growing at 20 s.
    """
    tries = max(1, policy.retry.attempts)
    waits: float = sum(min(policy.retry.backoff * 2.0**k, BACKOFF_MAX_S) * 1.5 for k in range(tries - 1))
    return max(policy.timeout.connect, policy.timeout.first_token) * tries + waits


def unset_timeouts(policy: Policy) -> list[str]:
    """Names of timeouts that do not limit anything."""
    return [name for name in ("connect", "first_token", "idle", "total") if getattr(policy.timeout, name) <= 0]


def timeouts(evidence: Evidence, item: Item) -> Outcome:
    """T6.3: every hop has a timeout, all tries fit in the total deadline, and attempts rarely time out."""
    policy = evidence.config.manifest.policy
    if unset := unset_timeouts(policy):
        return Outcome("FAIL", f"no timeout: {', '.join(unset)}", grade="C")
    one, total = tries_s(policy), policy.timeout.total
    models = 1 + sum(step.model is not None for step in policy.fallback)
    algebra = f"tries take {one * models:.4g} s at worst, the deadline is {total:.4g} s"
    if one * models > total:
        # Where one model's tries use up the deadline, no fallback is ever reached: that is not a matter of degree.
        status: Status = "FAIL" if one > total else "WARN"
        return Outcome(status, f"{one * models:.4g} s > {total:.4g} s", one * models, None, algebra, "C")
    n = evidence.facts.runtime.attempts if evidence.facts else 0
    if evidence.facts is None or n < MIN_N:
        return no_data(words.plural(n, "attempt") if n else "no traffic", n, algebra)
    judged = sampled(min(n, evidence.facts.runtime.timeouts), n, limit_of(item))
    detail = words.joined(algebra, judged.detail)
    return Outcome(
        judged.status, f"{words.share(judged.rate)} (≤ {words.share(judged.bound)})", judged.bound, n, detail
    )


def fallbacks(evidence: Evidence, item: Item) -> Outcome:
    """T6.4: requests that a fallback served, and what that cost in money and quality."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    runtime, n = evidence.facts.runtime, evidence.facts.requests
    if n < MIN_N:
        return no_data(words.plural(n, "request"), n, f"n < {MIN_N}")
    judged = sampled(min(n, runtime.fallbacks), n, limit_of(item))
    notes, worse = [judged.detail], False
    if runtime.fallback_cost_mean is not None and runtime.primary_cost_mean:
        notes.append(f"cost {words.change(runtime.fallback_cost_mean / runtime.primary_cost_mean - 1)}")
    if runtime.fallback_score_mean is not None and runtime.primary_score_mean is not None:
        loss = runtime.fallback_score_mean - runtime.primary_score_mean
        worse = loss < -0.05 and min(runtime.fallback_scores, runtime.primary_scores) >= MIN_N
        notes.append(f"quality {words.points(loss)}, n={min(runtime.fallback_scores, runtime.primary_scores)}")
    value = f"{words.share(judged.rate)} (≤ {words.share(judged.bound)})"
    status = worst(judged.status, "FAIL" if worse else "PASS")
    return Outcome(status, value, judged.bound, n, words.joined(*notes))


def degradation(evidence: Evidence, item: Item) -> Outcome:
    """T6.6: a declared way to degrade, exercised in a drill or by traffic, and not used too often."""
    steps = evidence.config.manifest.policy.fallback
    if not steps:
        return Outcome("FAIL", "none declared", grade="C")
    declared = ", ".join(str(step.model) if step.model else f"static answer ({step.outcome})" for step in steps)
    used = _degraded(evidence, declared)
    if used is not None:
        return used
    drill = evidence.drill("fallback")
    if drill is None:
        return no_data("never exercised", None, f"declared: {declared}", PRACTISE)
    age_ms = (evidence.now_us - drill.ts_us) / 1_000
    status = level(age_ms, limit_of(item)) if drill.ok else "FAIL"
    return Outcome(status, f"exercised {words.duration(age_ms)} ago", age_ms, None, declared, "D", drill.ts_us)


def _degraded(evidence: Evidence, declared: str) -> Outcome | None:
    """What traffic shows of the way to degrade; None where no request took it."""
    facts = evidence.facts
    if facts is None or facts.runtime.fallbacks + facts.runtime.degraded == 0:
        return None
    n, degraded = facts.requests, min(facts.requests, facts.runtime.degraded)
    status: Status = "PASS"
    if degraded and n >= MIN_N:
        status = sampled(degraded, n, DEGRADED).status
    value = f"{max(facts.runtime.fallbacks, facts.runtime.degraded):,} took it"
    return Outcome(status, value, degraded / n, n, declared, "M")


CHECKS: dict[str, Check] = {
    "T6.1": rate_limited,
    "T6.2": retries,
    "T6.3": timeouts,
    "T6.4": fallbacks,
    "T6.6": degradation,
}
