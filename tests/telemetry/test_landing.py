"""Where a load's payloads go, small files that are put together, and what lies on the disk when nothing more comes."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.telemetry.full_disk import loads

from pilothouse.config.retention import RetentionConfig
from pilothouse.domain.clock import FrozenClock, SystemClock
from pilothouse.domain.record import Payload, Record, SpanRecord
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import landing, payload_files, payloads, transfer
from pilothouse.telemetry.landing import AT_ONCE
from pilothouse.telemetry.loader import SETTLE_S, Loader
from pilothouse.telemetry.payloads import DAY_US
from pilothouse.telemetry.retention import Keeper
from pilothouse.telemetry.roller import Roller

NOW_US = 1_750_000_000_000_000 // DAY_US * DAY_US + DAY_US // 2  # noon
WINDOW = (0, NOW_US + 9 * DAY_US)
WORDS = random.Random(5).choices([f"word{n}" for n in range(3_000)], k=60_000)


def span(n: int, size: int = 40, route: str = "", day: int = 0) -> SpanRecord:
    """One with about `size` bytes of text."""
    text = " ".join(WORDS[n % 1_000 : n % 1_000 + size // 8])
    return SpanRecord(
        trace_id=f"{n:032x}", span_id=f"{n:016x}", ts_us=NOW_US + n + day * DAY_US, duration_ms=1.0, name="chat",
        route=route, payload=Payload(request=f"{n} {text}", response=f"answered {n}"),
    )  # fmt: skip


def written(root: Path, name: int, lines: Iterable[Any]) -> int:
    """A segment whose writer is gone; its bytes."""
    path = root / "w" / f"{NOW_US + name}-{name + 1}-1.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def owner(n: int) -> str:
    return f"{n:032x}/{n:016x}"


def hot(store: TelemetryStore) -> int:
    return int(store.rows("SELECT count(*) FROM payloads")[0][0])


def listed(store: TelemetryStore) -> list[tuple[Any, ...]]:
    """Day, route and rows of the files, all of which are there, and no others."""
    root = payloads.folder(store)
    names = [name for (name,) in store.rows("SELECT file FROM payload_files ORDER BY 1")]
    there = sorted(path.name for path in root.glob("*.parquet*")) if root else []
    assert names == there
    return store.rows("SELECT strftime(day, '%d'), route, count::INT FROM payload_files ORDER BY ALL")


def every(store: TelemetryStore) -> list[tuple[object, ...]]:
    with payloads.held(store), store.reading() as ask:
        rows = ask(f"SELECT * FROM {payloads.source(store, ask, *WINDOW)} ORDER BY ALL")
    return [tuple(row.values()) for row in rows]


def test_much_of_a_route_is_in_a_file_at_once_and_little_waits(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    request = record(
        ts_us=NOW_US, route="docs-answer", payload=Payload(request="x" * AT_ONCE, response="", upstream="u")
    )
    much = [span(n, AT_ONCE // 4, "it's", day=n // 5) for n in range(10)]
    few = [span(n, 40, "b") for n in range(20, 23)]
    load(request, *much, *few)
    assert listed(store) == [("15", "docs-answer", 1), ("15", "it's", 5), ("16", "it's", 5)]
    assert hot(store) == 3
    bounds = "SELECT epoch_us(since), epoch_us(until) FROM payload_files WHERE route = 'it''s' ORDER BY since"
    assert store.rows(bounds) == [(much[0].ts_us, much[4].ts_us), (much[5].ts_us, much[9].ts_us)]
    found = payloads.fetch(store, [request.id, *map(owner, (*range(10), 20, 21, 22))])
    assert len(found) == 14
    assert found[request.id] == {"request": "x" * AT_ONCE, "response": "", "upstream": "u"}
    assert found[owner(7)]["request"] == (much[7].payload or Payload()).request


def test_the_table_is_moved_into_files_when_there_is_much_in_it(
    store: TelemetryStore, load: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "ROLL_TEXT", 100_000)
    load(*(span(n, 20_000, "a") for n in range(4)))
    assert (hot(store), listed(store)) == (4, [])
    load(*(span(n, 20_000, "ab"[n % 2]) for n in range(4, 14)))
    assert (hot(store), listed(store)) == (0, [("15", "a", 9), ("15", "b", 5)])


# A load that is killed the n-th time that it asks the writer something, or that a file is synced or gets its name.
KILLED = """
import os, signal, sys
from pathlib import Path
from pilothouse.domain.clock import SystemClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import landing, payload_files
from pilothouse.telemetry.loader import Loader

