import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pilothouse.domain.errors import BadRequest, ConfigError
from pilothouse.domain.evaluation import Case, CaseResult
from pilothouse.domain.hashing import content_hash
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Live
from pilothouse.domain.wires import GenerateReply, GenerateRequest
from pilothouse.evals import scorers
from pilothouse.evals.dataset import Dataset
from pilothouse.evals.run import Arm, Plan, body, key, run

PLAN = Plan(route="r", env="prod", scorers=("contains",), concurrency=2, case_timeout_s=30)


def live(release: int, **manifest: Any) -> Live:
    parts = Manifest(model=ModelRef("scripted", "m"), params={"release": release}, **manifest)
    return Live(release=release, manifest=parts, parts=parts.hashes(), hash=parts.hash())


def dataset(*cases: Case) -> Dataset:
    lines = {case.id: number for number, case in enumerate(cases, start=1)}
    return Dataset(path=Path("d.jsonl"), cases=cases, hash=content_hash(cases), lines=lines)


def some(n: int) -> Dataset:
    return dataset(
        *(Case(id=f"c{i}", input=f"say {i}", target=str(i), task="odd" if i % 2 else "even") for i in range(n))
    )


class Model:
    """Answers with the last word of what it is asked; notes every call, and how many ran at once."""

    def __init__(self, replies: dict[str, GenerateReply | Exception] | None = None) -> None:
        self.calls: list[tuple[int, str]] = []
        self.most = 0
        self._running = 0
        self._replies = replies or {}

    async def __call__(self, request: GenerateRequest) -> GenerateReply:
        asked = request.body["messages"][-1]["content"]
        self.calls.append((request.live.release, asked))
        self._running += 1
        self.most = max(self.most, self._running)
        await asyncio.sleep(0)
        self._running -= 1
        reply = self._replies.get(asked)
        if isinstance(reply, Exception):
            raise reply
        return reply or GenerateReply(request_id=f"id-{asked}", text=asked.split()[-1], duration_ms=1.5, cost_usd=0.1)


async def test_every_case_is_judged_in_the_datasets_order() -> None:
    kept: list[CaseResult] = []
    model = Model()
    (results,) = await run(some(5), [Arm(live(1), kept.append)], model, PLAN)
    assert [one.case_id for one in results] == ["c0", "c1", "c2", "c3", "c4"]
    assert all(one.passed and not one.error for one in results)
    assert (results[1].task, results[1].request_id, results[1].cost_usd) == ("odd", "id-say 1", 0.1)
    assert sorted(one.case_id for one in kept) == ["c0", "c1", "c2", "c3", "c4"]
    assert model.most == 2


async def test_baseline_and_candidate_take_turns() -> None:
    model = Model()
    plan = Plan(route="r", env="prod", scorers=("contains",), concurrency=1)
    await run(some(4), [Arm(live(1), lambda _: None), Arm(live(2), lambda _: None)], model, plan)
    assert [release for release, _ in model.calls] == [1, 2, 2, 1, 1, 2, 2, 1]
    assert [asked for _, asked in model.calls[::2]] == ["say 0", "say 1", "say 2", "say 3"]


async def test_kept_results_are_not_asked_for_again_but_errors_are() -> None:
    done = {
        "c0": CaseResult(case_id="c0", task="even", output="0", passed=True),
        "c1": CaseResult(case_id="c1", task="odd", output="x", passed=False),
        "c2": CaseResult(case_id="c2", task="even", error="timeout"),
        "gone": CaseResult(case_id="gone", task="even", passed=True),
    }
    model, seen = Model(), []
    arm = Arm(live(1), lambda _: None, done)
    (results,) = await run(some(4), [arm], model, PLAN, lambda *told: seen.append(told))
    assert sorted(asked for _, asked in model.calls) == ["say 2", "say 3"]
    assert [one.passed for one in results] == [True, False, True, True]
    assert seen == [(2, 4, 1, 0), (3, 4, 2, 0), (4, 4, 3, 0)]


async def test_errors_are_neither_fails_nor_dropped() -> None:
    model = Model(
        {
            "say 0": GenerateReply(request_id="a", text="", error="timeout_total"),
            "say 1": BadRequest("missing variable", code="missing_variable"),
            "say 2": GenerateReply(request_id="b", text="{", error="invalid_output"),
        }
    )
    told: list[tuple[int, int, int, int]] = []
    (results,) = await run(some(4), [Arm(live(1), lambda _: None)], model, PLAN, lambda *one: told.append(one))
    assert [one.error for one in results] == ["timeout_total", "missing_variable: missing variable", "", ""]
    assert results[2].scores[0].scorer == "valid_output"
    assert [one.passed for one in results] == [False, False, False, True]
    assert told[-1] == (4, 4, 1, 2)


