"""Money, caches and context windows of a route, from the store's answers to the review's facts."""

from pilothouse.domain.facts import CacheFacts, ContextUse, CostFacts, SegmentUse, Spender
from pilothouse.telemetry.answers import Answers, Row


def cost(of: Answers, totals: Row) -> CostFacts:
    """What was spent, by whom, and what it brought."""
    baseline, before, judged = of.one("COST_BASELINE"), of.one("COST_BEFORE"), of.one("JUDGED")
    p50, p95, p99 = totals["cost_quantiles"] or (None, None, None)
    return CostFacts(
        priced=totals["priced"],
        unpriced=totals["unpriced"],
        spend=totals["spend"],
        mean=totals["cost_mean"],
        p50=p50,
        p95=p95,
        p99=p99,
        baseline_mean=baseline.get("mean"),
        baseline_requests=baseline.get("requests", 0),
        per_success=totals["spend"] / totals["priced_success"] if totals["priced_success"] else None,
        baseline_per_success=baseline.get("per_success"),
        unowned=totals["unowned"],
        top_keys=[Spender(id=row["key_id"], requests=row["n"], cost=row["cost"]) for row in of.all("KEYS")],
        p95_before=before.get("p95"),
        priced_before=before.get("priced", 0),
        segmented=totals["segmented"],
        segments=_segments(of),
        judged=judged.get("judged", 0),
        judged_good=judged.get("good", 0),
        judged_before=judged.get("judged_before", 0),
        judged_good_before=judged.get("good_before", 0),
    )


def _segments(of: Answers) -> list[SegmentUse]:
    brought = {row["segment"]: row for row in of.all("REVENUE")}
    found = []
    for row in of.all("SEGMENTS"):
        revenue = brought.get(row["segment"] or "", {})
        found.append(
            SegmentUse(
                segment=row["segment"] or "",
                requests=row["n"],
                cost=row["cost"],
                success=row["success"],
                revenue=revenue.get("revenue"),
                revenue_cost=revenue.get("cost", 0.0),
            )
        )
    return found


def cache(of: Answers, totals: Row) -> CacheFacts:
    """What the gateway's cache and the providers' saved."""
    before, semantic = of.one("CACHE_BEFORE"), of.one("SEMANTIC")
    return CacheFacts(
        asked=totals["cache_asked"],
        hits=totals["cache_hits"],
        semantic=totals["cache_semantic"],
        saved=totals["saved"],
        asked_before=before.get("asked", 0),
        hits_before=before.get("hits", 0),
        input_tokens=totals["input_tokens"],
        cached_tokens=totals["cached_tokens"],
        input_tokens_before=before.get("input_tokens", 0),
        cached_tokens_before=before.get("cached_tokens", 0),
        semantic_judged=semantic.get("judged", 0),
        semantic_false=semantic.get("wrong", 0),
    )


def contexts(of: Answers) -> list[ContextUse]:
    """How much of their windows the models were given."""
    return [
        ContextUse(provider=row["provider"], model=row["model"], n=row["n"], mean=row["mean"], p95=row["p95"])
        for row in of.all("CONTEXTS")
    ]