left = int(sys.argv[3])
def deadly(work):
    def call(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*given, **named)
    return call

class Counting:
    def __init__(self, made): self.made, self.execute = made, deadly(made.execute)
    def __getattr__(self, name): return getattr(self.made, name)

landing.AT_ONCE = 60
landing.ROLL_TEXT = 200
store = TelemetryStore(Path(sys.argv[2]))
loader = Loader(Path(sys.argv[1]), store, SystemClock())
store._writer = Counting(store._writer)
os.fsync, Path.replace = deadly(os.fsync), deadly(Path.replace)
if sys.argv[4] == "load":
    loader.load_once()
else:
    payload_files.merge(store, lambda day_us: True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(tmp_path: Path, at: int, what: str) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "journal"), str(tmp_path / "t.duckdb"), str(at), what]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120, env={**os.environ})
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.process
def test_a_kill_anywhere_in_a_load_that_writes_files_loses_and_doubles_no_payload(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    sent = 0
    for number, at in enumerate((19, 20, 21, 22, 23, 24, 25, 26, 40, 61, 72, 90)):
        lines = [span(3 * number + n, 40 * n, "ab"[n % 2]) for n in range(3)]  # one waits in the table, two do not
        written(tmp_path / "journal", number, lines)
        sent += len(lines)
        killed(tmp_path, at, "load")
    store = TelemetryStore(tmp_path / "t.duckdb")
    loader = Loader(tmp_path / "journal", store, SystemClock())  # which deletes what a kill has left
    listed(store)
    loader.load_once()
    found = [row[0] for row in every(store)]
    assert found == sorted(owner(n) for n in range(sent))
    assert len(payloads.fetch(store, found)) == sent
    assert listed(store)
    store.close()


@pytest.mark.process
def test_a_kill_while_files_are_put_together_loses_and_doubles_no_payload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "AT_ONCE", 1)
    store = TelemetryStore(tmp_path / "t.duckdb")
    for number in range(6):
        written(tmp_path / "journal", number, [span(number, route="ab"[number % 2])])
        Loader(tmp_path / "journal", store, SystemClock()).load_once()
    before = every(store)
    assert len(listed(store)) == 6
    store.close()
    for at in range(0, 16, 2):
        killed(tmp_path, at, "merge")
        store = TelemetryStore(tmp_path / "t.duckdb")
        Roller(store, SystemClock())  # as control does at its start
        assert every(store) == before, at
        listed(store)
        store.close()
    store = TelemetryStore(tmp_path / "t.duckdb")
    payload_files.merge(store, lambda _day_us: True)
    assert listed(store) == [("15", "a", 3), ("15", "b", 3)]
    assert every(store) == before
    store.close()


@pytest.mark.process
def test_a_disk_that_is_full_where_a_file_is_written_loses_nothing_and_keeps_no_part_of_it(tmp_path: Path) -> None:
    noise = random.Random(3)
    spans = [span(n) for n in range(40)]
    for one in spans:
        one.payload = Payload(request=noise.randbytes(20_000).hex(), response="")
    written(tmp_path / "journal", 0, spans)
    said = loads(tmp_path / "journal", tmp_path / "t.duckdb", 100_000, 400_000)
    assert said == ["failed 0", "failed 0", "loaded"]
    store = TelemetryStore(tmp_path / "t.duckdb")
    assert listed(store) == [("15", "", 40)]
    found = payloads.fetch(store, [owner(n) for n in range(40)])
    assert [found[owner(n)]["request"] for n in range(40)] == [(one.payload or Payload()).request for one in spans]
    store.close()


