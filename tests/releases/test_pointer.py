"""Promotion, canary, rollback and the switches, one by one."""

import threading
from types import SimpleNamespace

import pytest

from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import BadRequest, Conflict, NotFound, PilothouseError, Refused
from pilothouse.releases import pointer, table
from pilothouse.releases.history import rollback_dry_run
from pilothouse.releases.pointer import Moved, Promotion
from pilothouse.store.state import canaries, changes, drills, pointers
from pilothouse.store.state.engine import StateStore

R = "docs-answer"


def order(ana: Actor, release: int, env: str = "prod", **more: object) -> Promotion:
    return Promotion(env=env, release=release, actor=ana, **more)  # type: ignore[arg-type]


@pytest.fixture
def three(store: StateStore, clock: FrozenClock, ana: Actor, kit: SimpleNamespace) -> StateStore:
    kit.make_releases(store, clock, 3)
    return store


def back(store: StateStore, ana: Actor, clock: FrozenClock, to: int | None = None) -> Moved:
    return pointer.rollback(store, R, "prod", actor=ana, reason="worse", clock=clock, to=to)


def test_a_rollback_undoes_promotions_one_by_one_and_then_refuses(three, clock, ana, kit):
    for number in (1, 2, 3):
        pointer.promote(three, kit.route(), order(ana, number), clock)
    assert back(three, ana, clock).to_release == 2
    assert back(three, ana, clock).to_release == 1
    with pytest.raises(Refused, match="first one live in prod: there is none to go back to"):
        back(three, ana, clock)


def test_a_release_that_was_rolled_back_from_is_no_target_until_promoted_anew(three, clock, ana, kit):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    pointer.promote(three, kit.route(), order(ana, 2), clock)
    back(three, ana, clock)
    pointer.promote(three, kit.route(), order(ana, 3), clock)
    assert rollback_dry_run(three, R, "prod").target == 1
    pointer.promote(three, kit.route(), order(ana, 2), clock)
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    assert rollback_dry_run(three, R, "prod").target == 2


def test_a_rollback_to_a_named_release_must_have_been_live(three, clock, ana, kit):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    pointer.promote(three, kit.route(), order(ana, 2), clock)
    with pytest.raises(Refused, match="release 3 was never live in prod and has not passed its gate"):
        back(three, ana, clock, to=3)
    with pytest.raises(Refused, match="release 2 is the stable one"):
        back(three, ana, clock, to=2)
    assert back(three, ana, clock, to=1).what == "rolled_back"


def test_a_rollback_takes_the_canary_away_first(three, clock, ana, kit):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    started = pointer.promote(three, kit.route(), order(ana, 2, share=0.05), clock)
    assert (started.what, started.pointer.canary, started.pointer.share) == ("canary_started", 2, 0.05)
    moved = back(three, ana, clock)
    assert (moved.what, moved.from_release, moved.to_release, moved.pointer.canary) == ("canary_aborted", 2, 1, None)
    assert moved.canary_id == started.canary_id
    with three.read() as conn:
        assert [run.state for run in canaries.list_canaries(conn, R)] == ["aborted"]
        assert [(r.from_release, r.to_release) for r in drills.list_rollbacks(conn, R)] == [(2, 1)]


def test_another_share_keeps_the_salt_and_a_promotion_ends_the_canary(three, clock, ana, kit):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    first = pointer.promote(three, kit.route(), order(ana, 2, share=0.05), clock)
    clock.advance(60)
    second = pointer.promote(three, kit.route(), order(ana, 2, share=0.25), clock)
    assert second.what == "canary_stepped"
    assert second.pointer.salt == first.pointer.salt != ""
    assert second.pointer.canary_started_us == first.pointer.canary_started_us
    promoted = pointer.promote(three, kit.route(), order(ana, 2), clock)
    assert (promoted.pointer.stable, promoted.pointer.canary, promoted.pointer.salt) == (2, None, "")
    with three.read() as conn:
        assert canaries.list_canaries(conn, R)[0].state == "promoted"


def test_prod_asks_for_the_gate_and_says_what_it_said(three, clock, ana, kit):
    gated = kit.route(gate=True)
    first = pointer.promote(three, gated, order(ana, 1), clock)
    assert first.note.startswith("first release in this environment")
    with pytest.raises(Refused, match="release 2 has no gate verdict"):
        pointer.promote(three, gated, order(ana, 2), clock)
    kit.judge(three, clock, 2, "block")
    with pytest.raises(Refused, match=r"the gate says block on release 2: 26 broke.*0\.894 → 0\.817"):
        pointer.promote(three, gated, order(ana, 2, share=0.1), clock)
    assert pointer.promote(three, gated, order(ana, 2, env="staging"), clock).to_release == 2
    kit.judge(three, clock, 2, "pass")
    assert pointer.promote(three, gated, order(ana, 2), clock).what == "promoted"


def test_force_needs_a_reason_and_is_logged_with_what_it_went_over(three, clock, ana, kit):
    gated = kit.route(gate=True)
    pointer.promote(three, gated, order(ana, 1), clock)
    with pytest.raises(Refused, match="needs a reason"):
        pointer.promote(three, gated, order(ana, 2, force=True), clock)
    moved = pointer.promote(three, gated, order(ana, 2, force=True, share=0.2, reason="incident 12"), clock)
    assert moved.overridden == ("release 2 has no gate verdict: run its gate first",)
    with three.read() as conn:
        (row,) = changes.find(conn, actions=("release.promote_forced",))
    assert row.change.reason == "incident 12"
    assert row.change.detail["forced"] == list(moved.overridden)


