"""The telemetry file is written anew without the space of deleted rows; whoever reads or writes meanwhile is right."""

import resource
import threading
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore

FILL = """INSERT INTO payloads SELECT i::VARCHAR, TIMESTAMP '2026-01-01',
  (SELECT string_agg(hash(i, j)::VARCHAR, '') FROM range(50) r(j)), '', '' FROM range(20000) t(i)"""


@pytest.fixture
def store(tmp_path: Path) -> TelemetryStore:
    opened = TelemetryStore(tmp_path / "it's.duckdb")
    with opened.transaction() as write:
        write.execute(FILL)
    with opened.transaction() as write:
        write.execute("DELETE FROM payloads WHERE owner::INTEGER >= 1000")
        write.execute("INSERT INTO load_positions VALUES ('w/1', 5, 1, 0, true, TIMESTAMP '2026-01-01')")
    opened.checkpoint()
    return opened


def test_space_is_given_back_and_everything_is_there(store: TelemetryStore, tmp_path: Path) -> None:
    path = tmp_path / "it's.duckdb"
    before, rows = path.stat().st_size, store.rows("SELECT * FROM payloads ORDER BY rowid")
    assert store.rewrite()
    assert path.stat().st_size < before / 3
    assert store.rows("SELECT * FROM payloads ORDER BY rowid") == rows
    with store.transaction() as write:  # the key is still one
        write.execute("INSERT OR REPLACE INTO load_positions VALUES ('w/1', 9, 2, 0, true, TIMESTAMP '2026-01-01')")
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["it's.duckdb"]
    again = TelemetryStore(path)
    assert again.rows("SELECT segment, loaded_bytes FROM load_positions") == [("w/1", 9)]
    again.close()


def test_a_reader_is_waited_for_and_never_cut_off(store: TelemetryStore) -> None:
    with store.reading() as ask:
        assert not store.rewrite(within_s=0.01)
        assert ask("SELECT count(*) AS n FROM payloads") == [{"n": 1000}]
        assert store.rows("SELECT count(*) FROM payloads") == [(1000,)]
    assert store.rewrite()
    store.close()


def test_readers_and_writers_go_on_meanwhile(store: TelemetryStore) -> None:
    stop, seen, failed = threading.Event(), [], []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(store.rows("SELECT count(*) FROM payloads WHERE owner::INTEGER < 1000")[0][0])
            except StoreError as error:
                failed.append(error)

    def write() -> None:
        for n in range(20):
            with store.transaction() as conn:
                conn.execute("INSERT INTO losses VALUES (TIMESTAMP '2026-01-01', 'w', 'span', ?, 'r')", [n])

    threads = [threading.Thread(target=read), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    done = [store.rewrite(within_s=30.0) for _ in range(3)]
    threads[1].join()
    stop.set()
    threads[0].join()
    assert done == [True] * 3
    assert (failed, set(seen)) == ([], {1000})
    assert store.rows("SELECT count(*), sum(count) FROM losses") == [(20, 190)]
    store.close()


def test_a_file_that_had_no_room_is_opened_again(tmp_path: Path) -> None:
    store = TelemetryStore(tmp_path / "telemetry.duckdb")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    committed = given_up = 0
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, unlimited[1]))  # as on a full disk: a write fails
        for _ in range(8):
            with suppress(duckdb.TransactionException), store.transaction() as write:
                write.execute(FILL.replace("20000", "2000"))
                committed += 1
            try:
                store.checkpoint()
            except duckdb.FatalException:
                given_up += 1
            seen = store.rows("SELECT count(*) FROM payloads")[0][0] // 2000
            assert committed - 1 <= seen <= committed
            committed = seen  # the last one's COMMIT may have failed
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert given_up > 1
    assert 3 < committed < 8
    with store.transaction() as write:
        write.execute("INSERT INTO losses VALUES (TIMESTAMP '2026-01-01', 'w', 'span', 1, 'r')")
    store.checkpoint()
    assert store.rows("SELECT (SELECT count(*) FROM payloads), (SELECT count(*) FROM losses)") == [
        (committed * 2000, 1)
    ]
    store.close()
