"""Fixtures for every room's tests."""

import contextlib
import functools
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from tests.postgres import Postgres

# No deadline for an example: a busy machine is not a failure, and no test here asserts a wall time.
hypothesis.settings.register_profile(
    "pilothouse", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("pilothouse")

# A hundred tests start the product's processes: each would compile every module anew where bytecode is not kept.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

START_S = 60

# The files that take longest, in that order. With several workers, a file that is begun last leaves the others idle.
LONG = (
    *("server/test_hosts.py", "store/telemetry/test_both_ways.py", "server/test_up.py", "clients/test_agents.py"),
    *("server/test_gate.py", "server/pages/test_browser.py", "clients/test_clients.py", "telemetry/test_joins.py"),
    *("store/telemetry/test_clickhouse.py", "docs/test_quickstart.py", "cli/test_verbs.py", "telemetry/test_loader.py"),
    *("store/telemetry/test_conformance.py", "releases/test_machine.py", "server/test_model_switch.py"),
    *("telemetry/test_loader_faults.py", "store/telemetry/test_migration.py", "telemetry/test_corpus.py"),
    *("server/test_reading.py", "server/test_part_revert.py", "server/test_ingest_faults.py", "server/test_crash.py"),
    *("server/test_canary.py", "server/test_canary_asking.py", "server/test_canary_secret.py", "server/test_drills.py"),
    *("server/pages/test_real.py", "server/test_backup.py", "store/counters/test_property.py"),
    *("server/edge_http/test_http_fuzz.py", "server/edge_http/test_http.py", "gateway/test_fuzz.py"),
    *("telemetry/test_retention.py", "telemetry/test_payloads.py", "telemetry/test_transfer.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the rest as they are found; `make test` hands whole files to its workers in this order."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of this process; each takes a database of its own with `fresh`."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@dataclass
class Running:
    """A whole `pilothouse up` in processes of its own, on free ports."""

    app: Path
    data: Path
    process: "subprocess.Popen[str]"
    gateway: str  # http://127.0.0.1:PORT/v1
    pages: str  # http://127.0.0.1:PORT/
    control: str  # the same with its one-time token
    otlp: str
    ready: dict[str, Any] = field(default_factory=dict)

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`pilothouse WORDS` on this data directory, in the app's folder."""
        command = [sys.executable, "-m", "pilothouse", *words, "--data", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.app, timeout=120)

    def verb(self, *words: str, ok: tuple[int, ...] = (0,)) -> Any:
        """The JSON that `pilothouse WORDS --json` prints."""
        done = self.cli(*words, "--json")
        assert done.returncode in ok, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def key(self, env: str = "prod") -> str:
        """A new API key."""
        return str(self.post("/api/v1/keys", name="test", env=env)["key"])

    def address(self) -> dict[str, Any]:
        """run/control.json: url, token, pid."""
        return dict(json.loads((self.data / "run" / "control.json").read_text()))

    def children(self) -> dict[str, dict[str, Any]]:
        """Name → pid, restarts, last exit of every supervised process."""
        told = json.loads((self.data / "run" / "supervisor.json").read_text())
        return {child["name"]: child for child in told["children"]}

    def get(self, path: str, **headers: str) -> Any:
        """JSON from the control port, with the admin token."""
        status, _, body = self.ask("GET", path, **{"authorization": f"Bearer {self.address()['token']}", **headers})
        assert status == 200, (path, status, body)
        return json.loads(body)

    def post(self, path: str, **body: Any) -> Any:
        """JSON from a change on the control port, with the admin token."""
        bearer = f"Bearer {self.address()['token']}"
        status, _, answer = self.ask("POST", path, json.dumps(body), authorization=bearer)
        assert status == 200, (path, status, answer)
        return json.loads(answer)

    def release(self, route: str = "answer", env: str = "prod", **order: Any) -> int:
        """Make the next release of the app's files and promote it; its number."""
        number = int(self.post(f"/api/v1/routes/{route}/releases")["release"])
        self.post(f"/api/v1/routes/{route}/promote", release=number, env=env, **order)
        return number

    def ask(self, method: str, path: str, body: bytes | str = b"", **headers: str) -> tuple[int, dict[str, str], str]:
        """Status, headers and body of a bare request to the control port; header names with `_` for `-`."""
        return request(method, self.pages.rstrip("/") + path, body, **headers)

    def chat(self, key: str, route: str, text: str, **more: Any) -> tuple[int, dict[str, str], Any]:
        """One chat request to the gateway: status, headers, JSON body."""
        body = json.dumps({"model": route, "messages": [{"role": "user", "content": text}], **more})
        status, headers, answer = request(
            "POST", f"{self.gateway}/chat/completions", body, authorization=f"Bearer {key}"
        )
        return status, headers, json.loads(answer)

    def fetch(self, method: str, url: str, body: bytes | str = b"", **headers: str) -> tuple[int, dict[str, str], str]:
        """A bare request to any of its ports."""
        return request(method, url, body, **headers)

    @staticmethod
    def eventually(holds: Callable[[], object], within_s: float = 15) -> None:
        """Wait until `holds`; it is asked often, since other processes give no event."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"did not hold within {within_s} s"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, within_s: float = 15) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=within_s)


def request(method: str, url: str, body: bytes | str = b"", **headers: str) -> tuple[int, dict[str, str], str]:
    """A bare HTTP request; follows nothing."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body=body.encode() if isinstance(body, str) else body, headers=named)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


Start = Callable[..., Running]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Start]:
    """`running(app_dir, workers=2, …)` starts `pilothouse up` on free ports; ended when the test is.

    Options are those of `up`, with `_` for `-`; `data` names the data directory, `env` adds to the environment.
    """
    with _starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """The same, ended when the module is: for tests that only ask, or that work on different things."""
    with _starting(tmp_path_factory.mktemp("shared")) as start:
        yield start


@contextlib.contextmanager
def _starting(folder: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as started:

        def start(
            app_dir: Path, *, data: Path | None = None, env: dict[str, str] | None = None, **options: Any
        ) -> Running:
            one = _start(app_dir, data or folder / "data", env or {}, options)
            started.callback(_end, one)
            return one

        yield start


def _start(app_dir: Path, data: Path, env: dict[str, str], options: dict[str, Any]) -> Running:
    command = [sys.executable, "-m", "pilothouse", "up", "--dir", str(app_dir), "--data", str(data), "--json"]
    chosen = {"port": 0, "control_port": 0, "otlp_port": 0, **options}
    for name, value in chosen.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, said = process.communicate(timeout=START_S)
        logs = "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in (data / "logs").glob("*.log"))
        raise AssertionError(f"up ended with {process.returncode}: {said}\n{logs}")
    ready = json.loads(line)
    return Running(
        app=app_dir,
        data=data,
        process=process,
        gateway=ready["gateway"],
        pages=ready["pages"],
        control=ready["control"],
        otlp=ready["otlp"],
        ready=ready,
    )


def _end(one: Running) -> None:
    if one.process.poll() is None:
        one.process.send_signal(signal.SIGTERM)
        try:
            one.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
    for stream in (one.process.stdout, one.process.stderr):
        if stream is not None:
            stream.close()


@pytest.fixture
def scripted_app(tmp_path: Path) -> Callable[..., Path]:
    """`scripted_app(script=…, route=…)` writes a small app with one route `answer` on a scripted provider."""
    return functools.partial(_scripted_app, tmp_path / "app")


@pytest.fixture(scope="module")
def shared_app(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The same for a whole module."""
    return functools.partial(_scripted_app, tmp_path_factory.mktemp("shared-app"))


def _scripted_app(
    folder: Path, script: str = 'rules: [{reply: "You said: {input}"}]\n', route: str = "", more: str = ""
) -> Path:
    (folder / "prompts").mkdir(parents=True, exist_ok=True)
    (folder / "prompts" / "answer.system.md").write_text("You are a helper.\n")
    (folder / "script.yaml").write_text(script)
    (folder / "pilothouse.yaml").write_text(
        "providers:\n  fake: {kind: scripted, script: script.yaml}\n"
        "people:\n  ana: {name: Ana}\n  ben: {name: Ben}\n"
        "routes:\n  answer:\n    app: test\n    owner: ana\n    backup: ben\n"
        "    system: prompts/answer.system.md\n    model: fake/small-2026-01-01\n" + route + more
    )
    return folder
