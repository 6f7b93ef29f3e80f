"""What writes and removes, on both engines: retention, export, import, the drill; and from one engine to the other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.store.telemetry.rows import DAY_US, HOUR_US, NOW_US, differences, everything, loaded
from tests.telemetry import test_joins as joined

from pilothouse.config.retention import Keep, RetentionConfig
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import ScoreRecord, SpanRecord
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import transfer
from pilothouse.telemetry.retention import Keeper
from pilothouse.telemetry.round_trip import round_trip

Opens = Callable[[], TelemetryStore]
KEPT = RetentionConfig(
    general=Keep(payloads=9, spans=8, requests=9, floor=5),
    metrics=2,
    rollups=9,
    routes={"chat": Keep(payloads=8, spans=8, requests=9, floor=5)},
)


@pytest.fixture
def pair(tmp_path: Path, clickhouse: Opens) -> Iterator[tuple[TelemetryStore, TelemetryStore]]:
    """DuckDB and ClickHouse, with the same rows."""
    stores = TelemetryStore(tmp_path / "duck" / "telemetry.duckdb"), clickhouse()
    for number, store in enumerate(stores):
        loaded(store, tmp_path / f"journal{number}")
    yield stores
    for store in stores:
        store.close()


def kept(store: TelemetryStore, journal: Path, config: RetentionConfig) -> Keeper:
    return Keeper(store, journal, FrozenClock(NOW_US + 1), lambda: config)


def texts(store: TelemetryStore) -> set[str]:
    """Owners whose payloads are there, wherever they are."""
    from pilothouse.telemetry import payloads

    with store.reading() as ask:
        return {row["owner"] for row in ask(f"SELECT owner FROM {payloads.source(store, ask, 0, NOW_US + DAY_US)} p")}


def test_retention_removes_the_same_days_of_the_same_routes(
    pair: tuple[TelemetryStore, TelemetryStore], tmp_path: Path
) -> None:
    told = []
    for store in pair:
        keeper = kept(store, tmp_path / "none", KEPT)
        gone = [(one.what, one.day, one.route, one.count, one.reason) for one in keeper.tidy()]
        assert gone and keeper.tidy() == []
        assert store.rows("SELECT count(*) FROM marks WHERE n NOT IN (SELECT n FROM entries)") == [(0,)]
        keeper.told(keeper.removals(untold=True)[0])
        rest = everything(store, without=("payloads", "payload_files"))
        rest["removals"] = [row | {"bytes": 0} for row in rest["removals"]]  # of files, which one of them has
        told.append((gone, len(keeper.removals(untold=True)), texts(store), rest))
    duck, house = told
    assert house[0] == duck[0]
    assert house[1] == len(duck[0]) - 1
    assert house[2] == duck[2]
    assert list(differences(house[3], duck[3])) == []


def test_a_day_that_goes_whole_is_a_partition_and_a_cap_takes_no_more_than_it_must(
    clickhouse: Opens, tmp_path: Path
) -> None:
    store = loaded(clickhouse(), tmp_path / "journal")
    parts = """SELECT count(DISTINCT partition) FROM system.parts
        WHERE active AND database = currentDatabase() AND table = 'requests'"""
    before = store.rows(parts)[0][0]
    general = RetentionConfig(general=Keep(requests=8, floor=5))
    assert {one.what for one in kept(store, tmp_path / "none", general).tidy()} == {"requests"}
    assert store.rows(parts)[0][0] == before - 2
    cap = store.space()[0] - store.space("payloads")[0] // 4
    capped = kept(store, tmp_path / "none", RetentionConfig(general=Keep(floor=5), disk_cap=cap)).tidy()
    assert {one.what for one in capped} == {"payloads"}
    assert store.rows("SELECT count(*) FROM payloads")[0][0] > 0
    assert store.rows("SELECT count(*) FROM losses WHERE reason = 'disk cap'")[0][0] == len(capped)
    store.close()


@pytest.mark.parametrize("format_", ["parquet", "jsonl"])
def test_an_export_goes_from_either_to_the_other_and_loses_nothing(
    both: tuple[TelemetryStore, TelemetryStore], clickhouse: Opens, tmp_path: Path, format_: transfer.Format
) -> None:
    duck, house = both
    clock, window = FrozenClock(NOW_US + 1), (0, NOW_US + DAY_US)
    first = transfer.export(duck, str(tmp_path / "a"), window, clock, format=format_)
    known = transfer.import_(house, str(tmp_path / "a"))
    assert (sum(known.added.values()), known.known) == (0, first.rows)
    back = transfer.export(house, str(tmp_path / "b"), window, clock, format=format_)
    assert back.rows == first.rows
    again = TelemetryStore(tmp_path / "again.duckdb")
    taken = transfer.import_(again, str(tmp_path / "b"))
    assert (taken.added, sum(taken.known.values())) == (first.rows, 0)
    tables = tuple(transfer.IDENTITY)
    assert list(differences(everything(again, tables), everything(duck, tables))) == []
    again.close()


def test_an_import_adds_what_is_new_once(
    opens: Opens, both: tuple[TelemetryStore, TelemetryStore], tmp_path: Path
) -> None:
    clock = FrozenClock(NOW_US + 1)
    half = transfer.export(both[1], str(tmp_path / "out"), (0, NOW_US - 4 * DAY_US), clock)
    whole = transfer.export(both[0], str(tmp_path / "out"), (0, NOW_US + DAY_US), clock)
    store = opens()
    already = {table: store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in whole.rows}
    taken = transfer.import_(store, str(tmp_path / "out"))
    assert {table: taken.added[table] + already[table] for table in taken.added} == whole.rows
    assert {table: taken.added[table] + taken.known[table] for table in taken.added} == {
        table: half.rows[table] + whole.rows[table] for table in half.rows
    }
    assert int(store.rows("SELECT sum(requests) FROM rollup_minute")[0][0]) == 120
    store.close()


def test_the_export_drill_finds_nothing_lost(both: tuple[TelemetryStore, TelemetryStore]) -> None:
    duck, house = (
        round_trip(store, FrozenClock(NOW_US + DAY_US), "docs", "prod", (NOW_US - 9 * DAY_US, NOW_US - HOUR_US))
        for store in both
    )
    assert duck.ok and duck.traces > 10
    assert house == duck


@pytest.mark.parametrize(
    "case", ["two instrumentations and the gateway", "no trace goes through, the response id tells"]
)
def test_what_arrives_late_or_twice_changes_the_same_rows(clickhouse: Opens, tmp_path: Path, case: str) -> None:
    lines, sides, usd = joined.CASES[case]
    batches = [[line] for line in (*reversed(lines), lines[0])]  # a span that came last comes once more
    kept = []
    for number, store in enumerate((TelemetryStore(tmp_path / "telemetry.duckdb"), clickhouse())):
        joined.load(store, tmp_path / f"journal{number}", *batches)
        assert (joined.sides(store), joined.spent(store)) == (sides, usd)
        kept.append(everything(store))
        store.close()
    assert list(differences(kept[1], kept[0])) == []


def test_a_trace_that_comes_in_parts_and_is_judged_meanwhile_has_the_same_line(
    clickhouse: Opens, tmp_path: Path
) -> None:
    def span(name: str, at: int, parent: str) -> SpanRecord:
        return SpanRecord(
            trace_id="c" * 32, span_id=name * 16, parent_span_id=parent * 16, ts_us=NOW_US + at, duration_ms=1.0,
            name=name, app="agent", status="ok", attributes={"part": name},
        )  # fmt: skip

    score = ScoreRecord(
        id="q", ts_us=NOW_US + 9, request_id="", trace_id="c" * 32, route="", env="", name="x", value=1.0, source="sdk"
    )
    batches = [[span("b", 5, "a")], [span("a", 0, "")], [span("e", 8, "d")], [span("d", 7, "a"), score]]
    kept = []
    for number, store in enumerate((TelemetryStore(tmp_path / "telemetry.duckdb"), clickhouse())):
        joined.load(store, tmp_path / f"journal{number}", *batches)
        kept.append(everything(store))
        store.close()
    assert list(differences(kept[1], kept[0])) == []
    assert [(row["name"], row["span_count"], row["scored"]) for row in kept[1]["entries"]] == [("a", 4, True)]