def test_a_high_tier_goes_through_a_canary_that_has_seen_enough(three, clock, ana, kit):
    high = kit.route(tier="high")
    pointer.promote(three, high, order(ana, 1), clock)
    with pytest.raises(Refused, match="must run as a canary in prod first"):
        pointer.promote(three, high, order(ana, 2), clock)
    started = pointer.promote(three, high, order(ana, 2, share=0.1), clock)
    with pytest.raises(Refused, match="has not seen enough yet"):
        pointer.promote(three, high, order(ana, 2), clock)
    with three.write() as conn:
        canaries.decided(conn, started.canary_id or 0, "promote", {})
    assert pointer.promote(three, high, order(ana, 2), clock).what == "promoted"


def test_another_canary_stands_in_the_way(three, clock, ana, kit):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    pointer.promote(three, kit.route(), order(ana, 2, share=0.1), clock)
    with pytest.raises(Refused, match="a canary of release 2 is running"):
        pointer.promote(three, kit.route(), order(ana, 3), clock)
    pointer.promote(three, kit.route(), order(ana, 3, force=True, reason="hot fix"), clock)
    with three.read() as conn:
        assert canaries.list_canaries(conn, R)[0].state == "superseded"


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"release": 9}, NotFound, "no release 9"),
        ({"release": 1, "env": "production"}, BadRequest, "no environment"),
        ({"release": 1, "share": 1.5}, BadRequest, "between 0 and 1"),
        ({"release": 2, "share": 0.1, "env": "dev"}, Refused, "needs a stable release"),
        ({"release": 1}, Refused, "stable one in prod already"),
    ],
)
def test_orders_that_make_no_sense(three, clock, ana, kit, more, error, words):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    with three.read() as conn:
        before = pointers.revision(conn), len(changes.rows(conn))
    with pytest.raises(error, match=words):
        pointer.promote(three, kit.route(), Promotion(**{"env": "prod", "actor": ana} | more), clock)
    with three.read() as conn:
        assert (pointers.revision(conn), len(changes.rows(conn))) == before


def test_switch_and_pin_reach_the_table(three, clock, ana, kit):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    pointer.set_disabled(three, R, "prod", True, actor=ana, reason="leaks", clock=clock)
    pointer.pin_model(three, R, "prod", "local/smollm2", actor=ana, reason="outage", clock=clock)
    entry = table.build(three, kit.config(kit.route()), {}, clock).entry(R, "prod")
    assert entry is not None
    assert (entry.disabled, entry.disabled_reason, entry.pinned_model) == (True, "leaks", "local/smollm2")
    with pytest.raises(Refused, match="already"):
        pointer.set_disabled(three, R, "prod", True, actor=ana, reason="", clock=clock)
    with pytest.raises(BadRequest, match="provider/model"):
        pointer.pin_model(three, R, "prod", "smollm2", actor=ana, reason="", clock=clock)
    assert pointer.pin_model(three, R, "prod", "", actor=ana, reason="over", clock=clock).what == "unpinned"
    assert pointer.set_disabled(three, R, "prod", False, actor=ana, reason="fixed", clock=clock).what == "enabled"


def test_of_two_who_read_the_same_revision_one_gets_a_conflict(three, clock, ana, kit):
    pointer.promote(three, kit.route(), order(ana, 1), clock)
    barrier = threading.Barrier(2)
    results: list[object] = []

    def race(number: int) -> None:
        barrier.wait()
        try:
            results.append(
                pointer.promote(three, kit.route(), order(ana, number, expected_revision=1), clock).to_release
            )
        except PilothouseError as error:
            results.append(type(error))

    threads = [threading.Thread(target=race, args=(number,)) for number in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(Conflict) == 1
    with three.read() as conn:
        moved = pointers.get(conn, R, "prod")
    assert moved is not None
    assert moved.stable in results
    assert moved.revision == 2


def test_what_could_not_be_pushed_is_put_back_without_its_canary(three, clock, ana, kit):
    route = kit.route()
    pointer.promote(three, route, order(ana, 1), clock)
    first = pointer.promote(three, route, order(ana, 2, share=0.05), clock)
    stepped = pointer.promote(three, route, order(ana, 2, share=0.25), clock)
    with pytest.raises(Conflict, match="has moved since: it is not put back"):
        pointer.restore(three, first, actor=ana, reason="no table", clock=clock)
    back = pointer.restore(three, stepped, actor=ana, reason="no table", clock=clock)
    assert (back.what, back.pointer.stable, back.pointer.canary, back.pointer.share) == ("restored", 1, None, 0.0)
    with three.read() as conn:
        assert [run.state for run in canaries.list_canaries(conn, R)] == ["aborted"]
    promoted = pointer.promote(three, route, order(ana, 3), clock)
    assert pointer.restore(three, promoted, actor=ana, reason="no table", clock=clock).pointer.stable == 1
    assert rollback_dry_run(three, R, "prod").ok is False  # release 3 does not stand behind it
    disabled = pointer.set_disabled(three, R, "prod", True, actor=ana, reason="", clock=clock)
    with pytest.raises(Refused, match="nothing is put back"):
        pointer.restore(three, disabled, actor=ana, reason="no table", clock=clock)
