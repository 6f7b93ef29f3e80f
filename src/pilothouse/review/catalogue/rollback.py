"""Layer 10: can it be taken back, quickly, by whoever is on call?"""

from pilothouse.review.catalogue.entry import ALERTS, DAY, RELEASES, REVIEW, SECOND, Layer, above, below

_layer = Layer("10 Rollback", "K,R,Q")

ITEMS = (
    _layer.item(
        "T10.1l", "rollback, measured", "> 60 s, or > 90 d ago", "no way back",
        "block release", limit=above(60 * SECOND, None, "ms"), evidence=RELEASES, grade="D",
        fix="make a second release and practise: `pilothouse rollback {route} --env staging`",
    ),
    _layer.item(
        "T10.2l", "another model, qualified", "evaluated > 30 d ago", "none", "notify", grade="C",
        limit=above(30 * DAY, None, "ms"), evidence=RELEASES,
        fix="name a model in `alternates`, and evaluate it: `pilothouse model qualify {route}`",
    ),
    _layer.item(
        "T10.3l", "kill switch of risky flows", "exercised > 90 d ago", "missing", "disable_route", cadence="R,Q",
        limit=above(90 * DAY, None, "ms"), evidence=RELEASES, grade="D",
        fix="practise: `pilothouse route disable {route} --env staging`; see `pilothouse flag list --stale`",
    ),
    _layer.item(
        "T10.4l", "changes through a canary", "< 95 %", "< 80 %", "require a canary", cadence="K,R",
        limit=below(0.95, 0.80), evidence=RELEASES,
        fix="promote in steps: `pilothouse release promote {route} --canary 5%`",
    ),
    _layer.item(
        "T10.5", "runbooks", "> 90 d old", "missing", "make a stub", cadence="R,Q", grade="A", evidence=ALERTS,
        limit=above(90 * DAY, None, "ms"), fix="give every paging rule `runbook:` in pilothouse.yaml",
    ),
    _layer.item(
        "T10.6l", "somebody on call", "test page > 30 d ago", "a gap now", "escalate", cadence="K,M", grade="D",
        limit=above(30 * DAY, None, "ms"), evidence=REVIEW,
        fix="name `owner:` and `backup:` in pilothouse.yaml and page them for practice",
    ),
)  # fmt: skip
