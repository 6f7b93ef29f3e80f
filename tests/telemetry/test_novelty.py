"""What traffic had for the first time, and what it is made of day by day."""

from collections.abc import Callable
from typing import Any

import pytest

from pilothouse.domain.record import Attempt, Document, ScoreRecord, SpanRecord, Validation
from pilothouse.domain.trigger_facts import (
    FirstSeen,
    Novelty,
    SegmentSeen,
    ServedDay,
    Signature,
    StepsDay,
    TriggerFacts,
    VoiceDay,
)
from pilothouse.review import triggers
from pilothouse.telemetry import novelty

NOW_US = 1_750_000_000_000_000
DAY_US = 86_400_000_000
TODAY = NOW_US - NOW_US % DAY_US
SINCE = TODAY - 90 * DAY_US
MINUTE = 60_000_000


def at(age: int, minute: int = 0) -> int:
    return TODAY - age * DAY_US + minute * MINUTE


def span(ts_us: int, traced_us: int, **changes: Any) -> SpanRecord:
    given = {
        "trace_id": f"{traced_us:032x}",
        "span_id": f"{ts_us:016x}",
        "ts_us": ts_us,
        "duration_ms": 1.0,
        "name": "x",
    }
    return SpanRecord(**(given | changes))


@pytest.fixture
def asked(store: Any, load: Any, record: Callable[..., Any]) -> Callable[..., Novelty]:
    """Requests by when they began and what is else of them, and other lines → what is new."""

    def ask(requests: list[tuple[int, dict[str, Any]]], *lines: Any, signed_us: int = 0) -> Novelty:
        made = [
            record(**{"id": f"r{ts}", "trace_id": f"{ts:032x}", "span_id": f"{ts:016x}", "ts_us": ts} | more)
            for ts, more in requests
        ]
        load(*made, *lines)
        return novelty.of_route(store, "docs-answer", "prod", SINCE, signed_us)

    return ask


def test_no_request_is_nothing(asked: Any) -> None:
    assert asked([(at(1), {"route": "other"}), (at(1, 1), {"env": "dev"}), (at(95), {})]) == Novelty()


def test_what_is_there_for_the_first_time_and_after_how_many_requests(asked: Any) -> None:
    called = Attempt(n=1, kind="primary", provider="local", model="smollm2", offset_ms=0.0, finish_reason="tool_calls")
    found = asked(
        [
            *((at(5, n), {}) for n in range(4)),
            (at(4), {"validation": Validation(first_ok=True, ok=True)}),
            (at(3), {}),
            (at(2), {"attempts": [called]}),
            (at(1), {}),
        ],
        span(at(3, 1), at(3), documents=[Document(id="d1")]),
        span(at(1, 1), at(1), operation="execute_tool", stage="tool"),
        span(at(5, 9), 77, documents=[]),  # of a trace that is not the route's
    )
    assert found.requests == 8
    assert found.first == (
        FirstSeen(what="schema", first_us=at(4), before=4),
        FirstSeen(what="retrieval", first_us=at(3, 1), before=6),
        FirstSeen(what="tools", first_us=at(2), before=6),  # the call in the answer was before the span
    )


def test_who_answered_day_by_day_without_fallbacks_and_the_cache(asked: Any) -> None:
    found = asked([
        *((at(2, n), {"served_model": "a"}) for n in range(3)),
        *((at(1, n), {"served_model": "a"}) for n in range(2)),
        *((at(1, 10 + n), {"served_model": "b"}) for n in range(3)),
        (at(1, 20), {"served_model": "c", "outcome": "fallback"}),
        (at(1, 21), {"served_model": "d", "cache": "hit"}),
        (at(1, 22), {"served_model": ""}),
    ])  # fmt: skip
    assert found.served == (
        ServedDay(day_us=at(2), model="local/a", requests=3, first_us=at(2)),
        ServedDay(day_us=at(1), model="local/b", requests=3, first_us=at(1, 10)),
        ServedDay(day_us=at(1), model="local/a", requests=2, first_us=at(1)),
    )


