"""The watch over a real store: a bad canary is taken back in one transaction, a good one steps on."""

import itertools

import msgspec
import pytest

from pilothouse.config.canary import CanaryPolicy
from pilothouse.domain.release import CanaryLook
from pilothouse.releases import pointer
from pilothouse.releases.arms import Counts
from pilothouse.releases.canary import record_last_bad, watch
from pilothouse.releases.pointer import Promotion
from pilothouse.releases.shown import Arm, of_one_store
from pilothouse.store.state import canaries, changes, pointers

R = "docs-answer"


class Traffic:
    """Answers for telemetry: the same counts for an arm at any time, and the questions that were asked."""

    def __init__(self, canary: Counts, stable: Counts) -> None:
        self.arms = {True: canary, False: stable}
        self.asked: list[Arm] = []

    def __call__(self, arm: Arm) -> Counts:
        self.asked.append(arm)
        return self.arms[arm.canary]


@pytest.fixture
def running(store, clock, ana, kit):
    kit.make_releases(store, clock, 2)
    pointer.promote(store, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    clock.advance(100)
    return pointer.promote(store, kit.route(), Promotion(env="prod", release=2, actor=ana, share=0.25), clock)


def test_a_bad_canary_is_rolled_back_with_its_times(store, clock, running):
    bad = Traffic(Counts(requests=6, failures=6), Counts(requests=20))
    with store.read() as conn:
        revision = pointers.revision(conn)
    (look,) = watch(store, of_one_store(bad), clock)
    assert look.decision.kind == "abort"
    assert look.moved is not None
    assert (look.moved.what, look.moved.pointer.canary, look.moved.revision) == ("canary_aborted", None, revision + 1)
    record_last_bad(store, look.run.id, clock.now_us() + 400_000)
    with store.read() as conn:
        (run,) = canaries.list_canaries(conn, R)
        (change,) = changes.find(conn, actions=("canary.abort",))
    assert run.state == "aborted"
    assert run.evidence["sentence"] == change.change.reason == look.decision.sentence
    assert str(change.change.actor) == "policy:canary"
    assert run.t_detect_us is not None
    assert run.t_decide_us is not None
    assert run.t_flip_us is not None
    assert run.t_last_bad_us is not None
    assert run.t_detect_us <= run.t_decide_us <= run.t_flip_us < run.t_last_bad_us
    assert watch(store, of_one_store(bad), clock) == ()


def test_the_questions_name_release_side_and_time(store, clock, running):
    traffic = Traffic(Counts(), Counts())
    watch(store, of_one_store(traffic), clock, policy=CanaryPolicy(baseline_window_s=60))
    start = running.pointer.canary_started_us
    assert {(arm.release, arm.canary, arm.since_us, arm.until_us) for arm in traffic.asked} == {
        (2, True, start, 0),
        (1, False, start - 60_000_000, start),  # once: what was before the canary does not change any more
        (1, False, start, 0),
    }
    traffic.asked.clear()
    watch(store, of_one_store(traffic), clock, policy=CanaryPolicy(baseline_window_s=60))
    assert [arm.since_us for arm in traffic.asked] == [start, start]


def test_without_auto_a_good_canary_is_only_recommended(store, clock, running):
    good = Traffic(Counts(requests=40), Counts(requests=120))
    clock.advance(700)
    (look,) = watch(store, of_one_store(good), clock)
    assert (look.decision.kind, look.decision.share, look.moved) == ("step", 0.5, None)
    with store.read() as conn:
        assert pointers.get(conn, R, "prod").share == 0.25
        assert canaries.running(conn)[0].decision == "step"
    clock.advance(1)
    (again,) = watch(store, of_one_store(good), clock)
    assert again.run.evidence["sentence"] == look.decision.sentence


def test_with_auto_it_steps_to_the_end_and_is_promoted(store, clock, running, kit):
    traffic = Traffic(Counts(requests=40), Counts(requests=120))
    policy = CanaryPolicy(auto=True, min_seconds=10)
    said = []
    for shares in ((400, 1_200), (400, 400), (400, 0)):
        traffic.arms = {True: Counts(requests=shares[0]), False: Counts(requests=shares[1])}
        clock.advance(5)
        (early,) = watch(store, of_one_store(traffic), clock, policy=policy, config=kit.config(kit.route()))
        clock.advance(6)
        (look,) = watch(store, of_one_store(traffic), clock, policy=policy, config=kit.config(kit.route()))
        said.append((early.decision.kind, look.moved.what, look.moved.pointer.share))
    assert said == [
        ("hold", "canary_stepped", 0.5),
        ("hold", "canary_stepped", 1.0),
        ("hold", "promoted", 0.0),
    ]
    with store.read() as conn:
        assert pointers.get(conn, R, "prod").stable == 2
        assert canaries.list_canaries(conn, R)[0].state == "promoted"


def test_auto_never_promotes_what_the_gate_did_not_pass(store, clock, ana, kit):
    gated = kit.route(gate=True)
    kit.make_releases(store, clock, 2)
    pointer.promote(store, gated, Promotion(env="prod", release=1, actor=ana), clock)
    forced = Promotion(env="prod", release=2, actor=ana, share=1.0, force=True, reason="look at it")
    pointer.promote(store, gated, forced, clock)
    good = Traffic(Counts(requests=400), Counts())
    policy = CanaryPolicy(auto=True, min_seconds=0)
    (look,) = watch(store, of_one_store(good), clock, policy=policy, config=kit.config(gated))
    assert (look.decision.kind, look.moved) == ("hold", None)
    assert "not promoted: release 2 has no gate verdict" in look.decision.sentence


def test_no_traffic_is_said_and_nothing_moves(store, clock, running):
    (look,) = watch(store, of_one_store(Traffic(Counts(), Counts(requests=50))), clock)
    assert (look.decision.kind, look.moved) == ("no_data", None)
    with store.read() as conn:
        assert canaries.running(conn)[0].decision == "no_data"


def test_past_the_longest_time_it_holds_its_share_says_so_once_and_ships_by_no_means(store, clock, running, kit):
    traffic = Traffic(Counts(requests=40), Counts(requests=120))
    policy = CanaryPolicy(auto=True, max_seconds=3_600, min_seconds=0, steps=(0.25, 1.0))
    clock.advance(1_800)
    (held,) = watch(store, of_one_store(traffic), clock, policy=policy, config=kit.config(kit.route()))
    assert (held.decision.kind, held.news) == ("hold", "")
    clock.advance(1_801)
    (look,) = watch(store, of_one_store(traffic), clock, policy=policy, config=kit.config(kit.route()))
    assert (look.decision.kind, look.moved, look.news) == ("inconclusive", None, look.decision.sentence)
    traffic.arms = {True: Counts(requests=4_000), False: Counts(requests=12_000)}
    (again,) = watch(store, of_one_store(traffic), clock, policy=policy, config=kit.config(kit.route()))
    assert (again.decision.kind, again.moved, again.news) == ("inconclusive", None, "")
    with store.read() as conn:
        pointer = pointers.get(conn, R, "prod")
        said = changes.find(conn, actions=("canary.inconclusive",))
    assert (pointer.canary, pointer.share, pointer.stable) == (2, 0.25, 1)
    assert [change.change.reason for change in said] == [look.decision.sentence]


def test_the_owner_hears_once_that_a_fed_canary_waits_with_nothing_left_to_ask(store, clock, running):
    of_store = of_one_store(Traffic(Counts(requests=3, fed=3), Counts(requests=3)))

    def show(asked):
        return msgspec.structs.replace(of_store(asked), fed_out="every recorded input has been asked")

    policy = CanaryPolicy(min_seconds=60.0)
    (early,) = watch(store, show, clock, policy=policy)
    assert (early.decision.kind, early.news) == ("hold", "")
    clock.advance(61)
    (told,) = watch(store, show, clock, policy=policy)
    assert told.news == "held: 3 of 20 requests and 61 of 60 s at 25 %; every recorded input has been asked"
    clock.advance(61)
    (again,) = watch(store, show, clock, policy=policy)
    assert again.news == ""


def test_what_is_proven_after_the_longest_time_is_promoted_by_a_person_only(store, clock, running, kit):
    traffic = Traffic(Counts(requests=4_000), Counts(requests=12_000))
    policy = CanaryPolicy(auto=True, max_seconds=3_600, min_seconds=0, steps=(0.25,))
    clock.advance(3_601)
    (look,) = watch(store, of_one_store(traffic), clock, policy=policy, config=kit.config(kit.route()))
    assert (look.decision.kind, look.moved) == ("promote", None)
    (now,) = watch(store, of_one_store(traffic), clock, policy=msgspec.structs.replace(policy, max_seconds=9_999.0),
                   config=kit.config(kit.route()))  # fmt: skip
    assert now.moved is not None
    assert now.moved.what == "promoted"


def test_the_route_says_its_own_policy(store, clock, running, kit):
    own = msgspec.structs.replace(kit.route(), canary=CanaryPolicy(min_requests=500, min_seconds=0))
    clock.advance(1)
    (look,) = watch(
        store, of_one_store(Traffic(Counts(requests=40), Counts(requests=120))), clock, config=kit.config(own)
    )
    assert look.decision.sentence == "held: 40 of 500 requests and 1 of 0 s at 25 %"


def test_looks_are_kept_for_the_page_some_seconds_apart(store, clock, running):
    for second in range(30):
        watch(store, of_one_store(Traffic(Counts(requests=second), Counts(requests=3 * second))), clock)
        clock.advance(1)
    with store.read() as conn:
        run = canaries.running(conn)[0]
        looks = canaries.looks(conn, run.id)
        assert canaries.steps(conn, run.id) == [(run.started_us, 0.25)]
    assert [look.requests for look in looks] == [0, 1, 6, 11, 16, 21, 26]  # the second decided something else
    evidence, threshold, _, low, high, margin, n = looks[-1].rails["failed"]
    assert (threshold, margin, n) == (1_400, 0.02, 26)
    assert evidence < 1
    assert low < 0 < high


def test_old_looks_are_thinned_out(store, clock, running):
    with store.write() as conn:
        run = canaries.running(conn)[0]
        for second in range(1_000):
            look = CanaryLook(ts_us=second, share=0.25, decision="hold", requests=second, rails={})
            canaries.looked(conn, run.id, look)
        kept = [look.ts_us for look in canaries.looks(conn, run.id)]
    assert kept[0] == 0
    assert kept[-1] == 999
    assert len(kept) <= canaries.LOOKS
    gaps = [b - a for a, b in itertools.pairwise(kept)]
    assert gaps == sorted(gaps, reverse=True)
