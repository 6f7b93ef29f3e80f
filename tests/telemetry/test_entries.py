"""Entries, marks and rollups of calls say what the raw rows say, in whatever order and however often these came."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import Document, Record, ScoreRecord, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import backfill, listing, lookup, marks, read, rollups
from pilothouse.telemetry.filter import parse
from pilothouse.telemetry.listing import Asked
from pilothouse.telemetry.loader import Loader

NOW_US = 1_750_000_000_000_000
SECOND_US = 1_000_000
COLUMNS = (
    "id, ts, trace_id, is_trace, listed, source, route, name, outcome, error_type, model, models, errors, tools, "
    "attempt_count, span_count, duration_ms, input_tokens, output_tokens, round(cost_usd, 9) AS cost_usd, documents, "
    "failed, scored, preview_in, first, last"
)


def spans_of(trace: int, shape: dict[str, Any]) -> list[SpanRecord]:
    """A trace: a root unless it is lost, and calls and tools below it."""
    ident, begin = f"{trace:032x}", NOW_US + trace * 90 * SECOND_US
    root = f"{trace:08x}{0:08x}"
    made = [] if shape["lost_root"] else [
        SpanRecord(trace_id=ident, span_id=root, ts_us=begin, duration_ms=900.0, name="agent", env="prod", app="a",
                   route=shape["route"], status=shape["status"], preview_in="Where is my order")
    ]  # fmt: skip
    for n, kind in enumerate(shape["below"], 1):
        ts_us = begin + n * SECOND_US // 10
        own: dict[str, Any] = {
            "chat": {"operation": "chat", "stage": "model", "request_model": f"m{n % 2}", "cost_usd": 0.001 * n,
                     "tokens": Tokens(input_uncached=10 * n, output_text=n),
                     "response_id": f"resp-{trace}-{n}-and-so-on"},
            "tool": {"operation": "execute_tool", "attributes": {"gen_ai.tool.name": f"tool{n}", "tenant": f"t{n}"}},
            "docs": {"operation": "retrieval", "documents": [Document(id="d", score=0.5)]},
            "bad": {"status": "error", "error_type": "boom"},
        }[kind]  # fmt: skip
        made.append(SpanRecord(trace_id=ident, span_id=f"{trace:08x}{n:08x}", parent_span_id=root, ts_us=ts_us,
                               duration_ms=20.0 * n, name=kind, env="prod", app="a", route=shape["route"],
                               **own))  # fmt: skip
    return made


shapes = st.fixed_dictionaries(
    {
        "lost_root": st.booleans(),
        "route": st.sampled_from(["", "flow"]),
        "status": st.sampled_from(["ok", "error"]),
        "below": st.lists(st.sampled_from(["chat", "tool", "docs", "bad"]), min_size=1, max_size=4),
        "through": st.booleans(),  # the first call went through the gateway
        "judged": st.booleans(),
    }
)


@st.composite
def arrivals(draw: st.DrawFn) -> list[list[Any]]:
    """Some traces' lines in batches, mixed and some of them twice."""
    lines: list[Any] = []
    for trace, shape in enumerate(draw(st.lists(shapes, min_size=1, max_size=3))):
        spans = spans_of(trace, shape)
        lines += spans
        ident = f"{trace:032x}"
        if shape["through"]:
            lines.append(("request", trace, spans[-1].span_id))
        if shape["judged"]:
            lines.append(ScoreRecord(id=f"s{trace}", ts_us=NOW_US + 10**9, request_id=f"r{trace}", trace_id=ident,
                                     name="good", value=1.0))  # fmt: skip
    again = draw(st.lists(st.sampled_from([line for line in lines if isinstance(line, SpanRecord)]), max_size=3))
    order = draw(st.permutations([*lines, *again]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=3)))
    return [batch for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True) if (batch := order[a:b])]


