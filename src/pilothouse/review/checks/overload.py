"""T6.5, T6.6: what waits and what is refused under load, and the ways to give less than everything."""

from pilothouse.domain.facts import QueueFacts
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.domain.policy import Fallback
from pilothouse.domain.release_facts import Drill
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, level, limit_of, no_data, not_applicable, sampled, worst

UTILISATION = Limit(warn=0.80)
HOUR_S = 3600.0
DEGRADED = Limit(warn=0.05)
PRACTISE = "`pilothouse drill fallback {route}`"


def queue(evidence: Evidence, item: Item) -> Outcome:
    """T6.5: the 95th percentile of waits for a limit, depth, ρ = arrivals ÷ service, and what was never answered.

    ρ is of the route's own limits in its busiest hour: requests in work ÷ `concurrency`, or arrivals ÷ `requests`.
    Dead letters are requests that were taken over with a 202 and then failed.
    """
    facts = evidence.facts
    if facts is None:
        return no_data("no traffic", 0)
    policy, use = evidence.config.manifest.policy, facts.queue
    if not (policy.limits or policy.queue.max_wait > 0 or use.hits or use.waited or use.delayed):
        return not_applicable("no limit")
    if facts.requests < MIN_N:
        return no_data(words.plural(facts.requests, "request"), facts.requests, f"n < {MIN_N}")
    wait = use.wait_ms_p95 or 0.0
    rho, named = utilisation(evidence, use)
    dead: Status = "FAIL" if use.delayed_failed else "PASS"
    status = worst(level(wait, limit_of(item)), "PASS" if rho is None else level(rho, UTILISATION), dead)
    value = f"p95 wait {words.duration(wait)}" if use.waited else "nothing waited"
    dead_letters = f"{use.delayed_failed:,} of {use.delayed:,} delayed never answered" if use.delayed else ""
    notes = (
        dead_letters,
        f"ρ {rho:.2f} of {named}" if rho is not None else "",
        f"depth {use.depth_mean:.2g}, {use.depth_peak:,} at most" if use.waited else "",
        f"{use.waited_in_vain:,} of {use.waited:,} waited in vain" if use.waited_in_vain else "",
        f"{use.refused:,} refused{_by(use)}" if use.refused else "",
    )
    return Outcome(status, value, wait, facts.requests, words.joined(*notes))


def _by(use: QueueFacts) -> str:
    held = [f"{hit} {n:,}" for hit, n in use.hits.items() if not hit.endswith(":shadow")]
    return f" ({', '.join(held[:3])})" if held else ""


def utilisation(evidence: Evidence, use: QueueFacts) -> tuple[float | None, str]:
    """The highest ρ of the limits that count all of the route's requests in one counter, and that limit's name."""
    found: list[tuple[float, str]] = []
    for limit in evidence.config.manifest.policy.limits:
        if limit.shadow or limit.where or not set(limit.by) <= {"route", "env", "app"}:
            continue
        if limit.concurrency and use.busy_peak is not None:
            found.append((use.busy_peak / limit.concurrency, limit.name))
        if limit.requests is not None and limit.requests.per_s <= HOUR_S:
            found.append((use.arrivals_peak * limit.requests.per_s / limit.requests.amount / HOUR_S, limit.name))
    return max(found, default=(None, ""))


def degradation(evidence: Evidence, item: Item) -> Outcome:
    """T6.6: declared ways to degrade, each exercised by traffic or a drill within 90 days, and not used too often."""
    steps = evidence.config.manifest.policy.fallback
    return _exercised(evidence, item, steps) if steps else Outcome("FAIL", "none declared", grade="C")


def _exercised(evidence: Evidence, item: Item, steps: tuple[Fallback, ...]) -> Outcome:
    served = evidence.facts.runtime.ways if evidence.facts else {}
    ways = list(dict.fromkeys(step.way for step in steps))
    drills = {way: drill for way in ways if (drill := _newest(evidence, way)) is not None}
    traffic = {way: served[way].last_us for way in ways if way in served}
    declared = ", ".join(_said(step) for step in steps)
    share, spent = _degraded(evidence)
    if failed := [way for way, drill in drills.items() if not drill.ok and drill.ts_us > traffic.get(way, 0)]:
        return Outcome("FAIL", f"{failed[0]} failed its drill", None, None, declared, "D")
    last = traffic | {way: max(drill.ts_us, traffic.get(way, 0)) for way, drill in drills.items()}
    never = [way for way in ways if way not in last]
    if len(never) == len(ways):
        return no_data(
            "never exercised", None, words.joined(f"declared: {declared}", spent), PRACTISE.format(route=evidence.route)
        )
    oldest = min(last.values())
    age_ms = (evidence.now_us - oldest) / 1_000
    status = worst(level(age_ms, limit_of(item)), "WARN" if never else "PASS", share)
    value = f"{len(ways) - len(never)} of {words.plural(len(ways), 'way')} exercised"
    notes = (words.listed("never", never), f"oldest {words.duration(age_ms)} ago", spent, declared)
    n = evidence.facts.requests if evidence.facts else None
    by_traffic = traffic == last
    return Outcome(status, value, age_ms, n, words.joined(*notes), "M" if by_traffic else "D", oldest)


def _said(step: Fallback) -> str:
    return str(step.model) if step.model is not None else f"{step.way} ({step.outcome})"


def _newest(evidence: Evidence, way: str) -> Drill | None:
    """The newest drill of this way, in any environment; one that names no way is of all."""
    of_way = [d for d in evidence.drills if d.kind == "fallback" and d.detail.get("way") in (None, way)]
    return max(of_way, key=lambda drill: drill.ts_us, default=None)


def _degraded(evidence: Evidence) -> tuple[Status, str]:
    """Requests with outcome degraded or escalated, as a share of all; PASS where that is not known."""
    facts = evidence.facts
    if facts is None or facts.requests < MIN_N or not facts.runtime.degraded:
        return "PASS", ""
    judged = sampled(min(facts.requests, facts.runtime.degraded), facts.requests, DEGRADED)
    return judged.status, f"{words.share(judged.rate)} degraded (≤ {words.share(judged.bound)})"


CHECKS: dict[str, Check] = {"T6.5": queue, "T6.6": degradation}
