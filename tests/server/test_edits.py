"""A release made by editing another one, over the API that the page's verbs share; and its plan, carried on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.control import Control, connect
from pilothouse.domain.errors import PilothouseError
from pilothouse.server.onward import onward

RELEASES = "/api/v1/routes/answer/releases"
SYSTEM = {"text": "You are a {{ kind }} helper.\n", "variables": ["kind"], "version": ""}


@pytest.fixture
def control(scripted_app: Any, tmp_path: Path) -> Iterator[Control]:
    with connect(tmp_path / "data", scripted_app()) as opened:
        opened.post(RELEASES, notes="first")
        opened.post("/api/v1/routes/answer/promote", release=1)
        yield opened


def refused(control: Control, path: str = RELEASES, **asked: Any) -> PilothouseError:
    with pytest.raises(PilothouseError) as told:
        control.post(path, **asked)
    return told.value


def numbers(control: Control) -> list[int]:
    return [one["release"] for one in control.get(RELEASES)["releases"]]


def test_a_draft_says_what_would_be_made_and_makes_nothing(control: Control) -> None:
    asked = {"base": 1, "parts": {"system": SYSTEM, "params": {"temperature": 0.1}}}
    draft = control.post(RELEASES, dry=True, **asked)
    assert {part["part"] for part in draft["parts"]} == {"system", "params"}
    assert (draft["against"], draft["same_as"], numbers(control)) == (1, None, [1])
    lost = {one["path"]: one["what"] for one in draft["incompatible"]}
    assert lost == {".kind": "a variable that is not sent"}
    made = control.post(RELEASES, **asked)
    assert (made["release"], made["hash"], made["vcs"]) == (2, draft["hash"], "")
    assert control.post(RELEASES, dry=True, **asked)["same_as"] == 2


@pytest.mark.parametrize(
    ("part", "value", "why"),
    [
        ("system", {"text": "{% if %}", "variables": []}, "the template does not parse"),
        ("prompt", {"text": "{{ who }}", "variables": []}, "the template uses who"),
        ("schema", {"type": "nonsense"}, "not a usable JSON Schema"),
        ("tools", [{"type": "function"}], "tool 0 has no function.name"),
        ("policy", {"retry": {"attempt": 3}}, "there is no key 'retry.attempt'"),
        ("policy", {"fallback": [{"static": "x", "outcom": "failed"}]}, "there is no key 'fallback[0].outcom'"),
        ("policy", {"retry": {"attempts": "many"}}, "retry.attempts"),
        ("model", {"provider": "nobody", "name": "x"}, "no provider 'nobody'"),
        ("index", {"name": 3}, "it is not as the manifest has it"),
    ],
)
def test_each_part_is_checked_as_one_from_a_file_is(control: Control, part: str, value: Any, why: str) -> None:
    for dry in (True, False):
        error = refused(control, base=1, parts={part: value}, dry=dry)
        assert why in error.what and error.where.partition(":")[0] == f"parts.{part}"
    assert numbers(control) == [1]


def test_a_release_is_made_only_while_the_newest_is_the_one_that_was_seen(control: Control) -> None:
    control.post(RELEASES, base=1, parts={"params": {"top_p": 0.5}}, notes="theirs", newest=1)
    for dry in (True, False):
        error = refused(control, base=1, parts={"params": {"top_p": 0.9}}, newest=1, dry=dry)
        assert error.kind == "base_moved" and "release 2 was made meanwhile by" in error.what
        assert "theirs" in error.what
    assert control.post(RELEASES, base=1, parts={"params": {"top_p": 0.9}}, newest=2)["release"] == 3


def test_a_plan_is_carried_on_only_while_the_pointer_is_the_one_that_was_looked_at(control: Control) -> None:
    control.post(RELEASES, base=1, parts={"params": {"top_p": 0.5}})
    control.post("/api/v1/routes/answer/promote", release=1, env="dev")
    looked = control.get("/api/v1/routes/answer/plan", release=2, env="dev")["revision"]
    control.post("/api/v1/routes/answer/disable", env="dev", reason="meanwhile")
    apply = "/api/v1/routes/answer/apply"
    error = refused(control, apply, release=2, env="dev", revision=looked)
    assert error.kind == "pointer_moved" and "release 1 is stable" in error.what
    now = control.get("/api/v1/routes/answer/plan", release=2, env="dev")["revision"]
    done = control.post(apply, release=2, env="dev", revision=now)
    assert (done["moved"]["to"], onward(done)) == (2, "end")


@pytest.mark.parametrize(
    ("steps", "moved", "then"),
    [
        ([], None, "end"),
        ([("check", "done"), ("promote", "done")], True, "end"),
        ([("check", "blocked"), ("promote", "blocked")], None, "end"),
        ([("check", "done"), ("gate", "ready"), ("promote", "ready")], None, "gate"),
        ([("check", "done"), ("canary", "ready")], True, "again"),
        ([("canary", "waiting"), ("promote", "blocked")], True, "wait"),
        ([("canary", "ready")], None, "wait"),
    ],
)
def test_what_comes_next_of_a_plan(steps: list[tuple[str, str]], moved: bool | None, then: str) -> None:
    assert onward({"steps": [{"kind": kind, "state": state} for kind, state in steps], "moved": moved}) == then
