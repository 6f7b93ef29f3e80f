"""A call that several saw is counted once, whoever arrives first and however the lines are divided over loads."""

from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.record import Attempt, Record, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import joins, kin, listing, one_call, sessions, waterfall
from pilothouse.telemetry.loader import Loader

NOW_US = 1_750_000_000_000_000
TRACE, OTHER, GATEWAYS = "1" * 32, "2" * 32, "3" * 32
ANSWER = "chatcmpl-9xQ2v7Lk3mZp8RtYw4Nb6c"
SECOND = 1_000_000
DAY_US = 86_400 * SECOND


def span(name: str, parent: str = "", at_s: float = 0.0, lasts_s: float = 1.0, **more: Any) -> SpanRecord:
    """Told by its name. One that asks a model used 10 + 5 tokens for 1 USD, where `more` does not say otherwise."""
    fields: dict[str, Any] = {"trace_id": TRACE, "dialect": "one", "operation": "chat", "stage": "model"} | more
    if fields["operation"] in ("chat", "embeddings"):
        fields = {"tokens": Tokens(input_uncached=10, output_text=5), "cost_usd": 1.0} | fields
    return SpanRecord(
        span_id=name.rjust(16, "0"), parent_span_id=parent and parent.rjust(16, "0"),
        ts_us=NOW_US + int(at_s * SECOND), duration_ms=lasts_s * 1_000, name=name, **fields,
    )  # fmt: skip


def request(ident: str = "r", parent: str = "", at_s: float = 0.1, answer: str = ANSWER, **more: Any) -> Record:
    """A request that lasts half a second and costs 2 USD; without `parent` in a trace of its own."""
    attempt = Attempt(n=1, kind="primary", provider="p", model="m", offset_ms=1.0, duration_ms=400.0, status=200,
                      response_id=answer, delivered=True)  # fmt: skip
    return Record(
        **{
            "id": ident, "ts_us": NOW_US + int(at_s * SECOND), "trace_id": TRACE if parent else GATEWAYS,
            "span_id": ident.rjust(16, "f"), "parent_span_id": parent and parent.rjust(16, "0"), "route": "docs",
            "env": "prod", "outcome": "success", "duration_ms": 500.0, "cost_usd": 2.0, "attempts": [attempt],
            "tokens": Tokens(input_uncached=10, output_text=5),
        } | more
    )  # fmt: skip


def load(store: TelemetryStore, root: Path, *batches: list[Any]) -> None:
    """Each batch by a load of its own, every other one by a loader that has just started."""
    loader = Loader(root, store, FrozenClock(NOW_US))
    for number, batch in enumerate(batches):
        path = root / "w" / f"{NOW_US + number}-{len(list(root.rglob('*.ndjson')))}-1.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in batch))
        if number % 2:
            loader = Loader(root, store, FrozenClock(NOW_US))
        assert loader.load_once().torn == 0


def sides(store: TelemetryStore) -> dict[str, tuple[str, str]]:
    """Span → its request, and what counts it; by their names."""
    rows = store.rows("SELECT name, coalesce(request_id, ''), coalesce(counted_by, '') FROM spans ORDER BY name")
    return {name: (request, by.rpartition("/")[2].lstrip("0")) for name, request, by in rows}


def spent(store: TelemetryStore) -> float:
    """Over all traces."""
    rows = store.rows(
        "SELECT coalesce((SELECT sum(cost_usd) FROM requests), 0)"
        " + coalesce((SELECT sum(cost_usd) FROM spans WHERE coalesce(counted_by, '') = ''), 0)"
    )
    return float(rows[0][0])


def orders(*lines: Any) -> list[tuple[list[Any], ...]]:
    """All lines at once, and one after another in every order."""
    return [(list(lines),), *([[line] for line in order] for order in permutations(lines))]  # type: ignore[list-item]


