"""The telemetry store: one writer, many readers, nothing half-written."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore, dialect
from pilothouse.store.telemetry.schema import HISTOGRAM_MS, SCHEMA_VERSION


def test_what_is_written_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "telemetry.duckdb"
    store = TelemetryStore(path)
    with store.transaction() as write:
        write.execute("INSERT INTO losses VALUES (make_timestamp(5), 'w', 'span', 2, 'r')")
    store.close()
    again = TelemetryStore(path)
    assert again.query("SELECT worker, count, epoch_us(ts) AS us FROM losses WHERE what = ?", ["span"]) == [
        {"worker": "w", "count": 2, "us": 5}
    ]
    assert again.query("SELECT value FROM meta WHERE key = 'schema_version'") == [{"value": str(SCHEMA_VERSION)}]
    again.close()


def test_a_transaction_is_whole_or_not_at_all() -> None:
    store = TelemetryStore(":memory:")
    with pytest.raises(ValueError, match="half-way"), store.transaction() as write:
        write.execute("INSERT INTO losses VALUES (make_timestamp(5), 'w', 'span', 2, 'r')")
        raise ValueError("half-way")
    assert store.query("SELECT * FROM losses") == []
    with store.transaction() as write:
        write.execute("INSERT INTO losses VALUES (make_timestamp(5), 'w', 'span', 2, 'r')")
    assert store.rows("SELECT count FROM losses") == [(2,)]
    store.close()


def test_readers_in_other_threads_go_on_while_one_writes() -> None:
    store = TelemetryStore(":memory:")
    seen: list[int] = []

    def read() -> None:
        seen.extend(store.rows("SELECT count(*) FROM losses")[0][0] for _ in range(50))

    with store.transaction() as write:
        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for _ in range(50):
            write.execute("INSERT INTO losses VALUES (make_timestamp(5), 'w', 'span', 2, 'r')")
        for reader in readers:
            reader.join()
    assert seen == [0] * 200  # none saw what was not committed
    assert store.rows("SELECT count(*) FROM losses") == [(50,)]
    store.close()


def test_questions_over_one_snapshot_do_not_see_later_writes() -> None:
    store = TelemetryStore(":memory:")
    with store.reading() as ask:
        assert ask("SELECT count(*) AS n FROM losses") == [{"n": 0}]
        with store.transaction() as write:
            write.execute("INSERT INTO losses VALUES (make_timestamp(5), 'w', 'span', 2, 'r')")
        assert ask("SELECT count(*) AS n FROM losses WHERE count > $least", {"least": 1}) == [{"n": 0}]
        with pytest.raises(StoreError, match="refused a query"):
            ask("SELECT nonsense")
    assert store.rows("SELECT count(*) FROM losses") == [(1,)]
    store.close()


def test_a_refused_query_says_why() -> None:
    store = TelemetryStore(":memory:")
    with pytest.raises(StoreError, match=r"refused a query: .*nonsense"):
        store.query("SELECT nonsense FROM requests")
    store.close()
    with pytest.raises(StoreError):
        store.query("SELECT 1")


def test_a_later_schema_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.duckdb"
    store = TelemetryStore(path)
    with store.transaction() as write:
        write.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
    store.close()
    with pytest.raises(StoreError, match="schema 999"):
        TelemetryStore(path)


def test_nothing_is_fetched_from_a_network() -> None:
    store = TelemetryStore(":memory:")
    settings = store.rows("SELECT value FROM duckdb_settings() WHERE name LIKE 'auto%_known_extensions'")
    assert settings == [("false",), ("false",)]
    assert store.rows("SELECT current_setting('TimeZone')") == [("UTC",)]
    store.close()


@pytest.mark.process
def test_a_second_process_is_told_that_the_store_is_held(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.duckdb"
    store = TelemetryStore(path)
    code = (
        "import sys; from pilothouse.store.telemetry import TelemetryStore; "
        "from pilothouse.domain.errors import StoreError\n"
        "try: TelemetryStore(sys.argv[1])\n"
        "except StoreError as e: print(e.hint)"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "only one process may open it" in told.stdout
    store.close()


@pytest.mark.parametrize(
    ("ms", "bucket"), [(0.0, 0), (0.5, 0), (1.0, 0), (1.3, 2), (10.0, 10), (10.1, 11), (1e9, len(HISTOGRAM_MS))]
)
def test_a_duration_falls_in_its_bucket(ms: float, bucket: int) -> None:
    store = TelemetryStore(":memory:")
    assert store.rows(f"SELECT {dialect.bucket_of('?::DOUBLE')}", [ms, ms]) == [(bucket,)]
    assert store.rows(f"SELECT {dialect.bucket_of('NULL::DOUBLE')}") == [(None,)]
    store.close()


def test_a_store_of_the_first_version_gets_the_columns_that_have_come_since(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.duckdb"
    old = TelemetryStore(path)
    with old.transaction() as write:
        for column in ("api", "limit_hits", "saved_usd"):
            write.execute(f"ALTER TABLE requests DROP COLUMN {column}")
        for column in ("cancelled", "trimmed"):
            write.execute(f"ALTER TABLE attempts DROP COLUMN {column}")
        write.execute("INSERT INTO requests (id) VALUES ('r1')")
        write.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    old.close()
    new = TelemetryStore(path)
    assert new.query("SELECT id, api, limit_hits, saved_usd FROM requests") == [
        {"id": "r1", "api": None, "limit_hits": None, "saved_usd": None}
    ]
    assert new.query("SELECT cancelled, trimmed FROM attempts") == []
    assert new.query("SELECT value FROM meta WHERE key = 'schema_version'") == [{"value": str(SCHEMA_VERSION)}]
    new.close()
