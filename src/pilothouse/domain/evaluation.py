"""Eval words: dataset, case, run, scorer, score, gate."""

from typing import Any, Literal

import msgspec

VerdictKind = Literal["pass", "block", "inconclusive"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a JSONL dataset."""

    id: str
    task: str = "default"  # task type, for coverage and slices
    input: str = ""  # becomes the user message where no `messages` are given
    messages: list[dict[str, Any]] = []
    variables: dict[str, Any] = {}  # of the route's prompt
    target: Any = None  # what scorers compare with
    must_pass: bool = False
    tags: list[str] = []
    retrieved: list[dict[str, Any]] = []  # documents given to the model: {id, text}
    scorers: list[str] = []  # names, where a case is judged by fewer than the route's


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A scorer's word on one output: pass or fail, with why. An error is never a fail and never dropped."""

    scorer: str
    passed: bool
    value: float = 0.0
    why: str = ""


class CaseResult(msgspec.Struct, kw_only=True):
    """One case of a run. `error`: no output could be had; it counts against the gate."""

    case_id: str
    task: str
    output: str = ""
    scores: list[Score] = []
    passed: bool = False
    error: str = ""
    request_id: str = ""
    duration_ms: float = 0.0
    cost_usd: float | None = None
    must_pass: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A gate's word. Rates are shares of cases; `delta` = candidate − baseline with a 90 % interval
    (so that each one-sided bound has 5 % error); `mde` is the smallest drop seen with 80 % power."""

    verdict: VerdictKind
    reason: str
    n: int
    baseline_rate: float | None
    candidate_rate: float
    delta: float | None
    low: float | None
    high: float | None
    p_harm: float | None
    broke: int
    mended: int
    errors: int
    mde: float | None
    margin: float
    alpha: float = 0.05
    worst_task: str = ""
    must_pass_failed: list[str] = []
    run_id: int | None = None
    baseline_run_id: int | None = None
