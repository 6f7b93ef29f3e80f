"""Every question of the product, asked of both engines over the same rows: the answers are the same."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import (
    Attempt,
    Document,
    EventRecord,
    GuardHit,
    LimitHit,
    LossRecord,
    MetricRecord,
    Payload,
    Record,
    Redaction,
    ScoreRecord,
    SpanEvent,
    SpanRecord,
    Tokens,
    Validation,
)
from pilothouse.domain.wires import MetricQuery
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import evidence, exposition, listing, read, samples, sessions, steps
from pilothouse.telemetry.catalogue import CATALOGUE
from pilothouse.telemetry.filter import parse
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.metrics import make_metrics

NOW_US = 1_750_000_000_000_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SEGMENT = f"{NOW_US}-1-1.ndjson"


def made() -> Iterator[Any]:
    """Ten days of two routes: failures, fallbacks, schemas, caches, queues, traces with and without spans."""
    for n in range(120):
        ts = NOW_US - n * 2 * HOUR_US - n * 1_000_003
        failed, trace = n % 7 == 3, f"{n:032x}"
        yield Record(
            id=f"r{n:04}", ts_us=ts, trace_id=trace, span_id=f"{n:016x}", env="prod",
            route=("docs", "chat")[n % 2], app="docs", tier="high", release=3 + n % 2, canary=n % 5 == 0,
            manifest="a" * 64, parts={"prompt": "1" * 64, "model": "2" * 64}, worker="edge-0",
            key_id=f"k{n % 3}", session=f"s{n % 4}", user=f"u{n % 6}", segment=("", "gold")[n % 2],
            requested_model="m", provider="local", served_model=("m1", "")[n % 3 == 0],
            outcome="failed" if failed else ("success", "fallback")[n % 11 == 0], status=500 if failed else 200,
            error_type="timeout_total" if failed else "", error_message="o'er — 100 %" if failed else "",
            attempts=[
                Attempt(n=k + 1, kind=("primary", "retry")[k], provider="local", model="m1", offset_ms=float(k),
                        duration_ms=30.0 + n, status=200, tokens=Tokens(input_uncached=10 + n, output_text=5),
                        cost_usd=0.001 * n, delivered=True)
                for k in range(1 + (n % 4 == 0))
            ],
            stages={"queue": 0.5, "model": 30.0 + n}, duration_ms=40.0 + 3 * n,
            ttft_ms=float(n) if n % 2 else None,
            tokens=None if n % 10 == 9 else Tokens(input_uncached=10 + n, cache_read=n % 3, output_text=5),
            cost_usd=None if n % 10 == 9 else 0.001 * n, queued_ms=float(n % 3 * 5),
            validation=Validation(first_ok=n % 3 == 0, ok=n % 3 != 2, repairs=["fences"] if n % 3 == 1 else [],
                                  missing=["a", "b"][: n % 3]) if n % 2 else None,
            limits=[LimitHit(name="all", what="requests", by="key", shadow=True)] if n % 8 == 0 else [],
            guards=[GuardHit(use="pii", at="input", action="block", found="mail")] if n % 9 == 0 else [],
            redaction=Redaction(status="redacted", secrets=n % 2), log_mode="redacted",
            upstream_hash="d" * 64, preview_in=f"Question {n}?", preview_out="ünïcode ✓",
            payload=Payload(request=f'{{"n":{n}}}', response="answer " * n), labels={"team": f"t{n % 2}"},
            api="chat", cache=("", "miss", "hit")[n % 3],
        )  # fmt: skip
        if n % 3 == 0:
            yield SpanRecord(
                trace_id=trace, span_id=f"a{n:015x}", parent_span_id=f"{n:016x}", ts_us=ts + 1_000, duration_ms=20.0,
                name="retrieve", operation="retrieval", stage="retrieval", env="prod", route=("docs", "chat")[n % 2],
                documents=[Document(id=f"d{k}", score=0.9 - k / 10, age_s=60.0 * k) for k in range(n % 4)],
                index_name="kb", index_version="7", attributes={"db": "x"}, status="ok",
            )  # fmt: skip
        if n % 5 == 0:
            own = f"{n + 5_000:032x}"
            yield SpanRecord(
                trace_id=own, span_id=f"b{n:015x}", ts_us=ts, duration_ms=100.0 + n, name="agent", stage="model",
                env="dev", app="agent", session=f"s{n % 4}", user=f"u{n % 6}", status=("ok", "error")[n % 2],
                request_model="gpt", response_model="gpt-1", cost_usd=0.01, error_type=("", "boom")[n % 2],
                tokens=Tokens(input_uncached=7, output_text=3), preview_in="hello", payload=Payload(request="hello"),
                events=[SpanEvent(name="exception", offset_ms=1.5, attributes={"type": "E"})],
            )  # fmt: skip
            yield SpanRecord(
                trace_id=own, span_id=f"c{n:015x}", parent_span_id=f"b{n:015x}", ts_us=ts + 5, duration_ms=9.0,
                name="look", operation="execute_tool", stage="tool", env="dev", app="agent",
                attributes={"gen_ai.tool.name": f"tool{n % 2}"},
            )  # fmt: skip
            yield ScoreRecord(id=f"q{n}", ts_us=ts + 9, request_id=f"r{n:04}", trace_id=trace, route="", env="",
                              name="good", value=n % 2 * 1.0, source="feedback")  # fmt: skip
    yield EventRecord(ts_us=NOW_US, trace_id=f"{5_000:032x}", span_id=f"b{0:015x}", name="gen_ai.choice", body="said",
                      attributes={"a": "b"})  # fmt: skip
    yield MetricRecord(ts_us=NOW_US, name="gen_ai.client.token.usage", type="histogram", value=5.0, count=2,
                       bounds=[1.0, 2.0], counts=[0, 1, 1], attributes={"m": "x"})  # fmt: skip
    yield LossRecord(ts_us=NOW_US - 5, worker="edge-1", what="span", count=3, reason="full")


def journal(root: Path, lines: Any, name: str = SEGMENT) -> Path:
    path = root / "edge-0" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def loaded(store: TelemetryStore, root: Path) -> TelemetryStore:
    journal(root, made())
    report = Loader(root, store, FrozenClock(NOW_US + 1)).load_once()
    assert report.torn == 0
    return store


FILTERS = (
    "", "route:docs", "-route:docs", "outcome:failed", "latency>100ms", "cost>0.05", "model:m1", "model:gpt*",
    "tool:tool1", "has:documents", "has:error", "has:retry", "has:guard", "has:score", "label.team:t1", "tokens>60",
    "session:s1", "user:u1,u2", "question", "100", "release:3", "canary:true", "ttft<20ms", "source:otlp", "env:dev",
)  # fmt: skip


def _window(**more: Any) -> dict[str, Any]:
    return {"since_us": NOW_US - 9 * DAY_US, "until_us": NOW_US + 1, **more}


def _filters(store: TelemetryStore) -> Any:
    return {text: listing.find(store, listing.Asked(query=parse(text), **_window(limit=20))) for text in FILTERS}


def _pages(store: TelemetryStore) -> Any:
    first = listing.find(store, listing.Asked(limit=30))
    return [first, listing.find(store, listing.Asked(limit=30, before=first.next))]


def _metrics(store: TelemetryStore) -> Any:
    ask = make_metrics(store, FrozenClock(NOW_US))
    return {
        (name, span, by): ask(MetricQuery(metric=name, since_us=NOW_US - span, by=by, bucket_s=bucket))
        for name in CATALOGUE
        for span, by, bucket in ((5 * HOUR_US, (), 0), (9 * DAY_US, ("route", "model"), 0), (9 * DAY_US, (), 86_400))
    }


QUESTIONS: dict[str, Callable[[TelemetryStore], Any]] = {
    "filters": _filters,
    "pages": _pages,
    "fresh": lambda s: listing.fresh(s, [parse("route:docs"), parse("")], NOW_US - DAY_US),
    "values": lambda s: [
        listing.values(s, listing.Asked(), field, "") for field in ("route", "model", "tool", "user", "release", "name")
    ],
    "request": lambda s: [read.request(s, f"r{n:04}") for n in (0, 3, 4, 9)],
    "trace": lambda s: [read.trace(s, f"{n:032x}") for n in (0, 3, 5_000, 5_005)],
    "span": lambda s: [steps.span(s, f"{n:032x}", f"b{n - 5_000:015x}") for n in (5_000, 5_005)],
    "payload": lambda s: [read.payload(s, "r0003"), read.payload(s, f"{5_000:032x}/b{0:015x}"), read.payload(s, "no")],
    "traffic": lambda s: read.traffic(s, NOW_US - 9 * DAY_US, NOW_US, 3600),
    "people": lambda s: [sessions.people(s, by, 0) for by in ("session", "user")],
    "turns": lambda s: sessions.turns(s, "s1"),
    "evidence": lambda s: msgspec.structs.replace(
        evidence.gather(s, FrozenClock(NOW_US), NOW_US - 3 * DAY_US, NOW_US + 1), took_ms=0.0
    ),
    "metrics": _metrics,
    "exposition": lambda s: exposition.exposition(
        s, make_metrics(s, FrozenClock(NOW_US)), FrozenClock(NOW_US), NOW_US - DAY_US
    ),
}


def shape(value: Any) -> Any:
    """As plain values; numbers to nine digits, unknown lists as empty ones, rows of one rank in any order."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {str(key): shape(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shape(one) for one in value]
    if isinstance(value, msgspec.Struct):
        return shape({name: getattr(value, name) for name in value.__struct_fields__})
    return value


