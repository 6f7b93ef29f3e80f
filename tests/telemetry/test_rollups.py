"""Minute rollups say what the raw rows say, however the rows arrived."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import Record, Tokens, Validation
from pilothouse.stats import histogram
from pilothouse.store.telemetry import HISTOGRAM_MS, TelemetryStore
from pilothouse.telemetry import rollups
from pilothouse.telemetry.loader import Loader

NOW_US = 1_750_000_000_000_000
COLUMNS = (
    "minute, route, release, model, outcome, error_type, requests, attempts, retried, fallbacks, structured, "
    "valid_first, valid, with_tokens, input_tokens, output_tokens, priced, round(cost_usd, 9), "
    "round(duration_sum, 6), duration_hist, ttft_hist"
)

TABLES = [table for rollup in rollups.ROLLUPS for table in (rollup.minute, rollup.hour)]


def kept(store: TelemetryStore) -> int:
    """Rows of all rollups."""
    return int(
        store.rows(" + ".join(f"(SELECT count(*) FROM {table})" for table in TABLES).join(("SELECT ", "")))[0][0]
    )


counts = st.integers(0, 5_000)
shapes = st.fixed_dictionaries(
    {
        "ts_us": st.integers(0, 150).map(lambda seconds: NOW_US + seconds * 1_000_000),
        "route": st.sampled_from(["a", "b"]),
        "release": st.sampled_from([None, 1, 2]),
        "outcome": st.sampled_from(["success", "failed", "fallback"]),
        "duration_ms": st.floats(0, 500_000, allow_nan=False),
        "ttft_ms": st.none() | st.floats(0, 10_000, allow_nan=False),
        "tokens": st.none() | st.builds(Tokens, counts, counts, counts, counts, counts),
        "cost_usd": st.none() | st.integers(0, 1_000).map(lambda units: units / 1_000),
        "validation": st.none() | st.builds(Validation, first_ok=st.booleans(), ok=st.booleans()),
    }
)


def facts(store: TelemetryStore) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """(stored rollups, rollups recomputed from raw rows)."""
    with store.transaction() as write:
        write.execute(f"CREATE OR REPLACE TEMP TABLE again AS {rollups.of('requests')}")
        again = write.execute(f"SELECT {COLUMNS} FROM again ORDER BY ALL").fetchall()
    return store.rows(f"SELECT {COLUMNS} FROM rollup_minute ORDER BY ALL"), again


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(shapes, min_size=1, max_size=6), min_size=1, max_size=4))
def test_compacted_rollups_are_what_raw_rows_give(
    batches: list[list[dict]], record: Callable[..., Record], empty: Callable[[], TelemetryStore]
) -> None:
    store = empty()
    with TemporaryDirectory() as made:
        path = Path(made) / "edge-0" / "1-1-1.ndjson"
        path.parent.mkdir()
        loader = Loader(Path(made), store, FrozenClock(NOW_US))
        for number, batch in enumerate(batches):
            lines = [msgspec.json.encode(record(**shape)) + b"\n" for shape in batch]
            path.with_name(f"{number + 1}-1-1.ndjson").write_bytes(b"".join(lines))
            loader.load_once()
    # Uncompacted, sums agree already; compacted, row by row.
    total = sum(len(batch) for batch in batches)
    assert store.rows("SELECT sum(requests)::BIGINT FROM rollup_minute") == [(total,)]
    before = kept(store)
    saved = rollups.compact(store, 0, NOW_US + 10**10)
    stored, again = facts(store)
    assert stored == again
    assert before - saved == kept(store)
    assert rollups.compact(store, 0, NOW_US + 10**10) == 0

    # Invariant 8: disjoint buckets add up to the totals, and no observation is lost from a histogram.
    expected = [shape["tokens"] for batch in batches for shape in batch if shape["tokens"] is not None]
    totals = "sum(with_tokens)::BIGINT, sum(input_tokens)::BIGINT, sum(output_tokens)::BIGINT"
    assert store.rows(f"SELECT {totals} FROM rollup_minute") == [
        (len(expected), sum(t.input for t in expected), sum(t.output for t in expected))
    ]
    hists = store.rows("SELECT duration_hist, ttft_hist FROM rollup_minute")
    assert sum(sum(duration) for duration, _ in hists) == total
    timed = sum(shape["ttft_ms"] is not None for batch in batches for shape in batch)
    assert sum(sum(ttft) for _, ttft in hists) == timed


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(durations=st.lists(st.floats(1, 150_000), min_size=1, max_size=60))
def test_a_percentile_from_buckets_lies_within_a_bucket_of_the_exact_one(
    durations: list[float], empty: Callable[[], TelemetryStore]
) -> None:
    store = empty()
    with store.transaction() as write:
        write.executemany(
            "INSERT INTO requests (ts, duration_ms) VALUES (make_timestamp(?::BIGINT), ?)",
            [[NOW_US, duration] for duration in durations],
        )
        rollups.add(write, "requests")
    (hist,) = store.rows("SELECT duration_hist FROM rollup_minute")[0]
    found = histogram.quantile(hist, HISTOGRAM_MS, 0.95)
    assert found is not None
    ordered = sorted(durations)
    low, high = ordered[max(0, int(0.95 * len(ordered)) - 1)], ordered[-1]
    step = 10**0.1
    assert low / step * 0.999 <= found <= high * step * 1.001


def test_a_batch_without_rows_adds_nothing(store: TelemetryStore) -> None:
    with store.transaction() as write:
        assert rollups.add(write, "requests") == 0
    assert store.rows("SELECT count(*) FROM rollup_minute") == [(0,)]
