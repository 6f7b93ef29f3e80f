"""Events, scores and data points in our own terms: nothing sensitive, nothing unbounded, retries the same."""

from typing import Any

import pytest

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.record import EventRecord, ScoreRecord
from pilothouse.domain.wires import Redacted
from pilothouse.security.redact import Redactor
from pilothouse.telemetry.events import MAX_BODY, EventNormaliser, Origin
from pilothouse.telemetry.otlp_logs import OtlpEvent
from pilothouse.telemetry.otlp_metrics import OtlpPoint

REDACTOR = Redactor(b"salt" * 8)
NORMALISER = EventNormaliser(redact=REDACTOR, redact_json=REDACTOR.redact_json)
NOW = Origin(now_us=1_750_000_000_000_000, default_env="dev")
JUDGED = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.75}


def event(name: str = "gen_ai.user.message", **more: Any) -> OtlpEvent:
    given = {"time_ns": 1_750_000_000_000_000_000, "trace_id": "01" * 16, "span_id": "02" * 8, **more}
    return OtlpEvent(name=name, **given)


def kept(one: OtlpEvent, origin: Origin = NOW) -> EventRecord:
    record = NORMALISER.event(one, origin)
    assert isinstance(record, EventRecord)
    return record


def test_the_texts_of_an_event_are_redacted_wherever_they_stand() -> None:
    record = kept(
        event(
            body={"content": "I am ana@example.org", "role": "user"},
            attributes={"note": "mail bob@example.org", "user.id": "bob", "gen_ai.system": "openai"},
            resource={"service.name": "docs", "deployment.environment.name": "production"},
        )
    )
    assert "example.org" not in repr(record)
    assert record.body.startswith('{"content":"I am [EMAIL:')
    assert record.attributes["gen_ai.system"] == "openai"
    assert "user.id" not in record.attributes
    assert (record.env, record.app, record.ts_us) == ("prod", "docs", 1_750_000_000_000_000)
    assert record.redaction is not None
    assert (record.redaction.status, record.redaction.classes) == ("redacted", {"email": 2})


def test_messages_in_attributes_are_kept_whole_in_the_body() -> None:
    said = '[{"role": "user", "parts": [{"type": "text", "content": "' + "word " * 2_000 + '"}]}]'
    record = kept(event("gen_ai.client.inference.operation.details", attributes={"gen_ai.input.messages": said}))
    assert len(record.body) > 10_000
    assert "gen_ai.input.messages" not in record.attributes


def test_an_event_is_bounded() -> None:
    flood = {f"a{i}": "x" * 5_000 for i in range(1_000)}
    record = kept(event(body="y" * (3 * MAX_BODY), attributes=flood))
    assert len(record.body) == MAX_BODY
    assert len(record.attributes) == 129
    assert record.attributes["pilothouse.dropped_attributes"] == "872"
    assert max(map(len, record.attributes.values())) == 2_048


def test_a_secret_that_the_bound_tears_apart_is_not_kept_in_part() -> None:
    record = kept(event(body="y" * (MAX_BODY - 6) + " ana@example.org"))
    assert "ana@" not in record.body
    # Redaction shortens what stands before, so that what was torn far behind the bound moves to this side of it.
    long = "sk-proj-" + "Ab3dEf6hIj9kLm2n" * 24
    body = f"{long} " * 10_000
    for start in range(0, 16, 5):
        one = kept(event(body="x" * start + " " + body))
        said = one.body + kept(event(attributes={"note": "x" * start + " " + body})).attributes.get("note", "")
        assert "Ab3dEf6hIj9kLm2n" not in said


def test_what_cannot_be_redacted_keeps_its_place_alone() -> None:
    def fails(_: str) -> Redacted:
        raise PilothouseError("redaction failed")

    normaliser = EventNormaliser(redact=fails, redact_json=fails)
    record = normaliser.event(event(body="secret", attributes={"a": "secret"}), NOW)
    assert isinstance(record, EventRecord)
    assert (record.name, record.body, record.attributes) == ("gen_ai.user.message", "", {})
    assert record.redaction is not None
    assert record.redaction.status == "blocked"
    assert normaliser.point(OtlpPoint(name="m", unit="", type="gauge", time_ns=1, value=1.0), NOW) is None


def test_a_judgement_is_a_score_and_its_retry_the_same_one() -> None:
    told = {**JUDGED, "gen_ai.evaluation.score.label": "good", "gen_ai.evaluation.explanation": "ask ana@example.org"}
    one, again = (NORMALISER.event(event("gen_ai.evaluation.result", attributes=told), NOW) for _ in range(2))
    assert isinstance(one, ScoreRecord)
    assert one == again
    assert (one.name, one.value, one.label, one.source) == ("relevance", 0.75, "good", "scorer")
    assert (one.trace_id, one.span_id) == ("01" * 16, "02" * 8)
    assert one.comment.startswith("ask [EMAIL:")
    other = NORMALISER.event(event("gen_ai.evaluation.result", attributes=told, time_ns=1), NOW)
    assert isinstance(other, ScoreRecord)
    assert other.id != one.id


@pytest.mark.parametrize(("label", "value"), [("pass", 1.0), ("FAIL", 0.0), ("odd", None)])
def test_a_verdict_without_a_number_is_a_score_where_it_says_pass_or_fail(label: str, value: float | None) -> None:
    told = {"gen_ai.evaluation.name": "safe", "gen_ai.evaluation.score.label": label}
    record = NORMALISER.event(event("gen_ai.evaluation.result", attributes=told), NOW)
    assert (record.value if isinstance(record, ScoreRecord) else None) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", True])
def test_a_score_that_is_no_number_is_kept_as_an_event(value: object) -> None:
    told = {**JUDGED, "gen_ai.evaluation.score.value": value}
    assert isinstance(NORMALISER.event(event("gen_ai.evaluation.result", attributes=told), NOW), EventRecord)


def test_times_that_are_not_told_are_those_of_arrival() -> None:
    assert kept(event(time_ns=0)).ts_us == NOW.now_us
    assert kept(event(time_ns=1 << 63)).ts_us == NOW.now_us


def test_a_key_says_the_environment_whatever_the_event_says() -> None:
    said = event(resource={"deployment.environment.name": "prod"})
    assert kept(said, Origin(now_us=1, env="staging")).env == "staging"
    assert kept(event()).env == "dev"


def test_a_data_point_is_redacted_and_bounded() -> None:
    point = OtlpPoint(
        name="calls", unit="{call}", type="sum", temporality="delta", time_ns=9_000_000, start_ns=1_000_000, value=2.0,
        attributes={"who": "ana@example.org", "user.id": "ana", "model": "m"}, resource={"service.name": "docs"},
    )  # fmt: skip
    record = NORMALISER.point(point, NOW)
    assert record is not None
    assert (record.name, record.value, record.ts_us, record.start_us) == ("calls", 2.0, 9_000, 1_000)
    assert (record.app, record.env, record.temporality) == ("docs", "dev", "delta")
    assert record.attributes["model"] == "m"
    assert record.attributes["who"].startswith("[EMAIL:")
    assert "user.id" not in record.attributes