async def test_a_case_over_its_deadline_is_an_error() -> None:
    async def stalls(_: GenerateRequest) -> GenerateReply:
        await asyncio.Event().wait()
        raise AssertionError

    plan = Plan(route="r", env="prod", scorers=("contains",), case_timeout_s=0.01)
    (results,) = await run(some(2), [Arm(live(1), lambda _: None)], stalls, plan)
    assert [one.error for one in results] == ["case_timeout: no answer within 0.01 s"] * 2


async def test_a_scorer_that_fails_is_an_error_of_the_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Case, output: str) -> tuple[bool, float, str]:
        raise RuntimeError(f"cannot read {output}")

    monkeypatch.setitem(scorers.SCORERS, "contains", lambda _: broken)
    (results,) = await run(some(1), [Arm(live(1), lambda _: None)], Model(), PLAN)
    assert results[0].error == "scorer contains: RuntimeError: cannot read 0"
    assert not results[0].passed


async def test_nothing_is_asked_where_a_case_cannot_be_judged() -> None:
    model = Model()
    with pytest.raises(ConfigError, match=r"d\.jsonl:2"):
        bad = dataset(Case(id="a", input="x", target="x"), Case(id="b", input="x"))
        await run(bad, [Arm(live(1), lambda _: None)], model, PLAN)
    assert model.calls == []


async def test_an_unexpected_failure_ends_the_run_and_keeps_what_is_kept() -> None:
    kept: list[CaseResult] = []
    plan = Plan(route="r", env="prod", scorers=("contains",), concurrency=1)
    with pytest.raises(ExceptionGroup):
        await run(some(4), [Arm(live(1), kept.append)], Model({"say 2": RuntimeError("bug")}), plan)
    assert [one.case_id for one in kept] == ["c0", "c1"]


def test_the_body_is_what_a_client_would_send() -> None:
    assert body(Case(id="a", input="hi"), "r") == {"model": "r", "messages": [{"role": "user", "content": "hi"}]}
    given = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert body(Case(id="a", input="hi", messages=given), "r")["messages"] == given
    varied = body(Case(id="a", variables={"q": 1}), "r")
    assert varied == {"model": "r", "messages": [], "prompt": {"id": "r", "variables": {"q": 1}}}


def test_the_key_is_of_the_work_not_of_the_release_number() -> None:
    data = some(3)
    base = key("r", live(1), data, ["contains"])
    assert key("r", live(1), data, ["contains"]) == base
    changed = [
        key("s", live(1), data, ["contains"]),
        key("r", live(2), data, ["contains"]),
        key("r", live(1), some(4), ["contains"]),
        key("r", live(1), data, ["exact"]),
        key("r", live(1), data, ["contains"], repeat=1),
    ]
    assert len({base, *changed}) == 6


CHILD = """
import asyncio, os, sys
from pathlib import Path
from pilothouse.domain.clock import SystemClock
from pilothouse.domain.wires import GenerateReply
from pilothouse.evals.run import Arm, run
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state import runs
sys.path.insert(0, {tests!r})
from test_run import PLAN, live, some

folder = Path({folder!r})
store = StateStore(folder / "state.db")
with store.write() as conn:
    known = runs.by_key(conn, "k") or runs.start(
        conn, runs.EvalRun(id=0, route="r", release=1, key="k"), SystemClock())
    done = {{one.case_id: one for one in runs.cases(conn, known.id)}}
calls = os.open(folder / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def generate(request):
    asked = request.body["messages"][-1]["content"]
    os.write(calls, (asked + "\\n").encode())
    await asyncio.sleep(0.002)
    return GenerateReply(request_id="x", text=asked)

def keep(result):
    with store.write() as conn:
        runs.put_case(conn, known.id, result)
    os.write(1, (result.case_id + "\\n").encode())  # one write: two threads keep results

asyncio.run(run(some(60), [Arm(live(1), keep, done)], generate, PLAN))
print("done", flush=True)
"""


@pytest.mark.process
def test_a_run_killed_with_kill_9_goes_on_without_repeating_a_call(tmp_path: Path) -> None:
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(tmp_path))

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    def calls() -> list[str]:
        return (tmp_path / "calls").read_text().split("\n")[:-1]

    with start() as child:
        assert child.stdout is not None
        kept = [child.stdout.readline().strip() for _ in range(17)]
        os.kill(child.pid, signal.SIGKILL)
    before = calls()
    with start() as child:
        assert child.stdout is not None
        assert child.stdout.read().split()[-1] == "done"
    after = calls()[len(before) :]
    assert {f"say {case_id.removeprefix('c')}" for case_id in kept}.isdisjoint(after)
    assert len(set(before) | set(after)) == 60
    assert len(before) == len(set(before))
    assert len(after) == len(set(after))
    assert len(set(before) & set(after)) <= PLAN.concurrency  # only what was in flight when it was killed
