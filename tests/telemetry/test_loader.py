"""The loader: each complete line exactly once, whatever happens to it or to the journal."""

import fcntl
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock, SystemClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.record import (
    Attempt,
    Document,
    GuardHit,
    LimitHit,
    LossRecord,
    Payload,
    Record,
    Redaction,
    ScoreRecord,
    SpanRecord,
    Tokens,
    Validation,
)
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.journal import Journal
from pilothouse.telemetry.loader import KEEP_S, Loader

SEGMENT = "1750000000000000-1-1.ndjson"


def encoded(line: Any) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def ids(store: TelemetryStore) -> list[str]:
    return sorted(row[0] for row in store.rows("SELECT id FROM requests"))


def losses(store: TelemetryStore) -> list[tuple[str, int]]:
    return store.rows("SELECT what, count FROM losses ORDER BY what, count")  # type: ignore[return-value]


def put(root: Path, data: bytes, name: str = SEGMENT, worker: str = "edge-0") -> Path:
    path = root / worker / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)
    return path


def test_every_field_of_a_record_reaches_its_column(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    tokens = Tokens(input_uncached=1, cache_read=2, cache_write=3, output_text=4, reasoning=5, estimated=True)
    failed = Attempt(n=1, kind="primary", provider="a", model="m", offset_ms=1, status=429, error_type="rate_limit",
                     retry_after_s=2.0, ratelimit_limit=10, ratelimit_remaining=0)  # fmt: skip
    retried = msgspec.structs.replace(
        failed, n=2, kind="retry", backoff_ms=250.0, status=500, error_type="server_error"
    )
    served = Attempt(n=3, kind="fallback", provider="b", model="m2", offset_ms=900, duration_ms=5, ttft_ms=3,
                     status=200, served_model="m2-1", fingerprint="fp", response_id="r", finish_reason="stop",
                     tokens=tokens, cost_usd=0.5, delivered=True)  # fmt: skip
    sent = record(
        outcome="fallback",
        canary=True,
        attempts=[failed, retried, served],
        tokens=tokens,
        ttft_ms=30.0,
        validation=Validation(
            first_ok=False, ok=True, repairs=["fence"], retried=1, error="e", missing=["/a"], mismatched=["/b"],
            delivered_invalid=False, stages=["exact", "repair"], coerced=["/n"],
        ),
        api="messages", cache="miss", saved_usd=0.25, stream_end="continued", queued_ms=12.5, priority="low",
        delayed=True,
        limits=[LimitHit("free", "tokens", "key=k1"), LimitHit("trial", "spend", shadow=True)],
        guards=[GuardHit("pii", "input", "mask", "email")],
        redaction=Redaction(status="redacted", classes={"email": 2}, reason="policy", secrets=1),
        labels={"k": "v"},
        payload=Payload(request="in", response="out", upstream="up"),
    )  # fmt: skip
    put(tmp_path, encoded(sent))
    report = Loader(tmp_path, store, clock).load_once()
    assert (report.lines, report.torn, report.segments, report.backlog_bytes) == (1, 0, 1, 0)

    (row,) = store.query("SELECT *, epoch_us(ts) AS ts_us FROM requests")
    nested = {"kind", "parts", "attempts", "stages", "tokens", "validation", "redaction", "payload", "limits", "guards"}
    for name, value in msgspec.structs.asdict(sent).items():
        if name not in nested:
            assert row[name] == value, name
    assert row["limit_hits"] == ["free:tokens", "trial:spend:shadow"]
    assert row["guard_hits"] == ["pii:input:mask:email"]
    assert (row["validation_stages"], row["coerced_fields"]) == (["exact", "repair"], ["/n"])
    assert {part: row[f"part_{part}"] for part in PARTS} == sent.parts
    assert {stage: row[f"stage_{stage}"] for stage in sent.stages} == sent.stages
    assert tuple(row[name] for name in ("input_uncached", "cache_read", "cache_write", "output_text", "reasoning")) == (
        1, 2, 3, 4, 5,
    )  # fmt: skip
    assert row["tokens_estimated"] is True
    assert (row["structured"], row["valid_first"], row["valid"], row["validation_retries"]) == (True, False, True, 1)
    assert (row["repairs"], row["missing_fields"], row["mismatched_fields"]) == (["fence"], ["/a"], ["/b"])
    assert (row["redaction_status"], row["redaction_reason"], row["redaction_secrets"]) == ("redacted", "policy", 1)
    assert (row["attempt_count"], row["retries"], row["fallback_used"]) == (3, 1, True)

    attempts = store.query("SELECT * FROM attempts ORDER BY n")
    for stored, attempt in zip(attempts, sent.attempts, strict=True):
        for name, value in msgspec.structs.asdict(attempt).items():
            if name != "tokens":
                assert stored[name] == value, name
        assert (stored["request_id"], stored["route"], stored["canary"]) == (sent.id, sent.route, True)
    assert [stored["reasoning"] for stored in attempts] == [None, None, 5]
    assert store.query("SELECT owner, request, response, upstream FROM payloads") == [
        {"owner": sent.id, "request": "in", "response": "out", "upstream": "up"}
    ]


def test_every_kind_of_line_reaches_its_table(tmp_path: Path, store: TelemetryStore, clock: FrozenClock) -> None:
    span = SpanRecord(
        trace_id="t", span_id="s", parent_span_id="p", ts_us=5, duration_ms=1.5, name="retrieval docs",
        operation="retrieval", stage="retrieval", tokens=Tokens(output_text=2), index_version="v1",
        documents=[Document(id="d", score=0.5, age_s=9.0)], attributes={"a": "b"}, redaction=Redaction(status="clean"),
        payload=Payload(request="q"),
    )  # fmt: skip
    score = ScoreRecord(id="x", ts_us=6, request_id="r", name="thumbs", value=1.0, label="up", comment="thanks")
    loss = LossRecord(ts_us=7, worker="edge-0", what="payload", count=4, reason="disk nearly full")
    put(tmp_path, encoded(span) + encoded(score) + encoded(loss))
    assert Loader(tmp_path, store, clock).load_once().lines == 3
    (row,) = store.query("SELECT *, epoch_us(ts) AS ts_us FROM spans")
    assert (row["trace_id"], row["parent_span_id"], row["ts_us"], row["duration_ms"]) == ("t", "p", 5, 1.5)
    assert (row["documents"], row["attributes"]) == ([{"id": "d", "score": 0.5, "age_s": 9.0}], {"a": "b"})
    assert (row["output_text"], row["index_version"], row["redaction_status"]) == (2, "v1", "clean")
    assert store.rows("SELECT owner, request FROM payloads") == [("t/s", "q")]
    assert store.rows("SELECT request_id, name, value, label, comment, source FROM scores") == [
        ("r", "thumbs", 1.0, "up", "thanks", "feedback")
    ]
    assert store.rows("SELECT what, count, reason FROM losses") == [("payload", 4, "disk nearly full")]


def test_what_is_unknown_stays_unknown(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    put(tmp_path, encoded(record(cost_usd=None, tokens=None, release=None, attempts=[], payload=None, redaction=None)))
    Loader(tmp_path, store, clock).load_once()
    (row,) = store.query("SELECT * FROM requests")
    unknown = (
        "cost_usd",
        "input_uncached",
        "output_text",
        "tokens_estimated",
        "release",
        "ttft_ms",
        "redaction_status",
    )
    assert {name: row[name] for name in unknown} == dict.fromkeys(unknown)
    assert (row["structured"], row["valid"]) == (False, None)
    (rolled,) = store.query("SELECT priced, with_tokens, structured, ttft_hist FROM rollup_minute")
    assert (rolled["priced"], rolled["with_tokens"], rolled["structured"], sum(rolled["ttft_hist"])) == (0, 0, 0, 0)
    assert store.rows("SELECT count(*) FROM payloads") == [(0,)]


def test_a_live_segment_is_read_as_it_grows_and_its_tail_waits(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    journal = Journal(tmp_path, "edge-0", clock, fsync="never", reserve_bytes=0)
    loader = Loader(tmp_path, store, clock)
    journal.write(record(id="a"))
    assert loader.load_once().lines == 1
    journal.write(record(id="b"))
    (segment,) = (tmp_path / "edge-0").glob("*.ndjson")
    with segment.open("ab") as file:
        file.write(b'{"kind":"request","id":"half')
    report = loader.load_once()
    assert (report.lines, report.torn, report.backlog_bytes) == (1, 0, len(b'{"kind":"request","id":"half'))
    assert loader.load_once().lines == 0
    journal.close()
    report = loader.load_once()
    assert (report.lines, report.torn, report.backlog_bytes) == (0, 1, 0)
    assert losses(store) == [("torn_line", 1)]
    assert ids(store) == ["a", "b"]


def test_lines_that_cannot_be_read_block_nothing_and_are_counted(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    bad = [
        b'{"kind":"request","id":"bad utf-8 \xff","ts_us":1}\n',
        b'{"kind":"request","id":"cut","ts_us":1\n',
        b'{"kind":"request","id":"wrong type","ts_us":1,"trace_id":"t","span_id":"s","attempts":"none"}\n',
        b'{"kind":"request","id":"no time"}\n',
        b'{"kind":"request","id":"late","ts_us":9223372036854775807,"trace_id":"t","span_id":"s"}\n',
        b'{"kind":"unheard of"}\n',
        b"not json\n",
        b"null\n",
        b"[1]\n",
    ]
    good = [encoded(record(id=f"good-{number}")) for number in range(20)]
    mixed = [*good[:10], *bad, *good[10:]]
    random.Random(1).shuffle(mixed)
    put(tmp_path, b"".join(mixed) + b"\n")  # an empty line says nothing and is no loss
    report = Loader(tmp_path, store, clock).load_once()
    assert ids(store) == sorted(f"good-{number}" for number in range(20))
    assert (report.lines, report.torn) == (20, len(bad))
    assert sum(count for _, count in losses(store)) == len(bad)
    assert store.rows("SELECT sum(requests) FROM rollup_minute") == [(20,)]


def test_fields_of_a_later_version_are_left_out(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    later = msgspec.json.decode(msgspec.json.encode(record(id="later")))
    later["new"] = {"nested": [1]}
    later["attempts"][0]["new"] = 1
    later["tokens"]["new"] = 1
    put(tmp_path, encoded(later))
    assert Loader(tmp_path, store, clock).load_once().lines == 1
    assert ids(store) == ["later"]


def test_a_line_longer_than_a_step_is_passed_over(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    put(tmp_path, encoded(record(id="a")) + b"x" * 20_000 + b"\n" + encoded(record(id="b")))
    report = Loader(tmp_path, store, clock, step_bytes=8_000).load_once()
    assert ids(store) == ["a", "b"]
    assert report.backlog_bytes == 0
    assert report.torn >= 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_slicing_loads_each_line_exactly_once(
    data: st.DataObject, record: Callable[..., Record], empty: Callable[[], TelemetryStore]
) -> None:
    """Bytes arrive in pieces cut anywhere, with loads (and restarts of the loader) between."""
    store = empty()
    count = data.draw(st.integers(1, 8), label="lines")
    lines: list[Record | ScoreRecord] = [
        record(id=f"r{number}", payload=None)
        if data.draw(st.booleans())
        else ScoreRecord(id=f"s{number}", ts_us=1, name="n", value=1.0)
        for number in range(count)
    ]
    whole = b"".join(encoded(line) for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6), label="cuts"))
    step = data.draw(st.sampled_from([4_000, 1 << 20]), label="step")
    clock = FrozenClock()
    with TemporaryDirectory() as made:
        root = Path(made)
        loader = Loader(root, store, clock, step_bytes=step)
        path = put(root, b"")
        with path.open("ab", buffering=0) as segment:
            fcntl.flock(segment, fcntl.LOCK_EX)  # as its writer holds it
            for start, end in pairwise([0, *cuts, len(whole)]):
                segment.write(whole[start:end])
                if data.draw(st.booleans(), label="restart"):
                    loader = Loader(root, store, clock, step_bytes=step)
                loader.load_once()
        loader.load_once()
    assert ids(store) == sorted(line.id for line in lines if isinstance(line, Record))
    scores = sorted(row[0] for row in store.rows("SELECT id FROM scores"))
    assert scores == sorted(line.id for line in lines if isinstance(line, ScoreRecord))
    assert losses(store) == []
    assert store.rows("SELECT loaded_bytes, lines, torn, done FROM load_positions") == [(len(whole), count, 0, True)]


def test_a_load_that_fails_leaves_nothing_and_is_done_again(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    put(tmp_path, encoded(record(id="a")) + encoded(record(id="b")))
    loader = Loader(tmp_path, store, clock)
    with store.writer() as write:
        write.execute("ALTER TABLE load_positions RENAME TO hidden")  # the last table that a step writes
    with pytest.raises(StoreError, match="cannot load the journal"):
        loader.load_once()
    tables = ("requests", "attempts", "payloads", "rollup_minute", "hidden")
    assert [store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables] == [0, 0, 0, 0, 0]
    with store.writer() as write:
        write.execute("ALTER TABLE hidden RENAME TO load_positions")
    assert loader.load_once().lines == 2
    assert loader.load_once().lines == 0
    assert ids(store) == ["a", "b"]


def test_loaded_segments_are_kept_a_while_and_then_deleted(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    journal = Journal(tmp_path, "edge-0", clock, fsync="never", reserve_bytes=0)
    journal.write(record(id="a"))
    clock.advance(61)
    journal.write(record(id="b"))  # a second segment, still open
    loader = Loader(tmp_path, store, clock)
    loader.load_once()
    files = sorted((tmp_path / "edge-0").glob("*.ndjson"))
    clock.advance(KEEP_S + 61)
    report = loader.load_once()
    assert report.deleted == 1
    assert sorted((tmp_path / "edge-0").glob("*.ndjson")) == files[1:]
    journal.close()
    loader.load_once()
    clock.advance(2 * 86_400)
    assert loader.load_once().deleted == 1
    clock.advance(2 * 86_400)
    loader.load_once()
    assert store.rows("SELECT count(*) FROM load_positions") == [(0,)]
    assert ids(store) == ["a", "b"]


def test_many_workers_load_in_one_step(
    tmp_path: Path, store: TelemetryStore, clock: FrozenClock, record: Callable[..., Record]
) -> None:
    for worker in ("edge-0", "edge-1", "ingest-0"):
        put(tmp_path, encoded(record(id=worker)), worker=worker)
    report = Loader(tmp_path, store, clock).load_once()
    assert (report.lines, report.segments) == (3, 3)
    assert ids(store) == ["edge-0", "edge-1", "ingest-0"]


def test_an_empty_journal_is_no_error(tmp_path: Path, store: TelemetryStore, clock: FrozenClock) -> None:
    assert Loader(tmp_path / "none", store, clock).load_once().lines == 0


LOADER = """
import sys
from pathlib import Path
from pilothouse.domain.clock import SystemClock
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import Loader
store = TelemetryStore(Path(sys.argv[2]))
loader = Loader(Path(sys.argv[1]), store, SystemClock(), step_bytes=40_000)
while True:
    print("loading", flush=True)
    loader.load_once()
"""

WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import make_record
from pilothouse.domain.clock import SystemClock
from pilothouse.domain.ids import uuid7
from pilothouse.telemetry.journal import Journal
journal = Journal(Path(sys.argv[1]), "edge-0", SystemClock(), segment_bytes=200_000, reserve_bytes=0)
for number in range(2_000):
    made = make_record(id=uuid7())
    journal.write(made)
    print(made.id, flush=True)
    if number % 8 == 0:
        time.sleep(0.003)
"""


@pytest.mark.process
def test_kill_9_of_the_loader_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    journal, database = tmp_path / "journal", tmp_path / "telemetry.duckdb"
    sent_file = tmp_path / "sent"
    chance = random.Random(7)
    writing = [sys.executable, "-c", WRITER, str(journal), str(Path(__file__).parent)]
    with sent_file.open("wb") as sent, subprocess.Popen(writing, stdout=sent) as writer:
        kills = 0
        while kills < 4 or writer.poll() is None:
            loading = [sys.executable, "-c", LOADER, str(journal), str(database)]
            with subprocess.Popen(loading, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as loader:
                assert loader.stdout is not None
                for _ in range(chance.randint(2, 12)):
                    assert loader.stdout.readline() == b"loading\n", loader.communicate()
                loader.send_signal(signal.SIGKILL)
            kills += 1
        assert writer.wait() == 0
    store = TelemetryStore(database)
    last = Loader(journal, store, SystemClock())
    while last.load_once().lines:
        pass
    expected = sorted(sent_file.read_text().split())
    assert len(expected) == 2_000
    assert ids(store) == expected
    assert store.rows("SELECT sum(requests)::BIGINT, sum(attempts)::BIGINT FROM rollup_minute") == [(2_000, 2_000)]
    assert store.rows("SELECT count(*), count(DISTINCT request_id) FROM attempts") == [(2_000, 2_000)]
    assert store.rows("SELECT count(*), count(DISTINCT owner) FROM payloads") == [(2_000, 2_000)]
    assert losses(store) == []
    store.close()
