"""Telemetry's budgets, measured: a journal line, a loaded row, the review's evidence and the overview of a big store.

    python bench/telemetry.py [--requests 1000000] [--routes 10] [--json out.json]

CPU is the process's own (`time.process_time`), wall times are the best of three with a warm cache.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthetic import generate

from pilothouse.domain.clock import FrozenClock, SystemClock
from pilothouse.domain.ids import new_span_id, request_ids, uuid7
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.record import Attempt, Payload, Record, Redaction, Tokens, Validation
from pilothouse.domain.wires import MetricQuery
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import evidence, read
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.metrics import CATALOGUE, make_metrics

UNTIL_US = 1_750_000_000_000_000
DAY_US = 86_400_000_000


def _hex32() -> str:
    return request_ids(UNTIL_US)[1]


def some_record() -> Record:
    """A request with everything on: 8 hashes, an attempt, a schema, a redacted payload; about 3 KB of JSON."""
    tokens = Tokens(input_uncached=900, output_text=220)
    return Record(
        id=uuid7(), ts_us=UNTIL_US, trace_id=_hex32(), span_id=new_span_id(), env="prod", route="docs-answer",
        app="docs", tier="high", release=12, manifest=_hex32() * 2,
        parts={part: _hex32() * 2 for part in PARTS}, table_revision=4, worker="edge-0", key_id="abcd1234",
        session=new_span_id(), requested_model="docs-answer", provider="openai", served_model="mini-2026-08-07",
        outcome="success", status=200, duration_ms=812.4, ttft_ms=120.0, tokens=tokens, cost_usd=0.00066,
        attempts=[Attempt(n=1, kind="primary", provider="openai", model="mini-2026-08-07", offset_ms=0.4,
                          duration_ms=811.5, status=200, tokens=tokens, cost_usd=0.00066, delivered=True)],
        stages={"queue": 0.1, "preprocessing": 0.3, "model": 811.5, "postprocessing": 0.4},
        validation=Validation(first_ok=True, ok=True), redaction=Redaction(status="clean"), log_mode="redacted",
        upstream_hash=_hex32() * 2, preview_in="q" * 200, preview_out="a" * 200,
        payload=Payload(request="q" * 600, response="a" * 400),
    )  # fmt: skip


def journal_and_loader(lines: int) -> dict[str, float]:
    """µs of CPU a line to write and a row to load."""
    records = [some_record() for _ in range(lines)]
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        journal = Journal(root / "journal", "edge-0", SystemClock())
        store = TelemetryStore(root / "telemetry.duckdb")
        loader = Loader(root / "journal", store, SystemClock())
        written, loaded = [], []
        for _ in range(3):
            began = time.process_time()
            for record in records:
                journal.write(record)
            between = time.process_time()
            rows = loader.load_once().lines
            written.append((between - began) / lines * 1e6)
            loaded.append((time.process_time() - between) / rows * 1e6)
        journal.close()
        store.close()
    return {"journal_us_per_line": min(written), "loader_us_per_row": min(loaded)}


def best_ms(work: Callable[[], Any]) -> float:
    """Wall ms, best of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times) * 1_000


def best_cpu_ms(work: Callable[[], Any]) -> float:
    """CPU ms of all threads, best of three: what a busy machine distorts less."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1_000


def big_store(requests: int, routes: int) -> dict[str, float]:
    """ms for what pages and the review ask of a store with so many requests over seven days."""
    with tempfile.TemporaryDirectory() as made:
        store = TelemetryStore(Path(made) / "telemetry.duckdb")
        generate(store, requests=requests, routes=routes, until_us=UNTIL_US, days=7)
        clock = FrozenClock(UNTIL_US)
        since = UNTIL_US - 7 * DAY_US
        metrics = make_metrics(store, clock)
        slowest = max(
            (best_ms(lambda name=name: metrics(MetricQuery(metric=name, since_us=since, by=("route",)))), name)
            for name in CATALOGUE
            if "route" in CATALOGUE[name].dimensions
        )
        newest = read.list_requests(store, read.RequestFilter()).rows[0]
        measured = {
            "review_evidence_ms": best_ms(lambda: evidence.gather(store, clock, since, UNTIL_US)),
            "review_evidence_cpu_ms": best_cpu_ms(lambda: evidence.gather(store, clock, since, UNTIL_US)),
            "overview_traffic_7d_ms": best_ms(lambda: read.traffic(store, since, UNTIL_US, 7_200)),
            "list_50_ms": best_ms(lambda: read.list_requests(store, read.RequestFilter())),
            "list_text_ms": best_ms(lambda: read.list_requests(store, read.RequestFilter(text="number 4242"))),
            "facets_7d_ms": best_ms(lambda: read.facets(store, read.RequestFilter(since_us=since))),
            "request_ms": best_ms(lambda: read.request(store, newest.id)),
            "trace_ms": best_ms(lambda: read.trace(store, newest.trace_id)),
            f"slowest_metric_by_route_7d_ms ({slowest[1]})": slowest[0],
        }
        store.close()
    return measured


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--routes", type=int, default=10)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    measured = journal_and_loader(asked.lines) | big_store(asked.requests, asked.routes)
    for name, value in measured.items():
        print(f"{name:60} {value:10.1f}")
    if asked.json:
        asked.json.write_text(json.dumps({name: round(value, 2) for name, value in measured.items()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
