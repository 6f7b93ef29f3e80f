"""Layer 3: is the output good, and would we notice if it were not?"""

from pilothouse.review.catalogue.entry import EVALS, TRACES, Layer, below

_layer = Layer("3 Evaluation", "R,K")

ITEMS = (
    _layer.item(
        "T3.1l", "tasks with 30 cases or more", "< 90 %", "< 70 %", "canary at most 10 %",
        limit=below(0.90, 0.70), evidence=EVALS, cadence="R,M",
        fix="add cases to the route's dataset until every task has 30, then `pilothouse eval run {route}`",
    ),
    _layer.item(
        "T3.2l", "pass rate, lower bound", "< 0.90", "< 0.85", "block release", limit=below(0.90, 0.85),
        evidence=EVALS, fix="mend the failing cases and run them again: `pilothouse eval run {route}`",
    ),
    _layer.item(
        "T3.3l", "regression, paired", "change < −1 pp", "< −2 pp and p < 0.05",
        "block release", limit=below(-0.01, -0.02, "change"), evidence=EVALS, cadence="R",
        fix="go back or mend what broke: `pilothouse rollback {route}`",
    ),
    _layer.item(
        "T3.4", "human review this week", "n < 30, accepted < 0.85", "accepted < 0.75", "raise sample",
        limit=below(0.85, 0.75), evidence=TRACES, cadence="W",
        fix="have a person score 30 outputs of the week: `POST /v1/feedback`",
    ),
    _layer.item(
        "T3.5l", "failures by category", "any > 2×", "unsafe > 0.1 %", "rollback", evidence=TRACES, cadence="K,W",
        fix="label the failures of the week by category: `POST /v1/feedback`",
    ),
)  # fmt: skip
