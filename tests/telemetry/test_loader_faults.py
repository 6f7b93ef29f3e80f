"""From the journal to the pages: whatever breaks, what is whole is stored once, and what is lost is counted."""

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.telemetry.full_disk import loads

from pilothouse.domain.clock import FrozenClock, SystemClock
from pilothouse.domain.record import Attempt, EventRecord, Record, ScoreRecord, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import waterfall
from pilothouse.telemetry.loader import Loader

NOW_US = 1_750_000_000_000_000
NUMBERS = range(0, 60, 6)  # statements of a load at which it is killed


def trace_of(number: int) -> str:
    return f"{number + 1:032x}"


def call(number: int, **more: Any) -> SpanRecord:
    return SpanRecord(
        **{
            "trace_id": trace_of(number), "span_id": f"{number + 1:016x}", "ts_us": NOW_US + number * 10_000_000,
            "duration_ms": 50.0, "name": "chat m", "operation": "chat", "stage": "model", "cost_usd": 1.0,
            "tokens": Tokens(input_uncached=1, output_text=1), "response_id": f"chatcmpl-of-this-number-{number}",
        } | more
    )  # fmt: skip


def request(number: int) -> Record:
    attempt = Attempt(n=1, kind="primary", provider="p", model="m", offset_ms=0.0, duration_ms=40.0,
                      response_id=f"chatcmpl-of-this-number-{number}", delivered=True)  # fmt: skip
    return Record(
        id=f"r{number}", ts_us=NOW_US + number * 10_000_000 + 1_000, trace_id=f"{number + 5_000:032x}",
        span_id="f" * 16, duration_ms=45.0, cost_usd=2.0, attempts=[attempt],
    )  # fmt: skip


def written(root: Path, name: int, *lines: Any) -> None:
    path = root / "w" / f"{NOW_US + name}-{name + 1}-1.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


# One load, in which the statement with this number is never reached.
KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from pilothouse.domain.clock import SystemClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import Loader

class Counting:
    def __init__(self, made): self.made, self.left = made, int(sys.argv[3])
    def execute(self, *words):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.made.execute(*words)
    def __getattr__(self, name): return getattr(self.made, name)

store = TelemetryStore(Path(sys.argv[2]))
loader = Loader(Path(sys.argv[1]), store, SystemClock(), keep_s=lambda: 1e9)
store._writer = Counting(store._writer)
loader.load_once()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.process
def test_a_kill_between_any_two_statements_of_a_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Each load has new spans, requests of the spans before, and what was sent already."""
    journal, database = tmp_path / "journal", tmp_path / "telemetry.duckdb"
    for number, statement in enumerate(NUMBERS):
        again = [call(number - 1), request(number - 1)] if number else []
        event = EventRecord(
            ts_us=NOW_US + number, trace_id=trace_of(number), span_id="", name="gen_ai.choice", body="x"
        )
        score = ScoreRecord(id=f"s{number}", ts_us=NOW_US, name="good", value=1.0)
        written(journal, number, call(number), event, event, score, score, *again)
        command = [sys.executable, "-c", KILLED, str(journal), str(database), str(statement)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
    written(journal, len(NUMBERS), request(len(NUMBERS) - 1))
    store = TelemetryStore(database)
    Loader(journal, store, SystemClock(), keep_s=lambda: 1e9).load_once()
    n = len(NUMBERS)
    for table in ("spans", "requests", "attempts", "span_events", "scores"):
        assert store.rows(f"SELECT count(*) FROM {table}") == [(n,)], table
    assert store.rows("SELECT sum(requests)::INT FROM rollup_minute") == [(n,)]
    assert store.rows("SELECT count(*) FROM spans WHERE counted_by = request_id AND request_id <> ''") == [(n,)]
    joined = "SELECT count(*) FROM requests r JOIN spans s USING (trace_id) WHERE r.parent_span_id = s.span_id"
    assert store.rows(joined) == [(n,)]
    assert store.rows("SELECT count(*) FROM losses") == [(0,)]
    repeated = dict(store.rows("SELECT what, sum(count)::INT FROM repeats GROUP BY what"))
    assert repeated == {"span": n - 1, "event": n, "score": n}
    store.close()


@pytest.mark.process
def test_a_disk_that_is_full_amid_a_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    noise = {"attributes": {f"k{n}": f"{n * 7919:040x}" for n in range(20)}}
    written(tmp_path / "journal", 0, *(call(n, **noise, name=f"{n * 104_729:060x}") for n in range(2_000)))
    said = loads(tmp_path / "journal", tmp_path / "telemetry.duckdb", 100_000, 300_000)
    store = TelemetryStore(tmp_path / "telemetry.duckdb")
    assert store.rows("SELECT count(*), count(DISTINCT span_id) FROM spans") == [(2000, 2000)]
    store.close()
    assert sum(one.startswith("failed") for one in said) >= 1


BREAKS = st.one_of(
    st.just(b""), st.just(b"\x00" * 40), st.just(b"\x1f\x8b\x08\x00gzip"), st.just(b"\n"), st.just(b"{"),
    st.binary(min_size=1, max_size=30),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 400), st.integers(0, 60), BREAKS), max_size=4))
def test_a_segment_that_is_broken_anywhere_gives_all_its_whole_lines(breaks: list[tuple[int, int, int, bytes]]) -> None:
    """Bytes lost, put in or changed in some lines cost these, and a neighbour where they ran into it."""
    spoilt: set[int] = set()
    lines = [msgspec.json.encode(call(n)) + b"\n" for n in range(12)]
    for number, at, gone, put in breaks:
        line = lines[number]
        lines[number] = line[:at] + put + line[at + gone :]
        spoilt |= {number} if lines[number].endswith(b"\n") and line.endswith(b"\n") else {number, number + 1}
    with TemporaryDirectory() as made:
        path = Path(made) / "w" / f"{NOW_US}-1-1.ndjson"
        path.parent.mkdir()
        path.write_bytes(b"".join(lines))
        store = TelemetryStore(":memory:")
        Loader(Path(made), store, FrozenClock(NOW_US)).load_once()
        found = {trace for (trace,) in store.rows("SELECT trace_id FROM spans")}
        kept = {trace_of(n) for n in range(12)} - {trace_of(n) for n in spoilt}
        lost = store.rows("SELECT coalesce(sum(count), 0)::INT FROM losses")[0][0]
        store.close()
    assert kept <= found
    assert lost or len(found) >= 12 - sum(len(put) + gone > 0 for _, _, gone, put in breaks)


def test_a_trace_of_fifty_thousand_spans_is_loaded_once_and_opens(tmp_path: Path, store: TelemetryStore) -> None:
    spans = [
        call(0, span_id=f"{n + 1:016x}", parent_span_id=f"{n // 10:016x}" if n else "", ts_us=NOW_US + n,
             operation="chat" if n % 10 == 9 else "", response_id=f"chatcmpl-of-the-huge-trace-{n}",
             tokens=Tokens(input_uncached=1, output_text=1) if n % 10 == 9 else None, cost_usd=None)
        for n in range(50_000)
    ]  # fmt: skip
    written(tmp_path, 0, *spans[:30_000])
    written(tmp_path, 1, *spans[20_000:])
    loader = Loader(tmp_path, store, FrozenClock(NOW_US), step_bytes=4 << 20)
    assert sum(loader.load_once().repeated for _ in range(2)) == 10_000
    tree = waterfall.trace(store, trace_of(0))
    assert tree is not None
    assert (tree.totals.steps, len({step.id for step in tree.steps})) == (50_000, 50_000)
