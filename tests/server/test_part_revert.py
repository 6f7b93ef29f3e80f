"""An incident on a real edge: prompt and index changed together, the index is guilty and is taken back alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

# What an app's retriever finds, by index version: the build v2 lost the page on returns.
DOCUMENTS = {"v1": "Returns are free for 30 days.", "v2": ""}
SCRIPT = """
rules:
  - match: {anywhere: "Be brief", contains: "free for 30 days"}
    json: {answer: "30 days", style: new}
  - match: {contains: "free for 30 days"}
    json: {answer: "30 days", style: old}
  - reply: "I could not find that."
"""
SCHEMA = {"type": "object", "required": ["answer", "style"],
          "properties": {"answer": {"type": "string"}, "style": {"type": "string"}}}  # fmt: skip
ROUTE = "    schema: schema.json\n    index: docs\n    policy:\n      retry: {attempts: 1}\n      invalid: [error]\n"


def live_index(one: Any) -> str:
    """The index version that production serves, as an app asks for it."""
    found = one.get("/api/v1/routes/answer/releases")
    stable = next(pointer["stable"] for pointer in found["pointers"] if pointer["env"] == "prod")
    release = next(release for release in found["releases"] if release["release"] == stable)
    return str(one.get(f"/api/v1/parts/{release['parts']['index']}")["content"]["version"])


def ask(one: Any, key: str, n: int) -> list[tuple[int, Any]]:
    """`n` questions of the app: it retrieves from the live index and asks the gateway."""
    found = DOCUMENTS[live_index(one)]
    answers = []
    for i in range(n):
        status, _, body = one.chat(key, "answer", f"Question {i}: how long? Documents: {found}")
        answers.append((status, json.loads(body["choices"][0]["message"]["content"]) if status == 200 else None))
    return answers


def test_the_guilty_part_alone_is_taken_back(running: Any, scripted_app: Callable[..., Path]) -> None:
    folder = scripted_app(script=SCRIPT, route=ROUTE)
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    one = running(folder, workers=1)
    key = one.key()
    one.verb("index", "register", "docs", "v1", "--documents", "120")
    one.release()
    assert ask(one, key, 4) == [(200, {"answer": "30 days", "style": "old"})] * 4

    # the change: a better prompt and, with it, a new build of the index
    (folder / "prompts" / "answer.system.md").write_text("You are a helper. Be brief.\n")
    one.post("/api/v1/indexes", name="docs", version="v2", documents=119)
    assert one.release() == 2
    assert live_index(one) == "v2"
    assert {status for status, _ in ask(one, key, 3)} == {422}  # the incident

    back = one.verb("rollback", "answer", "--part", "index", "--reason", "answers without documents")
    assert (back["from"], back["to"], back["source"], back["made"]) == (2, 3, 1, True)
    assert (back["workers"], back["of"], back["late"]) == (1, 1, [])
    shown = back["verified"]
    assert (shown["inputs"], shown["rendered"], shown["sent"], shown["valid"]) == (4, 4, 3, 3)

    changed = {part["part"]: part["changed"] for part in one.get("/api/v1/routes/answer/diff?a=2&b=3")["parts"]}
    assert [part for part, differs in changed.items() if differs] == ["index"]
    assert live_index(one) == "v1"
    assert ask(one, key, 2) == [(200, {"answer": "30 days", "style": "new"})] * 2  # the new prompt stayed

    last = one.get("/api/v1/routes/answer/releases")["rollbacks"][0]
    assert (last["part"], last["from_release"], last["to_release"]) == ("index", 2, 3)
    assert last["t_decide_us"] <= last["t_flip_us"]
    assert one.get("/api/v1/audit/verify")["ok"]
    log = one.get("/api/v1/changes?route=answer&limit=10")["changes"]
    revert = next(row["change"] for row in log if row["change"]["action"] == "release.revert_part")
    assert revert["detail"]["waived"].startswith("gate: every part was released before; 4 of 4 recorded inputs render")

    def last_bad() -> bool:
        found = one.get("/api/v1/routes/answer/releases")["rollbacks"][0]["t_last_bad_us"]
        return found is not None and found <= last["t_flip_us"]

    one.eventually(last_bad)
    # whole again: behind the mixed release stands the first, not the one that was left
    assert one.post("/api/v1/routes/answer/rollback")["to"] == 1


def test_what_does_not_pass_its_trial_is_not_served(running: Any, scripted_app: Callable[..., Path]) -> None:
    folder = scripted_app(route="    index: docs\n    prompt: prompts/answer.md\n")
    prompt = folder / "prompts" / "answer.md"
    prompt.write_text("Answer this: {{ input }}\n")
    one = running(folder, workers=1)
    one.post("/api/v1/indexes", name="docs", version="v1")
    one.release()
    nothing = one.cli("rollback", "answer", "--part", "index")
    assert nothing.returncode == 2
    assert "no release that was live before release 1 in prod has another index" in nothing.stderr

    prompt.write_text("---\nvariables: [input, tone]\n---\nAnswer this in a {{ tone }} tone: {{ input }}\n")
    one.post("/api/v1/indexes", name="docs", version="v2")
    key = one.key()
    for i in range(2):
        assert one.chat(key, "answer", f"question {i}")[0] == 200
    assert one.post("/api/v1/routes/answer/releases")["release"] == 2
    plan = one.get("/api/v1/routes/answer/plan")
    assert (plan["state"], plan["steps"][0]["evidence"]["callers"]) == ("blocked", 2)
    assert plan["steps"][0]["message"].startswith("T10.1: callers would not survive it")
    refused = one.cli("release", "promote", "answer")
    assert refused.returncode == 2
    assert "prompt.tone: a variable that is not sent, 2 of 2 requests rely on it" in refused.stderr
    assert one.verb("release", "apply", "answer", ok=(1,))["state"] == "blocked"

    one.post("/api/v1/routes/answer/promote", release=2, force=True, reason="to see it fail")
    done = one.cli("rollback", "answer", "--part", "index")
    assert done.returncode == 2
    assert "does not render" in done.stderr
    assert "tone" in done.stderr
    found = one.get("/api/v1/routes/answer/releases")
    assert (len(found["releases"]), found["pointers"][0]["stable"]) == (2, 2)  # nothing was made, nothing moved
