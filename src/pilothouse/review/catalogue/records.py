"""Layer 2, logging: what does every request leave behind?"""

from pilothouse.review.catalogue.entry import TRACES, Layer, above, below

_layer = Layer("2 Logging", "K,W")

ITEMS = (
    _layer.item(
        "T2.1l", "ids on requests and spans", "< 99.9 %, orphans > 0.5 %", "< 99 %, orphans > 2 %",
        "gateway makes the ids", limit=below(0.999, 0.99), evidence=TRACES, cadence="K",
        fix="pass `traceparent` on every call and export every span: `pilothouse up --otlp-port 4318`",
    ),
    _layer.item(
        "T2.2l", "time accounted for", "< 95 %", "< 85 %", "notify", limit=below(0.95, 0.85),
        evidence=TRACES, fix="trace retrieval and tools with OpenTelemetry to `pilothouse up`'s port 4318",
    ),
    _layer.item(
        "T2.3", "provider's token counts", "< 98 %", "< 90 %", "flag cost as estimated",
        limit=below(0.98, 0.90), evidence=TRACES, cadence="K,M",
        fix="use a provider that reports `usage` (streams: `stream_options.include_usage`); "
        "`pilothouse release create {route}`",
    ),
    _layer.item(
        "T2.4", "failures with an error type", "< 99 %", "< 95 %", "notify", limit=below(0.99, 0.95),
        evidence=TRACES + "&outcome=failed", fix="open the untyped failures and report their codes: see the link",
    ),
    _layer.item(
        "T2.5l", "records redacted", "leak > 0.5 %", "leak > 2 % or a secret",
        "metadata-only logging", limit=above(0.005, 0.02), evidence=TRACES,
        fix="set `policy.log.mode: metadata` for the route, then `pilothouse release create {route}`",
    ),
    _layer.item(
        "T2.6l", "requests with an outcome", "< 99.5 %", "< 98 %", "notify", limit=below(0.995, 0.98),
        evidence=TRACES, cadence="K", fix="upgrade every edge worker: `pilothouse up`",
    ),
    _layer.item(
        "T2.7", "traces survive an export", "any loss", "job missed twice", "keep the local copy",
        evidence=TRACES, cadence="W,Q", fix="`pilothouse drill export {route}`",
    ),
)  # fmt: skip
