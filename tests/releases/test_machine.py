"""The pointer's state machine under any order of verbs."""

import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pilothouse.domain.change import Actor, link_hash
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import PilothouseError
from pilothouse.releases import history, pointer, registry
from pilothouse.releases.pointer import Moved, Promotion
from pilothouse.store.state import canaries, changes, pointers, releases
from pilothouse.store.state.engine import StateStore

R = "docs-answer"
ENVS = st.sampled_from(["staging", "prod"])
RELEASES = st.integers(min_value=1, max_value=4)
SHARES = st.sampled_from([None, None, 0.05, 0.25, 1.0])
ANA = Actor(type="person", id="ana")


class Machine(RuleBasedStateMachine):
    def __init__(self, kit) -> None:
        super().__init__()
        self.kit = kit
        self.folder = tempfile.TemporaryDirectory()
        self.store = StateStore(Path(self.folder.name) / "state.db")
        self.clock = FrozenClock()
        self.undo: dict[str, list[int]] = {"staging": [], "prod": []}  # our own model of what stands behind what
        self.kit.make_releases(self.store, self.clock, 3)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def counted(self) -> tuple[int, int]:
        with self.store.read() as conn:
            return pointers.revision(conn), len(changes.rows(conn))

    def attempt(self, verb) -> Moved | None:
        """Run a verb: exactly one table revision and at least one change, or neither."""
        self.clock.advance(1)
        revision, logged = self.counted()
        try:
            moved = verb()
        except PilothouseError:
            assert self.counted() == (revision, logged)
            return None
        now = self.counted()
        assert now[0] == revision + 1 == moved.revision
        assert now[1] - logged == (2 if moved.overridden else 1)
        return moved

    @rule(env=ENVS, release=RELEASES, share=SHARES, force=st.booleans())
    def promote(self, env, release, share, force):
        order = Promotion(env=env, release=release, actor=ANA, reason="test", share=share, force=force)
        moved = self.attempt(lambda: pointer.promote(self.store, self.kit.route(gate=True), order, self.clock))
        if moved is not None and moved.what == "promoted":
            self.undo[env].append(release)

    @rule(env=ENVS)
    def rollback(self, env):
        dry = history.rollback_dry_run(self.store, R, env)
        with self.store.read() as conn:
            before = pointers.get(conn, R, env)
        moved = self.attempt(lambda: pointer.rollback(self.store, R, env, actor=ANA, reason="test", clock=self.clock))
        assert dry.ok == (moved is not None)
        if moved is None:
            return
        assert moved.to_release == dry.target
        if before.canary is None:
            while self.undo[env][-1] != moved.to_release:
                self.undo[env].pop()
            assert before.stable not in self.undo[env][-1:]

    @rule(env=ENVS, disabled=st.booleans())
    def switch(self, env, disabled):
        self.attempt(
            lambda: pointer.set_disabled(self.store, R, env, disabled, actor=ANA, reason="test", clock=self.clock)
        )

    @rule(env=ENVS, model=st.sampled_from(["", "local/smollm2", "nonsense"]))
    def pin(self, env, model):
        self.attempt(lambda: pointer.pin_model(self.store, R, env, model, actor=ANA, reason="test", clock=self.clock))

    @rule()
    def create(self):
        again = registry.create(self.store, self.kit.route(text="Prompt number 3."), actor=ANA, clock=self.clock)
        assert (again.number, again.reused) == (3, True)

    @invariant()
    def pointers_point_at_releases_that_resolve(self):
        with self.store.read() as conn:
            for found in pointers.every(conn):
                for number in (found.stable, found.canary):
                    if number is not None:
                        assert releases.missing(conn, releases.get(conn, R, number)) == ()
                assert found.canary != found.stable
                assert (found.canary is None) == (found.share == 0.0) == (found.salt == "")
                running = canaries.running(conn, found.route, found.env)
                assert [run.release for run in running] == ([found.canary] if found.canary else [])

    @invariant()
    def history_reconstructs_the_state(self):
        for env, standing in self.undo.items():
            taken = history.history(self.store, R, env)
            with self.store.read() as conn:
                now = pointers.get(conn, R, env)
            assert (taken[-1].after if taken else None) == now
            for earlier, later in itertools.pairwise(taken):
                assert later.before == earlier.after
            assert history.stack(taken) == standing

    @invariant()
    def the_chain_holds(self):
        previous = ""
        with self.store.read() as conn:
            rows = changes.rows(conn)
        for number, row in enumerate(rows, start=1):
            assert (row.seq, row.prev_hash) == (number, previous)
            assert row.hash == link_hash(previous, row.seq, row.ts_us, row.change)
            previous = row.hash


def test_any_order_of_verbs_keeps_the_invariants(kit):
    limits = settings(max_examples=25, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(lambda: Machine(kit), settings=limits)
