"""Questions to a store of five million spans: what each takes, and what the pages take while spans come in.

    python -m bench.questions [--spans 5000000] [--times 15] [--seconds 30] [--store FILE]

First the store alone, each question by itself; then the product on that store: spans are sent as fast as they are
taken, pages are asked for, and control's memory is watched.
"""

import argparse
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bench import product, span_store
from bench.ingest import NOBODY, send
from bench.load import cpu_seconds
from bench.spans import Traces
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.wires import MetricQuery
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import listing, marks, read, sessions
from pilothouse.telemetry.backlog import waiting_bytes
from pilothouse.telemetry.filter import parse
from pilothouse.telemetry.listing import Asked
from pilothouse.telemetry.metrics import make_metrics

SPANS, DAYS = 5_000_000, 8
WEEK_US = 7 * 86_400_000_000
BATCH = 250
# Each field of the filter, common and rare values, words, and several together. {word}, {other}: of a stored text.
FILTERS = (
    "", "route:flow-3", "route:flow*", "-route:flow-3", "env:staging", "outcome:failed", "error:rate_limit", "error:*",
    "model:gpt-4o*", "model:gpt-4.1-2026-07", "provider:mistral", "latency>4s", "latency:200ms..1s", "ttft>100ms",
    "cost>0.02", "cost<0.001", "tokens>3k", "release:1.3", "canary:true", "user:user-77", "session:session-123",
    "session:session-77*", "tool:rare_tool", "tool:sql", "has:tool", "has:documents", "has:error", "has:retry",
    "has:fallback", "has:guard", "has:score", "has:stream", "has:gateway", "api:chat", "cache:miss", "status:502",
    "attempts>2", "source:otlp", "source:edge", "app:app-1", "segment:eu", "key:key00012", "name:invoke*",
    "label.tenant:tenant-7", "label.deployment.region:eu", "label.gen_ai.tool.name:rare_tool", "label.tenant:*",
    "{word}", "{other}", "{number}", "nosuchword", '"order {number}"', "id:{trace}", "id:nobody",
    "id:{begins}*", "id:{short}*", "session:*77*", "label.tenant:tenant-7*", "日本",
    "route:flow-3 outcome:failed model:gpt-4o*", "route:flow-3 {word} latency>1s",
    "route:flow-3 {other} latency>1s", "-has:tool {other} env:prod",
)  # fmt: skip


