"""What the evals know of a route, for the review to judge: no thresholds here, and None where nothing is known."""

import msgspec

from pilothouse.domain.evaluation import Verdict


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One task type of a route's dataset, and how the latest run fared on it."""

    task: str
    cases: int  # in the dataset
    passed: int = 0
    n: int = 0  # judged in the latest run, errors included; 0 where it was not run
    low: float | None = None  # Wilson 95 % lower bound of the pass rate; None where n is 0
    high: float | None = None


class RetrievalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Retrieval on the labelled cases of a dataset: those that name their relevant documents."""

    n: int
    k: int
    hits: int  # cases with a relevant document among the first k retrieved
    hit_at_k: float | None
    low: float | None  # Wilson 95 % bounds of hit@k
    high: float | None
    mrr: float | None  # mean reciprocal rank of the first relevant document
    missed: list[str] = []  # ids of cases without a hit


class EvalFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence for T3.1 (cases), T3.2 (lower bounds), T3.3 (paired verdict), T5.1 (hit@k), CR.2 (frozen and fresh)."""

    route: str
    release: int | None = None  # that the latest run judged
    dataset: str = ""  # path as configured; empty: the route has no dataset
    dataset_error: str = ""  # why the dataset cannot be read now
    dataset_hash: str = ""  # of the dataset now
    run_dataset_hash: str = ""  # of the dataset that the latest run used
    run_id: int | None = None
    run_at_us: int | None = None  # when the latest run finished
    complete: bool = False  # every case of that run has a result
    cases: int = 0
    must_pass: int = 0
    tasks: list[TaskFacts] = []
    passed: int = 0
    n: int = 0
    errors: int = 0
    scorers: list[str] = []
    verdict: Verdict | None = None  # the paired comparison, or the first release's absolute one
    retrieval: RetrievalFacts | None = None  # None: no case names its relevant documents
