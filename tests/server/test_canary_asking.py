"""Inputs asked again for a canary: a shadow stage that users never feel, and a feed where there are no users."""

import concurrent.futures
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse.store.state import canary_pairs
from pilothouse.store.state.engine import StateStore

pytestmark = pytest.mark.process
App = Callable[..., Path]

SCRIPT = r"""
rules:
  - {match: {regex: "Answer A:\ngo away"}, reply: "B"}
  - {match: {regex: "Answer B:\ngo away"}, reply: "A"}
  - {match: {contains: "Answer A:"}, reply: "A"}
  - {match: {anywhere: "be rude"}, reply: "go away", usage: {prompt: 20, completion: 5}}
  - {match: {anywhere: "be other"}, reply: "another answer", usage: {prompt: 20, completion: 5}}
  - {reply: "an answer", usage: {prompt: 20, completion: 5}}
"""
WIDE = "{failed: 30pp, refused: 30pp, invalid: 30pp, guarded: 30pp, latency: 900 %, cost: 100 %}"
ROUTE = """
  {name}:
    owner: ana
    system: prompts/{name}.system.md
    model: fake/small-2026-01-01
    canary: {{steps: [50 %, 100 %], min_requests: 5, min_time: 0s, auto: true, margins: {wide}, {more}}}
"""
ROUTES = {
    "worse": "shadow: {requests: 40, spend: 1 USD, judge: judge}",
    "other": "shadow: {requests: 6, spend: 1 USD, judge: judge}",
    "fed": "replay: {per_minute: 600, spend: 1 USD}",
    "few": "replay: {per_minute: 600, spend: 1 USD}",
    "capped": "replay: {per_minute: 600, spend: 0.001 USD}",
    "judge": "auto: true",
}
BECOMES = {
    "worse": "be rude",
    "other": "be other",
    "fed": "You are kinder.",
    "few": "You are kinder.",
    "capped": "You are kinder.",
}
USERS = 40
FED = 160  # more than are asked before both shares are proven, also where looks are slow
PAIR_USD = 2 * (20 * 1e-6 + 5 * 10e-6)  # an input asked of both releases
MORE = "prices: {fake/small-2026-01-01: {input: 1 USD, output: 10 USD}}\n"


def section(name: str) -> str:
    made = ROUTE.format(name=name, wide=WIDE, more=ROUTES[name])
    return made.replace("auto: true, margins", "margins") if name == "judge" else made


def canary(one: Any, route: str) -> dict[str, Any]:
    return dict(one.get(f"/api/v1/routes/{route}/canaries")["canaries"][0])


def sources(one: Any, route: str, source: str) -> int:
    return int(one.get(f"/traces.json?limit=1&q=route:{route}%20source:{source}")["total"])


def test_what_is_asked_again_decides_and_costs_no_user_anything(running: Any, scripted_app: App) -> None:
    app = scripted_app(SCRIPT, more="".join(map(section, ROUTES)) + MORE)
    for name in ROUTES:
        (app / f"prompts/{name}.system.md").write_text("You are kind.\n")
    one = running(app)
    key = one.key()
    for name in ROUTES:
        one.release(name)

    def ask(name: str, number: int) -> None:
        assert one.chat(key, name, f"question {number}", user=f"user-{number}")[0] == 200

    def users(**many: int) -> None:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            names = [name for name, n in many.items() for _ in range(n)]
            list(pool.map(ask, names, range(len(names))))

    users(fed=FED, few=3, capped=USERS)
    for name, text in BECOMES.items():
        (app / f"prompts/{name}.system.md").write_text(text + "\n")
        share = 0.0 if "shadow" in ROUTES[name] else 0.5
        one.release(name, share=share, reason="try it")
    users(worse=USERS)  # all of them are served by the stable release
    assert {row["release"] for row in one.get("/traces.json?limit=200&q=route:worse")["traces"]} == {1}

    def other_stepped() -> bool:
        ask("other", sources(one, "other", "edge"))
        return len(canary(one, "other")["steps"]) > 1

    one.eventually(other_stepped, 120)
    one.eventually(lambda: canary(one, "worse")["state"] == "aborted", 120)
    one.eventually(lambda: canary(one, "fed")["state"] == "promoted", 120)

    one.eventually(lambda: canary(one, "few")["decision"].endswith("every recorded input has been asked"), 60)

    worse, other, fed, _, capped = (canary(one, name) for name in BECOMES)
    assert "comparisons lost against 50 % allowed" in worse["decision"]
    assert worse["asked_again"]["won"] == 0
    assert worse["asked_again"]["lost"] >= 10
    assert [step["share"] for step in other["steps"]][:2] == [0.0, 0.5]
    assert (other["asked_again"]["won"], other["asked_again"]["lost"]) == (0, 0)  # the judge liked a place: ties
    assert fed["decision"].startswith("may be promoted: 0 of ")
    assert fed["requests"] == 0  # of users
    assert capped["state"] == "running"
    assert capped["decision"].endswith("; recorded inputs are asked for 0.001 USD at most")
    assert 0 < capped["asked_again"]["spent"] <= 0.001
    assert capped["asked_again"]["pairs"] == int(0.001 / PAIR_USD)

    assert sources(one, "fed", "edge") == FED
    assert sources(one, "fed", "replay") == 2 * fed["asked_again"]["pairs"]
    overview = {row["route"]: row for row in one.get("/overview.json?window=1h")["routes"]}
    assert overview["fed"]["requests"] == FED
    assert overview["worse"]["requests"] == USERS
    assert one.stop() == 0
    store = StateStore(one.data / "state.db")
    with store.read() as conn:
        details = {pair.detail for pair in canary_pairs.of_run(conn, other["id"])}
    store.close()
    assert details == {"the judge preferred a place, not an answer"}
