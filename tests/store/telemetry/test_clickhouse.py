"""A ClickHouse server that is away or refuses, a writer that is killed, and tables of an earlier version."""

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.store.telemetry.engine import engine
from tests.store.telemetry.rows import DAY_US, NOW_US, differences, everything, journal, loaded, made

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.clickhouse import ClickHouseStore
from pilothouse.store.telemetry.clickhouse_spool import changing
from pilothouse.store.telemetry.clickhouse_sql import translate
from pilothouse.store.telemetry.schema import ADDED, SCHEMA_VERSION
from pilothouse.telemetry.loader import Loader

Opens = Callable[[], TelemetryStore]
COUNT = 24

CHILD = """
import os, signal, sys
from pathlib import Path
from pilothouse.domain.clock import FrozenClock
from pilothouse.store.telemetry import clickhouse_spool
from pilothouse.store.telemetry.clickhouse import ClickHouseStore
from pilothouse.store.telemetry.clickhouse_client import Server
from pilothouse.telemetry.loader import Loader
url, spool, root, where, moment, nth, now_us = sys.argv[1:]
seen = 0
def deadly(work):
    def wrapped(*words, **more):
        global seen
        seen += 1
        if seen == int(nth) and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = work(*words, **more)
        if seen == int(nth) and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped
store = ClickHouseStore(url, Path(spool))
owner = {"synced": clickhouse_spool, "insert": Server}.get(where, Path)
setattr(owner, where, deadly(getattr(owner, where)))
Loader(Path(root), store, FrozenClock(int(now_us))).load_once()
os._exit(7)
"""
# (what, before or after, which time): while rows are put on the disk, while they are sent, while they are taken away
MOMENTS = (
    *(("synced", "after", 5), ("rename", "before", 1), ("rename", "after", 1), ("insert", "before", 1)),
    *(("insert", "after", 6), ("unlink", "before", 8), ("rmdir", "before", 1)),
)


@pytest.mark.process
def test_a_loader_that_is_killed_anywhere_loses_and_doubles_nothing(clickhouse_port: int, tmp_path: Path) -> None:
    expected = everything(loaded(TelemetryStore(tmp_path / "t.duckdb"), tmp_path / "whole", COUNT))
    for number, (where, moment, nth) in enumerate(MOMENTS):
        url, spool, root = (
            f"clickhouse://localhost:{clickhouse_port}/killed{number}",
            tmp_path / f"{number}",
            tmp_path / "whole",
        )
        words = [url, str(spool), str(root), where, moment, str(nth), str(NOW_US + 1)]
        died = subprocess.run([sys.executable, "-c", CHILD, *words], check=False)
        assert died.returncode == -signal.SIGKILL, (where, moment, nth)
        store = ClickHouseStore(url, spool)
        Loader(root, store, FrozenClock(NOW_US + 1)).load_once()
        assert list(differences(everything(store), expected)) == [], (where, moment, nth)
        assert not [path for path in spool.iterdir() if path.suffix != ".arriving"]
        store.close()


@pytest.mark.process
def test_while_the_server_is_away_the_journal_waits_and_then_nothing_is_missing(tmp_path: Path) -> None:
    root, spool, folder = tmp_path / "journal", tmp_path / "spool", tmp_path / "db"
    folder.mkdir()
    lines = list(made(COUNT))
    with engine(folder) as (port, process):
        store = ClickHouseStore(f"clickhouse://localhost:{port}/db", spool)
        journal(root, lines[:20], f"{NOW_US}-1-1.ndjson")
        loader = Loader(root, store, FrozenClock(NOW_US + 1))
        assert loader.load_once().lines == 20
        process.send_signal(signal.SIGKILL)
        process.wait()
    journal(root, lines[20:40], f"{NOW_US + 1}-1-1.ndjson")
    journal(root, lines[40:], f"{NOW_US + 2}-1-1.ndjson")
    with pytest.raises(StoreError, match="refused a query: Connection refused"):
        loader.load_once()
    with store.transaction() as write:  # done as far as this machine goes: it waits in the spool
        write.execute("INSERT INTO repeats VALUES (make_timestamp(7), 'span', 2)")
    assert store.waiting() == 1
    with pytest.raises(StoreError, match="cannot be sent to the telemetry store: Connection refused"):
        loader.load_once()
    assert loader.backlog_bytes() > 0
    with engine(folder, port):
        assert loader.load_once().lines == len(lines) - 20
        assert store.waiting() == 0
        with closing(TelemetryStore(tmp_path / "t.duckdb")) as duck:
            expected = everything(loaded(duck, tmp_path / "whole", COUNT), without=("load_positions", "repeats"))
        found = everything(store, without=("load_positions", "repeats"))
        merged = {key: found[key] for key in found if key != "rollup_minute"}
        assert list(differences(merged, {key: expected[key] for key in merged})) == []
        assert store.rows("SELECT count FROM repeats") == [(2,)]
        assert int(store.rows("SELECT sum(requests) FROM rollup_minute")[0][0]) == COUNT
        store.close()


