"""A change at the provider stands in the change log: what it says it serves, and how it answers pinned questions."""

import pytest

from pilothouse.domain.drift import ProbeDay, Sighting
from pilothouse.releases import drift, facts, pointer
from pilothouse.releases.pointer import Promotion
from pilothouse.store.state import changes, sightings

MODEL = "openai/gpt-5-mini-2026-08-07"
USERS = {MODEL: ["docs-answer"]}


def seen(served, fingerprint="fp1", first=1, last=2, model="gpt-5-mini-2026-08-07"):
    return Sighting(
        provider="openai", model=model, served_model=served, fingerprint=fingerprint, first_us=first, last_us=last
    )


def logged(store):
    with store.read() as conn:
        return [row.change.reason for row in changes.find(conn, actions=(drift.ACTION,))]


def test_the_first_that_is_seen_of_a_model_is_no_change_and_the_next_is(store, clock):
    assert drift.look(store, [seen("gpt-5-mini-2026-08-07")], USERS, clock) == []
    assert drift.look(store, [seen("gpt-5-mini-2026-08-07", last=9)], USERS, clock) == []
    drift.look(store, [seen("gpt-5-mini-2026-09-01", "fp2", first=5), seen("other", model="other")], USERS, clock)
    assert logged(store) == [
        f"{MODEL}: served model gpt-5-mini-2026-08-07 → gpt-5-mini-2026-09-01, fingerprint fp1 → fp2"
    ]
    drift.look(store, [seen("gpt-5-mini-2026-09-01", "fp2"), seen("gpt-5-mini-2026-08-07")], USERS, clock)
    assert len(logged(store)) == 1  # both are known now, in whatever order they come
    with store.read() as conn:
        assert [one.last_us for one in sightings.of_model(conn, "openai", "gpt-5-mini-2026-08-07")] == [9, 2]
        (told,) = changes.find(conn, route="docs-answer", actions=(drift.ACTION,))
    assert (told.change.env, told.change.detail["routes"]) == ("prod", ["docs-answer"])


def test_the_review_hears_of_it_for_a_week(store, clock, ana, kit):
    kit.make_releases(store, clock, 1)
    pointer.promote(store, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    drift.look(store, [seen("a"), seen("b", first=5)], USERS, clock)

    def told():
        return facts.gather(store, kit.config(kit.route()), "docs-answer", "prod", clock).provider_changes

    assert told() == (f"{MODEL}: served model a → b",)
    clock.advance(8 * 86_400)
    assert told() == ()


def day(number, kinds):
    answers = {f"q{i}": kind for i, kind in enumerate(kinds)}
    return ProbeDay(provider="openai", model="gpt-5-mini-2026-08-07", day=f"2026-11-{number:02}", ts_us=number,
                    answers=answers)  # fmt: skip


GOOD = ["yes"] * 10 + ["no"] * 10 + ["7"] * 10


def test_answers_that_turn_are_a_change_and_answers_that_stay_are_none(store, clock):
    for number in range(1, 6):
        judged, change = drift.note_day(store, day(number, GOOD), USERS, clock)
        assert change is None
    assert (judged.p, judged.compared_with) == (1.0, "2026-11-01 to 2026-11-04")
    turned = ["yes"] * 10 + ["refusal"] * 10 + ["7"] * 10
    judged, change = drift.note_day(store, day(6, turned), USERS, clock)
    assert judged.p < drift.ALPHA
    assert change.reason.startswith(f"{MODEL} answers 10 of 30 pinned questions otherwise (G = ")
    assert change.detail["turned"][0] == ("q10", "no", "refusal")
    assert logged(store) == [change.reason]


def test_the_first_day_has_nothing_to_be_compared_with(store, clock):
    judged, change = drift.note_day(store, day(1, GOOD), USERS, clock)
    assert (judged.p, judged.compared_with, change) == (None, "", None)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Yes, it is.", "yes"), ("NO", "no"), ("56", "56"), ("1,024.", "1,024"), ("Canberra", "canberra"),
        ("", "empty"),
        ("I can't help with that.", "refusal"), ("Sorry, no.", "refusal"), ("It depends on a few things.", "long"),
        ("**Late**", "late"),
    ],
)  # fmt: skip
def test_answers_fall_into_classes(text, kind):
    assert drift.answer_class(text) == kind


def test_there_are_thirty_questions_and_no_two_alike():
    assert len(set(drift.QUESTIONS)) == len(drift.QUESTIONS) == 30
