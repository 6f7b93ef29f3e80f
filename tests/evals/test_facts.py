from pathlib import Path

import pytest

from pilothouse.config.route import GateConfig, RouteConfig
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.evaluation import CaseResult
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.evals import facts
from pilothouse.evals.dataset import load
from pilothouse.stats.proportions import wilson
from pilothouse.store.state import runs
from pilothouse.store.state.engine import StateStore

LINES = (
    '{"id": "a", "task": "fact", "input": "q", "target": {"contains": "x", "relevant": ["d1"]},'
    ' "retrieved": [{"id": "d1"}], "must_pass": true}\n'
    '{"id": "b", "task": "fact", "input": "q", "target": "x"}\n'
    '{"id": "c", "task": "hop", "input": "q", "target": "x"}\n'
)


@pytest.fixture
def route(tmp_path: Path) -> RouteConfig:
    (tmp_path / "cases.jsonl").write_text(LINES)
    return RouteConfig(
        name="r",
        app="",
        owner="ana",
        backup="ben",
        tier="high",
        manifest=Manifest(model=ModelRef("scripted", "m")),
        gate=GateConfig(dataset=tmp_path / "cases.jsonl", scorers=("contains",)),
    )


def ran(store: StateStore, clock: FrozenClock, route: RouteConfig, release: int, *results: CaseResult) -> int:
    assert route.gate is not None
    data = load(route.gate.dataset)
    with store.write() as conn:
        run = runs.start(conn, runs.EvalRun(id=0, route="r", release=release, dataset_hash=data.hash), clock)
        for one in results:
            runs.put_case(conn, run.id, one)
        runs.finish(conn, run.id, clock)
    return run.id


def test_what_the_latest_run_of_the_live_release_says(tmp_path: Path, route: RouteConfig) -> None:
    store, clock = StateStore(tmp_path / "state.db"), FrozenClock()
    run_id = ran(
        store,
        clock,
        route,
        3,
        CaseResult(case_id="a", task="fact", passed=True),
        CaseResult(case_id="b", task="fact", passed=True, error="scorer contains: X"),
        CaseResult(case_id="c", task="hop"),
    )
    ran(store, clock, route, 4, CaseResult(case_id="a", task="fact", passed=True))
    with store.read() as conn:
        live, other, never = (facts.read(conn, route, release) for release in (3, 4, 9))
    store.close()
    assert (live.release, live.run_id, live.run_at_us, live.complete) == (3, run_id, clock.now_us(), True)
    assert (live.passed, live.n, live.errors, live.cases, live.must_pass) == (1, 3, 1, 3, 1)
    assert live.run_dataset_hash == live.dataset_hash != ""
    low, high = wilson(1, 2)
    fact, hop = live.tasks
    assert (fact.task, fact.cases, fact.passed, fact.n, fact.low, fact.high) == ("fact", 2, 1, 2, low, high)
    assert (hop.task, hop.passed, hop.n) == ("hop", 0, 1)
    assert live.retrieval is not None
    assert live.retrieval.hit_at_k == 1.0
    assert (other.release, other.complete) == (4, False)
    assert never.release == 4  # of another release: the reader sees that it is not the live one's


def test_nothing_run_is_nothing_known(tmp_path: Path, route: RouteConfig) -> None:
    store = StateStore(tmp_path / "state.db")
    with store.read() as conn:
        found = facts.read(conn, route, 1)
    store.close()
    assert (found.release, found.run_id, found.n, found.complete) == (None, None, 0, False)
    assert [(task.task, task.cases, task.n, task.low) for task in found.tasks] == [
        ("fact", 2, 0, None),
        ("hop", 1, 0, None),
    ]


def test_a_dataset_that_cannot_be_read_is_a_fact(tmp_path: Path, route: RouteConfig) -> None:
    (tmp_path / "cases.jsonl").write_text('{"id": "a", "imput": "q"}\n')
    store = StateStore(tmp_path / "state.db")
    with store.read() as conn:
        found = facts.read(conn, route, 1)
    store.close()
    assert "did you mean 'input'" in found.dataset_error
    assert found.cases == 0
