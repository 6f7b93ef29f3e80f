"""T6.1, T6.2, T6.4: rate limits, retries and fallbacks."""

from pilothouse.domain.facts import ProviderFacts
from pilothouse.domain.finding import STATUS_ORDER, Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Judged, Outcome, level, limit_of, no_data, sampled, worst
from pilothouse.stats.proportions import wilson

HEADROOM = Limit(warn=0.20, fail=0.05, worse="below")
AMPLIFICATION = Limit(warn=1.10, fail=1.30)
EXTRA = {"retry": "retries", "fallback": "fallbacks", "hedge": "hedges", "reask": "re-asks", "continue": "continued"}


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
    value = share.at_most
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
    """T6.2: retried requests that succeed without a fallback, and upstream calls of every kind per request."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    runtime = evidence.facts.runtime
    reached = runtime.reached_provider
    if reached < MIN_N:
        return no_data(words.plural(reached, "request"), reached, f"n < {MIN_N}")
    calls = runtime.attempts / reached
    status = level(calls, AMPLIFICATION)
    amplified = f"{calls:.2f} calls per request"
    extra = ", ".join(f"{runtime.kinds[kind]:,} {name}" for kind, name in EXTRA.items() if runtime.kinds.get(kind))
    if runtime.retried < MIN_N:
        few = (
            f"{runtime.retried_recovered} of {runtime.retried} retried succeeded" if runtime.retried else "none retried"
        )
        return Outcome(status, amplified, calls, reached, words.joined(few, extra))
    judged = sampled(runtime.retried_recovered, runtime.retried, limit_of(item))
    value = f"{words.share(judged.rate)} (≥ {words.share(judged.bound)})"
    detail = words.joined(amplified, extra)
    return Outcome(worst(status, judged.status), value, judged.bound, runtime.retried, detail)


def fallbacks(evidence: Evidence, item: Item) -> Outcome:
    """T6.4: requests that a fallback served, and what that cost in money and quality."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    runtime, n = evidence.facts.runtime, evidence.facts.requests
    if n < MIN_N:
        return no_data(words.plural(n, "request"), n, f"n < {MIN_N}")
    judged = sampled(min(n, runtime.fallbacks), n, limit_of(item))
    served = ", ".join(f"{use.requests:,} {way}" for way, use in runtime.ways.items() if use.requests)
    notes, worse = [served, judged.detail], False
    if runtime.fallback_cost_mean is not None and runtime.primary_cost_mean:
        notes.append(f"cost {words.change(runtime.fallback_cost_mean / runtime.primary_cost_mean - 1)}")
    if runtime.fallback_score_mean is not None and runtime.primary_score_mean is not None:
        loss = runtime.fallback_score_mean - runtime.primary_score_mean
        worse = loss < -0.05 and min(runtime.fallback_scores, runtime.primary_scores) >= MIN_N
        notes.append(f"quality {words.points(loss)}, n={min(runtime.fallback_scores, runtime.primary_scores)}")
    value = judged.at_most
    status = worst(judged.status, "FAIL" if worse else "PASS")
    return Outcome(status, value, judged.bound, n, words.joined(*notes))


CHECKS: dict[str, Check] = {
    "T6.1": rate_limited,
    "T6.2": retries,
    "T6.4": fallbacks,
}
