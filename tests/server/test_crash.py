"""Under load: kill -9 of an edge and of control with its loader, and a rollback on two workers."""

import http.client
import json
import os
import random
import signal
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytestmark = pytest.mark.process
App = Callable[..., Path]
CLIENTS = 6


class Answered(msgspec.Struct):
    """A request whose whole answer arrived. Times on this process's wall clock, µs."""

    id: str
    release: str
    status: int
    began_us: int
    ended_us: int


class Broken(msgspec.Struct, frozen=True):
    """A request without a whole answer. `fresh`: nothing had been answered on its connection yet."""

    client: int
    fresh: bool
    began_us: int
    why: str


class Load:
    """Clients that ask again and again until they are stopped."""

    def __init__(self, gateway: str, key: str) -> None:
        self.answered: list[Answered] = []
        self.broken: list[Broken] = []
        self._gateway = urllib.parse.urlsplit(gateway)
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self, number: int) -> None:
        body = json.dumps({"model": "answer", "messages": [{"role": "user", "content": f"client {number}"}]})
        connection, fresh = self._connect(), True
        while not self._stop.is_set():
            began = time.time_ns() // 1_000
            try:
                self._ask(connection, body, began)
                fresh = False
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(Broken(number, fresh, began, repr(error)))
                connection.close()
                connection, fresh = self._connect(), True
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._gateway.hostname or "", self._gateway.port, timeout=20)

    def _ask(self, connection: http.client.HTTPConnection, body: str, began: int) -> None:
        connection.request("POST", "/v1/chat/completions", body, self._headers)
        answer = connection.getresponse()
        answer.read()
        found = Answered(
            id=answer.headers["x-pilothouse-request-id"],
            release=answer.headers.get("x-pilothouse-release", ""),
            status=answer.status,
            began_us=began,
            ended_us=time.time_ns() // 1_000,
        )
        self.answered.append(found)

    def reached(self, number: int) -> Callable[[], bool]:
        """Whether so many more requests than now were answered."""
        goal = len(self.answered) + number
        return lambda: len(self.answered) >= goal


def two_releases(one: Any, app: Path) -> str:
    """A key, and release 2 of `answer` live over release 1."""
    one.release()
    (app / "prompts/answer.system.md").write_text("You are another helper.\n")
    one.release()
    return str(one.key())


def stored(one: Any) -> dict[str, list[dict[str, Any]]]:
    """Request id → its rows, all of them."""
    rows: dict[str, list[dict[str, Any]]] = {}
    before = ""
    while found := one.get(f"/traces.json?limit=500&before={before}")["traces"]:
        for row in found:
            rows.setdefault(row["id"], []).append(row)
        before = found[-1]["id"]
    return rows


def test_rollback_under_load(running: Any, scripted_app: App) -> None:
    app = scripted_app(script='rules: [{reply: "ok", latency: [0.005, 0.08]}]\n')
    one = running(app, workers=2)
    key = two_releases(one, app)
    with Load(one.gateway, key) as load:
        one.eventually(load.reached(100), 30)
        back = one.verb("rollback", "answer")
        done_us = time.time_ns() // 1_000
        one.eventually(load.reached(100), 30)

    assert (back["from"], back["to"], back["workers"], back["of"]) == (2, 1, 2, 2)
    assert back["propagated_ms"] <= 2_000
    assert load.broken == []
    assert {found.status for found in load.answered} == {200}
    late = [found for found in load.answered if found.began_us > done_us]
    assert late
    assert {found.release for found in late} == {"1"}
    assert any(found.release == "2" for found in load.answered)

    rows = stored(one)
    assert {row["release"] for found in rows.values() for row in found if row["ts_us"] > done_us} == {1}
    assert sorted(rows) == sorted(found.id for found in load.answered)
    moved = one.get("/releases.json?route=answer")["routes"][0]["pointers"][0]
    assert (moved["stable"], moved["canary"]) == (1, None)


def test_kill_9_of_edge_loader_and_control_loses_and_doubles_nothing(running: Any, scripted_app: App) -> None:
    app = scripted_app(script='rules: [{reply: "ok", latency: [0.001, 0.02]}]\n')
    one = running(app, workers=2)
    key = two_releases(one, app)
    with Load(one.gateway, key) as load:
        one.eventually(load.reached(100), 30)
        kill(one, "edge-0")
        one.eventually(lambda: one.children()["edge-0"]["restarts"] == 1, 20)
        gone = time.time_ns() // 1_000
        one.eventually(load.reached(50), 30)
        for _ in range(3):  # control dies while it loads: its loader reads every 0.5 s, and first of all when it starts
            kill(one, "control")
            at = time.time_ns() // 1_000
            one.eventually(load.reached(60), 30)  # traffic goes on while control is dead
            one.eventually(lambda: one.children()["control"]["pid"] is not None, 20)
            assert [found.status for found in load.answered if found.began_us > at] != []
            time.sleep(random.uniform(0.0, 1.5))  # the moment of the next kill is anywhere in its start and first load
        one.eventually(lambda: workers(one) == {"edge-0", "edge-1", "ingest-0"}, 60)
        one.eventually(load.reached(50), 30)

    assert {found.status for found in load.answered} == {200}
    in_flight = [found for found in load.broken if not found.fresh]
    assert len(in_flight) <= CLIENTS  # only what was in flight on the killed edge
    # Its socket takes connections until the kernel has closed it: who comes again at once may meet it once more.
    assert len({(found.client, found.fresh) for found in load.broken}) == len(load.broken)
    assert [found for found in load.broken if found.began_us > gone] == []
    answered = {found.id for found in load.answered}
    assert len(answered) == len(load.answered)
    one.eventually(lambda: answered <= stored(one).keys(), 30)
    rows = stored(one)
    assert {ident: len(found) for ident, found in rows.items() if len(found) != 1} == {}
    assert one.get("/overview.json?window=1h")["routes"][0]["requests"] == len(rows)  # rollups agree with rows
    restarts = {name: child["restarts"] for name, child in one.children().items()}
    assert restarts["edge-0"] == 1
    assert restarts["control"] == 3
    assert one.verb("audit", "verify")["ok"] is True


def kill(one: Any, name: str) -> None:
    os.kill(one.children()[name]["pid"], signal.SIGKILL)


def workers(one: Any) -> set[str]:
    """The workers that hold the present table, as control sees them; empty while it is away."""
    try:
        told = one.get("/api/v1/status")
    except (OSError, AssertionError, http.client.HTTPException):
        return set()
    return {worker["worker"] for worker in told["workers"] if worker["revision"] == told["revision"]}