def questions(store: TelemetryStore) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every question by name."""
    now_us = store.rows("SELECT epoch_us(max(ts)) FROM spans")[0][0] + 1
    since_us = now_us - WEEK_US
    trace, text = store.rows("SELECT trace_id, preview_in FROM entries WHERE is_trace ORDER BY id LIMIT 1")[0]
    words = sorted(set(text.split()[:-2]), key=lambda word: _said(store, word))
    told = {"word": words[0], "other": words[-1], "number": text.split()[-1], "trace": trace,
            "begins": trace[:8], "short": trace[:3]}  # fmt: skip
    for line in FILTERS:
        asked = Asked(query=parse(line.format(**told)), since_us=since_us)
        yield f"list of 50: `{line.format(**told) or '(all)'}`", lambda asked=asked: listing.find(store, asked)  # type: ignore[misc]
    metrics = make_metrics(store, FrozenClock(now_us))

    def metric(name: str, by: str, bucket_s: int = 0) -> Callable[[], object]:
        return lambda: metrics(MetricQuery(metric=name, since_us=since_us, by=(by,), bucket_s=bucket_s))

    yield "one trace", lambda: read.trace(store, trace)
    yield "p95 of calls by model by hour, 7 days", metric("calls.latency.p95", "model", 3600)
    yield "p95 of requests by model by hour, 7 days", metric("latency.p95", "model", 3600)
    yield "cost of calls by route, 7 days", metric("calls.spend", "route")
    yield "cost of requests by route, 7 days", metric("cost.spend", "route")
    yield "sessions, 7 days", lambda: sessions.people(store, "session", since_us)
    yield "users, 7 days", lambda: sessions.people(store, "user", since_us)
    yield "values of `tool`", lambda: listing.values(store, Asked(since_us=since_us), "tool", "")


def _said(store: TelemetryStore, word: str) -> int:
    return int(store.rows("SELECT count(*) FROM marks WHERE mark = ?", [marks.mark_of(word)])[0][0])


def asked(store: TelemetryStore, times: int) -> list[str]:
    """Rows of the table: p50 and p95 in ms by the clock, and CPU. Asked in rounds, as by different people: none finds
    what it needs read by itself just before, and a moment when the machine is busy falls on all alike.
    """
    every = list(questions(store))
    took: dict[str, list[float]] = {name: [] for name, _ in every}
    cpu: dict[str, list[float]] = {name: [] for name, _ in every}
    for number in range(times + 1):
        for name, question in every:
            began, used = time.perf_counter(), time.process_time()
            question()
            if number:  # the first is for what the store reads but once
                took[name].append((time.perf_counter() - began) * 1e3)
                cpu[name].append((time.process_time() - used) * 1e3)
    rows = ["| question | p50 ms | p95 ms | CPU ms |", "|---|---:|---:|---:|"]
    for name, ms in took.items():
        worst = statistics.quantiles(ms, n=20)[-1] if times > 1 else ms[0]
        rows.append(f"| {name} | {statistics.median(ms):.1f} | {worst:.1f} | {statistics.median(cpu[name]):.1f} |")
        print(rows[-1], flush=True)
    return rows


PAGES = ("/traces?age=7d", "/traces?age=7d&q=outcome:failed", "/traces?age=7d&q=label.tenant:tenant-7",
         "/traces/{trace}", "/sessions?age=7d", "/users?age=7d", "/?window=7d", "/")  # fmt: skip


def served(store: Path, trace: str, seconds: float) -> list[str]:
    """Rows of the table: pages while spans come in, how many these are, and control's memory."""
    rows = ["| while spans come in | p50 ms | slowest ms |", "|---|---:|---:|"]
    with product.running(NOBODY, store=store) as one:
        token = (one.data / "run" / "control.json").read_text().split('"token":"')[1].split('"')[0]
        otlp = (one.data / "run" / "supervisor.json").read_text().split('"otlp":"')[1].split('"')[0]
        (pid,) = one.pids("control")
        highest = [0.0]
        stop = threading.Event()
        watch = threading.Thread(target=_watch, args=(pid, highest, stop))
        watch.start()
        sent: list[int] = []
        sender = threading.Thread(target=_send, args=(f"{otlp}/v1/traces", one.key, sent, stop))
        pids = (*one.pids("ingest"), pid)
        cpu, began = cpu_seconds(pids), time.perf_counter()
        sender.start()
        took: dict[str, list[float]] = {page: [] for page in PAGES}
        while time.perf_counter() - began < seconds:
            for page in PAGES:
                took[page].append(_ms(one.control + page.format(trace=trace), token))
        stop.set()
        sender.join()
        while waiting_bytes(one.data / "journal", "ingest-0"):
            time.sleep(0.05)
        spans = sum(sent)
        lasted = time.perf_counter() - began
        used = cpu_seconds(pids) - cpu
        watch.join()
    rows += [f"| `{page}` | {statistics.median(ms):.0f} | {max(ms):.0f} |" for page, ms in took.items()]
    rows += [
        "",
        "| what | figure |",
        "|---|---:|",
        f"| spans sent and loaded meanwhile | {spans:,} in {lasted:.0f} s |",
    ]
    rows.append(f"| spans a second, of them durable and loaded | {spans / lasted:,.0f} |")
    rows.append(f"| CPU of ingest and control, pages included | {used / spans * 1e3:.3f} ms a span |")
    rows.append(f"| control's memory, highest | {highest[0]:.0f} MB |")
    return rows


def _send(url: str, key: str, sent: list[int], stop: threading.Event) -> None:
    traces = Traces()
    while not stop.is_set():
        send(url, list(traces.bodies(40 * BATCH, BATCH, time.time_ns())), {"authorization": f"Bearer {key}"})
        sent.append(40 * BATCH)


def _watch(pid: int, highest: list[float], stop: threading.Event) -> None:
    process = psutil.Process(pid)
    while not stop.wait(0.1):
        highest[0] = max(highest[0], process.memory_info().rss / 1e6)


def _ms(url: str, token: str) -> float:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    start = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as reply:
        reply.read()
    return (time.perf_counter() - start) * 1e3


def table(spans: int = SPANS, times: int = 15, seconds: float = 30.0, made: Path | None = None) -> str:
    """Markdown. `made`: a store that `bench.span_store` has made; it is copied."""
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        path = Path(folder) / "telemetry.duckdb"
        if made is not None:
            shutil.copy(made, path)
        store = TelemetryStore(path)
        try:
            if made is None:
                span_store.generate(store, spans=spans, until_us=time.time_ns() // 1_000, days=DAYS)
            rows = [f"{spans:,} spans over {DAYS} days, {path.stat().st_size / 1e6:,.0f} MB.", "", *asked(store, times)]
            trace = store.rows("SELECT trace_id FROM entries WHERE is_trace LIMIT 1 OFFSET 300000")[0][0]
        finally:
            store.close()
        return "\n".join([*rows, "", *served(path, trace, seconds)])


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=SPANS)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    print(table(options.spans, options.times, options.seconds, options.store))


if __name__ == "__main__":
    main()
