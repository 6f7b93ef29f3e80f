"""T7.1, T7.3, T7.6, T7.7: what a request costs, who spends it, what a good answer costs."""

from pilothouse.domain.facts import CostFacts, SegmentUse, TraceFacts
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, level, limit_of, no_data, worst

UNOWNED = Limit(fail=0.02)
DOMINANT = Limit(warn=0.40)  # of all spend, by one route
P95_N = 200  # values that a 95th percentile takes: ten are beyond it
MEAN = "mean of a request"
ELASTICITY_DAYS = 28
ROUTES_FOR_SHARE = 4  # with fewer, some route has more than a third anyhow


def _priced(evidence: Evidence) -> CostFacts | Outcome:
    """The money, or why there is none to judge."""
    if evidence.facts is None:
        return no_data("no traffic", 0)
    cost = evidence.facts.cost
    if cost.priced == 0 and cost.unpriced:
        return no_data("no price known", 0, "set `prices:` for the model in pilothouse.yaml")
    if cost.priced < MIN_N:
        return no_data(words.plural(cost.priced, "priced request"), cost.priced, f"n < {MIN_N}")
    return cost


def per_request(evidence: Evidence, item: Item) -> Outcome:
    """T7.1: mean and p95 cost of a request and of a trace, against what is usual and against budgets.

    Usual for the mean of a request: the same hours of the week in the 4 weeks before, their median. For the others:
    the time before the window that is as long as it. The worst change decides. A 95th percentile takes P95_N values.
    """
    cost = _priced(evidence)
    if isinstance(cost, Outcome):
        return cost
    if cost.mean is None or evidence.facts is None:
        return no_data("no price known", cost.priced)
    unpriced = f"{words.plural(cost.unpriced, 'request')} without a price" if cost.unpriced else ""
    figures = words.joined(_figures(cost, evidence.facts.traces), unpriced)
    if over := _over_budget(evidence, cost):
        return Outcome("FAIL", over, None, cost.priced, figures)
    changes = _changes(cost, evidence.facts.traces)
    if not changes:
        return no_data("no baseline yet", cost.priced, figures)
    what, change = max(changes.items(), key=lambda pair: pair[1])
    named = "" if what == MEAN else f"of the {what}"
    return Outcome(
        level(change, limit_of(item)), words.change(change), change, cost.priced, words.joined(named, figures)
    )


def _figures(cost: CostFacts, traces: TraceFacts) -> str:
    request = f"mean {words.usd(cost.mean or 0.0)}" + (f", p95 {words.usd(cost.p95)}" if cost.p95 is not None else "")
    if traces.workflow_cost_mean is None or not traces.steps_mean or traces.steps_mean <= 1.0:
        return request  # a trace is its one request
    p95 = f", p95 {words.usd(traces.workflow_cost_p95)}" if traces.workflow_cost_p95 is not None else ""
    return f"{request}; a trace {words.usd(traces.workflow_cost_mean)}{p95}"


def _changes(cost: CostFacts, traces: TraceFacts) -> dict[str, float]:
    """What is compared → its relative change, where both sides have enough values."""
    traced = min(traces.workflows_priced, traces.workflows_priced_before)
    compared = (
        (MEAN, cost.mean, cost.baseline_mean, min(cost.priced, cost.baseline_requests), MIN_N),
        ("p95 of a request", cost.p95, cost.p95_before, min(cost.priced, cost.priced_before), P95_N),
        ("mean of a trace", traces.workflow_cost_mean, traces.workflow_cost_mean_before, traced, MIN_N),
        ("p95 of a trace", traces.workflow_cost_p95, traces.workflow_cost_p95_before, traced, P95_N),
    )
    return {
        what: now / before - 1.0
        for what, now, before, n, least in compared
        if now is not None and before and n >= least
    }


def _over_budget(evidence: Evidence, cost: CostFacts) -> str:
    """The budget of the route that is not kept, and how; empty where all are. Budgets of callers are theirs."""
    if evidence.facts is None:
        return ""
    policy, traces = evidence.config.manifest.policy, evidence.facts.traces
    if policy.caps.cost is not None and cost.p95 is not None and cost.p95 > policy.caps.cost:
        return f"p95 {words.usd(cost.p95)} > cap"
    for limit in policy.limits:
        if not set(limit.by) <= {"route", "env", "app"}:
            continue
        p95s = {"request": cost.p95, "trace": traces.workflow_cost_p95}
        for spend in limit.spend:
            p95 = p95s.get(spend.per)
            if p95 is not None and p95 > spend.usd:
                return f"p95 {words.usd(p95)} > {limit.name}"
        hits = evidence.facts.queue.hits
        reached = hits.get(f"{limit.name}:spend", 0) + hits.get(f"{limit.name}:spend:shadow", 0)
        if reached:
            return f"{limit.name} reached {reached:,}×"
    return ""


def spread(evidence: Evidence, item: Item) -> Outcome:
    """T7.3: how far the dearest requests are from the usual one, and what nobody answers for."""
    cost = _priced(evidence)
    if isinstance(cost, Outcome):
        return cost
    unowned = cost.unowned / cost.spend if cost.spend > 0 else 0.0
    owned = level(unowned, UNOWNED)
    dominant, share = _dominant(evidence, cost)
    without = f"{words.share(unowned)} without a key" if unowned else ""
    detail = words.joined(f"{words.usd(cost.spend)} spent", _top(evidence, cost), without, share)
    if cost.p99 is None or not cost.p50:
        if owned == "PASS":
            return no_data("no percentiles", cost.priced, detail)
        return Outcome(owned, f"{words.share(unowned)} unowned", unowned, cost.priced, detail)
    ratio = cost.p99 / cost.p50
    status = worst(level(ratio, limit_of(item)), owned, dominant)
    return Outcome(status, f"p99 is {ratio:.1f}× p50", ratio, cost.priced, detail)


