"""Layer 4, structured output: does it meet its schema, and what happens when it does not?"""

from pilothouse.review.catalogue.entry import TRACES, Layer, above, below

_layer = Layer("4 Structured output", "K,W")
_INVALID = TRACES

ITEMS = (
    _layer.item(
        "T4.1l", "schema met at first attempt", "< 98 %", "< 95 %", "rollback", limit=below(0.98, 0.95),
        evidence=_INVALID, fix="use the provider's strict mode or go back: `pilothouse rollback {route}`",
    ),
    _layer.item(
        "T4.2l", "outputs repaired or retried", "> 3 %, invalid > 0.5 %", "> 8 %, invalid > 2 %", "rollback",
        limit=above(0.03, 0.08), evidence=_INVALID,
        fix="find what the model gets wrong and release a better prompt: "
        "`pilothouse release create {route}`, then `pilothouse eval run {route}`",
    ),
    _layer.item(
        "T4.3", "required fields missing", "> 0.5 % of a field", "> 2 % of a field", "rollback",
        limit=above(0.005, 0.02), evidence=_INVALID,
        fix="make the field nullable or ask for it in the prompt: "
        "`pilothouse release create {route}`, then `pilothouse eval run {route}`",
    ),
    _layer.item(
        "T4.4", "wrong types and enum values", "> 0.5 %, or new value", "> 2 %", "rollback",
        limit=above(0.005, 0.02), evidence=_INVALID,
        fix="widen the enum or name its values in the prompt: "
        "`pilothouse release create {route}`, then `pilothouse eval run {route}`",
    ),
    _layer.item(
        "T4.5l", "invalid output handled", "test > 30 d", "undeclared, or delivered", "typed error",
        evidence=_INVALID, cadence="K,R",
        fix="end the route's `policy.invalid` in `error` or `fallback`: `pilothouse release create {route}`",
    ),
)  # fmt: skip
