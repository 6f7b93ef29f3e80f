"""A release from gate to canary to automatic rollback, and a rule that acts, in real processes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
App = Callable[..., Path]

SCRIPT = """
rules:
  - {match: {anywhere: "be brief", contains: "question"}, reply: "no"}
  - {match: {anywhere: "fail now"}, status: 500}
  - {reply: "the answer to {input}"}
"""
ONE_TRY = """    policy: {retry: {attempts: 1}}
"""
GATE = f"""{ONE_TRY}    gate: {{dataset: cases.jsonl, scorers: [contains], margin: 5pp}}
"""
RULES = """
rules:
  - {name: failures, route: answer, metric: error.rate, threshold: 0.5, window: 1m, min_n: 5, owner: ana,
     actions: [{disable_route: ""}], runbook: "pilothouse rollback answer"}
"""


def cases(folder: Path, number: int = 40) -> None:
    lines = [{"id": f"c{n}", "input": f"question {n}", "target": f"answer to question {n}"} for n in range(number)]
    (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def system(folder: Path, text: str) -> None:
    (folder / "prompts/answer.system.md").write_text(text)


@pytest.fixture
def gated(running: Any, scripted_app: App) -> Iterator[Any]:
    app = scripted_app(SCRIPT, GATE)
    cases(app)
    yield running(app, workers=2)


def test_gate_canary_and_automatic_rollback(gated: Any) -> None:
    one, app = gated, gated.app
    first = one.verb("release", "create", "answer", "--gate", ok=(3,))
    assert first["gate"]["verdict"] == "inconclusive"  # nothing to compare with, and no floor
    one.verb("release", "promote", "answer", "--force", "--reason", "the first one")

    system(app, "You are kind.\n")
    good = one.verb("release", "create", "answer", "--gate")
    assert (good["release"], good["gate"]["verdict"], good["baseline"]) == (2, "pass", 1)
    assert one.verb("release", "promote", "answer")["to"] == 2

    system(app, "be brief\n")
    bad = one.verb("release", "create", "answer", "--gate", ok=(1,))
    assert bad["gate"]["verdict"] == "block"
    assert bad["gate"]["broke"] == 40
    again = one.verb("eval", "run", "answer", "--release", "3", ok=(1,))
    assert again["run"] == bad["run"]  # known from a moment ago: no call was repeated
    assert len(one.verb("eval", "show", str(bad["run"]))["cases"]) == 40
    refused = one.cli("release", "promote", "answer", "3")
    assert refused.returncode == 2
    assert "the gate says block" in refused.stderr

    system(app, "fail now\n")
    assert one.release(share=0.5, force=True, reason="forced in") == 4
    key = one.key()
    statuses = []

    def ended() -> bool:
        statuses.append(one.chat(key, "answer", "hi", user=f"user-{len(statuses)}")[0])
        pointer = one.get("/releases.json?route=answer")["routes"][0]["pointers"][0]
        return bool(pointer["canary"] is None)

    one.eventually(ended, 60)
    seen = one.get("/api/v1/routes/answer/canaries")["canaries"][0]
    assert (seen["state"], seen["release"], seen["baseline"]) == ("aborted", 4, 2)
    assert seen["requests"] >= 2
    assert seen["propagated_ms"] <= 2_000
    assert seen["seconds_to_rollback"] < 30
    assert one.chat(key, "answer", "hi")[0] == 200
    actors = [change["change"]["actor"]["id"] for change in one.get("/api/v1/changes?route=answer")["changes"]]
    assert "canary" in actors
    assert one.verb("audit", "verify")["ok"] is True


TAKES_BACK = """
rules:
  - {name: any failure, route: answer, metric: error.rate, threshold: 0.01, window: 10m, min_n: 2, owner: ana,
     actions: [rollback], runbook: "pilothouse rollback answer"}
"""


def test_a_rule_does_not_take_back_a_good_release_for_its_canarys_failures(running: Any, scripted_app: App) -> None:
    one = running(scripted_app(SCRIPT, "    policy: {retry: {attempts: 1}}\n", TAKES_BACK))
    key = one.key()
    for text in ("You are kind.\n", "You are kinder.\n"):
        system(one.app, text)
        one.release()
    system(one.app, "fail now\n")
    assert one.release(share=0.5, force=True, reason="forced in") == 3
    sent: list[int] = []

    def ended() -> bool:
        sent.append(one.chat(key, "answer", "hi", user=f"user-{len(sent)}")[0])
        return one.get("/releases.json?route=answer")["routes"][0]["pointers"][0]["canary"] is None

    one.eventually(ended, 60)
    assert 502 in sent

    def ticks() -> int:
        return int(next(loop for loop in one.get("/api/v1/status")["loops"] if loop["name"] == "rules")["runs"])

    before = ticks()
    one.eventually(lambda: ticks() >= before + 3, 60)
    assert one.get("/releases.json?route=answer")["routes"][0]["pointers"][0]["stable"] == 2


def test_a_rule_that_fires_acts_and_can_be_acknowledged(running: Any, scripted_app: App) -> None:
    one = running(scripted_app(SCRIPT, ONE_TRY, more=RULES))
    key = one.key()
    system(one.app, "fail now\n")
    one.release()
    codes: list[str] = []

    def disabled() -> bool:
        status, _, body = one.chat(key, "answer", "hi")
        codes.append(body["error"]["code"])
        assert status in (502, 503)
        return codes[-1] == "route_disabled"

    one.eventually(disabled, 60)
    alert = next(found for found in one.verb("alerts", "list")["alerts"] if found["rule"] == "failures")
    assert alert["state"] == "firing"
    assert any("disabled answer in prod on 1 of 1 workers" in done for done in alert["actions_taken"])
    acknowledged = one.verb("alerts", "ack", alert["id"], "--actionable")
    assert (acknowledged["state"], acknowledged["actionable"]) == ("acknowledged", True)
    assert one.verb("rules", "check")["ok"] is True
    assert one.get("/api/v1/status")["loops"][0]["failures"] == 0


def test_a_rule_without_owner_or_action_cannot_be_saved(running: Any, scripted_app: App) -> None:
    one = running(scripted_app())
    rule = {
        "name": "r",
        "metric": "error.rate",
        "route": "answer",
        "threshold": 0.1,
        "owner": "ana",
        "actions": [{"kind": "notify"}],
    }
    bearer = f"Bearer {one.address()['token']}"
    for lacking in ({"owner": ""}, {"owner": "nobody"}, {"actions": []}, {"metric": "eror.rate"}):
        status, _, body = one.ask("POST", "/api/v1/rules", json.dumps(rule | lacking), authorization=bearer)
        assert status == 409, body
    assert one.ask("POST", "/api/v1/rules", json.dumps(rule), authorization=bearer)[0] == 200
    origins = {found["rule"]["name"]: found["from"] for found in one.get("/api/v1/rules")["rules"]}
    assert origins["r"] == "saved"
