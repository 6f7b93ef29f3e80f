"""Layer 5: does retrieval find what answers the question, and is it fresh? N/A without retrieval."""

from pilothouse.review.catalogue.entry import EVALS, TRACES, Layer, above, below

_layer = Layer("5 Retrieval", "K,W")

ITEMS = (
    _layer.item(
        "T5.1l", "right document retrieved", "< 0.90", "< 0.80", "pin the last index",
        limit=below(0.90, 0.80), evidence=EVALS, cadence="R,K,M",
        fix="label the answerable cases with their document and run them: `pilothouse eval run {route}`",
    ),
    _layer.item(
        "T5.2l", "freshness of the index", "lag > 24 h, stale > 5 %", "lag > 72 h, stale > 15 %", "reindex",
        evidence=TRACES, cadence="K,M", fix="report document ages on retrieval spans to `pilothouse up`'s port 4318",
    ),
    _layer.item(
        "T5.3", "precision of the retrieved", "< 0.70", "< 0.55", "enable the reranker", evidence=EVALS,
        cadence="W,M", fix="score 50 retrieved lists a week: `POST /v1/feedback`",
    ),
    _layer.item(
        "T5.4l", "retrievals without result", "> 3 %, unsure > 10 %", "> 8 %, unsure > 20 %", "answer \"don't know\"",
        limit=above(0.03, 0.08), evidence=TRACES,
        fix="open the queries that found nothing and add the missing documents: see the link",
    ),
    _layer.item(
        "T5.5", "answers that cite", "< 95 %", "< 85 %", "abstain", evidence=EVALS,
        fix="add the scorer `cites_retrieved` to the gate: `pilothouse eval run {route}`",
    ),
)  # fmt: skip