CASES: dict[str, tuple[list[Any], dict[str, tuple[str, str]], float]] = {
    # name: lines, what the spans say in the end, USD of all
    "the request hangs on the model's span": (
        [span("chat"), request(parent="chat")], {"chat": ("r", "r")}, 2.0,
    ),
    "an HTTP span lies between": (
        [span("chat"), span("http", "chat", 0.05, operation="", stage="", span_kind="client"), request(parent="http")],
        {"chat": ("r", "r"), "http": ("", "")}, 2.0,
    ),
    "a framework's span is around": (
        [span("chain", lasts_s=2), span("chat", "chain", 0.05), request(parent="chat")],
        {"chain": ("", "r"), "chat": ("r", "r")}, 2.0,
    ),
    "no trace goes through, the response id tells": (
        [span("chat", response_id=ANSWER), request()], {"chat": ("r", "r")}, 2.0,
    ),
    "two instrumentations and the gateway": (
        [span("chat", response_id=ANSWER), span("sdk", at_s=0.05, trace_id=OTHER, dialect="two", response_id=ANSWER),
         request(parent="chat")],
        {"chat": ("r", "r"), "sdk": ("r", "r")}, 2.0,
    ),
    "two instrumentations, nested": (
        [span("outer", lasts_s=2), span("inner", "outer", 0.1, dialect="two")],
        {"inner": ("", ""), "outer": ("", "inner")}, 1.0,
    ),
    "two instrumentations, apart": (
        [span("a", response_id=ANSWER), span("b", at_s=0.01, trace_id=OTHER, dialect="two", response_id=ANSWER)],
        {"a": ("", "b"), "b": ("", "")}, 1.0,
    ),
    "three instrumentations": (
        [span("outer", lasts_s=2, response_id=ANSWER), span("inner", "outer", 0.1, dialect="two"),
         span("sdk", at_s=0.05, trace_id=OTHER, dialect="three", response_id=ANSWER)],
        {"inner": ("", ""), "outer": ("", "inner"), "sdk": ("", "inner")}, 1.0,
    ),
    "the inner one tells no usage": (
        [span("outer", lasts_s=2), span("inner", "outer", 0.1, tokens=None, cost_usd=None)],
        {"inner": ("", "outer"), "outer": ("", "")}, 1.0,
    ),
    "only the outer one tells the response id": (
        [span("outer", lasts_s=2, response_id=ANSWER), span("inner", "outer", 0.05), request()],
        {"inner": ("", "r"), "outer": ("r", "r")}, 2.0,
    ),
    "two tries of one span": (
        [span("chat", lasts_s=5), request(parent="chat"), request("s", parent="chat", at_s=2.0, answer="other")],
        {"chat": ("s", "s")}, 4.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_call_is_counted_once_in_whatever_order(tmp_path: Path, store: TelemetryStore, case: str) -> None:
    lines, wanted, usd = CASES[case]
    for number, batches in enumerate(orders(*lines)):
        load(store, tmp_path / str(number), *batches)
        assert (sides(store), spent(store)) == (wanted, usd), batches
        with store.transaction() as write:
            for table in ("spans", "requests", "attempts", "load_positions"):
                write.execute(f"DELETE FROM {table}")


def test_a_tool_between_makes_two_calls(tmp_path: Path, store: TelemetryStore) -> None:
    tool = span("tool", "chat", 0.1, operation="execute_tool", stage="tool")
    load(store, tmp_path, [span("chat", lasts_s=3), tool, span("within", "tool", 0.2)])
    assert spent(store) == 2.0


def test_an_embedding_inside_a_chat_is_another_call(tmp_path: Path, store: TelemetryStore) -> None:
    load(store, tmp_path, [span("chat", lasts_s=3), span("embed", "chat", 0.1, operation="embeddings")])
    assert spent(store) == 2.0


def test_an_id_that_a_server_gives_to_every_answer_joins_only_what_happens_together(
    tmp_path: Path, store: TelemetryStore
) -> None:
    constant = {"response_id": "chatcmpl-1"}
    spans = [span(f"c{n}", at_s=10 * n, trace_id=f"{n + 4:032x}", **constant) for n in range(6)]
    sdk = span("sdk", at_s=51, trace_id=OTHER, dialect="two", **constant)
    asked = [request(f"r{n}", at_s=10 * n + 0.1, answer="chatcmpl-1", trace_id=f"{n + 40:032x}") for n in (1, 3)]
    direct = request("alone", at_s=25, answer="chatcmpl-1", trace_id="9" * 32)
    load(store, tmp_path, [*spans[:4], sdk, asked[1]], [spans[4], asked[0], direct], [spans[5]])
    joined = {name: by for name, by in sides(store).items() if any(by)}
    assert joined == {"c1": ("r1", "r1"), "c3": ("r3", "r3")}


def test_a_long_id_that_many_tell_is_no_id(tmp_path: Path, store: TelemetryStore) -> None:
    spans = [span(f"s{n}", trace_id=f"{n + 4:032x}", response_id=ANSWER) for n in range(kin.SAME_ID_MAX + 1)]
    load(store, tmp_path, spans, [request()])
    assert not any(any(by) for by in sides(store).values())


def test_clocks_that_differ_by_minutes_do_not_hide_the_same_answer(tmp_path: Path, store: TelemetryStore) -> None:
    load(store, tmp_path, [span("chat", response_id=ANSWER)], [request(at_s=300)])
    assert sides(store) == {"chat": ("r", "r")}


def test_a_request_without_a_trace_goes_into_its_clients(tmp_path: Path) -> None:
    root = span("agent", lasts_s=9, operation="invoke_agent", stage="", session="s1")
    chats = [span(f"chat{n}", "agent", n, response_id=f"{ANSWER}{n}") for n in (1, 2)]
    asked = [request(f"r{n}", at_s=n + 0.1, answer=f"{ANSWER}{n}", trace_id=f"{n + 4:032x}") for n in (1, 2)]
    twin = span("sdk", at_s=1.05, trace_id=OTHER, dialect="two", response_id=f"{ANSWER}1")
    for number, batches in enumerate(
        (
            [[twin, root, *chats, *asked]],
            [asked, [twin], chats, [root]],
            [[twin], [*chats, root], asked],
            [[*asked, twin], chats, [root]],
        )
    ):
        store = TelemetryStore(":memory:")
        load(store, tmp_path / str(number), *batches)
        found = store.rows("SELECT id, trace_id, parent_span_id, own_trace_id FROM requests ORDER BY id")
        assert found == [
            (f"r{n}", TRACE, f"chat{n}".rjust(16, "0"), f"{n + 4:032x}") for n in (1, 2)
        ], batches  # fmt: skip
        tree = waterfall.trace(store, TRACE)
        assert tree is not None
        assert (tree.totals.calls, tree.totals.cost_usd, tree.totals.input_tokens) == (2, 4.0, 20)
        assert waterfall.trace(store, f"{5:032x}") == tree
        rows = listing.find(store, listing.Asked()).rows
        assert {(row.id, row.trace_id) for row in rows} == {("r1", TRACE), ("r2", TRACE)}
        assert sum(row.cost_usd or 0 for row in rows) == spent(store) == 4.0
        store.close()


@pytest.mark.parametrize("around", ["http", "sdk"])
def test_a_trace_that_is_the_call_alone_is_left_for_the_agents(tmp_path: Path, around: str) -> None:
    """Frameworks that do not make their span the current one: what runs below begins a trace of its own."""
    asks = {"response_id": ANSWER, "dialect": "two"} if around == "sdk" else {"operation": "", "stage": ""}
    alone = span(around, at_s=0.05, trace_id=OTHER, span_kind="client", **asks)
    root = span("agent", lasts_s=9, operation="invoke_agent", stage="")
    chat = span("chat", "agent", response_id=ANSWER)
    asked = request(parent=around, trace_id=OTHER)
    sequences: list[list[list[Any]]] = [
        [[asked], [alone], [chat], [root]],
        [[asked], [chat], [alone], [root]],  # the two sides have met before it is known what is around
        [[root, chat], [asked], [alone]],
    ]
    for number, batches in enumerate(sequences):
        store = TelemetryStore(":memory:")
        load(store, tmp_path / str(number), *batches)
        assert store.rows("SELECT trace_id, own_trace_id FROM requests") == [(TRACE, OTHER)], batches
        assert (sides(store)["chat"], sides(store)[around][1], spent(store)) == (("r", "r"), "r", 2.0)
        (row,) = listing.find(store, listing.Asked()).rows
        assert (row.trace_id, row.cost_usd) == (TRACE, 2.0)
        store.close()


def test_a_request_that_hangs_elsewhere_stays_and_is_shown_in_both(tmp_path: Path, store: TelemetryStore) -> None:
    """Its `traceparent` is another tracer's; the model's span is in a trace of its own."""
    root = span("agent", lasts_s=9, operation="invoke_agent", stage="", session="s1")
    chat = span("chat", "agent", response_id=ANSWER)
    web = span("web", trace_id=OTHER, operation="", stage="", span_kind="server")
    http = span("http", "web", trace_id=OTHER, operation="", stage="", span_kind="client")
    load(store, tmp_path, [root, chat, web, http], [request(parent="http", trace_id=OTHER)])
    assert sides(store)["chat"] == ("r", "r")
    for trace in (TRACE, OTHER):
        tree = waterfall.trace(store, trace)
        assert tree is not None
        assert (tree.totals.calls, tree.totals.cost_usd) == (1, 2.0)
    assert sum(row.cost_usd or 0 for row in listing.find(store, listing.Asked()).rows) == 2.0
    assert [person.cost_usd for person in sessions.people(store, "session", 0).rows] == [None]


def test_what_stops_counting_is_told_whole(
    tmp_path: Path, store: TelemetryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums that a span stands in already must lose it."""
    seen: list[tuple[Any, ...]] = []
    applied = joins.Changes.apply

    def spy(changes: joins.Changes) -> None:
        applied(changes)
        told = "SELECT name, cost_usd, input_uncached, coalesce(counted_by, '') FROM stopped"
        with store.writer() as write:
            seen.extend(write.execute(told).fetchall())

    monkeypatch.setattr(joins.Changes, "apply", spy)
    load(store, tmp_path, [span("inner", "outer", 0.1)], [span("outer", lasts_s=2)], [request(parent="inner")])
    assert seen == [("inner", 1.0, 10, "")]  # the outer one was counted elsewhere when it came


def test_a_replay_after_a_join_changes_nothing(tmp_path: Path, store: TelemetryStore) -> None:
    chat = span("chat", response_id=ANSWER)
    load(store, tmp_path, [chat], [request()], [chat], [chat, chat])
    assert (sides(store), spent(store)) == ({"chat": ("r", "r")}, 2.0)
    assert store.rows("SELECT what, sum(count)::INT FROM repeats GROUP BY what") == [("span", 3)]


@st.composite
def tangles(draw: Any) -> tuple[list[one_call.Call], list[Any], list[Any], list[one_call.Match]]:
    n = draw(st.integers(1, 7))
    calls = [
        one_call.Call(str(i), i, draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from(["", "a", "b"])))
        for i in range(n)
    ]
    pairs = st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=n)
    nested, twins = ([(str(a), str(b)) for a, b in draw(pairs)] for _ in range(2))
    found = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, 2), st.booleans()), max_size=3))
    return calls, nested, twins, [one_call.Match(f"r{r}", r, str(i), answer) for i, r, answer in found]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tangles())
def test_whatever_belongs_together_somebody_counts_and_nobody_counts_in_a_ring(tangle: Any) -> None:
    calls, nested, twins, matches = tangle
    by = {change.key: change.counted_by for change in one_call.Joining(calls, nested, twins, matches).decide()}
    for call in calls:
        at, seen = call.key, set()
        while by.get(at):
            assert at not in seen
            seen.add(at)
            at = by[at]
        assert at.startswith("r") or not by.get(at)
    for match in matches:
        assert by[match.key].startswith("r")
    again = [msgspec.structs.replace(call, counted_by=by.get(call.key, "")) for call in calls]
    assert all(
        not change.stops or not by.get(change.key)
        for change in one_call.Joining(again, nested, twins, matches).decide()
    )


def test_far_off_clocks_hide_nothing(tmp_path: Path, store: TelemetryStore) -> None:
    old = span("old", at_s=-NOW_US / SECOND + 5, trace_id=OTHER)
    new = span("new", at_s=40 * 365 * 86_400, trace_id=GATEWAYS)
    load(store, tmp_path, [old, span("chat"), new], [request(parent="chat"), old, new])
    assert (sides(store)["chat"], len(sides(store))) == (("r", "r"), 3)