@pytest.mark.process
def test_a_wrong_password_and_an_address_of_nobody_are_said_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    with engine(folder, password="right") as (port, _):  # the tests' server checks it, as a real one would
        url = f"clickhouse://me@localhost:{port}/db"
        with pytest.raises(
            StoreError, match=r"cannot be reached: .*Authentication failed.*user and password"
        ) as caught:
            ClickHouseStore(url, tmp_path / "spool", "wrong-secret")
        assert "wrong-secret" not in str(caught.value)
        ClickHouseStore(url, tmp_path / "spool", "right").close()
    with pytest.raises(StoreError, match=r"cannot be reached.*is it running"):
        ClickHouseStore(f"clickhouse://localhost:{port}/db", tmp_path / "spool")
    with pytest.raises(StoreError, match="no ClickHouse address"):
        ClickHouseStore("clickhouse:///db", tmp_path / "spool")


def test_a_database_of_an_earlier_version_gets_its_columns_and_a_later_one_is_refused(
    clickhouse: Opens, tmp_path: Path
) -> None:
    store = loaded(clickhouse(), tmp_path / "journal", COUNT)
    assert isinstance(store, ClickHouseStore)
    for changes in ADDED.values():  # as version 1 had made it
        for table, columns in changes.items():
            for column in columns:
                store._server.command(f"ALTER TABLE {table} DROP INDEX IF EXISTS of_{column.split()[0]}")
                store._server.command(f"ALTER TABLE {table} DROP COLUMN {column.split()[0]}")
    versioned(store, 1)
    store.close()
    again = clickhouse()
    assert again.rows("SELECT value FROM meta WHERE key = 'schema_version'") == [(str(SCHEMA_VERSION),)]
    assert again.rows("SELECT count(*) FROM system.data_skipping_indices WHERE name = 'of_own_trace_id'")[0][0] >= 1
    rows = again.query("SELECT * FROM requests")
    assert len(rows) == COUNT
    assert {row["way"] for row in rows} == {None}
    more = [record for record in made(COUNT) if getattr(record, "id", "") == "r0001"]
    more[0].id, more[0].ts_us = "new", NOW_US + 5
    journal(tmp_path / "journal", more, f"{NOW_US + 9}-1-1.ndjson")
    Loader(tmp_path / "journal", again, FrozenClock(NOW_US + 9)).load_once()
    assert again.rows("SELECT api FROM requests WHERE id = 'new'") == [("chat",)]
    versioned(again, SCHEMA_VERSION + 1)
    again.close()
    with pytest.raises(StoreError, match=f"has schema {SCHEMA_VERSION + 1}"):
        clickhouse()


def versioned(store: TelemetryStore, version: int) -> None:
    with store.transaction() as write:
        write.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(version)])


@pytest.mark.parametrize(
    ("sql", "params", "expected"),
    [
        (
            "DELETE FROM spans WHERE ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT) AND (true)",
            [0, DAY_US],
            "ALTER TABLE spans DROP PARTITION '1970-01-01'",
        ),
        (
            "DELETE FROM spans WHERE ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT) AND (x)",
            [DAY_US, 2 * DAY_US],
            "DELETE FROM spans IN PARTITION '1970-01-02' WHERE ",
        ),
        (
            "DELETE FROM spans WHERE ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT) AND (true)",
            [0, DAY_US - 1],
            "DELETE FROM spans WHERE",
        ),
        (
            "DELETE FROM losses WHERE ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT) AND (true)",
            [0, DAY_US],
            "DELETE FROM losses WHERE",
        ),
        (
            "UPDATE removals SET told = true WHERE what = ?",
            ["spans"],
            "ALTER TABLE removals UPDATE told = true WHERE what",
        ),
    ],
)
def test_what_a_removal_becomes(sql: str, params: list[Any], expected: str) -> None:
    assert changing(sql.split()[2 if sql.startswith("DELETE") else 1], sql, params)[0].text.startswith(expected)


@pytest.mark.parametrize(
    ("sql", "params", "expected", "bound"),
    [
        ("SELECT '?' || \"a?\", ? FROM t", ["x"], "SELECT '?' || \"a?\", {p0:String} FROM t", {"p0": "x"}),
        ("SELECT $a, $a", {"a": 3}, "SELECT {a:Int64}, {a:Int64}", {"a": 3}),
        ("SELECT ? IS NULL", [None], "SELECT NULL IS NULL", {}),
        ("SELECT t.a, u.b AS c FROM t", [], "SELECT t.a AS a , u.b AS c FROM t", {}),
        ("SELECT unnest(?::BIGINT[])", [[3]], "SELECT arrayJoin({p0:Array(Int64)}::Array(Int64))", {"p0": [3]}),
        ("SELECT f(a)(b) // 60 FROM t", [], "SELECT intDiv(f(a)(b), 60) FROM t", {}),
        (
            "SELECT quantile_cont(greatest(0, a), [0.5, 0.9]) FROM t",
            [],
            "SELECT [quantileExactInclusive(0.5)(greatest(0, a)), quantileExactInclusive(0.9)(greatest(0, a))] FROM t",
            {},
        ),
        ("SELECT n FILTER (documents IS NOT NULL)", [], "SELECT n FILTER (WHERE NOT has(unknown_, 'documents'))", {}),
    ],
)  # fmt: skip
def test_what_a_query_becomes(sql: str, params: Any, expected: str, bound: dict[str, Any]) -> None:
    assert translate(sql, params) == (expected, bound)


def test_a_value_of_no_type_is_refused_with_its_name() -> None:
    with pytest.raises(StoreError, match="a object cannot be asked for"):
        translate("SELECT ?", [object()])
