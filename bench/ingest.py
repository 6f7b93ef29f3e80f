"""What it takes to keep spans: durable spans a second, CPU a span, bytes on disk, here and with Phoenix and MLflow.

    python -m bench.ingest [--spans 30000] [--peer-spans 3000] [--batch 250] [--no-peers]

The same GenAI spans go over OTLP/HTTP as protobuf to each receiver by two connections. A span counts as durable when
its batch was answered and the store has its row; the clock runs until it has all of them.
"""

import argparse
import contextlib
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from pilothouse.telemetry.backlog import FILE, waiting_bytes
from pilothouse.telemetry.payloads import Roller

CONNECTIONS = 2
WITHIN_S = 600.0
NOBODY = "http://127.0.0.1:9"  # the upstream of routes that nobody asks


@dataclass(frozen=True)
class Figure:
    """One receiver. `accepted`, `durable`: spans a second; CPU in ms a span; `disk`: bytes stored ÷ bytes sent, and
    `later` the same once the day is over and its payloads are in files.
    """

    name: str
    spans: int
    accepted: float
    durable: float
    cpu_ms: float
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
    traces = Traces()
    send(observer.url, list(traces.bodies(batch, batch, time.time_ns())), observer.headers)
    _wait(observer, batch)
    bodies = list(traces.bodies(spans, batch, time.time_ns()))
    wire = sum(map(len, bodies))
    pids, disk = observer.pids(), observer.disk()
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
    return Figure(
        observer.name, spans, spans / accepted, spans / durable, sum(parts.values()),
        (observer.disk() - disk) / wire, wire // spans, parts,
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
            "Pilothouse", f"{otlp}/v1/traces", lambda: loaded_lines(journal, "ingest-0"),
            lambda: (*one.pids("ingest"), *one.pids("control")), lambda: 0,
            {"authorization": f"Bearer {one.key}"},
        )  # fmt: skip


def loaded_lines(journal: Path, worker: str) -> int:
    """Lines of the worker's journal that the loader says it has committed; 0 while some are not."""
    if waiting_bytes(journal, worker):
        return 0  # counted once, when all is loaded
    loaded = json.loads((journal / FILE).read_text())
    lines = 0
    for file in (journal / worker).glob("*.ndjson"):
        with file.open("rb") as opened:
            lines += opened.read(loaded.get(f"{worker}/{file.name}", 0)).count(b"\n")
    return lines


def ours(spans: int, batch: int) -> Figure:
    """Pilothouse; its rows are counted, and its store's size taken, when it has ended and checkpointed."""
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
        now = _kept(keep)
        settled = TelemetryStore(file)
        Roller(settled, SystemClock()).settle(time.time_ns())  # as of any day
        settled.rewrite()
        settled.close()
        return Figure(**{**figure.__dict__, "disk": now / whole, "later": _kept(keep) / whole})


def _kept(folder: Path) -> int:
    """Bytes of the store in a folder, with its payload files."""
    files = [folder / "telemetry.duckdb", *(folder / "payloads").glob("*.parquet")]
    return sum(file.stat().st_size for file in files)


def figures(spans: int, peer_spans: int, batch: int, *, peers: bool) -> list[Figure]:
    """Ours, then the peers', each alone on the machine as far as this is up to us."""
    found = [ours(spans, batch)]
    for peer in (observers.phoenix, observers.mlflow) if peers else ():
        with peer() as observer:
            found.append(measure(observer, peer_spans, batch))
    return found


def table(*, peers: bool, spans: int = 30_000, peer_spans: int = 3_000, batch: int = 250) -> str:
    """The figures as Markdown."""
    lines = [
        "| receiver | spans | accepted/s | durable/s | CPU ms a span | of which | stored ÷ sent | the day after |",
        "|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for one in figures(spans, peer_spans, batch, peers=peers):
        parts = ", ".join(f"{name} {ms:.3f}" for name, ms in one.parts.items()) if len(one.parts) > 1 else ""
        lines.append(
            f"| {one.name} | {one.spans:,} of {one.wire_bytes:,} bytes | {one.accepted:,.0f} | {one.durable:,.0f} "
            f"| {one.cpu_ms:.3f} | {parts} | {one.disk:.2f} | {one.disk if one.later is None else one.later:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=30_000)
    parser.add_argument("--peer-spans", type=int, default=3_000)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--no-peers", action="store_true")
    asked = parser.parse_args()
    print(table(peers=not asked.no_peers, spans=asked.spans, peer_spans=asked.peer_spans, batch=asked.batch))


if __name__ == "__main__":
    main()
