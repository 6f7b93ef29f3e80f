"""Layer 9: would somebody know, soon, and would it be the right person?"""

from pilothouse.review.catalogue.entry import ALERTS, EVALS, ROUTES, TRACES, Layer, above, below

_layer = Layer("9 Monitoring", "K")

ITEMS = (
    _layer.item(
        "T9.1l", "latency objective", "budget burns > 1×", "budget burns > 6×", "pin_model",
        limit=above(None, None, "ms"), evidence=TRACES,
        fix="open the slowest requests and shorten the slow stage: see the link",
    ),
    _layer.item(
        "T9.2l", "error objective", "budget burns > 1×", "budget burns > 6×", "rollback", cadence="K,W",
        limit=above(0.01, None), evidence=TRACES + "&outcome=failed",
        fix="open the failures by type: see the link; or `pilothouse rollback {route}`",
    ),
    _layer.item(
        "T9.3l", "quality of live answers", "−3 pp", "−6 pp", "rollback", limit=below(-0.03, -0.06, "change"),
        evidence=EVALS, fix="score sampled answers: `POST /v1/feedback`",
    ),
    _layer.item(
        "T9.4l", "fallback trend", "> 2× and > 2 %", "> 5× and > 5 %", "notify",
        limit=above(2.0, 5.0, "ratio"), evidence=TRACES + "&outcome=fallback",
        fix="find why the primary model fails: see the link; or `pilothouse rollback {route}`",
    ),
    _layer.item(
        "T9.5", "unusual traffic", "z > 4", "z > 8, or a key > 50 %", "notify", evidence=ROUTES,
        limit=above(4.0, 8.0, "ratio"), fix="look at the keys behind the traffic: see the link",
    ),
    _layer.item(
        "T9.6l", "spend forecast", "forecast > 100 %", "actual > 100 %", "pin_model", evidence=ROUTES,
        limit=above(1.0, 1.0, "ratio"), fix="set a budget for the route in its `policy`",
    ),
    _layer.item(
        "T9.7l", "alert rules in order", "runbook missing, or late",
        "unowned, silent > 2 min", "refuse the rule", cadence="K,M",
        limit=above(None, 120_000.0, "ms"), evidence=ALERTS,
        fix="give the rule `owner:`, `actions:` and `runbook:` in pilothouse.yaml, then restart `pilothouse up`",
    ),
)  # fmt: skip
