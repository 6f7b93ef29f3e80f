"""The review and the overview page over a million synthetic requests of ten routes, asked over HTTP."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.load import free_port
from bench.product import PILOTHOUSE

REQUESTS, ROUTES, DAYS = 1_000_000, 10, 7
ROUTE = """\
  route-{n}:
    app: app
    owner: ana
    backup: ben
    system: system.md
    model: mock/mini-2026-08-07
    alternates: [mock/small-2]
    policy: {{timeout: {{first_token: 10s, total: 45s}}}}
"""
HEAD = """\
providers: {mock: {kind: openai, base_url: "http://127.0.0.1:9/v1"}}
people: {ana: {name: Ana, notify: ["log://"]}, ben: {name: Ben, notify: ["log://"]}}
routes:
"""


def table() -> str:
    """Markdown: median and slowest of several answers, in ms."""
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        app, data = Path(folder) / "app", Path(folder) / "data"
        app.mkdir()
        data.mkdir()
        (app / "pilothouse.yaml").write_text(HEAD + "".join(ROUTE.format(n=n) for n in range(ROUTES)))
        (app / "system.md").write_text("You are a careful assistant.\n")
        subprocess.run(
            [sys.executable, str(Path(__file__).parent / "synthetic.py"), str(data / "telemetry.duckdb"),
             "--requests", str(REQUESTS), "--routes", str(ROUTES), "--days", str(DAYS)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return _measured(app, data)


def _measured(app: Path, data: Path) -> str:
    words = [PILOTHOUSE, "up", "--dir", str(app), "--data", str(data), "--json"]
    for flag in ("--port", "--control-port", "--otlp-port"):
        words += [flag, str(free_port())]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
    try:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        for n in range(ROUTES):
            for verb in (("create",), ("promote",)):
                command = [PILOTHOUSE, "release", *verb, f"route-{n}", "--dir", str(app), "--data", str(data), "--json"]
                subprocess.run(command, check=True, capture_output=True)
        control = json.loads((data / "run/control.json").read_text())
        asked = {
            "review of 10 routes, 1,000,000 requests": "/review.json?fresh=1",
            "overview page": "/",
            "list of 50 requests": "/traces.json?limit=50",
            "list of 50 failed requests of one route": "/traces.json?limit=50&route=route-3&outcome=failed",
        }
        rows = ["| question | median ms | slowest ms | answers |", "|---|---:|---:|---:|"]
        for name, path in asked.items():
            times = [_ms(control["url"] + path, control["token"]) for _ in range(7)][1:]
            rows.append(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} | {len(times)} |")
        return "\n".join(rows)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def _ms(url: str, token: str) -> float:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as reply:
        reply.read()
    return (time.perf_counter() - start) * 1e3
