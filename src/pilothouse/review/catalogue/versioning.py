"""Layer 1: which prompt, system, model, params, tools and index produced this output?"""

from pilothouse.review.catalogue.entry import TRACES, Layer, above, below

_layer = Layer("1 Versioning", "K,R")

ITEMS = (
    _layer.item(
        "T1.0l", "outputs reconstructed", "< 100 %", "< 95 %", "freeze releases",
        limit=below(1.0, 0.95), evidence=TRACES,
        fix="call the route by its name so that a release renders it: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T1.1l", "known prompt", "< 99.9 %", "< 99 %", "reject unreleased",
        limit=below(0.999, 0.99), evidence=TRACES,
        fix="send `model: {route}` instead of a raw model: `pilothouse release promote {route}`",
    ),
    _layer.item(
        "T1.2", "known system prompt", "unknown > 0.1 %", "unknown > 1 %", "rollback",
        limit=above(0.001, 0.01), evidence=TRACES,
        fix="move the system prompt out of the client into the release: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T1.3l", "model pinned, served as asked", "pinned < 95 %", "another > 0.1 %", "pin_model",
        limit=below(0.95, None), evidence=TRACES,
        fix="name a dated model snapshot in pilothouse.yaml, then `pilothouse release create {route}`",
    ),
    _layer.item(
        "T1.4", "known parameters", "< 99.5 %", "< 98 %", "parameters of manifest",
        limit=below(0.995, 0.98), evidence=TRACES,
        fix="keep temperature and limits in the release's `params`: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T1.5", "registered tools", "< 99.9 %", "any unknown tool", "strip unknown tools",
        limit=below(0.999, None), evidence=TRACES,
        fix="declare the tools in the route's `tools` file: `pilothouse release create {route}`",
    ),
    _layer.item(
        "T1.6", "known index version", "< 99.9 %, > 1 live", "> 2 live", "pin the last index",
        limit=below(0.999, None), evidence=TRACES,
        fix="set `gen_ai.data_source.version` on retrieval spans and `index` in the route: "
        "`pilothouse release create {route}`",
    ),
)  # fmt: skip
