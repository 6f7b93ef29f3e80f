"""Retrieval on labelled cases: those whose target names the documents that answer them, `{"relevant": ["id"]}`."""

from collections.abc import Iterable, Mapping, Sequence

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.eval_facts import RetrievalFacts
from pilothouse.domain.evaluation import Case
from pilothouse.evals.scorers import RELEVANT
from pilothouse.stats.proportions import wilson

_TAG = f"{RELEVANT}:"


def relevant(case: Case) -> frozenset[str]:
    """Ids of the documents that answer the case, from its target or its tags `relevant:ID`; empty: not labelled."""
    ids = {tag.removeprefix(_TAG) for tag in case.tags if tag.startswith(_TAG)}
    if isinstance(case.target, dict) and RELEVANT in case.target:
        named = case.target[RELEVANT]
        if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
            raise ConfigError(f"`relevant` lists document ids, in the case {case.id!r}")
        ids.update(named)
    return frozenset(ids)


def hit_at(retrieved: Sequence[str], wanted: frozenset[str], k: int) -> bool:
    """A relevant document is among the first `k`."""
    return any(one in wanted for one in retrieved[:k])


def reciprocal_rank(retrieved: Sequence[str], wanted: frozenset[str]) -> float:
    """1 / rank of the first relevant document, 0 where none was retrieved."""
    return next((1 / rank for rank, one in enumerate(retrieved, start=1) if one in wanted), 0.0)


def measure(
    cases: Iterable[Case], k: int = 5, retrieved: Mapping[str, Sequence[str]] | None = None
) -> RetrievalFacts | None:
    """hit@k and MRR over the labelled cases; None where no case is labelled.

    `retrieved` gives what the index returns now, best first, by case id; without it the cases' own `retrieved` count.
    A labelled case that it does not have is a miss.
    """
    if k < 1:
        raise ConfigError("hit@k looks at one document at least", where=f"got k = {k}")
    ranks: list[float] = []
    missed: list[str] = []
    for case in cases:
        if not (wanted := relevant(case)):
            continue
        ids = [str(one["id"]) for one in case.retrieved] if retrieved is None else retrieved.get(case.id, ())
        ranks.append(reciprocal_rank(ids, wanted))
        if not hit_at(ids, wanted, k):
            missed.append(case.id)
    if not ranks:
        return None
    n, hits = len(ranks), len(ranks) - len(missed)
    low, high = wilson(hits, n)
    return RetrievalFacts(n=n, k=k, hits=hits, hit_at_k=hits / n, low=low, high=high, mrr=sum(ranks) / n, missed=missed)
