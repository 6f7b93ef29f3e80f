"""One person has one pseudonym wherever they appear in an installation, and another in any other."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.record import SpanRecord
from pilothouse.security.keys import pseudonym
from pilothouse.security.pseudonyms import Pseudonyms
from pilothouse.security.redact import Redactor
from pilothouse.telemetry.events import EventNormaliser, Origin
from pilothouse.telemetry.normalise import Normaliser
from pilothouse.telemetry.otlp_logs import OtlpEvent
from pilothouse.telemetry.spans import OtlpSpan

HERE, THERE = b"one installation", b"another"
# Each process makes its own: edge, ingest and control share nothing but the salt.
EDGE, INGEST, CONTROL = (Redactor(HERE) for _ in range(3))
USERS = [Pseudonyms(HERE) for _ in range(3)]
SPANS = Normaliser(redact=INGEST, redact_json=INGEST.redact_json, pseudonym=USERS[1])
EVENTS = EventNormaliser(redact=INGEST, redact_json=INGEST.redact_json)
ELSEWHERE, OTHERS = Redactor(THERE), Pseudonyms(THERE)
NAMES = st.from_regex(r"[a-z]{2,8}[.][a-z]{2,8}", fullmatch=True)
MAILS = st.builds("{}@{}.example.org".format, NAMES, st.from_regex(r"[a-z]{3,9}", fullmatch=True))


def span(**attributes: str) -> SpanRecord:
    told = OtlpSpan(trace_id="a" * 32, span_id="b" * 16, start_ns=1, end_ns=2, attributes=attributes)
    return SPANS.span(told)


@given(MAILS)
def test_a_mail_address_is_the_same_in_requests_spans_events_scores_and_as_a_user(mail: str) -> None:
    stand_in = EDGE(mail).text
    assert stand_in.startswith("[EMAIL:") and mail not in stand_in
    assert CONTROL(mail).text == stand_in  # an eval's or a replay's record
    request = EDGE.redact_json(json.dumps({"messages": [{"role": "user", "content": f"I am {mail.upper()}."}]}))
    assert stand_in in request.text
    one = span(**{"note": f"for {mail}", "user.id": mail, "input.value": f"to {mail}"})
    assert one.attributes["note"] == f"for {stand_in}" and one.payload is not None
    assert stand_in in one.payload.request
    event = OtlpEvent(name="gen_ai.user.message", time_ns=1, trace_id="a" * 32, body=f"by {mail}")
    assert stand_in in EVENTS.event(event, Origin(now_us=1)).body  # type: ignore[union-attr]
    judged = {
        "gen_ai.evaluation.name": "x",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.explanation": f"as {mail} said",
    }
    score = OtlpEvent(name="gen_ai.evaluation.result", time_ns=1, trace_id="a" * 32, attributes=judged)
    assert stand_in in EVENTS.event(score, Origin(now_us=1)).comment  # type: ignore[union-attr]
    # A user or session that is named by it is found by it.
    assert one.user == USERS[0](mail) == USERS[2](mail) == USERS[0](f" {mail.upper()} ")
    assert stand_in == f"[EMAIL:{one.user[:6]}]" and len(one.user) == 16
    assert ELSEWHERE(mail).text != stand_in and OTHERS(mail) != one.user


@given(st.text(max_size=400), st.text(max_size=400))
def test_any_id_has_one_pseudonym_that_tells_nothing_of_it(a: str, b: str) -> None:
    made = USERS[0](a)
    assert made == USERS[1](a) == span(**{"session.id": a}).session
    if not a:
        assert made == ""
        return
    assert len(made) == 16 and set(made) <= set("0123456789abcdef")
    assert OTHERS(a) != made
    if a.strip().lower() != b.strip().lower() and "@" not in a + b and not any(map(str.isdigit, a + b)):
        assert USERS[0](b) != made


@given(st.from_regex(r"[a-z]{3,12}[-_][a-z]{3,12}", fullmatch=True))
def test_an_id_that_says_nothing_about_a_person_keeps_the_pseudonym_it_had(name: str) -> None:
    assert USERS[0](name) == pseudonym(HERE, name)
