"""The whole product in its own processes: start, serve, record, release, roll back, refuse, drain."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

pytestmark = pytest.mark.process
App = Callable[..., Path]


def released(one: Any, env: str = "prod") -> str:
    """A key and a first release of `answer`, live."""
    one.release(env=env)
    return str(one.key(env))


@pytest.fixture(scope="module")
def shared(shared_running: Any, shared_app: App) -> Any:
    """One product for the tests that only ask."""
    return shared_running(shared_app())


def test_from_start_to_rollback(running: Any, scripted_app: App) -> None:
    app = scripted_app()
    one = running(app, workers=2)
    key = released(one)

    client = openai.OpenAI(base_url=one.gateway, api_key=key)
    said = client.chat.completions.create(model="answer", messages=[{"role": "user", "content": "hello"}])
    assert said.choices[0].message.content == "You said: hello"
    client.close()

    found = one.get("/traces.json?route=answer")
    assert [(row["outcome"], row["release"], row["preview_in"]) for row in found["traces"]] == [("success", 1, "hello")]
    whole = one.get(f"/traces/{found['traces'][0]['id']}.json")
    assert len(whole["record"]["parts"]) == 8
    assert whole["record"]["id"] == found["traces"][0]["id"]
    again = one.verb("trace", "replay", found["traces"][0]["id"])
    assert again["same"] is True

    (app / "prompts/answer.system.md").write_text("You are a better helper.\n")
    assert one.verb("release", "create", "answer", "-m", "better")["release"] == 2
    moved = one.verb("release", "promote", "answer")
    assert (moved["from"], moved["to"], moved["workers"], moved["of"]) == (1, 2, 2, 2)
    back = one.verb("rollback", "answer")
    assert (back["from"], back["to"], back["workers"]) == (2, 1, 2)
    assert back["propagated_ms"] < 2_000
    assert one.verb("audit", "verify")["ok"] is True

    review = one.get("/review.json?route=answer")
    item = next(found for found in review["routes"][0]["items"] if found["id"] == "T1.0")
    assert {
        "id",
        "title",
        "status",
        "value",
        "n",
        "threshold",
        "owner",
        "fallback",
        "evidence",
        "fix",
        "measured_at",
    } <= (item.keys())
    assert one.stop() == 0


def test_every_twin_answers(shared: Any) -> None:
    one = shared
    key = released(one)
    assert one.chat(key, "answer", "hi")[0] == 200
    overview = one.get("/overview.json")
    assert [row["route"] for row in overview["routes"]] == ["answer"]
    assert overview["control"]["workers"][0]["worker"] == "edge-0"
    assert one.get("/releases.json")["routes"][0]["pointers"][0]["stable"] == 1
    metrics = one.get("/metrics.json?route=answer")["metrics"]
    assert metrics["requests.count"]["points"][0]["value"] == 1
    assert one.get("/evals.json") == {"runs": []}
    assert isinstance(one.get("/alerts.json")["alerts"], list)
    for page in ("/", "/traces", "/releases?route=answer", "/review", "/alerts"):
        status, headers, _ = one.ask("GET", page, authorization=f"Bearer {one.address()['token']}")
        assert status in (200, 303), page
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_bad_input_is_named(shared: Any) -> None:
    one = shared
    done = one.cli("keys", "create", "--name", "x", "--env", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere" in done.stderr
    done = one.cli("release", "promote", "answr")
    assert (done.returncode, "routes: answer" in done.stderr) == (2, True)
    done = one.cli("rollback", "answer", "--env", "staging")
    assert (done.returncode, "not live" in done.stderr) == (2, True)


def test_a_verb_waits_for_a_control_that_is_started_again(shared: Any) -> None:
    os.kill(shared.children()["control"]["pid"], signal.SIGKILL)
    listed = shared.verb("keys", "list")  # never in a process of its own beside running gateways
    assert "keys" in listed
    assert shared.children()["control"]["restarts"] == 1
    assert shared.verb("status")["supervisor"]["children"]


def test_a_taken_port_is_refused(scripted_app: App, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = up(scripted_app(), tmp_path / "data", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot be opened" in done.stderr


def up(app: Path, data: Path, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pilothouse", "up", "--dir", str(app), "--data", str(data), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **env})


def test_an_open_door_is_refused(running: Any, scripted_app: App, tmp_path: Path) -> None:
    app, data = scripted_app(), tmp_path / "data"
    ports = ("--port", "0", "--control-port", "0", "--otlp-port", "0")
    done = up(app, data, "--host", "0.0.0.0", *ports)
    assert done.returncode == 2
    assert "an API key and an admin password" in done.stderr

    keys = [sys.executable, "-m", "pilothouse", "keys", "create", "--name", "x", "--env", "prod"]
    subprocess.run([*keys, "--data", str(data), "--dir", str(app)], check=True, capture_output=True)
    done = up(app, data, "--host", "0.0.0.0", *ports)
    assert "without an admin password" in done.stderr

    one = running(app, data=data, host="0.0.0.0", env={"PILOTHOUSE_ADMIN_PASSWORD": "a long enough password"})
    status, _, page = one.ask("POST", "/login", "secret=a+long+enough+password&next=/", content_type=FORM)
    assert (status, page) == (303, "")
    for child in one.children().values():
        environment = psutil.Process(child["pid"]).environ()
        assert "PILOTHOUSE_ADMIN_PASSWORD" not in environment


FORM = "application/x-www-form-urlencoded"


def test_one_supervisor_for_a_directory(shared: Any) -> None:
    done = up(shared.app, shared.data, "--port", "0", "--control-port", "0", "--otlp-port", "0")
    assert done.returncode == 2
    assert "already" in done.stderr or "another pilothouse" in done.stderr


def test_what_never_starts_is_given_up_with_its_reason(scripted_app: App, tmp_path: Path) -> None:
    app = scripted_app(script="rules: [{reply: 7")
    done = up(app, tmp_path / "data", "--port", "0", "--control-port", "0", "--otlp-port", "0")
    assert done.returncode == 2
    assert "provider-fake ended 3 times before it answered" in done.stderr


def test_children_die_with_a_killed_supervisor(running: Any, scripted_app: App) -> None:
    one = running(scripted_app())
    pids = [child["pid"] for child in one.children().values()]
    assert all(psutil.pid_exists(pid) for pid in pids)
    one.stop(signal.SIGKILL)
    one.eventually(lambda: not any(alive(pid) for pid in pids), 15)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_drain_finishes_what_is_in_flight(running: Any, scripted_app: App) -> None:
    one = running(scripted_app(script='rules: [{reply: "slow", latency: 2.0}]\n'))
    key = released(one)
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        status, _, body = one.chat(key, "answer", "take your time")
        answers.append((status, body["choices"][0]["message"]["content"]))

    asking = threading.Thread(target=ask)
    asking.start()
    one.eventually(lambda: in_flight(one) == 1, 10)
    began = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - began < 10
    asking.join()
    assert answers == [(200, "slow")]
    done = one.cli("trace", "list", "--json")  # control is gone: the same app in the verb's own process
    assert [row["outcome"] for row in json.loads(done.stdout)["traces"]] == ["success"]


def in_flight(one: Any) -> int:
    lines = one.fetch("GET", f"{one.gateway.removesuffix('/v1')}/metrics")[2].splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("pilothouse_in_flight"))
