"""What it takes to keep spans: durable spans a second, CPU a span, bytes on disk, here and with Phoenix and MLflow.

    python -m bench.ingest [--spans 100000] [--peer-spans 3000] [--batch 250] [--no-peers]

The same GenAI spans go over OTLP/HTTP as protobuf to each receiver by two connections. A span counts as durable when
its batch was answered and the store has its row; the clock runs until it has all of them. What lies on the disk is
measured then, after a minute of quiet, and as it will be the day after.
"""

import argparse
import contextlib
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import psutil

from bench import observers, product
from bench.load import cpu_seconds
from bench.observers import Observer
from bench.spans import Traces
from pilothouse.domain.clock import SystemClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import payload_files
from pilothouse.telemetry.backlog import waiting_bytes
from pilothouse.telemetry.roller import Roller

CONNECTIONS = 2
WITHIN_S = 600.0
SETTLE_S = 60.0  # of quiet, before it is looked at what lies on the disk
NOBODY = "http://127.0.0.1:9"  # the upstream of routes that nobody asks


@dataclass(frozen=True)
class Figure:
    """One receiver. `accepted`, `durable`: spans a second; CPU in ms a span; bytes on the disk ÷ bytes sent: `at_once`,
    when the last span is durable, `disk`, a minute of quiet later, and `later`, when the day is over.
    """

    name: str
    spans: int
    accepted: float
    durable: float
    cpu_ms: float
    at_once: float
    disk: float
    wire_bytes: int
    parts: dict[str, float]  # CPU ms a span by process
    later: float | None = None


def send(url: str, bodies: list[bytes], headers: dict[str, str]) -> None:
    """Post all bodies by CONNECTIONS connections; RuntimeError where one is not taken whole."""
    at = urlsplit(url)
    waiting, lock, refused = iter(bodies), threading.Lock(), []
    told = {"content-type": "application/x-protobuf", **headers}

    def work() -> None:
        connection = http.client.HTTPConnection(str(at.hostname), at.port, timeout=120)
        while True:
            with lock:
                body = next(waiting, None)
            if body is None or refused:
                break
            connection.request("POST", at.path, body, told)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status == 429:
                time.sleep(0.5)
                with lock:
                    refused.append((429, b"the backlog is full: send fewer spans"))
            elif answer.status != 200 or len(said) > 2:  # an empty answer: nothing was rejected
                with lock:
                    refused.append((answer.status, said[:300]))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise RuntimeError(f"{url} answered {refused[0]}")


def measure(observer: Observer, spans: int, batch: int) -> Figure:
    """Send `spans` spans after one batch to warm up."""
    traces, empty = Traces(), observer.disk()
    bodies = list(traces.bodies(batch, batch, time.time_ns()))
    wire = sum(map(len, bodies))
    send(observer.url, bodies, observer.headers)
    _wait(observer, batch)
    bodies = list(traces.bodies(spans, batch, time.time_ns()))
    wire += sum(map(len, bodies))
    pids = observer.pids()
    before = {pid: cpu_seconds([pid]) for pid in pids}
    began = time.perf_counter()
    send(observer.url, bodies, observer.headers)
    accepted = time.perf_counter() - began
    _wait(observer, batch + spans)
    durable = time.perf_counter() - began
    parts: dict[str, float] = {}
    for pid in pids:
        name = _name(pid)
        parts[name] = parts.get(name, 0.0) + (cpu_seconds([pid]) - before[pid]) / spans * 1_000
    at_once = observer.disk() - empty
    time.sleep(SETTLE_S)
    return Figure(
        observer.name, spans, spans / accepted, spans / durable, sum(parts.values()), at_once / wire,
        (observer.disk() - empty) / wire, wire // (batch + spans), parts,
    )  # fmt: skip


def _wait(observer: Observer, spans: int) -> None:
    deadline = time.monotonic() + WITHIN_S
    while observer.stored() < spans:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{observer.name} has {observer.stored()} of {spans} spans after {WITHIN_S:.0f} s")
        time.sleep(0.05)


