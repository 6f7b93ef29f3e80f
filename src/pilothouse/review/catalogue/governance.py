"""Who answers, from when on, and with what: G1–G8."""

from pilothouse.review.catalogue.entry import ALERTS, REVIEW, Layer

_layer = Layer("Governance", "K")

ITEMS = (
    _layer.item("G1l", "owner and backup", "", "a person missing", "notify", evidence=REVIEW, grade="C",
                fix="name `owner:` and `backup:` from `people:` in pilothouse.yaml, then restart `pilothouse up`"),
    _layer.item("G2l", "thresholds are numbers", "not all", "", "notify", evidence=ALERTS, grade="C",
                fix="write a rule with `threshold:` for each item in pilothouse.yaml, then restart `pilothouse up`"),
    _layer.item("G3l", "executable fallbacks", "people only", "none", "notify", evidence=ALERTS,
                grade="C", fix="give each rule `actions: [rollback]` in pilothouse.yaml, then restart `pilothouse up`"),
    _layer.item("G4l", "lighter profile allowed", "", "lite, but with tools", "notify",
                evidence=REVIEW, grade="C", fix="set `tier: standard` for the route, then restart `pilothouse up`"),
    _layer.item("G5l", "review on one page", "", "> 60 lines", "notify", evidence=REVIEW,
                fix="waive or mend what is listed: `pilothouse review {route}`"),
    _layer.item("G6l", "observe, evaluate, roll back", "", "below floor, or T8",
                "block release", evidence=REVIEW, fix="mend the FAIL and NO DATA lines: `pilothouse review {route}`"),
    _layer.item("G7", "six layers covered", "a layer < 0.5", "", "notify", evidence=REVIEW,
                fix="start with the worst layer: `pilothouse review {route}`"),
    _layer.item("G8", "weighted by business risk", "", "control without owner", "notify",
                evidence=REVIEW, grade="C", fix="set the route's `tier:` in pilothouse.yaml"),
)  # fmt: skip
