"""What recorded spans take on disk beside what they took on the wire, and how long a payload takes to open.

python -m bench.payloads [SPANS]
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.spans import Traces
from pilothouse.config.retention import RetentionConfig
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.wires import Redacted
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import otlp, payloads, read, roller
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.normalise import Normaliser
from pilothouse.telemetry.retention import Keeper

NOW_US = 1_750_000_000_000_000 // payloads.DAY_US * payloads.DAY_US + payloads.DAY_US // 2
BATCH = 500


def _plain(text: str) -> Redacted:
    return Redacted(text=text, classes={})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(spans: int) -> Iterator[str]:
    """Lines of figures."""
    read_span = Normaliser(redact=_plain, redact_json=_plain, pseudonym=str).span
    with tempfile.TemporaryDirectory() as made:
        folder, clock = Path(made), FrozenClock(NOW_US)
        store = TelemetryStore(folder / "telemetry.duckdb")
        loader = Loader(folder / "journal", store, clock)
        journal = Journal(folder / "journal", "ingest-0", clock, fsync="never")
        wire = 0
        for n, body in enumerate(Traces().bodies(spans, BATCH, NOW_US * 1000), 1):
            wire += len(body)
            journal.write_all([read_span(span) for span in otlp.decode(body, otlp.PROTOBUF).spans])
            if n % 40 == 0:
                loader.load_once()
        journal.close()
        while loader.load_once().lines:
            pass
        store.checkpoint()
        file, keeper = folder / "telemetry.duckdb", Keeper(store, folder / "journal", clock, RetentionConfig)
        began, cpu = time.perf_counter(), _cpu()
        roller.Roller(store, FrozenClock(NOW_US + payloads.DAY_US)).roll()
        keeper.tidy()
        took, cpu = time.perf_counter() - began, _cpu() - cpu
        yield f"wire: {wire / spans:,.0f} B a span ({spans:,} spans)"
        yield f"the last of them into files, small files together: {took:.2f} s, {cpu / spans * 1e6:.1f} µs CPU a span"
        store.checkpoint()
        began = time.perf_counter()
        store.rewrite()
        yield f"rewrite: {time.perf_counter() - began:.2f} s"
        rows, texts = file.stat().st_size, keeper.usage().payloads
        files = store.rows("SELECT count(*) FROM payload_files")[0][0]
        yield f"in {files} files: {texts / spans:,.0f} B a span; rows: {rows / spans:,.0f} B a span"
        yield f"both: {(texts + rows) / wire:.2f} of the wire"
        owners = [
            owner for (owner,) in store.rows(
                "SELECT trace_id || '/' || span_id FROM spans WHERE operation = 'chat' ORDER BY hash(span_id) LIMIT 50"
            )
        ]  # fmt: skip
        times = []
        for owner in owners:
            began = time.perf_counter()
            if read.payload(store, owner) is None:
                raise RuntimeError(f"{owner} cannot be found")
            times.append((time.perf_counter() - began) * 1e3)
        yield f"open one payload: p50 {statistics.median(times):.1f} ms, max {max(times):.1f} ms"
        store.close()


if __name__ == "__main__":
    for line in main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000):
        print(line)
