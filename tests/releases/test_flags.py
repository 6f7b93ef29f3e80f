"""Flags changed at run time: what is refused, what is logged, what a worker gets."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pilothouse.config.app import AppConfig
from pilothouse.domain.change import link_hash
from pilothouse.domain.errors import BadRequest, Conflict, NotFound, Refused
from pilothouse.domain.flag import Flag, Flow, Selects, Share
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.releases import flags, pointer, table
from pilothouse.releases.flags import FlagOrder
from pilothouse.releases.pointer import Promotion
from pilothouse.store.state import changes, pointers

R = "docs-answer"


def flag(key: str = "f", **more: Any) -> Flag:
    given = {"type": "boolean", "variants": {"on": True, "off": False}, "default": dict.fromkeys(ENVIRONMENTS, "off")}
    return Flag(**{"key": key} | given | more)


def selector(part: str = "", **numbers: int) -> Flag:
    variants = {"live": 0} | numbers
    default = dict.fromkeys(ENVIRONMENTS, "live")
    return flag("s", type="integer", variants=variants, default=default, selects=Selects(R, part))


@pytest.fixture
def flagged(store: Any, clock: Any, ana: Any, kit: Any) -> SimpleNamespace:
    """A store, and verbs on it."""

    def config(*declared: Flag, gate: bool = False) -> AppConfig:
        made = kit.config(kit.route(R, gate=gate))
        return msgspec.structs.replace(made, flags={one.key: one for one in declared})

    def change(made: AppConfig, key: str = "f", env: str = "prod", **more: Any) -> Any:
        clock.advance(1)
        return flags.change(store, made, FlagOrder(key=key, env=env, actor=ana, **more), clock)

    def built(made: AppConfig) -> Any:
        flags.sync(store, made, clock)
        return table.build(store, made, {}, clock)

    def promote(made: AppConfig, number: int, **more: Any) -> None:
        order = Promotion(env="prod", release=number, actor=ana, reason="test", force=True, **more)
        pointer.promote(store, made.routes[R], order, clock)

    return SimpleNamespace(
        config=config, change=change, built=built, promote=promote, store=store, clock=clock, ana=ana, kit=kit
    )


def test_a_change_reaches_the_table_and_the_log_and_only_its_environment(flagged: Any) -> None:
    made = flagged.config(flag())
    before = flagged.built(made)
    done = flagged.change(made, rollout=(Share("on", 0.25),), reason="try it")
    after = flagged.built(made)
    assert done.table == after.revision == before.revision + 1
    assert after.flags["prod"]["f"].rollout == (Share("on", 0.25),)
    assert after.flags["dev"] == before.flags["dev"]
    with flagged.store.read() as conn:
        newest = flags.history(conn, "f", "prod")[0]
        chain = changes.rows(conn)
    assert (newest.change.action, newest.change.reason) == ("flag.rollout", "try it")
    assert newest.change.detail["said"] == "on to 25 %, off to the rest"
    assert [row.hash for row in chain] == [link_hash(r.prev_hash, r.seq, r.ts_us, r.change) for r in chain]


def test_each_order_changes_one_thing_and_what_is_so_already_is_refused(flagged: Any) -> None:
    made = flagged.config(flag())
    assert flagged.change(made, variant="on").said == "on"
    assert flagged.change(made, enabled=False).said == "disabled, gives the code's default"
    assert flagged.change(made, enabled=True).action == "flag.enable"
    assert flagged.change(made, rollout=(Share("off", 0.5),)).said == "off to 50 %, on to the rest"
    assert flagged.change(made, variant="on").said == "on"  # ends the share
    assert flagged.change(made, reset=True).said == "off"
    for wrong in ({}, {"variant": "on", "enabled": True}):
        with pytest.raises(BadRequest, match="one thing"):
            flagged.change(made, **wrong)
    with pytest.raises(Refused, match="so in prod already"):
        flagged.change(made, variant="off")
    with pytest.raises(BadRequest, match="no variant"):
        flagged.change(made, variant="third")
    with pytest.raises(BadRequest, match="together at most 1"):
        flagged.change(made, rollout=(Share("on", 0.7), Share("off", 0.7)))
    with pytest.raises(NotFound, match="did you mean f"):
        flagged.change(made, key="ff", variant="on")
    with pytest.raises(BadRequest, match="no environment"):
        flagged.change(made, env="production", variant="on")


def test_whoever_read_an_older_state_is_refused(flagged: Any) -> None:
    made = flagged.config(flag())
    flagged.built(made)
    assert flagged.change(made, variant="on", expected_revision=0).revision == 1
    with pytest.raises(Conflict, match="revision 1, not 0"):
        flagged.change(made, variant="off", expected_revision=0)
    assert flagged.change(made, variant="off", expected_revision=1).revision == 2


def test_what_the_files_change_is_logged_once_and_the_state_stays(flagged: Any) -> None:
    first = flagged.config(flag())
    flagged.built(first)
    flagged.change(first, enabled=False)
    with flagged.store.read() as conn:
        logged, revision = len(changes.rows(conn)), pointers.revision(conn)
    assert flagged.built(first).revision == revision  # nothing new
    second = flagged.config(flag(default={"dev": "off", "staging": "off", "prod": "on"}))
    entry = flagged.built(second).flags["prod"]["f"]
    assert (entry.default, entry.enabled) == ("on", False)
    with flagged.store.read() as conn:
        rows = changes.rows(conn)[logged:]
    assert [(row.change.action, row.change.object_id) for row in rows] == [("flag.declare", "f@prod")]
    assert flagged.built(flagged.config()).flags == {}
    with flagged.store.read() as conn:
        assert [row.change.action for row in flags.history(conn, "f")][:3] == ["flag.remove"] * 3
    assert flagged.built(second).flags["prod"]["f"].enabled is False  # named again, it is as it was left


def test_only_what_may_be_served_is_selectable(flagged: Any) -> None:
    kit, store, clock = flagged.kit, flagged.store, flagged.clock
    kit.make_releases(store, clock, 4)
    made = flagged.config(selector(two=2, three=3, nine=9), flag("switch", flow=Flow(R)), gate=True)
    flagged.promote(made, 1)
    entry = flagged.built(made).entry(R, "prod")
    assert entry.switches == ("switch", "s")  # what switches off comes first
    assert entry.selectable == {}  # 2 and 3 have no verdict, 9 does not exist
    with pytest.raises(Refused, match="release 2 has no gate verdict"):
        flagged.change(made, key="s", variant="two")
    with pytest.raises(Refused, match="no release 9"):
        flagged.change(made, key="s", rollout=(Share("nine", 0.1),))
    kit.judge(store, clock, 2, "pass")
    assert flagged.change(made, key="s", variant="two").said == "two"
    assert set(flagged.built(made).entry(R, "prod").selectable) == {2}
    assert flagged.built(made).entry(R, "prod").selectable[2].release == 2


def test_a_rollback_ends_a_release_for_flags_too(flagged: Any) -> None:
    kit, store, clock = flagged.kit, flagged.store, flagged.clock
    kit.make_releases(store, clock, 2)
    made = flagged.config(selector(one=1, two=2))
    flagged.promote(made, 1)
    clock.advance(1)
    flagged.promote(made, 2)
    assert set(flagged.built(made).entry(R, "prod").selectable) == {1, 2}
    flagged.change(made, key="s", variant="two")
    pointer.rollback(store, R, "prod", actor=flagged.ana, reason="bad", clock=clock)
    entry = flagged.built(made).entry(R, "prod")
    assert entry.stable.release == 1
    assert set(entry.selectable) == {1}
    with pytest.raises(Refused, match="release 2 was taken back"):
        flagged.change(made, key="s", rollout=(Share("two", 0.5),))
    clock.advance(1)
    flagged.promote(made, 2)
    assert set(flagged.built(made).entry(R, "prod").selectable) == {1, 2}


def test_a_move_that_was_put_back_gives_no_release_back_to_flags(flagged: Any) -> None:
    kit, store, clock = flagged.kit, flagged.store, flagged.clock
    kit.make_releases(store, clock, 2)
    made = flagged.config(selector(one=1, two=2))
    flagged.promote(made, 1)
    flagged.promote(made, 2)
    pointer.rollback(store, R, "prod", actor=flagged.ana, reason="bad", clock=clock)
    clock.advance(1)
    order = Promotion(env="prod", release=2, actor=flagged.ana, reason="test", force=True)
    moved = pointer.promote(store, made.routes[R], order, clock)
    pointer.restore(store, moved, actor=flagged.ana, reason="the push failed", clock=clock)
    assert set(flagged.built(made).entry(R, "prod").selectable) == {1}
    flagged.promote(made, 2)
    assert set(flagged.built(made).entry(R, "prod").selectable) == {1, 2}