def _name(pid: int) -> str:
    words = " ".join(psutil.Process(pid).cmdline())
    return next((name for name in ("ingest", "control") if f"pilothouse.server.{name}" in words), "server")


@contextlib.contextmanager
def pilothouse(keep: Path) -> Iterator[Observer]:
    """`pilothouse up`, everything on; CPU is that of ingest and of control, which loads."""
    with product.running(NOBODY, keep=keep) as one:
        otlp = json.loads((one.data / "run" / "supervisor.json").read_text())["otlp"]
        journal = one.data / "journal"
        yield Observer(
            "Pilothouse", f"{otlp}/v1/traces", lambda: 0 if waiting_bytes(journal, "ingest-0") else sys.maxsize,
            lambda: (*one.pids("ingest"), *one.pids("control")), lambda: taken(one.data),
            {"authorization": f"Bearer {one.key}"},
        )  # fmt: skip


def taken(data: Path) -> int:
    """Bytes of telemetry in a data directory: the store and its log, payload files, the journal; without the room
    that is reserved for a full disk.
    """
    found = [*data.glob("**/telemetry.duckdb*"), *data.glob("**/*.parquet*"), *(data / "journal").glob("**/*.ndjson")]
    return sum(_size(path) for path in found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # loaded, or put together, meanwhile
        return 0


def ours(spans: int, batch: int) -> Figure:
    """Pilothouse; its rows are counted when it has ended."""
    with tempfile.TemporaryDirectory() as made:
        keep = Path(made)
        with pilothouse(keep) as observer:
            figure = measure(observer, spans, batch)
        file = keep / "telemetry.duckdb"
        with duckdb.connect(str(file), read_only=True) as store:
            rows = store.execute("SELECT count(*), count(DISTINCT trace_id || span_id) FROM spans").fetchone()
        if rows != (spans + batch, spans + batch):
            raise RuntimeError(f"{spans + batch} spans were sent, {rows} are in the store")
        whole = figure.wire_bytes * (spans + batch)
        settled, clock = TelemetryStore(file), SystemClock()
        Roller(settled, clock).settle(time.time_ns())  # as of any day
        payload_files.merge(settled, lambda _day_us: True)
        settled.rewrite()
        settled.close()
        return replace(figure, later=taken(keep) / whole)


def figures(spans: int, peer_spans: int, batch: int, *, peers: bool) -> list[Figure]:
    """Ours, then the peers', each alone on the machine as far as this is up to us."""
    found = [ours(spans, batch)]
    for peer in (observers.phoenix, observers.mlflow) if peers else ():
        with peer() as observer:
            found.append(measure(observer, peer_spans, batch))
    return found


def table(*, peers: bool, spans: int = 100_000, peer_spans: int = 3_000, batch: int = 250) -> str:
    """The figures as Markdown."""
    lines = [
        "| receiver | spans | accepted/s | durable/s | CPU ms a span | of which | stored ÷ sent | + 1 min | + 1 day |",
        "|---|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for one in figures(spans, peer_spans, batch, peers=peers):
        parts = ", ".join(f"{name} {ms:.3f}" for name, ms in one.parts.items()) if len(one.parts) > 1 else ""
        lines.append(
            f"| {one.name} | {one.spans:,} of {one.wire_bytes:,} bytes | {one.accepted:,.0f} | {one.durable:,.0f} "
            f"| {one.cpu_ms:.3f} | {parts} | {one.at_once:.2f} | {one.disk:.2f} "
            f"| {one.disk if one.later is None else one.later:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--peer-spans", type=int, default=3_000)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--no-peers", action="store_true")
    asked = parser.parse_args()
    print(table(peers=not asked.no_peers, spans=asked.spans, peer_spans=asked.peer_spans, batch=asked.batch))


if __name__ == "__main__":
    main()
