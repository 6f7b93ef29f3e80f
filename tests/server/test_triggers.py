"""Triggers on real processes: releases, files, traffic and alerts re-open items; new measurements and a signature close
them."""

import concurrent.futures
import contextlib
import http.server
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.domain.alert import Alert
from pilothouse.store.state import alerts
from pilothouse.store.state.engine import StateStore

pytestmark = pytest.mark.process
HOUR_US = 3_600_000_000
SCRIPT = """rules: [{reply: '{"a": 1}', usage: {prompt: 20, completion: 5}}]\n"""
TOOLS = '[{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]\n'
N = 40


def rows(one: Any) -> dict[str, dict[str, Any]]:
    [route] = one.get("/review.json?route=answer")["routes"]
    return {row["id"]: row for row in route["items"]}


def ask(one: Any, key: str, segment: str) -> None:
    def one_of(number: int) -> int:
        return int(one.chat(key, "answer", f"hello {number}", metadata={"segment": segment})[0])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert set(pool.map(one_of, range(N))) == {200}


def requests(one: Any) -> int:
    return int(one.get("/review.json?route=answer")["routes"][0]["requests"])


def test_what_changed_reopens_items_until_they_are_measured_or_signed(
    running: Any, scripted_app: Callable[..., Path]
) -> None:
    app = scripted_app(SCRIPT)
    one = running(app, workers=1)
    one.release()
    key = one.key()
    ask(one, key, "de")
    one.eventually(lambda: requests(one) == N)
    calm = rows(one)
    assert {ident: calm[ident]["status"] for ident in ("V1", "V2", "V3", "V4", "V5", "V6")} == dict.fromkeys(
        ("V1", "V2", "V3", "V4", "V5", "V6"), "PASS"
    )
    assert (calm["T9.1"]["status"], calm["V4"]["detail"]) == ("PASS", "no rule for: T7.1, T9.6")

    (app / "answer.json").write_text('{"type": "object", "required": ["a"]}\n')
    (app / "tools.json").write_text(TOOLS)
    config = (app / "pilothouse.yaml").read_text().replace("fake/small-2026-01-01", "fake/large-2026-01-01")
    (app / "pilothouse.yaml").write_text(
        config + "    schema: answer.json\n    tools: tools.json\nretention: {requests: 60d}\n"
    )
    one.release()
    with contextlib.closing(StateStore(one.data / "state.db")) as state, state.write() as conn:
        since = one.get("/api/v1/changes?limit=1")["changes"][0]["ts_us"] - 30 * HOUR_US
        alert = Alert(
            id="long", rule="answer T9.1 slow", route="answer", env="prod", state="firing", since_us=since,
            fired_us=since, times_fired=1, owner="ana",
        )  # fmt: skip
        alerts.put(conn, alert)

    found = rows(one)
    said = "release 2: model fake/small-2026-01-01 → fake/large-2026-01-01"
    assert found["V1"]["status"] == "WARN"
    assert found["V1"]["detail"].startswith(said)
    assert found["V2"]["detail"].startswith("release 2: tools for the first time")
    assert found["V3"]["detail"].startswith("release 2: schema for the first time")
    assert found["V4"]["detail"].startswith("“answer T9.1 slow” (T9.1) fires for more than 24 h")
    assert found["V6"]["detail"].startswith("requests kept for ever → 60 d")
    assert found["T9.1"]["status"] == "STALE"
    assert found["T9.1"]["detail"].startswith(f"V1: {said}") and found["T9.1"]["detail"].endswith("no traffic")
    text = one.cli("review", "answer").stdout
    assert "primary model changed" in text and said in text
    bearer = f"Bearer {one.address()['token']}"
    assert "fake/small-2026-01-01 → fake/large-2026-01-01" in one.ask("GET", "/review", authorization=bearer)[2]

    ask(one, key, "fr")
    one.eventually(lambda: requests(one) == 2 * N)
    again = rows(one)
    assert again["T9.1"]["status"] == "PASS" and again["T9.1"]["n"] == N  # of those since, and not of all
    assert "T9.1" not in again["V1"]["detail"].partition("due: ")[2]
    assert again["V5"]["detail"].startswith("new segment “fr”, 100 % of the traffic since")

    refused = one.cli("review", "answer", "--sign")
    assert refused.returncode != 0 and "a reason" in refused.stderr
    signed = one.verb("review", "answer", "--sign", "--reason", "evaluated beside the old one")
    assert signed["closed"] == ["V1", "V2", "V3", "V4", "V5", "V6"]
    closed = rows(one)
    assert {closed[ident]["status"] for ident in signed["closed"]} == {"PASS"}
    assert closed["V1"]["detail"].startswith("signed ")
    assert closed["V1"]["detail"].endswith(": evaluated beside the old one")
    row = one.get("/api/v1/changes?route=answer&limit=1")["changes"][0]
    log = row["change"]
    assert (log["action"], log["after_hash"]) == ("review.sign", signed["review"])
    assert log["detail"]["measured_us"] < row["ts_us"]  # what came in between was not seen
    assert one.verb("audit", "verify")["ok"]
    assert json.loads(one.cli("review", "answer", "--format", "json").stdout)["routes"][0]["route"] == "answer"


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook, and what it was told."""
    notices: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notices.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", notices
        server.shutdown()


def test_the_owner_is_told_once_and_rollouts_stay_at_a_tenth_until_it_is_signed(
    running: Any, scripted_app: Callable[..., Path], told: tuple[str, list[dict[str, Any]]]
) -> None:
    url, notices = told
    app = scripted_app(SCRIPT)
    config = (app / "pilothouse.yaml").read_text().replace("{name: Ana}", f"{{name: Ana, notify: ['{url}']}}")
    (app / "pilothouse.yaml").write_text(config)
    one = running(app, workers=1)
    one.release()
    (app / "pilothouse.yaml").write_text(config.replace("fake/small-2026-01-01", "fake/large-2026-01-01"))
    one.release(share=0.05)

    def reviewed_anew() -> None:
        """A control that starts looks first of all."""
        before = one.children()["control"]["pid"]
        os.kill(before, signal.SIGKILL)
        one.eventually(lambda: one.children()["control"]["pid"] not in (None, before), 30)
        one.eventually(lambda: looked(one), 60)

    reviewed_anew()
    [notice] = notices
    assert (notice["owner"], notice["item"], notice["route"]) == ("ana", "V1", "answer")
    assert notice["text"].startswith("V1: release 2: model fake/small-2026-01-01 → fake/large-2026-01-01, ")
    assert notice["text"].endswith("; no release gets more than 10 % until it is signed")
    assert notice["runbook"] == "pilothouse review answer --sign --reason …"
    reviewed_anew()
    assert len(notices) == 1

    refused = one.cli("release", "promote", "answer", "2")
    assert refused.returncode != 0 and "V1: release 2: model" in refused.stderr
    assert "pilothouse review answer --sign --reason …" in refused.stderr
    plan = one.get("/api/v1/routes/answer/plan?release=2")
    assert plan["steps"][-1]["state"] == "waiting" and "V1: release 2" in plan["steps"][-1]["message"]
    one.verb("review", "answer", "--sign", "--reason", "evaluated beside the old one")
    assert one.verb("release", "promote", "answer", "2")["to"] == 2
    assert len(notices) == 1 and one.verb("audit", "verify")["ok"]


def looked(one: Any) -> bool:
    """Whether control has reviewed every route since it started; its loop names its runs once they are over."""
    try:
        loops = one.get("/api/v1/status")["loops"]
    except (OSError, ValueError, AssertionError):
        return False
    return next((loop["runs"] for loop in loops if loop["name"] == "review"), 0) > 0
