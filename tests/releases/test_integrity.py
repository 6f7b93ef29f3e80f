"""An edit of a pointer beside the verbs is refused: put back, logged, and kept out of the history."""

import sqlite3

import pytest

from pilothouse.domain.errors import Conflict
from pilothouse.releases import facts, history, integrity, pointer
from pilothouse.releases.pointer import Promotion
from pilothouse.security.audit import verify
from pilothouse.store.state import changes, pointers

R = "docs-answer"


@pytest.fixture
def live(store, clock, ana, kit):
    kit.make_releases(store, clock, 2)
    pointer.promote(store, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    return store


def edit(store, *statements):
    outside = sqlite3.connect(store.path)
    outside.executescript(";".join(statements) + ";")
    outside.close()


def stable(store):
    with store.read() as conn:
        return pointers.get(conn, R, "prod").stable


def test_an_edited_pointer_is_put_back_and_told(live, clock, kit):
    edit(live, "UPDATE pointers SET stable = 2")
    (found,) = integrity.mend(live, clock)
    assert found.mended
    assert found.sentence == "docs-answer in prod was edited in the database (stable 1 → 2): put back"
    assert stable(live) == 1
    assert integrity.mend(live, clock) == []
    with live.read() as conn:
        (told,) = changes.find(conn, actions=(integrity.ACTION,))
        assert (told.change.reason, str(told.change.actor)) == (found.sentence, "policy:integrity")
        assert verify(changes.rows(conn)).ok
    assert facts.gather(live, kit.config(kit.route()), R, "prod", clock).direct_edits == 1


def test_a_verb_mends_first_and_a_move_inside_a_transaction_refuses(live, clock, ana, kit):
    edit(live, "UPDATE pointers SET stable = 2, pinned_model = 'evil/model'")
    with live.write() as conn, pytest.raises(Conflict, match="is not as its last verb left it"):
        pointer.promote_in(conn, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    moved = pointer.promote(live, kit.route(), Promotion(env="prod", release=2, actor=ana), clock)
    assert (moved.from_release, moved.pointer.pinned_model) == (1, "")
    assert [move.after.stable for move in history.history(live, R)] == [1, 2]


def test_a_pointer_that_was_slipped_in_or_removed(live, clock):
    rest = "canary, share, salt, canary_started_us, disabled, disabled_reason, pinned_model, revision, updated_us"
    edit(
        live,
        f"INSERT INTO pointers SELECT route, 'dev', 2, {rest} FROM pointers",
        "DELETE FROM pointers WHERE env = 'prod'",
    )
    assert [(one.env, one.found is None, one.logged is None) for one in integrity.mend(live, clock)] == [
        ("dev", False, True),
        ("prod", True, False),
    ]
    with live.read() as conn:
        assert [one.env for one in pointers.every(conn)] == ["prod"]


def test_where_the_log_was_edited_too_nothing_is_trusted(live, clock):
    edit(
        live,
        "DROP TRIGGER changes_no_update",
        "UPDATE changes SET change = replace(change, '\"stable\":1', '\"stable\":2') WHERE action = 'release.promote'",
    )
    (found,) = integrity.mend(live, clock)
    assert not found.mended
    assert "see `pilothouse audit verify`" in found.sentence
    integrity.mend(live, clock)
    with live.read() as conn:
        assert len(changes.find(conn, actions=(integrity.ACTION,))) == 1  # told once
        assert not verify(changes.rows(conn)).ok


def test_a_refused_order_is_in_the_log(live, clock, ana, kit):
    order = Promotion(env="prod", release=2, actor=ana, reason="quick")
    with pytest.raises(Exception, match="must run as a canary in prod first"):
        pointer.promote(live, kit.route(tier="high"), order, clock)
    with live.read() as conn:
        (told,) = changes.find(conn, actions=("release.promote_refused",))
    assert told.change.detail == {"release": 2, "share": None, "said": "quick"}
    assert stable(live) == 1
