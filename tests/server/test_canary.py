"""Canaries on their own: bad ones are aborted for what got worse, a good one is promoted, one without traffic holds."""

import concurrent.futures
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
App = Callable[..., Path]

# What a candidate does is in its system text; the script acts on it.
SCRIPT = """
rules:
  - {match: {anywhere: "be slow"}, reply: "later", latency: 0.5, usage: {prompt: 20, completion: 5}}
  - {match: {anywhere: "be wordy"}, reply: "at length", latency: 0.01, usage: {prompt: 20, completion: 500}}
  - {match: {anywhere: "be rude"}, reply: "go away", latency: 0.01, usage: {prompt: 20, completion: 5}}
  - {match: {anywhere: "tell all"}, reply: "mail bob@example.com", latency: 0.01, usage: {prompt: 20, completion: 5}}
  - {reply: "an answer", latency: 0.01, usage: {prompt: 20, completion: 5}}
"""
HARM = {"slow": "be slow", "dear": "be wordy", "worse": "be rude", "guarded": "tell all"}
ROUTES = (*HARM, "good", "silent")
WIDE = "{failed: 30pp, refused: 30pp, invalid: 30pp, guarded: 30pp, score: 30pp, latency: 400 %, cost: 100 %}"
ROUTE = """
  {name}:
    owner: ana
    system: prompts/{name}.system.md
    model: fake/small-2026-01-01
    policy: {{retry: {{attempts: 1}}, guards: [{{use: pii, at: [output], action: flag}}]}}
    canary: {{steps: [50 %, 100 %], min_requests: 10, min_time: 0s, auto: true, margins: {wide}}}
"""
MORE = "prices: {fake/small-2026-01-01: {input: 1 USD, output: 10 USD}}\n"


def system(app: Path, route: str, text: str) -> None:
    (app / f"prompts/{route}.system.md").write_text(text + "\n")


def canary(one: Any, route: str) -> dict[str, Any]:
    return dict(one.get(f"/api/v1/routes/{route}/canaries")["canaries"][0])


def ask(one: Any, key: str, route: str, number: int) -> None:
    """One request of its own user, who says what they think of the answer."""
    _, headers, answer = one.chat(key, route, "hello", user=f"user-{number}")
    said = answer["choices"][0]["message"]["content"]
    body = {"request_id": headers["x-pilothouse-request-id"], "name": "helpful", "value": said != "go away"}
    url = f"{one.gateway}/feedback"
    assert one.fetch("POST", url, json.dumps(body), authorization=f"Bearer {key}")[0] in (200, 202)


def test_what_became_worse_is_aborted_for_it_and_what_did_not_is_promoted(running: Any, scripted_app: App) -> None:
    app = scripted_app(SCRIPT, more="".join(ROUTE.format(name=name, wide=WIDE) for name in ROUTES) + MORE)
    for name in ROUTES:
        system(app, name, "You are kind.")
    one = running(app)
    key = one.key()
    for name in ROUTES:
        one.release(name)
        system(app, name, HARM.get(name, "You are kinder."))
        one.release(name, share=0.5, reason="try it")
    asking = iter(range(10_000))

    def ended() -> bool:
        states = {name: canary(one, name)["state"] for name in ROUTES if name != "silent"}
        running_ = [name for name, state in states.items() if state == "running"]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda name: ask(one, key, name, next(asking)), running_ * 6))
        return not running_

    one.eventually(ended, 180)
    assert next(loop for loop in one.get("/api/v1/status")["loops"] if loop["name"] == "canary watch")["failures"] == 0
    found = {name: canary(one, name) for name in ROUTES}
    assert {name: run["state"] for name, run in found.items()} == {
        **dict.fromkeys(HARM, "aborted"), "good": "promoted", "silent": "running",
    }  # fmt: skip
    said = {name: run["decision"] for name, run in found.items()}
    assert said["slow"].startswith("aborted: latency +")
    assert said["dear"].startswith("aborted: cost +")
    assert said["worse"].startswith("aborted: ")
    assert "scores of helpful bad against " in said["worse"]
    assert "requests with a guardrail's finding against " in said["guarded"]
    assert said["good"].startswith("may be promoted: 0 of ")
    assert said["silent"] == "no data: no request has reached the canary at 50 %"
    assert found["good"]["looks"][-1]["rails"]["latency"]
    pointers = {name: one.get(f"/releases.json?route={name}")["routes"][0]["pointers"][0] for name in ROUTES}
    assert {name: pointer["stable"] for name, pointer in pointers.items()} == {
        **dict.fromkeys(HARM, 1), "good": 2, "silent": 1,
    }  # fmt: skip
    moves = one.get("/api/v1/changes?route=good")["changes"]
    assert [move["change"]["actor"]["id"] for move in moves if move["change"]["action"] == "canary.step"] == ["canary"]
