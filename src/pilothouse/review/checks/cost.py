"""T7: what a request costs, who spends it, what a good answer costs."""

from pilothouse.domain.facts import CostFacts
from pilothouse.domain.finding import Item, Limit, Status
from pilothouse.review import words
from pilothouse.review.evidence import Evidence
from pilothouse.review.result import MIN_N, Check, Outcome, level, limit_of, no_data, worst

UNOWNED = Limit(fail=0.02)
DOMINANT = Limit(warn=0.40)  # of all spend, by one route
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
    """T7.1: mean cost of a request against the same hours of the week in the 4 weeks before."""
    cost = _priced(evidence)
    if isinstance(cost, Outcome):
        return cost
    if cost.mean is None:
        return no_data("no price known", cost.priced)
    figures = f"mean {words.usd(cost.mean)}" + (f", p95 {words.usd(cost.p95)}" if cost.p95 is not None else "")
    unpriced = f"{words.plural(cost.unpriced, 'request')} without a price" if cost.unpriced else ""
    if not cost.baseline_mean or cost.baseline_requests < MIN_N:
        return no_data("no baseline yet", cost.priced, words.joined(figures, unpriced))
    change = cost.mean / cost.baseline_mean - 1.0
    detail = words.joined(figures, unpriced)
    return Outcome(level(change, limit_of(item)), words.change(change), change, cost.priced, detail)


def spread(evidence: Evidence, item: Item) -> Outcome:
    """T7.3: how far the dearest requests are from the usual one, and what nobody answers for."""
    cost = _priced(evidence)
    if isinstance(cost, Outcome):
        return cost
    unowned = cost.unowned / cost.spend if cost.spend > 0 else 0.0
    owned = level(unowned, UNOWNED)
    dominant, share = _dominant(evidence, cost)
    without = f"{words.share(unowned)} without a key" if unowned else ""
    detail = words.joined(f"{words.usd(cost.spend)} spent", without, share)
    if cost.p99 is None or not cost.p50:
        if owned == "PASS":
            return no_data("no percentiles", cost.priced, detail)
        return Outcome(owned, f"{words.share(unowned)} unowned", unowned, cost.priced, detail)
    ratio = cost.p99 / cost.p50
    status = worst(level(ratio, limit_of(item)), owned, dominant)
    return Outcome(status, f"p99 is {ratio:.1f}× p50", ratio, cost.priced, detail)


def _dominant(evidence: Evidence, cost: CostFacts) -> tuple[Status, str]:
    """WARN where this route alone spends most, with its share."""
    if not evidence.total_spend or evidence.spending_routes < ROUTES_FOR_SHARE:
        return "PASS", ""
    share = cost.spend / evidence.total_spend
    return level(share, DOMINANT), f"{words.share(share)} of all routes"


def per_success(evidence: Evidence, item: Item) -> Outcome:
    """T7.7: spend for each successful answer, against the 28 days before; dearer and worse at once fails."""
    cost = _priced(evidence)
    if isinstance(cost, Outcome):
        return cost
    if cost.per_success is None or evidence.facts is None:
        return no_data("no success", cost.priced)
    figure = f"{words.usd(cost.per_success)} a success"
    if not cost.baseline_per_success:
        return no_data("no baseline yet", cost.priced, figure)
    change = cost.per_success / cost.baseline_per_success - 1.0
    status = level(change, limit_of(item))
    fell = _success_fell(evidence)
    if status == "WARN" and fell:
        status = "FAIL"
    detail = f"{figure}; fewer of them" if fell else figure
    return Outcome(status, words.change(change), change, cost.priced, detail)


def _success_fell(evidence: Evidence) -> bool:
    """The share of successes is lower than in the days before the window."""
    if evidence.facts is None:
        return False
    before = [day for day in evidence.facts.days if day.start_us < evidence.facts.since_us]
    n = sum(day.requests for day in before)
    if n < MIN_N:
        return False
    return evidence.facts.outcomes.get("success", 0) / evidence.facts.requests < sum(d.success for d in before) / n


CHECKS: dict[str, Check] = {"T7.1": per_request, "T7.3": spread, "T7.7": per_success}
