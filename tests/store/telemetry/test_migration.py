"""From one store to the other and back: every row and column, also when it is cut off, and nothing twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.telemetry.rows import DAY_US, NOW_US, differences, everything, loaded

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StateError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.clickhouse import ClickHouseStore
from pilothouse.telemetry import read
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.migration import TABLES, migrate
from pilothouse.telemetry.roller import Roller

Opens = Callable[[], TelemetryStore]


@pytest.fixture
def source(tmp_path: Path) -> TelemetryStore:
    """A store with rows in every table, its payloads in files but for today's."""
    store = loaded(TelemetryStore(tmp_path / "source" / "telemetry.duckdb"), tmp_path / "journal", 30)  # three days
    assert Roller(store, FrozenClock(NOW_US)).roll().files
    with store.transaction() as write:
        write.execute(
            "INSERT INTO removals VALUES (make_timestamp(5), 'spans', DATE '2024-02-29', '*', 3, 4, 'age', true)"
        )
        write.execute("INSERT INTO repeats VALUES (make_timestamp(7), 'span', 2)")
        write.execute("UPDATE requests SET labels = NULL, repairs = NULL WHERE id = 'r0007'")
    assert all(store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in (*TABLES, "payload_files"))
    return store


def whole(store: TelemetryStore) -> dict[str, object]:
    found = everything(store, TABLES, without=("payloads",))
    with store.reading() as ask:
        from pilothouse.telemetry import payloads

        relation = payloads.source(store, ask, 0, NOW_US + DAY_US)
        found["payloads"] = sorted(map(repr, ask(f"SELECT owner, ts, request, response, upstream FROM {relation}")))
    return found


def test_there_and_back_not_a_column_differs(source: TelemetryStore, clickhouse: Opens, tmp_path: Path) -> None:
    house, back = clickhouse(), TelemetryStore(tmp_path / "back" / "telemetry.duckdb")
    there = migrate(source, house)
    assert (there.differences, there.known, sum(there.repeated.values())) == ([], 0, 0)
    steps: list[tuple[int, int]] = []
    again = migrate(house, back, lambda done, of: steps.append((done, of)))
    assert (again.differences, again.rows) == ([], there.rows)
    assert steps[-1] == (2 * again.slices, 2 * again.slices)
    before = whole(source)
    assert list(differences(whole(house), before)) == []
    assert list(differences(whole(back), before)) == []
    assert read.payload(back, "r0003") == read.payload(source, "r0003") != {}
    assert back.rows("SELECT labels, repairs FROM requests WHERE id = 'r0007'") == [(None, None)]
    for store in (house, back):  # the journal that the source has loaded is loaded there too
        assert Loader(tmp_path / "journal", store, FrozenClock(NOW_US + 2)).load_once().lines == 0
        store.close()
    source.close()


def test_what_was_stored_twice_is_taken_once_and_told(source: TelemetryStore, clickhouse: Opens) -> None:
    with source.transaction() as write:
        write.execute("INSERT INTO spans SELECT * FROM spans WHERE name = 'agent'")
    house = clickhouse()
    found = migrate(source, house)
    assert found.differences == []
    assert {table: n for table, n in found.repeated.items() if n} == {"spans": 6}
    assert house.rows("SELECT count(*) FROM spans WHERE name = 'agent'") == [(6,)]
    house.close()
    source.close()


def test_a_target_with_other_rows_is_refused_and_a_difference_is_told(
    source: TelemetryStore, clickhouse: Opens, tmp_path: Path
) -> None:
    house = clickhouse()
    with house.transaction() as write:
        write.execute("INSERT INTO losses VALUES (make_timestamp(1), 'w', 'span', 1, 'x')")
    with pytest.raises(StateError, match=r"not empty .*1 of losses"):
        migrate(source, house)
    house.close()
    target = TelemetryStore(tmp_path / "target.duckdb")
    migrate(source, target)
    with pytest.raises(StateError, match="ended here"):
        migrate(source, target)
    with target.transaction() as write:
        write.execute("UPDATE meta SET value = replace(value, 'true', 'false') WHERE key = 'migration'")
        write.execute("DELETE FROM removals")
    with pytest.raises(StateError, match="same store"):
        migrate(source, source)
    target.close()
    source.close()


CHILD = """
import os, signal, sys
from pathlib import Path
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.clickhouse import ClickHouseStore
from pilothouse.store.telemetry.clickhouse_client import Server
from pilothouse.telemetry.migration import migrate
path, url, spool, moment, nth = sys.argv[1:]
sent = 0
insert = Server.insert
def counted(self, *words):
    global sent
    sent += 1
    if sent == int(nth) and moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    insert(self, *words)
    if sent == int(nth) and moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
Server.insert = counted
migrate(TelemetryStore(path), ClickHouseStore(url, Path(spool)))
"""


@pytest.mark.process
def test_a_migration_that_is_killed_goes_on_where_it_was(
    source: TelemetryStore, clickhouse: Opens, tmp_path: Path
) -> None:
    house = clickhouse()
    url, spool = str(house.path), tmp_path / "spool"
    house.close()
    path = str(source.path)
    source.close()
    for moment, nth in (("before", "2"), ("after", "5"), ("after", "8")):
        died = subprocess.run([sys.executable, "-c", CHILD, path, url, spool, moment, nth], check=False)
        assert died.returncode == -signal.SIGKILL
        assert len(list(spool.glob("*.write"))) == 1
    again, house = TelemetryStore(path), ClickHouseStore(url, spool)
    found = migrate(again, house)
    assert found.differences == []
    assert 3 <= found.known < found.slices
    assert list(differences(whole(house), whole(again))) == []
    house.close()
    again.close()


@pytest.mark.process
def test_the_verb(source: TelemetryStore, clickhouse: Opens, scripted_app: Callable[..., Path], tmp_path: Path) -> None:
    app = scripted_app()
    before = whole(source)
    house = clickhouse()
    url = str(house.path)
    house.close()
    source.close()

    def verb(*words: str, data: str = "source", code: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pilothouse", "store", "migrate", *words, "--data", str(tmp_path / data)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=app, env={**os.environ, "P": "x"}
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    there = json.loads(verb("--to", url, "--to-password", "env://P", "--json").stdout)
    assert (there["to"], there["differences"]) == (url, [])
    told = verb("--from", url, "--to", str(tmp_path / "back.duckdb"))
    assert "all are the same" in told.stdout and "spans" in told.stdout
    assert "not empty" in verb("--to", url, code=2).stderr
    assert "no store here" in verb("--to", url, data="empty", code=2).stderr
    back = TelemetryStore(tmp_path / "back.duckdb")
    assert list(differences(whole(back), before)) == []
    back.close()
    held = tmp_path / "source" / "run" / "control.json"
    held.write_text(json.dumps({"url": "http://127.0.0.1:1", "token": "t", "pid": os.getpid()}))
    assert "stop `pilothouse up` first" in verb("--to", url, code=2).stderr