def loosely(value: Any) -> Any:
    """Lists sorted: of equal counts either may come first. Empty is unknown."""
    if isinstance(value, dict):
        return {key: loosely(one) for key, one in value.items()}
    if isinstance(value, list):
        return sorted((loosely(one) for one in value), key=repr) or None
    return value


def differences(a: Any, b: Any, at: str = "") -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key, one in a.items():
            yield from differences(one, b[key], f"{at}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, other, f"{at}[{number}]")
    elif a != b:
        yield f"{at}: {str(a)[:300]} != {str(b)[:300]}"


@pytest.fixture(scope="session")
def both(
    clickhouse_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TelemetryStore, TelemetryStore]]:
    from pilothouse.store.telemetry.clickhouse import ClickHouseStore

    folder = tmp_path_factory.mktemp("both")
    duck = TelemetryStore(folder / "telemetry.duckdb")
    house = ClickHouseStore(f"clickhouse://localhost:{clickhouse_port}/both", folder / "spool")
    for store, root in ((duck, folder / "a"), (house, folder / "b")):
        loaded(store, root)
    yield duck, house
    house.close()
    duck.close()


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_answer_alike(both: tuple[TelemetryStore, TelemetryStore], question: str) -> None:
    duck, house = (loosely(shape(QUESTIONS[question](store))) for store in both)
    assert list(differences(house, duck)) == []


