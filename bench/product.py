"""`pilothouse up` as a user starts it, for the benches."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.load import free_port

PILOTHOUSE = str(Path(sys.executable).parent / "pilothouse")
APP = """\
providers:
  mock: {{kind: openai, base_url: "{upstream}/v1"}}
  other: {{kind: openai, base_url: "{faulty}/v1"}}
people:
  ana: {{name: Ana, notify: ["log://"]}}
prices:
  mock/gpt-4o-mini: {{input: 0.15 USD, output: 0.60 USD}}
limits:
  - {{name: each-key, by: [key], requests: 60M/min, tokens: 60000M/min, concurrency: 1000}}
routes:
  bench:
    app: bench
    owner: ana
    backup: ana
    system: system.md
    model: mock/gpt-4o-mini
    params: {{temperature: 0.2}}
    policy:
      limits: {{requests: 60M/min, concurrency: 1000}}
      budget: {{per_request: 1 USD, per_day: 1000000 USD}}
      log: {{mode: redacted}}
  faulty:
    app: bench
    owner: ana
    backup: ana
    model: other/gpt-4o-mini
    policy:
      timeout: {{first_token: 5s, idle: 2s, total: 10s}}
      retry: {{attempts: 2, backoff: 10ms}}
      breaker: {{failures: 0}}
"""


@dataclass(frozen=True)
class Product:
    """A running Pilothouse: where it answers, its key, and its processes by name."""

    gateway: str
    control: str
    key: str
    data: Path
    pid: int

    def pids(self, name: str) -> tuple[int, ...]:
        """The processes whose command line holds `pilothouse.server.NAME`."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if f"pilothouse.server.{name}" in " ".join(process.cmdline()):
                    found.append(process.pid)
        return tuple(found)

    def cli(self, *words: str) -> object:
        """What a verb prints with --json."""
        done = subprocess.run(
            [PILOTHOUSE, *words, "--data", str(self.data), "--json"], capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1, 3):
            raise RuntimeError(f"pilothouse {' '.join(words)}: {done.stderr}")
        return json.loads(done.stdout)


@contextlib.contextmanager
def running(
    upstream: str, workers: int = 1, faulty: str = "", keep: Path | None = None, store: Path | None = None
) -> Iterator[Product]:
    """Start `pilothouse up` on an app whose route `bench` asks `upstream`, released to prod.

    Everything is on: keys, limits, a budget, redaction, the record, the journal. `faulty`: where the route of that
    name goes. `keep`: where the telemetry store is copied to in the end. `store`: one to begin with; it is moved.
    """
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        app, data = Path(folder) / "app", Path(folder) / "data"
        app.mkdir()
        if store is not None:
            data.mkdir(mode=0o700)
            shutil.move(store, data / "telemetry.duckdb")
        (app / "pilothouse.yaml").write_text(APP.format(upstream=upstream, faulty=faulty or upstream))
        (app / "system.md").write_text("You are a careful assistant. Answer in two sentences.\n")
        ports = [free_port() for _ in range(3)]
        command = [PILOTHOUSE, "up", "--dir", str(app), "--data", str(data), "--workers", str(workers)]
        for flag, port in zip(("--port", "--control-port", "--otlp-port"), ports, strict=True):
            command += [flag, str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if "ready" not in line:
                raise RuntimeError(f"pilothouse up did not become ready: {line!r}")
            product = Product(f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", "", data, process.pid)
            made = product.cli("keys", "create", "--name", "bench", "--env", "prod")
            assert isinstance(made, dict)
            for route in ("bench", "faulty"):
                product.cli("release", "create", route, "--dir", str(app))
                product.cli("release", "promote", route, "--env", "prod")
            yield Product(product.gateway, product.control, str(made["key"]), data, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=60)
            if keep is not None:
                shutil.copy(next(data.glob("**/telemetry.duckdb")), keep / "telemetry.duckdb")
                if (data / "payloads").is_dir():
                    shutil.copytree(data / "payloads", keep / "payloads", dirs_exist_ok=True)
