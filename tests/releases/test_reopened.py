"""A review that is open again: told once, and what it holds back until it is signed or measured anew."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.config.canary import CanaryPolicy, Shadow
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import Refused
from pilothouse.domain.finding import Review, RouteReview
from pilothouse.domain.trigger_facts import Reopened
from pilothouse.releases import plan, pointer, reopened
from pilothouse.releases.arms import Counts
from pilothouse.releases.canary import watch
from pilothouse.releases.pointer import Promotion
from pilothouse.releases.shown import of_one_store
from pilothouse.store.state import changes, waivers
from pilothouse.store.state.engine import StateStore

R = "docs-answer"
ANA = Actor(type="person", id="ana")
POLICY = CanaryPolicy(steps=(0.05, 0.1, 0.5, 1.0), min_seconds=10, auto=True)
WHY = "V1: model a → b"
SIGN = f"pilothouse review {R} --sign --reason …"


def v1(clock, name="V1", reason="model a → b") -> Reopened:
    return Reopened(id=name, ts_us=clock.now_us(), sentence=f"{name}: {reason}", due="5 items due by 2026-12-04")


def keep(store, clock, *found) -> list[str]:
    return [one.id for one in reopened.keep(store, R, "prod", found, clock)]


def sign(store, clock, measured_us=None) -> None:
    route = RouteReview(
        route=R, env="prod", release=1, tier="standard", owner="Ana", backup="", window="", requests=0, ready=False,
        floor=0.7, observe=None, evaluate=None, roll_back=None, security_fails=0, findings=[], counts={},
    )  # fmt: skip
    review = Review(measured_at=str(clock.now_us()), window="", ready=False, routes=[route])
    with store.write() as conn:
        waivers.sign(conn, review, actor=ANA, reason="looked at", clock=clock, measured_us=measured_us)


def open_now(store) -> list[str]:
    with store.read() as conn:
        return [one.id for one in reopened.open_of(conn, R, "prod")]


def order(release: int, share: float | None = None, **more) -> Promotion:
    return Promotion(env="prod", release=release, actor=ANA, share=share, **more)


@pytest.fixture
def live(store, clock, kit):
    kit.make_releases(store, clock, 3)
    pointer.promote(store, kit.route(), order(1), clock)
    clock.advance(100)
    return store


@pytest.fixture
def opened(live, clock):
    """Release 2 has 5 %, and with it a trigger that fired."""

    def begin(route, share: float | None = 0.05) -> StateStore:
        if share is not None:
            pointer.promote(live, route, order(2, share), clock)
        one = v1(clock)
        clock.advance(1)
        assert keep(live, clock, one) == ["V1"]
        return live

    return begin


# --- kept


def test_it_is_told_once_whoever_looks_and_again_when_it_fires_anew(live, clock, tmp_path):
    first = v1(clock)
    clock.advance(1)
    assert (keep(live, clock, first), keep(live, clock, first)) == (["V1"], [])
    other = StateStore(tmp_path / "state.db")  # another process
    assert keep(other, clock, first) == []
    other.close()
    again = v1(clock, reason="model b → c")
    clock.advance(1)
    assert keep(live, clock, again, v1(clock, "V6")) == ["V1", "V6"]
    assert keep(live, clock, first) == []  # an older one is no news; and V6 was measured meanwhile
    assert open_now(live) == ["V1"]
    with live.read() as conn:
        assert [(row.change.action, row.change.object_id) for row in changes.find(conn, route=R, env="prod")[-4:]] == [
            ("review.reopen", "V1"), ("review.reopen", "V1"), ("review.reopen", "V6"), ("review.close", "V6"),
        ]  # fmt: skip
        assert all(
            str(row.change.actor) == "policy:review"
            for row in changes.find(conn, actions=(reopened.OPENED, reopened.CLOSED))
        )


def test_what_fired_before_the_first_release_opens_nothing(store, clock, kit):
    kit.make_releases(store, clock, 1)
    one = v1(clock)
    clock.advance(1)
    assert keep(store, clock, one) == []
    pointer.promote(store, kit.route(), order(1), clock)
    assert (keep(store, clock, one), open_now(store)) == ([], [])


def test_a_look_that_began_before_the_signature_opens_nothing_after_it(live, clock):
    one = v1(clock)
    clock.advance(1)
    sign(live, clock)
    assert (keep(live, clock, one), open_now(live)) == ([], [])


def test_what_fired_while_it_was_measured_and_signed_was_not_seen_and_stays_open(live, clock):
    measured_us = clock.now_us()
    clock.advance(1)
    early, late = v1(clock), Reopened(id="V6", ts_us=clock.now_us() + 1, sentence="V6: log mode", due="")
    assert keep(live, clock, early) == ["V1"]
    clock.advance(1)
    sign(live, clock, measured_us)
    assert (open_now(live), keep(live, clock, early, late), open_now(live)) == (["V1"], ["V6"], ["V1", "V6"])
    sign(live, clock, clock.now_us())
    assert open_now(live) == []


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["fires", "measured", "signed", "look"]), max_size=12))
def test_in_any_order_it_is_told_once_for_each_firing_and_open_until_closed(tmp_path_factory, kit, what):
    clock, store = FrozenClock(), StateStore(tmp_path_factory.mktemp("any") / "state.db")
    kit.make_releases(store, clock, 1)
    pointer.promote(store, kit.route(), order(1), clock)
    fired, waits, told, is_open = None, False, 0, False
    firings = 0
    for one in what:
        clock.advance(1)
        if one == "fires":
            fired, waits, is_open, firings = v1(clock), True, True, firings + 1
        elif one == "measured":
            waits = is_open = False
        elif one == "signed":
            sign(store, clock)
            waits = is_open = False
        clock.advance(1)
        told += len(keep(store, clock, *([fired] if fired is not None and waits else [])))
        assert (told, open_now(store)) == (firings, ["V1"] if is_open else [])
    store.close()


# --- held


def test_a_person_gets_a_tenth_and_no_more_until_it_is_signed(opened, clock, kit):
    route = kit.route()
    store = opened(route)
    for asked in (order(2, 0.11), order(2), order(2, force=True, reason="now"), order(3, 0.5)):
        with pytest.raises(Refused) as refused:
            pointer.promote(store, route, asked, clock)
        assert refused.value.kind == "review_open"
        assert refused.value.what == f"until the open review of {R} is signed a release gets 10 % at most: {WHY}"
        assert refused.value.hint.startswith(SIGN)
    with store.read() as conn:
        assert len(changes.find(conn, actions=("release.promote_refused",))) == 4
    assert pointer.promote(store, route, order(2, 0.10), clock).pointer.share == 0.10
    assert pointer.promote(store, route, order(2, 0.05), clock).pointer.share == 0.05
    sign(store, clock)
    assert pointer.promote(store, route, order(2, 0.5), clock).pointer.share == 0.5


def test_what_takes_back_or_lowers_is_never_refused(live, clock, kit, ana):
    route = kit.route()
    pointer.promote(live, route, order(2), clock)
    pointer.promote(live, route, order(3, 0.5), clock)
    one = v1(clock)
    clock.advance(1)
    assert keep(live, clock, one) == ["V1"]
    assert pointer.promote(live, route, order(3, 0.25), clock).pointer.share == 0.25
    by = {"actor": ana, "reason": "bad", "clock": clock}
    pointer.pin_model(live, R, "prod", "local/smollm2", **by)
    pointer.set_disabled(live, R, "prod", True, **by)
    pointer.set_disabled(live, R, "prod", False, **by)
    assert pointer.rollback(live, R, "prod", **by).what == "canary_aborted"
    assert pointer.rollback(live, R, "prod", **by).pointer.stable == 1
    assert pointer.rollback(live, R, "prod", to=2, **by).pointer.stable == 2
    first = kit.route("other")
    kit.make_releases(live, clock, 1, "other")
    assert pointer.promote(live, first, order(1), clock).what == "promoted"  # another route, and its first release


def look(store, clock, kit, canary: Counts, stable: Counts):
    clock.advance(11)
    (seen,) = watch(
        store,
        of_one_store(lambda arm: canary if arm.canary else stable),
        clock,
        policy=POLICY,
        config=kit.config(kit.route()),
    )
    return seen


def test_the_watch_steps_to_a_tenth_and_holds_there_until_it_is_signed(opened, clock, kit):
    store = opened(kit.route())
    stepped = look(store, clock, kit, Counts(requests=400), Counts(requests=7_600))
    assert (stepped.decision.kind, stepped.moved.pointer.share) == ("step", 0.1)
    held = look(store, clock, kit, Counts(requests=400), Counts(requests=3_600))
    assert (held.decision.kind, held.moved) == ("hold", None)
    assert held.decision.sentence == f"held at 10 %: V1: model a → b; above 10 % after `{SIGN}`"
    sign(store, clock)
    on = look(store, clock, kit, Counts(requests=400), Counts(requests=3_600))
    assert (on.decision.kind, on.moved.pointer.share) == ("step", 0.5)


def test_the_watch_promotes_nothing_by_itself_and_an_abort_is_not_held_back(opened, clock, kit):
    store = opened(kit.route())
    many = Counts(requests=4_000)
    sign(store, clock)
    for share, beside in ((0.1, 76_000), (0.5, 36_000), (1.0, 4_000)):
        assert look(store, clock, kit, many, Counts(requests=beside)).moved.pointer.share == share
    one = v1(clock)
    clock.advance(1)
    assert keep(store, clock, one) == ["V1"]
    ready = look(store, clock, kit, many, Counts())
    assert (ready.decision.kind, ready.moved) == ("hold", None)
    assert ready.decision.sentence.startswith("held at 100 %: V1: ")
    bad = look(store, clock, kit, Counts(requests=60, failures=60), Counts(requests=300))
    assert (bad.decision.kind, bad.moved.what) == ("abort", "canary_aborted")


def test_the_plan_waits_for_the_signature(opened, clock, kit):
    route = kit.route()
    store = opened(route)
    steps = plan.plan(store, route, "prod", 2, POLICY)

    def states() -> list[str]:
        return [one.state for one in plan.dry_run(store, route, "prod", 2, steps)]

    look(store, clock, kit, Counts(requests=400), Counts(requests=7_600))
    look(store, clock, kit, Counts(requests=400), Counts(requests=3_600))
    told = plan.dry_run(store, route, "prod", 2, steps)
    assert [(plan.describe(one.step).partition(",")[0], one.state) for one in told] == [
        ("check CR.1 T1.3 T10.1 CR.6", "done"), ("canary 5 %", "done"), ("canary 10 %", "waiting"),
        ("canary 50 %", "waiting"), ("promote release 2", "waiting"),
    ]  # fmt: skip
    assert all(one.message.endswith(f"V1: model a → b; above 10 % after `{SIGN}`") for one in told[2:])
    assert plan.advance(store, route, plan.Advance(env="prod", release=2, actor=ANA), steps, clock).moved is None
    sign(store, clock)
    assert states()[3:] == ["ready", "ready"]


def test_a_plan_that_begins_above_a_tenth_waits_and_its_shadow_does_not(opened, clock, kit):
    shadowed = msgspec.structs.replace(POLICY, steps=(0.5, 1.0), shadow=Shadow(requests=5))
    route = msgspec.structs.replace(kit.route(), canary=shadowed)
    store = opened(route, None)
    steps = plan.plan(store, route, "prod", 2)
    assert [one.state for one in plan.dry_run(store, route, "prod", 2, steps)] == [
        "done", "ready", "waiting", "waiting",
    ]  # fmt: skip
    assert (
        plan.advance(store, route, plan.Advance(env="prod", release=2, actor=ANA), steps, clock).moved.pointer.share
        == 0
    )
