"""The invented fleet: who, what, how much."""

# ruff: noqa: E501  # an invented record reads better in few lines

from typing import Any

from pilothouse.domain.manifest import Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback, Policy, Retry

NOW = 1_795_444_320_000_000  # 2026-11-23 14:32 UTC
PEOPLE = {"ana": "Ana", "ben": "Ben", "cho": "Cho", "dee": "Dee"}


def _route(app: str, tier: str, people: str, stable: int, **more: Any) -> dict[str, Any]:
    owner, backup = people.split()
    plain = {
        "rate": 500, "p95": 1_200, "errors": 0.004, "cost": 0.0031, "quality": None, "model": "openai/gpt-5-mini",
        "canary": None, "share": 0.0, "disabled": "", "pinned": "", "ready": (0.97, 0.9, 1.0), "top": stable,
    }  # fmt: skip
    return {"app": app, "tier": tier, "owner": owner, "backup": backup, "stable": stable, **plain, **more}


ROUTES: dict[str, dict[str, Any]] = {
    "docs-answer": _route("docs", "high", "ana ben", 11, rate=860, p95=2_300, errors=0.012, quality=0.986, top=12,
                          ready=(0.97, 0.61, 1.0)),
    "ticket-triage": _route("support", "standard", "ben ana", 7, rate=2_140, p95=640, cost=0.00042, quality=0.995,
                            ready=(0.95, 0.88, 0.92)),
    "invoice-extract": _route("finance", "high", "cho ana", 23, rate=310, p95=3_900, errors=0.021, cost=0.0124,
                              quality=0.913, ready=(0.99, 0.74, 1.0), model="anthropic/claude-haiku"),
    "search-rewrite": _route("search", "standard", "cho dee", 30, rate=5_600, p95=210, errors=0.001, cost=None,
                             model="local/smollm2", ready=(0.92, 0.86, 0.95)),
    "code-review": _route("devtools", "standard", "dee cho", 3, rate=74, p95=11_400, errors=0.015, cost=0.0412, top=4,
                          canary=4, share=0.05, pinned="openai/gpt-5-mini", ready=(0.94, 0.83, 0.9)),
    "release-notes": _route("devtools", "lite", "dee ben", 2, rate=3, p95=5_200, cost=0.0086, ready=(None, None, None)),
}  # fmt: skip

_REPLIES = {
    "docs-answer": [
        ("How do I roll a route back when the control plane is down?", "Edges keep serving from their last table. Start control again, then run `pilothouse rollback docs-answer` [guide/rollback]."),
        ("Does the gateway retry after the first byte of a stream?", "No. After the first byte the policy decides: error or continue [guide/streams]."),
        ("Where are prompts stored and can I keep them in git?", "In your app's repository, as Markdown with front matter [guide/config]."),
        ("what does NO DATA mean in the review", "The item could not be measured in the window; it is never counted as a pass [guide/review]."),
    ],
    "ticket-triage": [
        ("Subject: cannot log in since the update. I get a blank page after two-factor, tried Firefox and Chrome.", '{"queue":"auth","priority":"high","language":"en"}'),
        ("Subject: Rechnung doppelt erhalten. Bitte um Korrektur für Oktober.", '{"queue":"billing","priority":"normal","language":"de"}'),
    ],
    "invoice-extract": [
        ("INVOICE 2026-10418 · Fjordline AS · VAT NO 914 442 118 · Total due 12,480.00 NOK · Due 2026-12-01", '{"number":"2026-10418","total":12480.0,"currency":"NOK","due":"2026-12-01"}'),
        ("Faktura 77-2231, Nordhavn Logistik, moms 25 %, i alt 3.212,50 DKK", '{"number":"77-2231","total":3212.5,"currency":"DKK","due":null}'),
    ],
    "search-rewrite": [("cheap flight oslo to bergn tomorow", "flights Oslo Bergen 24 November"), ("jacket rain kids 128", "children's rain jacket size 128")],
    "code-review": [("diff --git a/journal.py b/journal.py: replace fsync per line with an interval of 200 ms", "The interval loses at most 200 ms of records on power loss; say so in the config's comment.")],
    "release-notes": [("Changes since v1.8: 14 merged pull requests …", "## 1.9 · Faster imports, clearer errors …")],
}  # fmt: skip


def replies(route: str) -> list[tuple[str, str]]:
    return _REPLIES[route]


_SYSTEM = "You answer questions about Pilothouse from its documentation alone.\n\nRules:\n- Quote nothing that is not in the sources.\n- Cite each source as [id].\n- Say so when the sources do not answer the question.\n"
_OLD = "Question: {{ question }}\n\nSources:\n{% for s in sources %}[{{ s.id }}] {{ s.text }}\n{% endfor %}\n\nAnswer in at most five sentences. Cite every source that you use.\n"
_NEW = "Question: {{ question }}\n\nSources:\n{% for s in sources %}[{{ s.id }}] {{ s.text }}\n{% endfor %}\n\nAnswer briefly, in at most two sentences. Cite sources where they help.\nDo not repeat the question.\n"


def manifests(model: str) -> tuple[Manifest, Manifest]:
    """A release and the next: the prompt, params and policy differ."""
    schema = {
        "type": "object",
        "required": ["answer", "citations"],
        "properties": {"answer": {"type": "string"}, "citations": {"type": "array"}},
    }
    old = Manifest(
        model=ModelRef.parse(model), prompt=Template(text=_OLD, variables=("question", "sources")), system=Template(text=_SYSTEM),
        params={"temperature": 0.2, "max_tokens": 400}, schema=schema, policy=Policy(retry=Retry(attempts=1)),
    )  # fmt: skip
    new = Manifest(
        model=old.model, prompt=Template(text=_NEW, variables=("question", "sources")), system=old.system,
        params={"temperature": 0.7, "max_tokens": 200}, schema=schema,
        policy=Policy(retry=Retry(attempts=2), fallback=(Fallback(model=ModelRef.parse("local/smollm2")),)),
    )  # fmt: skip
    return old, new
