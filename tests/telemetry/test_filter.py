"""The filter language: what a line means, that it survives being written down, and where it is wrong."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.domain.errors import BadRequest
from pilothouse.domain.record import Record, ScoreRecord, SpanRecord, Tokens
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import filter as filters
from pilothouse.telemetry import listing
from pilothouse.telemetry.filter import FIELDS, HAS, Query, Range, Term, parse
from pilothouse.telemetry.listing import Asked

NOW_US = 1_750_000_000_000_000
SECOND_US = 1_000_000

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
numbers = st.floats(0, 1e12, allow_nan=False) | st.integers(0, 10**9).map(float)


def of_numbers(field: str) -> st.SearchStrategy[Term]:
    several = st.lists(numbers, min_size=2, max_size=2, unique=True).map(lambda p: Range(min(p), max(p)))
    one = numbers.map(lambda n: Range(n, n, through=True))
    half = st.builds(lambda n, above: Range(low=n, above=above), numbers, st.booleans()) | st.builds(
        lambda n, through: Range(high=n, through=through), numbers, st.booleans()
    )
    return st.builds(
        lambda ranges, negated: Term(field, ranges=tuple(ranges), negated=negated),
        st.lists(several | one, min_size=1, max_size=3) | half.map(lambda r: [r]),
        st.booleans(),
    )


def of_text(field: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[Term]:
    return st.builds(
        lambda found, negated: Term(field, values=tuple(found), negated=negated),
        st.lists(values, min_size=1, max_size=1 if not field else 3),
        st.booleans(),
    )


terms = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: (
        of_numbers(name)
        if FIELDS[name].kind == "number"
        else of_text(
            name,
            {"text": texts, "flag": st.sampled_from(["true", "false"]), "has": st.sampled_from(sorted(HAS))}[
                FIELDS[name].kind
            ],
        )
    )
)
labels = st.from_regex(r"\Alabel\.[a-z_.]{1,9}\Z").flatmap(lambda name: of_text(name, texts))


@given(st.lists(terms | labels | of_text("", texts), max_size=8))
@settings(max_examples=400, deadline=None)
def test_a_query_written_down_reads_back_as_itself(found: list[Term]) -> None:
    query = Query(tuple(found))
    assert parse(str(query)) == query, str(query)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from([*FIELDS, ":", ">", "<=", '"', "\\", "-", ",", "..", "2s", "1", " ", "label.a", "x", "1e999"]),
        max_size=12,
    ).map("".join),
    st.integers(-3, 70),
)
@settings(max_examples=600, deadline=None)
def test_any_text_is_a_filter_or_a_bad_request_that_says_where(text: str, cursor: int) -> None:
    place = filters.typed_at(text, cursor)
    assert 0 <= place.start <= place.end <= len(text)
    try:
        query = parse(text)
    except BadRequest as error:
        at = re.fullmatch(r"character (\d+) of the filter", error.where)
        assert at and 1 <= int(at[1]) <= len(text) + 1
        assert error.hint
    else:
        assert parse(str(query)) == query


WRONG = [
    ("latncy>2s", 1, "no field 'latncy'", "did you mean latency:?"),
    ("env:prod latency>2", 18, "'2' is no latency", "write latency>500ms or 2s"),
    ("model:", 7, "model has no value", "write model:a value"),
    ("route:a,,b", 9, "route has no value", "write route:a value"),
    ('"open', 1, "a quote is not closed", 'end it with "'),
    ("route>a", 6, "route is text", "write route:value"),
    ("latency:2s..1s", 9, "from the smaller to the larger", "write latency:1s..2s"),
    ("canary:maybe", 8, "canary is true or false", "write canary:true"),
    ("has:tols", 5, "has: knows no 'tols'", "did you mean has:tool?"),
    ("cost>1,2", 8, "a comparison has one value", "write cost>1 or cost:1..2,5..6"),
    ('route:"a"b', 10, "a quoted value ends", "leave a space"),
    ("x" * 2_001, 2_001, "2,000 characters", "leave some terms out"),
    ("a " * 41, 81, "40 terms", "join values with a comma"),
]


@pytest.mark.parametrize(("text", "at", "what", "hint"), WRONG)
def test_an_error_names_the_place_and_the_way_out(text: str, at: int, what: str, hint: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    assert caught.value.where == f"character {at} of the filter"
    assert what in caught.value.what and hint in caught.value.hint


def span(ident: str, parent: str = "", trace: str = "t1", **rest: object) -> SpanRecord:
    fields: dict[str, object] = {
        "trace_id": trace, "span_id": ident, "parent_span_id": parent, "ts_us": NOW_US + SECOND_US,
        "duration_ms": 900.0,
        "name": ident, "env": "prod", "app": "agents",
    }  # fmt: skip
    return SpanRecord(**(fields | rest))  # type: ignore[arg-type]


@pytest.fixture
def some(load: Callable[..., None], record: Callable[..., Record]) -> None:
    load(
        record(id="a", ts_us=NOW_US, preview_in="Where is my ORDER?", session="s1", user="u1",
               labels={"team": "blue team"}),
        record(id="b", ts_us=NOW_US + 1, outcome="failed", error_type="timeout", served_model="gpt-4", attempts=[]),
        record(id="c", ts_us=NOW_US + 2, route="other", env="dev", release=4, canary=True, duration_ms=9_000.0,
               cost_usd=0.5, tokens=Tokens(input_uncached=5_000, output_text=10), trace_id="shared"),
        record(id="e", source="eval"),
        # Through the gateway: listed by its request `c`, not by its first span.
        span("root-c", trace="shared"),
        span("tool-c", "root-c", trace="shared", operation="execute_tool", attributes={"gen_ai.tool.name": "search"}),
        # Only over OTLP: what its spans say is the trace's.
        span("agent", release="v1.2", session="s2", attributes={"team": "red"}),
        span("chat", "agent", stage="model", response_model="gpt-5-mini", cost_usd=0.02,
             tokens=Tokens(input_uncached=900, output_text=300), status="error", error_type="rate_limit"),
        span("again", "agent", stage="model", response_model="gpt-5-mini", cost_usd=0.03,
             tokens=Tokens(input_uncached=900, output_text=300)),
        span("weather", "agent", operation="execute_tool", attributes={"gen_ai.tool.name": "weather"}),
        ScoreRecord(id="sc", ts_us=NOW_US, request_id="a", name="helpful", value=1.0),
    )  # fmt: skip


FILTERS: list[tuple[str, list[str]]] = [
    ("", ["t1", "c", "b", "a"]),
    ("route:docs-answer", ["b", "a"]),
    ("route:docs-answer,other", ["c", "b", "a"]),
    ("-route:docs-answer", ["t1", "c"]),
    ("route:docs*", ["b", "a"]),
    ("route:%", []),
    ("env:dev", ["c"]),
    ("outcome:failed", ["b"]),
    ("-outcome:failed", ["t1", "c", "a"]),
    ("error:timeout", ["b"]),
    ("error:rate_limit", ["t1"]),
    ("-error:*", ["c", "a"]),
    ("model:gpt*", ["t1", "b"]),
    ("-model:gpt*", ["c", "a"]),
    ("model:GPT-5*", ["t1"]),
    ("latency>2s", ["c"]),
    ("latency:500ms..2s", ["t1"]),
    ("latency<=401ms", ["b", "a"]),
    ("latency<401ms", []),
    ("cost>0.01", ["t1", "c"]),
    ("cost:0.05..0.1", ["t1"]),  # summed over the trace
    ("tokens>1000", ["t1", "c"]),
    ("tokens>2k tokens<3k", ["t1"]),
    ("tokens:2400", ["t1"]),
    ("release:4", ["c"]),
    ("release:v1.2,4", ["t1", "c"]),
    ("canary:true", ["c"]),
    ("canary:false", ["t1", "b", "a"]),
    ("user:u1", ["a"]),
    ("session:s*", ["t1", "a"]),
    ('label.team:"blue team"', ["a"]),
    ("label.team:red", ["t1"]),
    ("label.team:*", ["t1", "a"]),
    ("-label.team:*", ["c", "b"]),
    ("has:tool", ["t1", "c"]),
    ("tool:search", ["c"]),
    ("tool:weather,search", ["t1", "c"]),
    ("has:score", ["a"]),
    ("has:error", ["t1", "b"]),
    ("-has:gateway", ["t1"]),
    ("source:eval", ["e"]),
    ("source:otlp", ["t1"]),
    ("order", ["a"]),
    ('"MY ORDER"', ["a"]),
    ("-order", ["t1", "c", "b"]),
    ("agent", ["t1"]),
    ("%", []),
    ("id:shared", ["c"]),
    ("id:e", ["e"]),
    ("status:200 env:prod", ["b", "a"]),
    ("'; DROP TABLE requests", []),
]


def test_a_filter_finds_what_matches(store: TelemetryStore, some: None) -> None:
    for text, found in FILTERS:
        page = listing.find(store, Asked(query=parse(text)))
        assert ([row.id for row in page.rows], page.total, page.capped) == (found, len(found), False), text


def test_a_trace_over_otlp_alone_is_one_row_with_what_its_spans_say(store: TelemetryStore, some: None) -> None:
    row = listing.find(store, Asked(query=parse("source:otlp"))).rows[0]
    assert (row.id, row.name, row.model, row.span_count, row.attempt_count) == ("t1", "agent", "gpt-5-mini", 4, 2)
    assert (row.input_tokens, row.output_tokens) == (1_800, 600)
    assert row.cost_usd == pytest.approx(0.05)
    assert (row.error_type, row.outcome) == ("rate_limit", "success")


def test_facets_and_histograms_count_what_the_filter_leaves(store: TelemetryStore, some: None) -> None:
    page = listing.find(store, Asked(query=parse("-env:dev")))
    assert page.facets["route"] == {"docs-answer": 2}
    assert page.facets["source"] == {"edge": 2, "otlp": 1}
    assert {bin_.low: (bin_.n, bin_.failed) for bin_ in page.latency if bin_.n} == {300.0: (2, 1), 700.0: (1, 0)}
    assert sum(bin_.n for bin_ in page.cost) == 3


def test_the_time_bound_holds_but_for_an_id(store: TelemetryStore, some: None) -> None:
    bound = Asked(query=parse(""), since_us=NOW_US + 2, until_us=NOW_US + SECOND_US)
    assert [row.id for row in listing.find(store, bound).rows] == ["c"]
    by_id = Asked(query=parse("id:a"), since_us=NOW_US + 2)
    assert [row.id for row in listing.find(store, by_id).rows] == ["a"]


def test_pages_follow_one_another_without_gap_or_repeat(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(*(record(id=f"{number:02}", ts_us=NOW_US - number // 3) for number in range(20)))  # three of one moment
    seen: list[str] = []
    before = ""
    while True:
        page = listing.find(store, Asked(limit=4, before=before))
        seen += [row.id for row in page.rows]
        before = page.next
        if not before:
            break
    assert sorted(seen) == [f"{number:02}" for number in range(20)]
    assert seen == sorted(seen, key=lambda ident: (int(ident) // 3, -int(ident)))
    with pytest.raises(BadRequest, match="1 to 500"):
        listing.find(store, Asked(limit=501))
    with pytest.raises(BadRequest, match="cursor"):
        listing.find(store, Asked(before="nonsense"))


def test_values_are_completed_from_what_there_is(store: TelemetryStore, some: None) -> None:
    assert listing.values(store, Asked(), "route", "") == [("docs-answer", 2), ("other", 1)]
    assert listing.values(store, Asked(), "model", "gpt") == [("gpt-4", 1), ("gpt-5-mini", 1)]
    assert listing.values(store, Asked(query=parse("env:dev")), "route", "o") == [("other", 1)]
    assert listing.values(store, Asked(), "tool", "") == [("search", 1), ("weather", 1)]
    assert listing.values(store, Asked(), "latency", "") == []


def test_completion_replaces_the_piece_that_is_being_typed() -> None:
    place = filters.typed_at("env:prod rou", 12)
    assert (place.field, place.typed) == ("", "rou")
    assert filters.completed("env:prod rou", place, "route:") == ("env:prod route:", 15)
    text = "env:prod model:gpt-4,cl latency>2s"
    place = filters.typed_at(text, 23)
    assert (place.field, place.typed) == ("model", "cl")
    made, cursor = filters.completed(text, place, "claude 3")
    assert made == 'env:prod model:gpt-4,"claude 3" latency>2s' and made[:cursor].endswith('" ')


def test_a_value_is_added_to_a_field_and_taken_off() -> None:
    query = parse("route:a -env:dev").toggled("route", "b").toggled("env", "prod")
    assert str(query) == "-env:dev route:a,b env:prod"
    assert str(query.toggled("route", "a").toggled("route", "b")) == "-env:dev env:prod"