def load(store: TelemetryStore, root: Path, batches: list[list[Any]], record: Callable[..., Record]) -> None:
    path = root / "edge-0" / "x"
    path.parent.mkdir()
    loader = Loader(root, store, FrozenClock(NOW_US))
    for number, batch in enumerate(batches, 1):
        made = [
            record(id=f"r{line[1]}", trace_id=f"{line[1]:032x}", span_id="f" * 16, parent_span_id=line[2], attempts=[],
                   ts_us=NOW_US + line[1] * 90 * SECOND_US + SECOND_US // 4)
            if isinstance(line, tuple) else line
            for line in batch
        ]  # fmt: skip
        path.with_name(f"{number}-1-1.ndjson").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in made))
        assert loader.load_once().torn == 0


def facts(store: TelemetryStore) -> dict[str, Any]:
    """All that is derived, but for the numbers of entries."""
    sums = ", ".join(f"sum({name})::BIGINT" for name in rollups.CALLS.counts)
    keys = rollups.CALLS.keys
    return {
        "entries": store.rows(f"SELECT {COLUMNS} FROM entries ORDER BY id"),
        "marks": store.rows("SELECT DISTINCT id, mark FROM marks JOIN entries USING (n) ORDER BY ALL"),
        "calls": store.rows(
            f"SELECT {keys}, {sums}, round(sum(cost_usd), 9) FROM rollup_call_minute GROUP BY {keys} "
            "HAVING sum(calls) <> 0 ORDER BY ALL"
        ),
        "hours": store.rows("SELECT sum(calls)::BIGINT, sum(list_sum(duration_hist))::BIGINT FROM rollup_call_hour"),
    }


def emptied(store: TelemetryStore) -> None:
    with store.transaction() as write:
        for table in ("entries", "marks", "rollup_call_minute", "rollup_call_hour", "rollup_hour"):
            write.execute(f"DELETE FROM {table}")
        write.execute("DELETE FROM meta WHERE key IN (?, ?)", [backfill.COUNTED, lookup.LEFT])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=arrivals())
def test_what_is_derived_as_lines_come_is_what_their_rows_give(
    batches: list[list[Any]], record: Callable[..., Record], empty: Callable[[], TelemetryStore]
) -> None:
    store = empty()
    with TemporaryDirectory() as made:
        load(store, Path(made), batches, record)
    as_they_came = facts(store)
    raw = store.rows("SELECT trace_id, count(*) FROM spans GROUP BY trace_id ORDER BY trace_id")
    listed = store.rows("SELECT trace_id, span_count FROM entries WHERE is_trace ORDER BY trace_id")
    assert listed == raw  # each span once, however often it came
    assert store.rows("SELECT count(*) FROM entries WHERE NOT is_trace") == store.rows("SELECT count(*) FROM requests")
    through = "SELECT trace_id FROM requests ORDER BY trace_id"
    assert store.rows("SELECT trace_id FROM entries WHERE NOT listed ORDER BY trace_id") == [
        row for row in store.rows(through) if row in [(trace,) for trace, _ in raw]
    ]
    # The same store as one of an earlier version: all of it made anew, in one go.
    emptied(store)
    backfill.begin(store, NOW_US)
    anew = backfill.Backfill(store)
    while not anew.done:
        anew.step()
    assert facts(store) == as_they_came