def test_requests_per_trace_by_the_day_on_which_it_began(asked: Any) -> None:
    found = asked([(at(2), {}), *((at(1, n), {"trace_id": "c" * 32}) for n in range(3))])
    assert found.steps == (StepsDay(day_us=at(2), traces=1, p95=1.0), StepsDay(day_us=at(1), traces=1, p95=3.0))


def test_segments_that_came_later_than_others(asked: Any) -> None:
    found = asked([
        *((at(3, n), {"segment": "de"}) for n in range(5)),
        (at(2), {}),
        *((at(2, 1 + n), {"segment": "fr"}) for n in range(2)),
        (at(1), {"segment": "de"}),
    ])  # fmt: skip
    assert (found.requests, found.segmented) == (9, 8)
    assert found.segments == (SegmentSeen(segment="fr", first_us=at(2, 1), requests=2, since=3, before=5),)


def test_escalations_and_bad_words_by_day(asked: Any) -> None:
    def said(of: int, value: float, source: str = "feedback") -> ScoreRecord:
        return ScoreRecord(
            id=f"s{of}", ts_us=of + MINUTE, request_id=f"r{of}", name="helpful", value=value, source=source
        )

    found = asked(
        [(at(1, 1), {}), (at(1, 2), {}), (at(1, 3), {}), (at(0), {"outcome": "escalated"})],
        said(at(1, 1), 0.0), said(at(1, 2), 1.0), said(at(1, 3), 0.0, "scorer"),
    )  # fmt: skip
    assert found.voices == (
        VoiceDay(day_us=at(1), requests=3, escalated=0, complained=1),
        VoiceDay(day_us=at(0), requests=1, escalated=1, complained=0),
    )


def test_the_day_of_a_signature_is_two_and_no_other_day_is(asked: Any) -> None:
    noon = at(1, 720)
    found = asked(
        [
            *((at(2, n), {"trace_id": "a" * 32}) for n in range(2)),
            (at(1), {}),
            (noon, {}),
            *((noon + n, {"served_model": "b", "trace_id": "c" * 32}) for n in (1, 2, 3)),
            (noon + 4, {"outcome": "escalated", "trace_id": "c" * 32}),
            (at(0), {}),
        ],
        signed_us=noon,
    )
    assert [(day.day_us, day.model, day.requests, day.first_us) for day in found.served] == [
        (at(2), "local/smollm2", 2, at(2)),
        (at(1), "local/smollm2", 2, at(1)),
        (noon + 1, "local/b", 3, noon + 1),
        (at(0), "local/smollm2", 1, at(0)),
    ]
    assert [(day.day_us, day.traces, day.p95) for day in found.steps] == [
        (at(2), 1, 2.0), (at(1), 2, 1.0), (noon + 1, 1, 4.0), (at(0), 1, 1.0),
    ]  # fmt: skip
    assert [(day.day_us, day.requests, day.escalated) for day in found.voices] == [
        (at(2), 2, 0), (at(1), 2, 0), (noon + 1, 4, 1), (at(0), 1, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("signed", "opened"), [(720, ["V1"]), (900, [])])
def test_a_shift_after_the_signature_of_the_same_day_is_open_and_one_before_it_is_closed(
    asked: Any, signed: int, opened: list[str]
) -> None:
    """The day's first requests of another model come in the morning, and most of them in the afternoon."""
    seen = asked(
        [
            *((at(2, n), {"served_model": "a"}) for n in range(60)),
            *((at(1, n), {"served_model": "a"}) for n in range(60)),
            (at(1, 100), {"served_model": "b"}),
            *((at(1, 780 + n), {"served_model": "b"}) for n in range(40)),
            *((at(0, n), {"served_model": "b"}) for n in range(40)),
        ],
        signed_us=at(1, signed),
    )
    signature = Signature(ts_us=at(1, signed), by="person:ana", reason="looked at")
    facts = TriggerFacts(since_us=SINCE, now_us=NOW_US, seen=seen, signed=signature)
    assert [one.id for one in triggers.fired(facts) if one.ts_us > signature.ts_us] == opened
