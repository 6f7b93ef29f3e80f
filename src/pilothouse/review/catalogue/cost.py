"""Layer 7: what does it cost, who spends it, and is it worth it?"""

from pilothouse.review.catalogue.entry import ROUTES, TRACES, Layer, above, below

_layer = Layer("7 Cost", "K,M")

ITEMS = (
    _layer.item(
        "T7.1l", "cost per request", "+25 %", "+60 %, or over budget", "pin_model",
        limit=above(0.25, 0.60, "change"), evidence=TRACES,
        fix="compare the two releases part by part: `pilothouse release diff {route}`",
    ),
    _layer.item(
        "T7.2", "growth of tokens", "> 10 % a week", "> 25 % a week", "notify", cadence="W",
        limit=above(0.10, 0.25, "change"), evidence=ROUTES,
        fix="find the part of the prompt that grew: `pilothouse release diff {route}`",
    ),
    _layer.item(
        "T7.3l", "spread of spend", "p99/p50 > 20", "unowned > 2 %", "notify",
        limit=above(20.0, None, "ratio"), evidence=TRACES,
        fix="give every spending caller a key of its own: `pilothouse keys create --name NAME --env {env}`",
    ),
    _layer.item(
        "T7.4", "use of the context window", "p95 > 70 %, twice > 10 %", "p95 > 90 %, twice > 25 %",
        "trim history", evidence=TRACES, cadence="W", limit=above(0.70, 0.90),
        fix="trim history and duplicate documents: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T7.5", "cache hits", "−10 pp against 4 weeks", "false hits > 1 %", "bypass the cache",
        limit=below(-0.10, None, "change"),
        evidence=TRACES, fix="keep the constant part of the prompt first: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T7.6", "spend by segment", "known < 98 %", "known < 90 %, margin < 0", "limit the tier", cadence="M",
        limit=below(0.98, 0.90), evidence=TRACES, fix="send `metadata: {{segment: …}}` with every request",
    ),
    _layer.item(
        "T7.7l", "cost per success", "+15 %", "+40 %, or dearer and worse",
        "rollback", limit=above(0.15, 0.40, "change"), evidence=TRACES,
        fix="go back to the cheaper release, or show it is worth it: `pilothouse release diff {route}`",
    ),
)  # fmt: skip