def test_the_tokens_of_a_call_that_two_have_seen_are_in_a_trace_once(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    trace = "a" * 32
    call = SpanRecord(trace_id=trace, span_id="b" * 16, ts_us=NOW_US, duration_ms=900.0, name="chat m",
                      operation="chat", stage="model", request_model="m", cost_usd=0.5,
                      tokens=Tokens(input_uncached=100))  # fmt: skip
    load(call)
    count = "SELECT sum(calls)::BIGINT, round(sum(cost_usd), 6) FROM rollup_call_hour"
    assert store.rows(count) == [(1, 0.5)]
    assert [row.id for row in listing.find(store, Asked()).rows] == [trace]
    load(record(id="r", trace_id=trace, span_id="c" * 16, parent_span_id="b" * 16, ts_us=NOW_US + 1, cost_usd=0.001))
    assert store.rows(count) == [(1, 0.001)]
    assert [row.id for row in listing.find(store, Asked()).rows] == ["r"]


def test_a_word_is_found_whole_and_an_attribute_in_any_span_of_the_trace(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    root = SpanRecord(
        trace_id="t", span_id="r", ts_us=NOW_US, duration_ms=9.0, name="agent", preview_in="注文はどこですか"
    )
    below = SpanRecord(trace_id="t", span_id="s", parent_span_id="r", ts_us=NOW_US, duration_ms=1.0, name="step",
                       attributes={"tenant": "blue team", "long": "x" * 300})  # fmt: skip
    load(record(id="a", preview_in="The Orders are late", labels={"team": "red"}), root, below)

    def found(text: str) -> list[str]:
        return [row.id for row in listing.find(store, Asked(query=parse(text))).rows]

    assert found("orders") == found('"orders are"') == found("label.team:red") == found("label.team:r*") == ["a"]
    assert found("order") == found('"order are"') == found("label.team:re") == []
    assert found('label.tenant:"blue team"') == found("label.tenant:*") == found("label.tenant:blue*") == ["t"]
    assert found("どこ") == found("どこです") == found("こ") == ["t"]  # no spaces between words: any part
    assert found("こど") == found("どこは") == []
    assert found("tenant") == []  # a key is no word
    assert found("id:t") == found("t") == ["t"]


def test_an_id_is_found_by_its_beginning_and_ids_of_people_as_they_are_written(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(record(id="abcdef0123", session="S-one", trace_id="f" * 32), record(id="abcdefff", session="s-two"))

    def found(text: str) -> list[str]:
        return sorted(row.id for row in listing.find(store, Asked(query=parse(text))).rows)

    assert found("id:abcdef0*") == found("id:*0123") == found(f"id:{'f' * 7}*") == ["abcdef0123"]
    assert found("id:abcdef*") == found("id:ab*") == ["abcdef0123", "abcdefff"]
    assert found("session:S-*") == found("session:*one") == ["abcdef0123"]
    assert found("session:s-*") == ["abcdefff"]


@pytest.mark.parametrize("told", ["label.n:r*", "letters*", "id:x*"])
def test_what_is_slow_to_find_is_counted_as_far_as_the_page_goes_and_says_so(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record], monkeypatch: Any, told: str
) -> None:
    monkeypatch.setattr(listing, "SLOW_SLICE", 5)
    load(*(record(id=f"x{n:03}", ts_us=NOW_US + n, labels={"n": f"r{n}"}, preview_in="語") for n in range(100)))
    asked = Asked(query=parse("語" if told.startswith("letters") else told), limit=10)
    page = listing.find(store, asked)
    assert [row.id for row in page.rows] == [f"x{n:03}" for n in range(99, 89, -1)]
    assert page.capped
    assert 10 < page.total < 100
    last = listing.find(store, msgspec.structs.replace(asked, limit=200))
    assert (last.total, last.capped) == (100, False)
    looked: list[int] = []
    bounded = listing._bounded
    monkeypatch.setattr(listing, "_bounded", lambda *told: looked.append(told[2]) or bounded(*told))
    after = listing.find(store, msgspec.structs.replace(asked, before=page.next))
    width = looked[0].until_us - looked[0].since_us
    assert width < 10  # of 90 µs: a later page goes back as carefully as the first
    assert [row.id for row in after.rows] == [f"x{n:03}" for n in range(89, 79, -1)]


def test_what_no_mark_leads_to_is_counted_among_the_newest_and_listed_however_old(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record], monkeypatch: Any
) -> None:
    monkeypatch.setattr(listing, "SLICE", 10)
    monkeypatch.setattr(listing, "LOOKED_MAX", 40)
    load(*(record(id=f"x{n:03}", ts_us=NOW_US + n, session="a" if n % 2 else f"b{n}") for n in range(100)))

    def asked(text: str, limit: int = 5) -> listing.Found:
        return listing.find(store, Asked(query=parse(text), limit=limit))

    half = asked("session:a*")
    assert [row.id for row in half.rows] == ["x099", "x097", "x095", "x093", "x091"]
    assert (half.total, half.capped) == (20, True)  # of the newest 40
    assert sum(half.facets["outcome"].values()) == 20
    assert (asked("session:a*", limit=30).total, asked("session:a*", limit=60).total) == (50, 50)
    rare = asked("session:b2*")  # b2, b20, b22 … b28
    assert [row.id for row in rare.rows] == ["x028", "x026", "x024", "x022", "x020"]
    assert rare.next and (asked("session:b2*", limit=10).total, asked("session:b2*", limit=10).capped) == (6, False)


@pytest.mark.parametrize(
    "at", [(), (0,), (0, 99), (40, 41, 42), (3, 50, 51, 97), tuple(range(20, 60)), range(100)], ids=len
)
def test_what_is_together_somewhere_is_found_whole_and_newest_first(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record], monkeypatch: Any, at: Sequence[int]
) -> None:
    monkeypatch.setattr(listing, "SLICE", 5)
    load(*(record(id=f"x{n:03}", ts_us=NOW_US + n, session="a" if n in at else "b") for n in range(100)))
    found = [f"x{n:03}" for n in sorted(at, reverse=True)]
    for limit in (2, 7, 200):
        page = listing.find(store, Asked(query=parse("session:a"), limit=limit))
        assert [row.id for row in page.rows] == found[:limit]
        assert (page.total, page.capped, bool(page.next)) == (len(at), False, len(at) > limit)


