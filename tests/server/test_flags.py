"""Flags in a running product: changed by hand, on every worker at once, counted, reviewed, and shown."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
FLAGS = """\
flags:
  new-answer: {owner: ana, rollout: {on: 50%}}
  colour: {type: string, variants: {red: "#f00", blue: "#00f"}, default: red}
  beta:
    type: integer
    owner: ben
    variants: {live: 0, two: 2}
    default: live
    selects: {route: answer, part: system}
    rules: [{when: {labels.beta: "yes"}, serve: two}]
  refunds: {owner: ana, flow: {route: answer, when: {flow: refunds}}}
"""
SCRIPT = 'rules: [{match: {anywhere: pirate}, reply: "Arr"}, {reply: "You said: {input}"}]\n'


@pytest.fixture(scope="module")
def product(shared_running: Any, shared_app: Callable[..., Path]) -> Iterator[tuple[Any, str]]:
    """Two workers, one live release, a key for prod."""
    one = shared_running(shared_app(script=SCRIPT, more=FLAGS), workers=2)
    one.release()
    yield one, one.key()


def evaluated(one: Any, key: str, flag: str, user: str = "u1") -> dict[str, Any]:
    url = one.gateway.removesuffix("/v1") + f"/ofrep/v1/evaluate/flags/{flag}"
    body = json.dumps({"context": {"targetingKey": user}})
    return dict(json.loads(one.fetch("POST", url, body, authorization=f"Bearer {key}")[2]))


def test_a_flip_is_on_every_worker_when_the_verb_returns(product: tuple[Any, str]) -> None:
    one, key = product
    for variant, value in (("blue", "#00f"), ("red", "#f00")) * 2:
        done = one.post("/api/v1/flags/colour", variant=variant, reason="to see")
        assert (done["workers"], done["of"], done["late"]) == (2, 2, [])
        assert {evaluated(one, key, "colour")["value"] for _ in range(12)} == {
            value
        }  # connections fall to either worker
    one.post("/api/v1/flags/colour", enabled=False)
    assert evaluated(one, key, "colour")["reason"] == "DISABLED"
    one.verb("flag", "set", "colour", "--declared")
    shown = one.verb("flag", "show", "colour")
    assert shown["row"]["said"] == "red" and not shown["row"]["changed_here"]
    actions = [change["action"] for change in one.verb("flag", "history", "colour", "--env", "prod")["changes"]]
    assert actions == ["flag.reset", "flag.disable", *["flag.set"] * 4, "flag.declare"]
    found = one.get("/api/v1/flags/colour/history?env=prod")["changes"]
    disabled = next(change for change in found if change["action"] == "flag.disable")
    then = one.verb("flag", "history", "colour", "--env", "prod", "--at", str(disabled["ts_us"]))["then"]
    assert (then["said"], then["flag"]["enabled"]) == ("disabled, gives the code's default", False)
    assert one.verb("flag", "history", "colour", "--at", "2h")["then"]["said"] == "the files did not name it"
    assert one.get("/api/v1/audit/verify")["ok"]


def test_the_command_line_and_a_worker_agree_on_who_gets_what(product: tuple[Any, str], tmp_path: Path) -> None:
    one, key = product
    one.verb("flag", "rollout", "new-answer", "30%", "--env", "staging")
    assert one.get("/flags/new-answer.json?env=staging")["rollout"] == {"on": 0.3}
    for user in ("u1", "u2"):
        said = one.verb("flag", "eval", "new-answer", "--key", user)
        assert (said["value"], said["reason"]) == (evaluated(one, key, "new-answer", user)["value"], "SPLIT")
    assert one.verb("flag", "eval", "new-answer", ok=(1,))["error"] == "TARGETING_KEY_MISSING"
    rules = tmp_path / "rules.yaml"
    rules.write_text("- {name: paying, when: {plan: pro}, serve: on}\n")
    revision = one.verb("flag", "set", "new-answer", "--rules", str(rules))["revision"]
    said = one.verb("flag", "eval", "new-answer", "--context", '{"plan": "pro"}')
    assert (said["value"], said["reason"], said["rule"]) == (True, "TARGETING_MATCH", "paying")
    refused = one.cli("flag", "disable", "new-answer", "--if-revision", str(revision - 1))
    assert refused.returncode == 2 and "somebody changed it" in refused.stderr
    rules.write_text("- {when: {plan: pro}, serve: onn}\n")
    refused = one.cli("flag", "set", "new-answer", "--rules", str(rules))
    assert refused.returncode == 2 and "did you mean 'on'?" in refused.stderr


def test_a_new_release_is_chosen_as_soon_as_it_is_made_and_its_requests_can_be_made_again(
    product: tuple[Any, str],
) -> None:
    one, key = product
    assert one.get("/flags/beta.json")["problems"] == {"two": "route 'answer' has no release 2"}
    (one.app / "prompts" / "answer.system.md").write_text("You are a pirate.\n")
    one.post("/api/v1/routes/answer/releases")
    assert one.get("/flags/beta.json")["problems"] == {}
    _, headers, said = one.chat(key, "answer", "hello", metadata={"beta": "yes"})
    assert (headers["x-pilothouse-release"], said["choices"][0]["message"]["content"]) == ("1", "Arr")
    ident = headers["x-pilothouse-request-id"]
    one.eventually(lambda: any(row["id"] == ident for row in one.get("/traces.json")["traces"]))
    assert one.get(f"/traces/{ident}.json")["record"]["flags"] == {"beta": "two"}
    assert one.post(f"/api/v1/requests/{ident}/replay")["same"]
    found = one.get("/review.json?route=answer")["routes"][0]["items"]
    ok, _, n = next(f for f in found if f["id"] == "T1.0")["value"].partition(" of ")
    assert ok == n != ""


def test_switching_a_flow_off_is_exercise_and_the_review_says_so(product: tuple[Any, str]) -> None:
    one, key = product

    def switch() -> dict[str, Any]:
        found = one.get("/review.json?route=answer")["routes"][0]["items"]
        return dict(next(f for f in found if f["id"] == "T10.3"))

    before = switch()
    assert before["status"] == "NO_DATA" and "off path never taken: refunds" in before["detail"]
    one.verb("flag", "disable", "refunds", "--reason", "drill")
    body = json.dumps({"model": "answer", "messages": [{"role": "user", "content": "x"}]})
    asked = {"authorization": f"Bearer {key}", "x_pilothouse_flow": "refunds"}
    status, _, answer = one.fetch("POST", f"{one.gateway}/chat/completions", body, **asked)
    assert (status, json.loads(answer)["error"]["code"]) == (403, "flow_off")
    assert one.chat(key, "answer", "hello")[0] == 200
    one.post("/api/v1/flags/refunds", enabled=True)
    assert one.fetch("POST", f"{one.gateway}/chat/completions", body, **asked)[0] == 200
    one.eventually(lambda: one.get("/flags/refunds.json")["row"]["off_us"])
    after = switch()
    assert after["status"] == "WARN" and after["value"].startswith("exercised")  # `colour` has no owner
    assert "colour: unowned" in after["detail"]
    marks = [mark["text"] for mark in one.get("/overview.json")["marks"]]
    assert marks[-2:] == ["refunds: disabled, gives off", "refunds: on"]
    assert {row["key"] for row in one.verb("flag", "list", "--stale")["flags"]} == {"colour"}


def test_a_routes_own_switch_refuses_all_and_is_kept_as_exercise(product: tuple[Any, str]) -> None:
    one, key = product
    done = one.verb("route", "disable", "answer", "--reason", "drill")
    assert (done["what"], done["workers"]) == ("disabled", 2)
    status, _, answer = one.chat(key, "answer", "hello")
    assert (status, answer["error"]["code"]) == (503, "route_disabled")
    one.verb("route", "enable", "answer")
    assert one.chat(key, "answer", "hello")[0] == 200


def test_counts_of_both_workers_add_up(product: tuple[Any, str]) -> None:
    one, key = product

    def given() -> int:
        uses = one.get("/flags/new-answer.json")["uses"]
        return sum(use["n"] for use in uses)

    before = given()
    for i in range(30):
        evaluated(one, key, "new-answer", f"user-{i}")
    one.eventually(lambda: given() >= before + 30)
    assert given() == before + 30
    assert sum(map(sum, one.get("/flags/new-answer.json")["series"].values())) == given()


def test_what_a_flag_chose_counts_for_neither_side_of_a_canary(product: tuple[Any, str]) -> None:
    one, key = product
    (one.app / "prompts" / "answer.system.md").write_text("You are kind.\n")
    one.release("answer", share=0.5, reason="try it")
    for number in range(8):
        one.chat(key, "answer", "hello", user=f"user-{number}", metadata={"beta": "yes"} if number % 2 else {})

    def run() -> dict[str, Any]:
        return dict(one.get("/api/v1/routes/answer/canaries")["canaries"][0])

    one.eventually(lambda: run()["evidence"].get("left_out") == 4)
    assert "; 4 requests left out: a flag chose" in run()["decision"]
    assert run()["requests"] <= 4
    bearer = f"Bearer {one.address()['token']}"
    assert "4 requests left out" in one.ask("GET", "/releases?route=answer", authorization=bearer)[2]
    one.verb("rollback", "answer", "--reason", "enough")
