"""The load: a mock upstream far faster than any gateway, wrk, and the CPU time of process trees."""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Figure:
    """One run of wrk against one address. Times in ms; CPU is user + system time of the gateway, per request."""

    name: str
    shape: str
    connections: int
    requests: int
    rate: float
    p50: float
    p99: float
    errors: int
    cpu_ms: float | None
    rss_mb: float | None


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mock(delay_ms: int = 0, chunks: int = 20, gap_ms: int = 0) -> Iterator[str]:
    """The mock upstream; yields its base URL."""
    binary = Path(tempfile.gettempdir()) / "pilothouse-bench-mock"
    subprocess.run(["gcc", "-O2", "-w", "-o", str(binary), str(HERE / "mock.c")], check=True)
    port = free_port()
    process = subprocess.Popen([str(binary), str(port), str(delay_ms), str(chunks), str(gap_ms)])
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, seconds: float = 60.0) -> None:
    """Return when something listens on `port`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def cpu_seconds(pids: list[int]) -> float:
    """User + system time of these processes and their children."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    total += times.user + times.system
    return total


def rss_mb(pids: list[int]) -> float:
    """Resident memory of these processes and their children."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            total += sum(process.memory_info().rss for process in [root, *root.children(recursive=True)])
    return total / 1e6


@dataclass(frozen=True)
class Target:
    """What is measured: an address, its key, the model to ask for, and the processes that answer."""

    name: str
    base_url: str
    key: str
    model: str
    pids: tuple[int, ...] = ()


RUNS = 3


def run(target: Target, *, stream: bool, connections: int, seconds: float, shape: str = "") -> Figure:
    """The run with the median CPU (or rate) of three. A second of traffic before them is a warm-up, not counted."""
    _wrk(target, stream, connections, 1.0)
    figures = [_once(target, stream, connections, seconds, shape) for _ in range(RUNS)]
    return sorted(figures, key=lambda figure: figure.cpu_ms or -figure.rate)[RUNS // 2]


def _once(target: Target, stream: bool, connections: int, seconds: float, shape: str) -> Figure:
    pids = list(target.pids)
    before = cpu_seconds(pids)
    result = _wrk(target, stream, connections, seconds)
    cpu = cpu_seconds(pids) - before
    count = int(result["n"])
    return Figure(
        name=target.name,
        shape=shape or ("stream" if stream else "plain"),
        connections=connections,
        requests=count,
        rate=float(result["rps"]),
        p50=float(result["p50"]),
        p99=float(result["p99"]),
        errors=int(result["err"]) + int(result["non200"]),
        cpu_ms=cpu * 1e3 / count if pids and count else None,
        rss_mb=rss_mb(pids) if pids else None,
    )


def _wrk(target: Target, stream: bool, connections: int, seconds: float) -> dict[str, float]:
    environment = os.environ | {"AUTH": target.key, "MODEL": target.model, "BODY_STREAM": "1" if stream else "0"}
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "20s", "-s", str(HERE / "post.lua"),
         f"{target.base_url}/v1/chat/completions"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("JSON "))
    parsed: dict[str, float] = json.loads(line.removeprefix("JSON "))
    return parsed


def get_json(url: str, token: str = "") -> object:
    """The JSON at `url`."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)
