"""`pilothouse up` as a user starts it, for the benches."""

import contextlib
import json
import os
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
people:
  ana: {{name: Ana, notify: ["log://"]}}
prices:
  mock/gpt-4o-mini: {{input: 0.15 USD, output: 0.60 USD}}
routes:
  bench:
    app: bench
    owner: ana
    backup: ana
    system: system.md
    model: mock/gpt-4o-mini
    params: {{temperature: 0.2}}
    policy:
      retry: {{attempts: 1}}
      log: {{mode: redacted}}
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
def running(upstream: str, workers: int = 1) -> Iterator[Product]:
    """Start `pilothouse up` on an app whose one route asks `upstream`, released to prod."""
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        app, data = Path(folder) / "app", Path(folder) / "data"
        app.mkdir()
        (app / "pilothouse.yaml").write_text(APP.format(upstream=upstream))
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
            product.cli("release", "create", "bench", "--dir", str(app))
            product.cli("release", "promote", "bench", "--env", "prod")
            yield Product(product.gateway, product.control, str(made["key"]), data, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=30)
