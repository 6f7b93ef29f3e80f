"""V1–V6: what fires, what it re-opens, and what closes it again, through the review of a route."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.trigger_facts import (
    Event,
    FirstSeen,
    LongAlert,
    Novelty,
    SegmentSeen,
    ServedDay,
    Signature,
    StepsDay,
    TriggerFacts,
    VoiceDay,
)
from pilothouse.review import triggers
from pilothouse.review.judge import review_route
from pilothouse.review.triggers import Fired, fired
from pilothouse.store.state.waivers import Waiver

NOW_US = 1_795_444_320_000_000  # 2026-11-23T14:32:00Z, a Monday
DAY_US = 86_400_000_000
TODAY = NOW_US - NOW_US % DAY_US


def ago(days: float) -> int:
    return int(NOW_US - days * DAY_US)


def known(seen: Novelty | None = None, **more) -> TriggerFacts:
    given = {"since_us": ago(90), "now_us": NOW_US, "seen": seen or Novelty(requests=10_000, segmented=9_000)}
    return TriggerFacts(**{**given, "alerts": (), "watched": ("T7.1", "T9.1", "T9.6"), **more})


def seen(**more) -> TriggerFacts:
    return known(Novelty(requests=10_000, **more))


def told(facts: TriggerFacts) -> list[tuple[str, str]]:
    return [(one.id, one.reason) for one in fired(facts)]


def served(age: int, **models: int) -> list[ServedDay]:
    day = TODAY - age * DAY_US
    return [
        ServedDay(day_us=day, model=f"openai/{name}", requests=n, first_us=day + 3_600_000_000)
        for name, n in models.items()
    ]


def reviewed(made, events: TriggerFacts, **more):
    return {row.id: row for row in review_route(made.evidence(triggers=events, **more)).findings}


# --- what fires


@pytest.mark.parametrize(
    ("what", "ident"),
    [("model", "V1"), ("provider", "V1"), ("tools", "V2"), ("retrieval", "V2"), ("schema", "V3"), ("tier", "V5"),
     ("log", "V6"), ("retention", "V6"), ("access", "V6")],
)  # fmt: skip
def test_a_change_that_is_logged_fires_its_trigger(what, ident):
    event = Event(ts_us=ago(3), what=what, reason="release 12: a → b")
    assert told(known(events=(event,))) == [(ident, "release 12: a → b, 2026-11-20")]


def test_another_model_than_the_usual_one_for_more_than_a_fifth_of_a_day_fires_once():
    days = [*served(5, a=100), *served(4, a=100), *served(3, a=66, b=34), *served(2, a=20, b=80), *served(1, b=100)]
    assert told(seen(served=tuple(days))) == [
        ("V1", "served model openai/a → openai/b for 34.0 % of the requests of 2026-11-20")
    ]
    assert told(seen(served=(*served(2, a=100), *served(1, a=80, b=20)))) == []
    assert told(seen(served=(*served(2, a=10), *served(1, b=100)))) == []  # too little to say what is usual
    assert told(seen(served=(*served(9, a=100), *served(1, b=100)))) == []  # likewise, since it is too long ago


def test_a_shift_to_several_models_together_counts_and_the_largest_is_named():
    [(_, reason)] = told(seen(served=(*served(2, a=100), *served(1, a=70, b=10, c=20))))
    assert reason == "served model openai/a → openai/c for 30.0 % of the requests of 2026-11-22"


@pytest.mark.parametrize(("what", "ident"), [("tools", "V2"), ("retrieval", "V2"), ("schema", "V3")])
def test_what_traffic_has_for_the_first_time_fires_only_on_a_route_that_ran_without(what, ident):
    first = FirstSeen(what=what, first_us=ago(2), before=1_000)
    [(found, reason)] = told(seen(first=(first,)))
    assert found == ident
    assert reason.endswith("for the first time, 2026-11-21, after 1,000 requests without")
    assert told(seen(first=(msgspec.structs.replace(first, before=29),))) == []


def test_single_requests_that_become_chains_are_an_agent():
    alone = tuple(StepsDay(day_us=TODAY - n * DAY_US, traces=20, p95=1.0) for n in (4, 3))
    chains = StepsDay(day_us=TODAY - DAY_US, traces=40, p95=3.0)
    assert told(seen(steps=(*alone, chains))) == [("V2", "p95 of requests per trace ≤ 1 → 3, 2026-11-22")]
    assert told(seen(steps=(alone[0], chains))) == []
    assert told(seen(steps=(*alone, msgspec.structs.replace(chains, p95=2.0)))) == []


def test_an_alert_about_money_or_latency_that_lasts_a_day_is_drift():
    long = LongAlert(item="T9.1", rule="slow", since_us=ago(2))
    [one] = fired(known(alerts=(long,)))
    assert (one.id, one.reason) == ("V4", "“slow” (T9.1) fires for more than 24 h, since 2026-11-21")
    assert one.names("T9.2") and one.names("T6.1") and one.names("I1") and not one.names("T7.1")
    assert told(known(alerts=(msgspec.structs.replace(long, since_us=ago(0.9)),))) == []
    assert told(known(alerts=(msgspec.structs.replace(long, until_us=ago(1.5)),))) == []
    assert len(told(known(alerts=(msgspec.structs.replace(long, until_us=ago(0.5)),)))) == 1
    assert told(known(alerts=(msgspec.structs.replace(long, item="T9.2"),))) == []


def voices(*rates: float, n: int = 200) -> tuple[VoiceDay, ...]:
    first = TODAY - len(rates) * DAY_US
    return tuple(
        VoiceDay(day_us=first + at * DAY_US, requests=n, escalated=0, complained=round(rate * n))
        for at, rate in enumerate(rates)
    )


def test_far_more_complaints_than_usual_are_drift_and_told_once():
    usual = (0.02, 0.03, 0.02, 0.025, 0.02, 0.03, 0.02)
    [(ident, reason)] = told(seen(voices=voices(*usual, 0.10, 0.12)))
    assert (ident, reason.partition(", z")[0]) == ("V4", "10.0 % complained against 2.0 %")
    assert told(seen(voices=voices(*usual, 0.03, 0.04))) == []
    assert told(seen(voices=voices(*usual[1:], 0.10))) == []  # six days do not say what is usual
    assert told(seen(voices=voices(*usual, 0.10, n=29))) == []


@given(st.lists(st.integers(0, 3), min_size=8, max_size=30))
def test_no_complaint_of_a_few_users_is_ever_an_alarm(bad):
    assert told(seen(voices=voices(*(one / 200 for one in bad), n=200))) == []


def test_a_segment_that_would_have_been_seen_before_is_new():
    new = SegmentSeen(segment="eu", first_us=ago(2), requests=50, since=1_000, before=9_000)
    assert told(seen(segments=(new,))) == [("V5", "new segment “eu”, 5.0 % of the traffic since 2026-11-21")]
    assert told(seen(segments=(msgspec.structs.replace(new, requests=10),))) == []  # 1 % and not more
    assert told(seen(segments=(msgspec.structs.replace(new, before=139),))) == []  # 6.95 requests were to be expected
    assert told(seen(segments=(msgspec.structs.replace(new, requests=20, since=29),))) == []


def test_five_working_days_leave_out_saturday_and_sunday():
    monday = Fired(id="V1", ts_us=NOW_US, reason="", reopens=())
    assert monday.due_us == TODAY + 8 * DAY_US  # the end of Monday the 30th
    friday = msgspec.structs.replace(monday, ts_us=ago(3))
    assert friday.due_us == TODAY + 5 * DAY_US  # the end of Friday the 27th


# --- what it re-opens, and what closes it


MODEL = Event(ts_us=ago(3), what="model", reason="release 12: model openai/a → openai/b")


def test_what_was_measured_before_the_trigger_is_stale_and_says_why(made):
    found = reviewed(made, known(events=(MODEL,)), evals=made.evals(run_at_us=ago(4)), renewed={MODEL.ts_us: None})
    sentence = "V1: release 12: model openai/a → openai/b, 2026-11-20"
    assert (found["T3.2"].status, found["T3.2"].detail) == ("STALE", sentence)
    assert (found["T4.1"].status, found["T4.1"].detail) == ("STALE", f"{sentence}; since then no traffic")
    assert "--sign" in found["T4.1"].fix
    assert found["T1.1"].status == found["T8.1"].status == "PASS"  # it does not name them
    row = found["V1"]
    assert (row.status, row.value.endswith("items due by 2026-11-27")) == ("WARN", True)
    assert row.detail.startswith(f"{MODEL.reason}, 2026-11-20; due: ")
    for quiet in ("V2", "V3", "V4", "V5", "V6"):
        assert (found[quiet].status, found[quiet].value) == ("PASS", "none in 90 days")


def test_the_command_that_signs_names_the_environment_where_it_is_not_prod(made):
    def fixes(**where):
        found = reviewed(made, known(events=(MODEL,)), renewed={MODEL.ts_us: None}, **where)
        return {found["V1"].fix, found["T4.1"].fix}

    name = made.evidence().route
    assert fixes() == {f"measure again what is due, or `pilothouse review {name} --sign --reason …`"}
    assert fixes(env="staging") == {
        f"measure again what is due, or `pilothouse review {name} --env staging --sign --reason …`"
    }


def test_a_fresh_measurement_closes_an_item_and_judges_it_on_what_came_after_alone(made):
    bad = msgspec.structs.replace(made.facts().schema, valid_first=9_000, repaired=990, mended=990)
    since = made.facts(since_us=MODEL.ts_us, schema=bad)
    found = reviewed(
        made, known(events=(MODEL,)), evals=made.evals(run_at_us=ago(2)), renewed={MODEL.ts_us: since}
    )  # fmt: skip
    assert (found["T3.2"].status, found["T9.1"].status) == ("PASS", "PASS")
    assert found["T4.1"].status == "FAIL"  # 90 % since, though 99.5 % over the window
    assert "T4.1" not in found["V1"].detail


def test_an_older_trigger_waits_for_the_next_time_that_was_counted_from(made):
    schema = Event(ts_us=ago(5), what="schema", reason="release 11: schema for the first time")
    facts = known(events=(schema,))
    assert reviewed(made, facts, renewed={ago(6): made.facts()})["T4.1"].status == "STALE"
    assert reviewed(made, facts, renewed={ago(4): made.facts()})["T4.1"].status == "PASS"


def test_a_signature_closes_what_fired_before_it_and_nothing_after(made):
    signed = Signature(ts_us=ago(2), by="person:ana", reason="evaluated by hand")
    found = reviewed(made, known(events=(MODEL,), signed=signed), renewed={})
    assert (found["T4.1"].status, found["V1"].status) == ("PASS", "PASS")
    assert found["V1"].detail == "signed 2026-11-21 by person:ana: evaluated by hand"
    early = msgspec.structs.replace(signed, ts_us=ago(4))
    assert reviewed(made, known(events=(MODEL,), signed=early))["V1"].status == "WARN"


def test_what_waits_is_named_with_the_newest_of_each_trigger_until_it_is_measured_or_signed(made):
    events = tuple(Event(ts_us=ago(age), what="model", reason=f"release {age}") for age in (4, 2))
    [one] = review_route(made.evidence(triggers=known(events=events))).reopened
    assert (one.id, one.ts_us, one.sentence) == ("V1", ago(2), "V1: release 2, 2026-11-21")
    assert one.due.endswith("items due by 2026-11-26")
    signed = Signature(ts_us=ago(1), by="person:ana", reason="looked at")
    assert review_route(made.evidence(triggers=known(events=events, signed=signed))).reopened == ()
    waiver = Waiver(item="V1", route=made.evidence().route, until_us=NOW_US + DAY_US, reason="known", by="ana")
    assert review_route(made.evidence(triggers=known(events=events), waivers=(waiver,))).reopened == ()


def test_after_five_working_days_it_fails(made):
    old = msgspec.structs.replace(MODEL, ts_us=ago(20))
    found = reviewed(made, known(events=(old,)))
    assert (found["V1"].status, found["T4.1"].status) == ("FAIL", "PASS")  # the whole window lies after it
    assert found["V1"].value.endswith("due since 2026-11-10")
    assert "CQ.1" in found["V1"].detail  # which nothing measures: somebody has to sign


def test_where_nothing_is_left_to_measure_it_passes(made):
    log = Event(ts_us=ago(1), what="log", reason="log mode redacted → full")
    found = reviewed(made, known(events=(log,)))
    due = [ident for ident in found if ident.startswith("T8.") and found[ident].status == "NO_DATA"]
    assert due  # T8.2 and others have no measurement yet
    assert found["V6"].status == "WARN"
    assert found["T8.1"].status == "PASS"  # read from the files now


def test_a_failure_stays_one_and_what_does_not_apply_too(made):
    found = reviewed(
        made, known(events=(MODEL,)), renewed={MODEL.ts_us: None},
        facts=made.inside(made.facts(), "schema", valid_first=100), config=made.config(alternates=()),
    )  # fmt: skip
    assert found["T4.1"].status == "FAIL"


def test_nothing_known_is_never_green(made):
    none = {row.id: row for row in review_route(made.evidence()).findings}
    assert {none[ident].status for ident in triggers.REOPENS} == {"NO_DATA"}
    silent = reviewed(made, known(Novelty(), alerts=None))
    assert [silent[ident].status for ident in ("V1", "V2", "V3", "V4", "V5", "V6")] == [*["NO_DATA"] * 5, "PASS"]
    partly = reviewed(made, known(Novelty(requests=50), watched=("T9.1",)))
    assert partly["V4"].detail == "no rule for: T7.1, T9.6"
    assert partly["V5"].detail == "no request names its segment"


# --- the lighter profile


def lite(made, facts: TriggerFacts, **more):
    plain = msgspec.structs.replace(made.facts().redaction, by_status={"clean": made.N})
    manifest = msgspec.structs.replace(made.MANIFEST, tools=more.pop("tools", None))
    config = made.config(tier="lite", manifest=manifest)
    return review_route(made.evidence(config=config, facts=made.facts(redaction=plain), triggers=facts, **more))


def g4(route):
    return next(row for row in route.findings if row.id == "G4")


def test_a_new_segment_ends_the_lighter_profile_until_somebody_signs(made):
    calm = lite(made, known())
    assert (calm.tier, g4(calm).status) == ("lite", "PASS")
    event = Event(ts_us=ago(1), what="tier", reason="tier lite → standard")
    raised = lite(made, known(events=(event,)))
    assert (raised.tier, raised.floor, g4(raised).status) == ("standard", 0.70, "WARN")
    assert len(raised.findings) > len(calm.findings)
    assert g4(raised).detail == "reviewed as standard since V5: tier lite → standard, 2026-11-22"
    signed = Signature(ts_us=ago(0.5), by="person:ana", reason="it is a demo")
    assert lite(made, known(events=(event,), signed=signed)).tier == "lite"


def test_the_lighter_profile_is_not_for_tools_and_personal_data(made):
    assert g4(lite(made, known(), tools=[{"type": "function"}])).detail == "with tools"
    config = made.config(tier="lite")
    personal = g4(review_route(made.evidence(config=config, triggers=known())))
    assert (personal.status, personal.detail) == ("FAIL", "100 requests with personal data or secrets")
    assert g4(review_route(made.evidence(triggers=known()))).status == "N/A"