@pytest.fixture
def one_by_one(
    store: TelemetryStore, load: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Loads spans so that each has a file of its own."""
    monkeypatch.setattr(landing, "AT_ONCE", 1)

    def loaded(numbers: Iterable[int], route: str = "a", day: int = 0) -> None:
        for n in numbers:
            load(span(n, route=route, day=day))

    return loaded


def test_small_files_are_put_together_by_day_and_route(
    store: TelemetryStore, one_by_one: Callable[..., None], tmp_path: Path
) -> None:
    one_by_one(range(8))
    one_by_one(range(8, 15), "b")
    one_by_one(range(15, 17), "a", -2)
    before = every(store)
    keeper = Keeper(store, tmp_path / "journal", FrozenClock(NOW_US), RetentionConfig)
    keeper.tidy()
    keeper.put_together()
    # Eight of today's; seven are too few; of a day that is over two are enough.
    assert listed(store) == [("13", "a", 2), ("15", "a", 8), *[("15", "b", 1)] * 7]
    assert every(store) == before
    assert len(payloads.fetch(store, [owner(n) for n in range(17)])) == 17
    assert keeper.usage().payloads == sum(path.stat().st_size for path in tmp_path.glob("payloads/*.parquet"))
    keeper.tidy()
    keeper.put_together()
    assert len(listed(store)) == 9


def test_large_files_stay_as_they_are(
    store: TelemetryStore, one_by_one: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_files, "TIERS", (1, 100))  # bytes, and every file is larger
    one_by_one(range(9))
    assert payload_files.merge(store, lambda _day_us: True) == 0


def test_files_that_are_being_read_go_when_they_have_been(
    store: TelemetryStore, one_by_one: Callable[..., None], tmp_path: Path
) -> None:
    one_by_one(range(8))
    root = payloads.folder(store)
    assert root is not None
    keeper = Keeper(store, tmp_path / "journal", FrozenClock(NOW_US), RetentionConfig)
    with payloads.held(store), store.reading() as ask:
        relation = payloads.source(store, ask, *WINDOW)
        keeper.tidy()
        keeper.put_together()
        assert len(ask(f"SELECT * FROM {relation}")) == 8
        assert len(list(root.glob("*.parquet"))) == 9
        made = transfer.export(store, str(tmp_path / "out"), WINDOW, FrozenClock(NOW_US))
        assert made.rows["payloads"] == 8
    keeper.tidy()
    keeper.put_together()
    assert listed(store) == [("15", "a", 8)]


def test_when_nothing_more_comes_little_lies_on_the_disk(tmp_path: Path) -> None:
    clock = FrozenClock(NOW_US)
    store = TelemetryStore(tmp_path / "telemetry.duckdb")
    loader = Loader(tmp_path / "journal", store, clock, lambda: 0.0)
    loader.load_once()
    sent = sum(
        written(tmp_path / "journal", part, [span(part * 500 + n, 8_000) for n in range(500)]) for part in range(2)
    )
    sent += written(
        tmp_path / "journal", 3, [span(2_000 + n, 5_000, "other") for n in range(100)]
    )  # too few for a file
    assert loader.load_once().lines == 1_100
    log = tmp_path / "telemetry.duckdb.wal"
    assert log.stat().st_size > 1 << 20
    assert hot(store) == 100
    clock.advance(SETTLE_S - 1)
    loader.load_once()
    assert len(list(tmp_path.glob("journal/w/*"))) == 3
    clock.advance(1)
    assert loader.load_once().deleted == 3
    assert not log.exists() or log.stat().st_size < 4096
    assert hot(store) == 0
    taken = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert taken < sent / 2
    assert len(every(store)) == 1_100
    store.close()


def test_a_trickle_folds_the_log_in_by_the_minute(tmp_path: Path) -> None:
    clock = FrozenClock(NOW_US)
    store = TelemetryStore(tmp_path / "telemetry.duckdb")
    loader = Loader(tmp_path / "journal", store, clock, lambda: 0.0)
    for part in range(14):
        written(tmp_path / "journal", part, [span(part * 20 + n, 8_000, f"r{n}") for n in range(20)])
        loader.load_once()
        clock.advance(10)
    assert (tmp_path / "telemetry.duckdb.wal").stat().st_size < 1 << 20
    assert store.rows("SELECT count(*) FROM spans") == [(280,)]
    store.close()