def test_few_and_many_of_a_word_are_found_alike(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record], monkeypatch: Any
) -> None:
    load(*(record(id=f"x{n:02}", ts_us=NOW_US + n, preview_in=f"order {n % 3} word") for n in range(30)))

    def found(text: str) -> list[str]:
        return [row.id for row in listing.find(store, Asked(query=parse(text))).rows]

    said = ('"order 2"', "word", "nothing", "-nothing", '-"order 1"', '"2 order"', 'word "order 0" -x03')
    few = [found(text) for text in said]
    assert [len(ids) for ids in few] == [10, 30, 0, 30, 20, 0, 9]
    monkeypatch.setattr(marks, "FEW", 0)
    monkeypatch.setattr(marks, "SEAL_ENTRIES", 4)
    assert [found(text) for text in said] == few


def test_a_store_with_fewer_marks_gets_the_others(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(record(id="abcdef0123"))
    before = facts(store)
    with store.transaction() as write:
        write.execute("DELETE FROM marks WHERE mark = ?", [marks.mark_of("abcdef*")])
        write.execute("DELETE FROM meta WHERE key = ?", [backfill.MARKED])
    asked = Asked(query=parse("id:abcdef*"))
    assert not listing.find(store, asked).rows
    backfill.begin(store, NOW_US)
    anew = backfill.Backfill(store)
    while not anew.done:
        anew.step()
    assert [row.id for row in listing.find(store, asked).rows] == ["abcdef0123"]
    assert facts(store) == before  # and nothing is counted twice
    backfill.begin(store, NOW_US)
    assert backfill.Backfill(store).done


def test_marks_that_are_sorted_say_the_same_and_those_of_what_is_gone_go(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record], monkeypatch: Any
) -> None:
    monkeypatch.setattr(marks, "SEAL_ENTRIES", 4)
    load(*(record(id=f"{n}", preview_in=f"word{n}") for n in range(6)))
    before = store.rows("SELECT mark, n FROM marks WHERE n <= 4 ORDER BY ALL")
    with store.transaction() as write:
        write.execute("DELETE FROM entries WHERE id = '2'")
        write.execute("DELETE FROM meta WHERE key = 'marks_sealed'")
    assert marks.seal(store) == 4
    assert marks.seal(store) == 0
    gone = {n for (n,) in store.rows("SELECT DISTINCT n FROM marks WHERE n NOT IN (SELECT n FROM entries)")}
    assert not gone
    kept = {row for row in before if row[1] in {n for (n,) in store.rows("SELECT n FROM entries")}}
    assert kept <= set(store.rows("SELECT mark, n FROM marks"))
    assert [row.id for row in listing.find(store, Asked(query=parse("word5"))).rows] == ["5"]


def test_a_trace_is_read_within_its_own_time(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(*spans_of(1, {"lost_root": False, "route": "", "status": "ok", "below": ["chat", "tool"]}))
    window = lookup.when(store, f"{1:032x}")
    begin = NOW_US + 90 * SECOND_US
    assert (window.since_us, window.until_us) == (begin, begin + 900_001)
    assert lookup.when(store, "nobody") == lookup.Window()
    whole = read.trace(store, f"{1:032x}")
    assert whole is not None and whole.totals.steps == 3
