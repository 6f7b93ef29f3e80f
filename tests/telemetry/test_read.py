"""What pages read: lists that page without gaps, one request whole, facets, traffic."""

from collections.abc import Callable

import pytest

from pilothouse.domain.errors import BadRequest
from pilothouse.domain.record import Payload, Record, ScoreRecord, SpanRecord, Validation
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import read
from pilothouse.telemetry.read import RequestFilter

NOW_US = 1_750_000_000_000_000
MINUTE_US = 60_000_000


@pytest.fixture
def some(load: Callable[..., None], record: Callable[..., Record]) -> None:
    load(
        record(id="a", ts_us=NOW_US - 3, preview_in="Where is my ORDER?"),
        record(id="b", ts_us=NOW_US - 2, outcome="failed", error_type="timeout", error_message="first token"),
        record(id="c", ts_us=NOW_US - 1, route="other", env="dev", release=4, canary=True, duration_ms=9_000.0),
        record(id="d", ts_us=NOW_US, served_model="big", release=None, inline=True),
        record(id="e", source="eval"),
    )  # fmt: skip


FILTERS: list[tuple[dict[str, object], list[str]]] = [
    ({}, ["d", "c", "b", "a"]),
    ({"source": ""}, ["e", "d", "c", "b", "a"]),
    ({"source": "eval"}, ["e"]),
    ({"route": "other"}, ["c"]),
    ({"env": "dev"}, ["c"]),
    ({"outcome": "failed"}, ["b"]),
    ({"error_type": "timeout"}, ["b"]),
    ({"release": 4}, ["c"]),
    ({"canary": False}, ["d", "b", "a"]),
    ({"model": "big"}, ["d"]),
    ({"min_ms": 1_000.0}, ["c"]),
    ({"since_us": NOW_US - 1}, ["d", "c"]),
    ({"until_us": NOW_US - 1}, ["b", "a"]),
    ({"text": "my order"}, ["a"]),
    ({"text": "FIRST TOKEN"}, ["b"]),
    ({"text": "%"}, []),
    ({"route": "' OR true --"}, []),
]


def test_a_filter_finds_what_matches(store: TelemetryStore, some: None) -> None:
    for wanted, found in FILTERS:
        page = read.list_requests(store, RequestFilter(**wanted))  # type: ignore[arg-type]
        assert ([row.id for row in page.rows], page.total, page.capped) == (found, len(found), False), wanted


def test_pages_follow_one_another_without_gap_or_repeat(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(*(record(id=f"{number:02}", ts_us=NOW_US - number // 3) for number in range(20)))  # three of one moment
    seen: list[str] = []
    before = ""
    while True:
        page = read.list_requests(store, RequestFilter(limit=4, before=before))
        seen += [row.id for row in page.rows]
        assert page.total == 20
        if not page.next:
            break
        before = page.next
    assert sorted(seen) == [f"{number:02}" for number in range(20)]
    assert seen == sorted(seen, key=lambda ident: (int(ident) // 3, -int(ident)))
    with pytest.raises(BadRequest, match="1 to 500"):
        read.list_requests(store, RequestFilter(limit=501))
    with pytest.raises(BadRequest, match="cursor"):
        read.list_requests(store, RequestFilter(before="nonsense"))


def test_facets_count_what_the_filter_leaves(store: TelemetryStore, some: None) -> None:
    counts = read.facets(store, RequestFilter())
    assert counts["route"] == {"docs-answer": 3, "other": 1}
    assert counts["outcome"] == {"success": 3, "failed": 1}
    assert counts["release"] == {"3": 2, "4": 1, "": 1}
    assert counts["canary"] == {"false": 3, "true": 1}
    assert counts["model"] == {"smollm2": 3, "big": 1}
    assert read.facets(store, RequestFilter(route="other"))["env"] == {"dev": 1}


def test_a_request_is_read_whole_and_its_payload_only_when_asked(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    made = record(id="a", payload=Payload(request="in", response="out"))
    load(
        made,
        SpanRecord(trace_id=made.trace_id, span_id="s", ts_us=NOW_US, duration_ms=1, name="step"),
        ScoreRecord(id="1", ts_us=NOW_US, request_id="a", name="thumbs", value=1.0),
    )
    found = read.request(store, "a")
    assert found is not None
    assert (found["id"], found["ts_us"], found["outcome"]) == ("a", NOW_US, "success")
    assert [attempt["n"] for attempt in found["attempts"]] == [1]
    assert [score["value"] for score in found["scores"]] == [1.0]
    assert [span["name"] for span in found["spans"]] == ["step"]
    assert read.payload(store, "a") == {"request": "in", "response": "out", "upstream": ""}
    assert read.payload(store, "none") is None
    assert read.request(store, "none") is None


def test_traffic_is_one_series_per_route_with_buckets_and_a_total(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    valid = Validation(first_ok=True, ok=True)
    load(
        *(record(ts_us=NOW_US - 20 * MINUTE_US, duration_ms=100.0, validation=valid) for _ in range(3)),
        record(ts_us=NOW_US - MINUTE_US, outcome="failed", cost_usd=None, duration_ms=900.0),
        record(ts_us=NOW_US - MINUTE_US, route="other", cost_usd=None),
        record(ts_us=NOW_US - MINUTE_US, source="eval"),
    )
    busy, other = read.traffic(store, NOW_US - 60 * MINUTE_US, NOW_US, 600)
    assert (busy.route, busy.env) == ("docs-answer", "prod")
    assert [(point.requests, point.errors) for point in busy.points] == [(3, 0), (1, 1)]
    assert (busy.total.requests, busy.total.errors, busy.total.structured, busy.total.valid) == (4, 1, 3, 3)
    assert busy.total.cost == pytest.approx(0.003)
    assert busy.points[1].cost is None
    assert busy.points[0].p95 == pytest.approx(100.0, rel=0.26)
    assert busy.total.p95 == pytest.approx(900.0, rel=0.26)
    assert (other.route, other.total.cost) == ("other", None)
    assert [series.route for series in read.traffic(store, 0, NOW_US, 3600, route="other", env="prod")] == ["other"]
    with pytest.raises(BadRequest, match="at least a minute"):
        read.traffic(store, 0, NOW_US, 30)


def test_requests_are_found_by_api_and_by_what_the_cache_did(
    store: TelemetryStore, load: Callable[..., None], record: Callable[..., Record]
) -> None:
    load(record(id="a", api="messages", cache="hit"), record(id="b", cache="miss"), record(id="c"))
    counts = read.facets(store, RequestFilter())
    assert (counts["api"], counts["cache"]) == ({"chat": 2, "messages": 1}, {"hit": 1, "miss": 1, "": 1})
    assert [row.id for row in read.list_requests(store, RequestFilter(cache="hit")).rows] == ["a"]
    assert {row.id for row in read.list_requests(store, RequestFilter(api="chat")).rows} == {"b", "c"}
