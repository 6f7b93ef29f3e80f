"""Layer 6: what happens when a provider is slow, full or down?"""

from pilothouse.review.catalogue.entry import DAY, REVIEW, SECOND, TRACES, Layer, above, below

_layer = Layer("6 Runtime", "K,W")

ITEMS = (
    _layer.item(
        "T6.1l", "rate limits hit", "> 1 %, headroom < 20 %", "> 5 %, headroom < 5 %", "pin_model",
        limit=above(0.01, 0.05), evidence=TRACES + "&error_type=rate_limit", cadence="K",
        fix="ask for a higher quota or add a fallback on another provider: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T6.2l", "retries that succeed", "< 70 %, calls > 1.10", "< 40 %, calls > 1.30",
        "open the breaker", limit=below(0.70, 0.40), evidence=TRACES,
        fix="retry only what passes (`policy.retry.on`): `pilothouse release create {route}`",
    ),
    _layer.item(
        "T6.3l", "timeouts", "> 1 %, or too long", "> 5 %, or unset", "pin_model",
        limit=above(0.01, 0.05), evidence=TRACES + "&error_type=timeout", cadence="K,R,W",
        fix="make timeouts × tries fit in `policy.timeout.total`: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T6.4l", "fallbacks served", "> 2 %", "> 10 %", "notify", limit=above(0.02, 0.10),
        evidence=TRACES + "&outcome=fallback", cadence="K",
        fix="find why the primary model fails: see the link; or `pilothouse rollback {route}`",
    ),
    _layer.item(
        "T6.5", "queue depth and age", "age > 60 s, or ρ > 0.8", "age > 300 s, or lost", "delay batch work",
        evidence=TRACES, cadence="K",
        limit=above(60 * SECOND, 300 * SECOND, "ms"),
        fix="raise the limit, or lower `policy.queue.max_wait`: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T6.6l", "a way to degrade", "a way > 90 d ago, or > 5 %", "none declared", "static answer",
        limit=above(90 * DAY, None, "ms"), evidence=REVIEW, cadence="K,Q",
        fix="add `static:` or a second model to `policy.fallback`: `pilothouse release create {route}`",
    ),
)  # fmt: skip
