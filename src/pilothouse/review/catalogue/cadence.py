"""What is done before every release, every week, every month and every quarter: the 21 cadence bullets."""

from pilothouse.domain.finding import Item
from pilothouse.review.catalogue.entry import ALERTS, EVALS, RELEASES, REVIEW, ROUTES, TRACES, Layer

_release = Layer("Before every release", "R")
_week = Layer("Every week", "W")
_month = Layer("Every month", "M")
_quarter = Layer("Every quarter", "Q")

_GATE = "`pilothouse eval run {route}`"

BEFORE_RELEASE = (
    _release.item(
        "CR.1l", "versions tagged", "", "hash missing, or floating",
        "block release", evidence=RELEASES, grade="C",
        fix="name a dated model and commit the files, then `pilothouse release create {route}`",
    ),
    _release.item(
        "CR.2l", "gate passed", "", "not passed within 24 h",
        "block release", evidence=EVALS, fix=f"run the gate again: {_GATE}",
    ),
    _release.item(
        "CR.3l", "fallbacks exercised", "", "any fault mishandled", "block release",
        evidence=RELEASES, grade="D",
        fix="make timeouts × tries fit in `policy.timeout.total`: `pilothouse release create {route}`",
    ),
    _release.item(
        "CR.4l", "expected tokens and cost", "", "upper bound > +15 %", "sign-off", evidence=EVALS,
        fix="compare the candidate with its baseline: `pilothouse eval run {route} --release N --baseline M`",
    ),
    _release.item(
        "CR.5l", "new secrets scoped", "", "wildcard, or no owner", "block release", evidence=RELEASES,
        grade="C", fix="give the new secret an owner and a rotation in pilothouse.yaml",
    ),
    _release.item(
        "CR.6l", "way back dry-run", "", "no way back", "block release",
        evidence=RELEASES, grade="D", fix="see the way back: `pilothouse release plan {route}`",
    ),
)  # fmt: skip

WEEKLY = (
    _week.item("CW.1l", "error trends read", "> 3 d", "", "escalate", evidence=ALERTS,
               grade="A", fix="read the week's errors by type: see the link"),
    _week.item("CW.2l", "outputs sampled for drift", "< 30", "", "carry over", evidence=TRACES,
               fix="have a person score 30 outputs: `POST /v1/feedback`"),
    _week.item("CW.3l", "malformed rates read", "> 3 d", "", "escalate", evidence=TRACES, grade="A",
               fix="read T4.1 to T4.4: `pilothouse review {route}`"),
    _week.item("CW.4", "top failed queries handled", "any open", "", "escalate", evidence=TRACES, grade="A",
               fix="make each failed query a case of the dataset, then `pilothouse eval run {route}`"),
    _week.item("CW.5", "growth explained", "unexplained", "", "notify", evidence=ROUTES,
               fix="find the part that grew: `pilothouse release diff {route}`"),
)  # fmt: skip

MONTHLY = (
    _month.item("CM.1l", "spend audited", "> 3 %", "unowned > 2 %", "mark costs unverified",
                evidence=ROUTES, grade="A", fix="compare the provider's invoice with `/metrics.json?route={route}`"),
    _month.item("CM.2l", "new edge cases", "< 5 new cases", "", "block sign-off", evidence=EVALS,
                fix="add 5 cases from production failures, then `pilothouse eval run {route}`"),
    _month.item("CM.3", "retrieval freshness", "T5.2 not passed", "", "reindex", evidence=TRACES,
                fix="reindex, then `pilothouse review {route}`"),
    _month.item("CM.4l", "secrets audited", "", "any overdue", "suspend", evidence=REVIEW, grade="A",
                fix="rotate what T8.1 names, then `pilothouse review {route}`"),
    _month.item("CM.5", "alerts tuned again", "undecided rules", "", "demote the rule", evidence=ALERTS, grade="A",
                fix="answer for every alert whether it was actionable: see the link"),
)  # fmt: skip

QUARTERLY = (
    _quarter.item("CQ.1", "model reassessed", "< 2 challengers", "", "notify", evidence=EVALS, grade="A",
                  fix="evaluate two other models: `pilothouse eval run {route} --release N --baseline M`"),
    _quarter.item("CQ.2", "every step worth its cost", "a step without effect", "", "notify", evidence=EVALS,
                  fix="evaluate the app without each step: `pilothouse eval run {route}`"),
    _quarter.item("CQ.3l", "high-risk output reviewed", "unsigned", "", "pre-approval", evidence=REVIEW,
                  grade="A", fix="agree who reviews what, and record it with `POST /v1/feedback`"),
    _quarter.item("CQ.4l", "incident response practised", "> 90 d ago", "> 120 d ago", "block release",
                  evidence=RELEASES, grade="D", fix="practise: `pilothouse rollback {route} --env staging`"),
    _quarter.item("CQ.5", "gaps in tooling owned", "unowned", "", "notify", evidence=REVIEW, grade="A",
                  fix="read the NO DATA lines: `pilothouse review {route}`"),
)  # fmt: skip

ITEMS: tuple[Item, ...] = BEFORE_RELEASE + WEEKLY + MONTHLY + QUARTERLY
