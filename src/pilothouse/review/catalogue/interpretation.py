"""How to read what moves: I1–I7 are diagnoses, V0–V7 are the events that re-open items."""

from pilothouse.review.catalogue.entry import RELEASES, REVIEW, ROUTES, TRACES, Layer

_reading = Layer("Interpretation", "K,W")
_revisit = Layer("When to revisit", "K")

_READ = "`pilothouse review {route}`"
_DIFF = "`pilothouse release diff {route}`"

DIAGNOSES = (
    _reading.item("I1l", "latency rises", "p95 +20 %", "", "shorten context", evidence=TRACES,
                  fix="read the stages of the slowest traces before changing the model: see the link"),
    _reading.item("I2l", "quality falls alone", "T9.3 not passed", "", "rollback", evidence=RELEASES,
                  fix=f"compare the releases part by part: {_DIFF}"),
    _reading.item("I3l", "cost rises alone", "cost per request +20 %", "", "pin_model",
                  evidence=TRACES, fix=f"look for token inflation first: {_DIFF}", cadence="K,M"),
    _reading.item("I4l", "schema failures rise", "T4.1 −2 pp", "", "rollback", evidence=TRACES,
                  fix=f"look for a changed prompt, model or schema: {_DIFF}"),
    _reading.item("I5", "retrieval worsens", "any T5 not passed", "", "pin the last index", evidence=TRACES,
                  fix="compare index, filter and rewritten query of good and bad traces: see the link", cadence="K,M"),
    _reading.item("I6l", "fallbacks climb", "T9.4 not passed", "", "notify", evidence=TRACES + "&outcome=fallback",
                  fix="compare cost and quality of fallback and primary: see the link", cadence="K"),
    _reading.item("I7l", "the change that explains it", "any of the above", "", "rollback", evidence=RELEASES,
                  fix="read the changes beside the graphs: see the link", cadence="K"),
)  # fmt: skip

TRIGGERS = (
    _revisit.item("V0", "periodic review", "due", "", "notify", evidence=REVIEW, fix=_READ, cadence="M,Q"),
    _revisit.item("V1l", "primary model changed", "> 20 % of traffic", "", "cap canary at 10 %",
                  evidence=RELEASES, fix=f"evaluate again, then {_READ}"),
    _revisit.item("V2l", "retrieval or tools introduced", "first such span", "", "cap canary at 10 %",
                  evidence=TRACES, fix=f"declare `tools` and `index` in the route, then {_READ}"),
    _revisit.item("V3l", "structured output introduced", "first schema", "", "cap canary at 10 %",
                  evidence=TRACES, fix=f"declare `schema` in the route, then {_READ}"),
    _revisit.item("V4l", "drift or complaints", "≥ 24 h", "", "cap canary at 10 %",
                  evidence=ROUTES, fix=f"run I1 to I3, then {_READ}"),
    _revisit.item("V5l", "new segment or riskier use", "> 1 % of traffic", "", "cap canary at 10 %",
                  evidence=TRACES, fix=f"add cases of the new segment, then {_READ}"),
    _revisit.item("V6l", "access or retention changed", "any change", "", "cap canary at 10 %",
                  evidence=REVIEW, fix=f"read the change log (`pilothouse audit verify`), then {_READ}"),
    _revisit.item("V7", "new vendor", "new host or secret", "", "cap canary at 10 %",
                  evidence=REVIEW, fix=f"check what the vendor is sent, then {_READ}"),
)  # fmt: skip

ITEMS = DIAGNOSES + TRIGGERS
