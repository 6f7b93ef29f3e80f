"""A plan carried on by control, when something that nobody foresaw goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse.domain.change import Actor
from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import Conflict
from pilothouse.domain.tasks import Tasks
from pilothouse.releases import plan as steps
from pilothouse.server.composition import Control, open_control
from pilothouse.server.datadir import DataDir
from pilothouse.server.streamed import streamed
from pilothouse.server.verbs import carrying, evals, plans, releases

ANA = Actor(type="person", id="ana")
KEY = ("answer", "prod")
ORDER = carrying.Order(apply=plans.Apply(route="answer", env="prod"))


@pytest.fixture
async def control(scripted_app: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Control]:
    opened = await open_control(scripted_app(), DataDir(tmp_path / "data"), SystemClock(), Tasks())
    await releases.create(opened, "answer", ANA, "first")
    yield opened
    await opened.close()


def found(kind: str, state: str = "ready") -> dict[str, Any]:
    return {"to": 1, "moved": None, "steps": [{"kind": kind, "state": state}]}


async def test_a_first_step_that_fails_or_is_cancelled_leaves_the_plan_free(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def waits(*_: Any) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    async def breaks(*_: Any) -> dict[str, Any]:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(plans, "apply", breaks)
    with pytest.raises(RuntimeError):
        await carrying.carry_on(control, ORDER, ANA)
    assert KEY not in control.carried
    monkeypatch.setattr(plans, "apply", waits)
    caller = asyncio.ensure_future(carrying.carry_on(control, ORDER, ANA))
    await begun.wait()
    with pytest.raises(Conflict):
        await carrying.carry_on(control, ORDER, ANA)
    caller.cancel()
    await asyncio.wait([caller])
    assert KEY not in control.carried


async def test_a_gate_that_breaks_off_without_a_verdict_is_not_run_again(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    async def gated(*_: Any) -> dict[str, Any]:
        return found("gate")

    def breaks(*_: Any) -> dict[str, Any]:
        runs.append(1)
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(plans, "apply", gated)
    monkeypatch.setattr(evals, "_run", breaks)
    await carrying.carry_on(control, ORDER, ANA)
    await control.tasks.drain(10.0)
    carried = control.carried[KEY]
    assert (len(runs), carried.ended) == (1, True)
    assert "Pilothouse itself failed" in carried.error


async def test_a_later_step_that_fails_is_told_as_a_failure_of_pilothouse(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([found("promote") | {"moved": {}}])

    async def once(*_: Any) -> dict[str, Any]:
        try:
            return next(answers)
        except StopIteration:
            raise RuntimeError("nobody foresaw this") from None

    monkeypatch.setattr(plans, "apply", once)
    await carrying.carry_on(control, ORDER, ANA)
    await control.tasks.drain(10.0)
    assert (control.carried[KEY].ended, control.carried[KEY].error) == (True, carrying.UNFORESEEN)


async def test_a_plan_that_ends_as_it_should_ends_without_an_error(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def over(*_: Any) -> dict[str, Any]:
        return found("check", "done")

    monkeypatch.setattr(plans, "apply", over)
    await carrying.carry_on(control, ORDER, ANA)
    await control.tasks.drain(10.0)
    assert (control.carried[KEY].ended, control.carried[KEY].error) == (True, "")


async def test_a_move_between_the_look_and_the_step_is_a_conflict(control: Control) -> None:
    config = control.route("answer")
    planned = steps.plan(control.state, config, "prod", 1, callers=None)
    seen = steps.Advance(env="prod", release=1, actor=ANA, expected_revision=7)
    with pytest.raises(Conflict, match="at revision 0, not 7"):
        steps.advance(control.state, config, seen, planned, control.clock)


async def test_an_answer_of_many_lines_always_says_how_it_ended() -> None:
    async def work(tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        tell({"type": "progress"})
        raise RuntimeError("nobody foresaw this")

    tasks = Tasks()
    lines = [line async for line in streamed(tasks, "a drill", work)]
    assert [line["type"] for line in lines] == ["progress", "error"]
    assert "a drill" in lines[1]["error"]["message"]
    await tasks.drain(1.0)
    assert [type(failure) for failure in tasks.failures] == [RuntimeError]