def test_what_is_drawn_differs_and_what_it_is_drawn_from_does_not(both: tuple[TelemetryStore, TelemetryStore]) -> None:
    """Engines hash differently; a draw of all there is is the same."""
    requests = [samples.sample_requests(store, "docs", "prod", 1_000) for store in both]
    texts = [samples.sample_stored_texts(store, 10_000) for store in both]
    for duck, house in (requests, texts):
        assert duck and loosely(shape(house)) == loosely(shape(duck))


def totals(store: TelemetryStore) -> dict[str, Any]:
    tables = ("requests", "attempts", "spans", "span_events", "app_metrics", "scores", "losses", "payloads")
    found = {table: store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables}
    return found | {"rollups": int(store.rows("SELECT sum(requests) FROM rollup_minute")[0][0])}


def test_a_journal_is_loaded_once(opens: Callable[[], TelemetryStore], tmp_path: Path) -> None:
    store = loaded(opens(), tmp_path / "journal")
    before = totals(store)
    assert before["requests"] == before["rollups"] == before["payloads"] - 24 == 120
    assert Loader(tmp_path / "journal", store, FrozenClock(NOW_US + 2)).load_once().lines == 0
    store.close()
    again = opens()
    assert Loader(tmp_path / "journal", again, FrozenClock(NOW_US + 3)).load_once().lines == 0
    assert totals(again) == before
    again.close()


def test_a_load_that_fails_leaves_nothing_behind(store: TelemetryStore, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.transaction() as write:
        write.execute("INSERT INTO losses VALUES (make_timestamp(1), 'w', 'span', 1, 'x')")
        raise RuntimeError
    assert totals_of_losses(store) == 0
    loaded(store, tmp_path / "journal")
    assert totals_of_losses(store) == 1


def totals_of_losses(store: TelemetryStore) -> int:
    return int(store.rows("SELECT count(*) FROM losses")[0][0])


def test_a_write_that_was_cut_off_is_sent_at_the_next_start_and_twice_is_once(
    clickhouse: Callable[[], TelemetryStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = clickhouse()
    monkeypatch.setattr(Path, "unlink", lambda *_a, **_k: None)  # what is sent stays: as if killed before it could go
    monkeypatch.setattr(Path, "rmdir", lambda *_a: None)
    loaded(store, tmp_path / "journal")
    before = totals(store)
    monkeypatch.undo()
    waiting = list((tmp_path / "spool").glob("*.write"))
    assert len(waiting) == 1
    kept = shutil.copytree(waiting[0], tmp_path / "kept")
    store.close()
    assert not list((tmp_path / "spool").glob("*.write"))
    (tmp_path / "spool" / "0.part").mkdir()
    shutil.copytree(kept, waiting[0])
    again = clickhouse()
    assert totals(again) == before
    assert not list((tmp_path / "spool").iterdir())
    again.close()