def _top(evidence: Evidence, cost: CostFacts) -> str:
    """The key that spends most, where there are several."""
    if len(cost.top_keys) < 2 or cost.spend <= 0:
        return ""
    first = cost.top_keys[0]
    keys = evidence.security.keys or [] if evidence.security else []
    name = next((key.name for key in keys if key.id == first.id), first.id)
    return f"{words.share(first.cost / cost.spend)} by key {name}"


def _dominant(evidence: Evidence, cost: CostFacts) -> tuple[Status, str]:
    """WARN where this route alone spends most, with its share."""
    if not evidence.total_spend or evidence.spending_routes < ROUTES_FOR_SHARE:
        return "PASS", ""
    share = cost.spend / evidence.total_spend
    return level(share, DOMINANT), f"{words.share(share)} of all routes"


def by_segment(evidence: Evidence, item: Item) -> Outcome:
    """T7.6: spend of requests that name their segment ÷ spend; the dearest segments; revenue − cost where it is known.

    Every request has a tier: its route's. Revenue is what scores named `revenue` say of the requests they are on.
    """
    cost = _priced(evidence)
    if isinstance(cost, Outcome):
        return cost
    if cost.spend <= 0:
        return no_data("nothing spent", cost.priced)
    known = min(1.0, cost.segmented / cost.spend)
    losing = [use for use in cost.segments if use.revenue is not None and use.revenue < use.revenue_cost]
    named = [_segment(use) for use in cost.segments if use.segment]
    detail = words.joined(words.listed("at a loss", [_margin(use) for use in losing]), words.listed("dearest", named))
    status = worst(level(known, limit_of(item)), "FAIL" if losing else "PASS")
    return Outcome(status, f"{words.share(known)} of spend known", known, cost.priced, detail)


def _segment(use: SegmentUse) -> str:
    each = f" ({words.usd(use.cost / use.requests)} each)" if use.requests else ""
    brought = f", {words.usd(use.revenue)} revenue" if use.revenue is not None else ""
    return f"{use.segment} {words.usd(use.cost)}{each}{brought}"


def _margin(use: SegmentUse) -> str:
    return f"{use.segment or 'no segment'} by {words.usd(use.revenue_cost - (use.revenue or 0.0))}"


def per_success(evidence: Evidence, item: Item) -> Outcome:
    """T7.7: spend for each successful answer, against the 28 days before; dearer and worse at once fails.

    Where at least 30 successes were scored on both sides, only the good share of them counts as success. Elasticity:
    the relative change of spend ÷ that of successes, between the halves of the last 28 days.
    """
    cost = _priced(evidence)
    if isinstance(cost, Outcome):
        return cost
    if cost.per_success is None or evidence.facts is None:
        return no_data("no success", cost.priced)
    good, good_before = _good(cost)
    if not good:
        return Outcome("FAIL", "no success judged good", None, cost.judged)
    each = cost.per_success / good
    judged = f"{words.share(good)} of {cost.judged:,} judged good" if cost.judged >= MIN_N else ""
    figure = words.joined(f"{words.usd(each)} a success", judged)
    if not cost.baseline_per_success or not good_before:
        return no_data("no baseline yet", cost.priced, figure)
    change = each * good_before / cost.baseline_per_success - 1.0
    status = level(change, limit_of(item))
    fell = _success_fell(evidence)
    if status == "WARN" and fell:
        status = "FAIL"
    detail = words.joined(figure, "fewer of them" if fell else "", _elasticity(evidence))
    return Outcome(status, words.change(change), change, cost.priced, detail)


def _good(cost: CostFacts) -> tuple[float, float]:
    """Shares of successes that were judged good, now and before; 1 and 1 where too few were judged."""
    if min(cost.judged, cost.judged_before) < MIN_N:
        return 1.0, 1.0
    return cost.judged_good / cost.judged, cost.judged_good_before / cost.judged_before


def _elasticity(evidence: Evidence) -> str:
    """In words; empty where a half is missing, or successes hardly changed."""
    if evidence.facts is None:
        return ""
    until = evidence.facts.until_us
    halves = [[0.0, 0.0], [0.0, 0.0]]
    for day in evidence.facts.days:
        age_days = (until - day.start_us) / 86_400_000_000
        if age_days <= ELASTICITY_DAYS:
            half = halves[age_days <= ELASTICITY_DAYS / 2]
            half[0] += day.cost
            half[1] += day.success
    (cost_before, success_before), (cost_now, success_now) = halves
    if cost_before <= 0 or success_before < MIN_N or success_now < MIN_N:
        return ""
    grown = success_now / success_before - 1.0
    return f"elasticity {(cost_now / cost_before - 1.0) / grown:.1f}" if abs(grown) >= 0.01 else ""


def _success_fell(evidence: Evidence) -> bool:
    """The share of successes is lower than in the days before the window."""
    if evidence.facts is None:
        return False
    before = [day for day in evidence.facts.days if day.start_us < evidence.facts.since_us]
    n = sum(day.requests for day in before)
    if n < MIN_N:
        return False
    return evidence.facts.outcomes.get("success", 0) / evidence.facts.requests < sum(d.success for d in before) / n


CHECKS: dict[str, Check] = {"T7.1": per_request, "T7.3": spread, "T7.6": by_segment, "T7.7": per_success}
