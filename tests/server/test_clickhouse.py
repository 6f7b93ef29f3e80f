"""`pilothouse up` with telemetry in ClickHouse: all in, found, reviewed, some removed, and the server away."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.store.telemetry.engine import engine

pytestmark = pytest.mark.process
DAY_S = 86_400
MORE = """
store: {telemetry: "clickhouse://ops@127.0.0.1:%d/telemetry", telemetry_password: env://CH_PASSWORD}
retention: {spans: 60d}
"""
PASSWORD = {"CH_PASSWORD": "letme!n"}


def send(one: Any, key: str, trace: str, ago_s: int) -> None:
    """A span of an app's, as it ended so long ago."""
    start = time.time_ns() - ago_s * 10**9
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "session.id": "s-1"}
    span = {
        "traceId": trace, "spanId": trace[:16], "name": f"chat {trace[:4]}", "kind": 3,
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 10**7),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }  # fmt: skip
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "x"}, "spans": [span]}]}]})
    status, _, said = one.fetch(
        "POST", f"{one.otlp}/v1/traces", body, content_type="application/json", authorization=f"Bearer {key}"
    )
    assert status == 200, said


def listed(one: Any) -> list[dict[str, Any]]:
    return list(one.get("/traces.json?since=0&source=all")["traces"])


def loop(one: Any, name: str) -> dict[str, Any]:
    return next(state for state in one.get("/api/v1/status")["loops"] if state["name"] == name)


def test_from_the_first_request_to_the_restart(running: Any, scripted_app: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    folder.mkdir()
    with engine(folder, password=PASSWORD["CH_PASSWORD"]) as (port, process):
        app = scripted_app(more=MORE % port)
        one = running(app, env=PASSWORD)
        key = one.key()
        one.release()
        for text in ("first", "second"):
            assert one.chat(key, "answer", text)[0] == 200
        send(one, key, "a" * 32, 60)
        send(one, key, "b" * 32, 100 * DAY_S)
        one.eventually(lambda: len(listed(one)) == 4)
        assert not (one.data / "telemetry.duckdb").exists()

        request = next(row for row in listed(one) if row["preview_in"] == "second")
        whole = one.get(f"/traces/{request['id']}.json")
        assert (whole["record"]["outcome"], len(whole["record"]["parts"])) == ("success", 8)
        assert json.loads(whole["payload"]["request"])["messages"][-1]["content"] == "second"
        for page in (f"/traces/{request['id']}", f"/traces/{'a' * 32}", "/traces", "/sessions", "/"):
            status, _, html = one.ask("GET", page, authorization=f"Bearer {one.address()['token']}")
            assert (status, "Something went wrong" in html) == (200, False), page
        reviewed = one.verb("review", "--json", ok=(0, 1, 3))
        assert reviewed

        kept = one.verb("retention", "--now")
        assert [(gone["what"], gone["count"]) for gone in kept["removals"]] == [("spans", 1)]
        assert kept["usage"]["store"] > 0
        assert len(listed(one)) == 3

        process.send_signal(signal.SIGKILL)
        process.wait()
        assert one.chat(key, "answer", "third")[0] == 200
        assert one.chat(key, "answer", "fourth")[0] == 200
        one.eventually(lambda: one.chat(key, "answer", "more")[0] == 200 and loop(one, "load")["failing"])
        assert "the telemetry store refused a query" in loop(one, "load")["last_error"]
        status, _, html = one.ask("GET", "/traces", authorization=f"Bearer {one.address()['token']}")
        assert (status >= 500, "the telemetry store refused a query" in html) == (True, True), html

        with engine(folder, port, PASSWORD["CH_PASSWORD"]):
            one.eventually(lambda: not loop(one, "load")["failing"], within_s=60)
            one.eventually(lambda: {"third", "fourth"} <= {row["preview_in"] for row in listed(one)})
            count = len(listed(one))
            assert one.stop() == 0
            again = running(app, env=PASSWORD)
            again.eventually(lambda: len(listed(again)) == count)
            assert again.stop() == 0


def test_a_start_without_its_server_says_so(scripted_app: Callable[..., Path], tmp_path: Path) -> None:
    app = scripted_app(more='\nstore: {telemetry: "clickhouse://127.0.0.1:1/telemetry"}\n')
    command = [sys.executable, "-m", "pilothouse", "up", "--dir", str(app), "--data", str(tmp_path / "data")]
    ports = ("--port", "0", "--control-port", "0", "--otlp-port", "0")
    done = subprocess.run([*command, *ports], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ClickHouse cannot be reached" in done.stderr
    assert "clickhouse://127.0.0.1:1/telemetry" in done.stderr
