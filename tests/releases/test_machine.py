"""The release layer's state machine under any order of verbs, flags, plans, looks at canaries, edits and crashes."""

import itertools
import sqlite3
import tempfile
from pathlib import Path

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pilothouse.config.canary import CanaryPolicy
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.flag import AllOf, Flag, FlagRule, Selects, Share
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.table import ENVIRONMENTS
from pilothouse.releases import canary, flags, history, integrity, mixed, plan, pointer, registry, table
from pilothouse.releases.arms import Counts
from pilothouse.releases.pointer import Moved, Promotion
from pilothouse.releases.shown import of_one_store
from pilothouse.security.audit import verify
from pilothouse.store.state import canaries, changes, drills, pointers, releases
from pilothouse.store.state.engine import StateStore

R = "docs-answer"
ENVS = st.sampled_from(["prod", "prod", "staging"])
RELEASES = st.integers(min_value=1, max_value=4)
SHARES = st.sampled_from([None, None, 0.05, 0.25, 1.0])
ANA = Actor(type="person", id="ana")
POLICY = CanaryPolicy(steps=(0.05, 0.5, 1.0), min_seconds=60)


FLAGS = ("plain", "release", "part")  # a branch of the app's own; a release of the route; a part of one
# What the files may say of a flag: its variants, the default among them; None: they do not name it.
WORDS = (None, ("one", "two"), ("two", "three"), ("three", "one", "two"))
NUMBERS = {"one": 0, "two": 2, "three": 3}  # a variant's release; 0: the pointer's


class Crash(Exception):
    """The process died inside a transaction."""


class Dying(FrozenClock):
    """A clock of a process that dies when it is asked for the time once more than `asked` times."""

    def __init__(self, now_us: int, asked: int) -> None:
        super().__init__(now_us)
        self.asked = asked

    def now_us(self) -> int:
        self.asked -= 1
        if self.asked < 0:
            raise Crash
        return super().now_us()


def declared(key: str, words: tuple[str, ...]) -> Flag:
    """A flag as the files name it."""
    selects = {"plain": None, "release": Selects(R), "part": Selects(R, "prompt")}[key]
    return Flag(
        key=key, type="integer", variants={word: NUMBERS[word] for word in words},
        default=dict.fromkeys(ENVIRONMENTS, words[0]), off=words[-1], selects=selects,
    )  # fmt: skip


class Machine(RuleBasedStateMachine):
    def __init__(self, kit) -> None:
        super().__init__()
        self.kit = kit
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.db"
        self.store = StateStore(self.path)
        self.clock = FrozenClock()
        self.undo: dict[str, list[int]] = {"staging": [], "prod": []}  # our own model of what stands behind what
        self.gone: dict[str, set[int]] = {"staging": set(), "prod": set()}  # what was taken back
        self.config = kit.config(kit.route())
        self.was: dict[tuple[str, str], list[tuple[int, object]]] = {  # what each flag was, from when on
            (key, env): [] for key in FLAGS for env in ENVIRONMENTS
        }
        self.kit.make_releases(self.store, self.clock, 3)
        for number in (1, 2):  # prod begins with something to go back to, staging with nothing
            order = Promotion(env="prod", release=number, actor=ANA)
            pointer.promote(self.store, self.kit.route(), order, self.clock)
            self.undo["prod"].append(number)
        self.name(dict.fromkeys(FLAGS, WORDS[3]))

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def counted(self) -> tuple[int, int]:
        with self.store.read() as conn:
            return pointers.revision(conn), len(changes.rows(conn))

    def pointer(self, env):
        with self.store.read() as conn:
            return pointers.get(conn, R, env)

    def newest(self) -> int:
        with self.store.read() as conn:
            return releases.latest(conn, R).number

    def attempt(self, verb, *, refusals: int = 0, made: int = 0) -> Moved | None:
        """Run a verb: exactly one table revision and at least one change, or neither (but a refusal may be logged)."""
        self.clock.advance(1)
        revision, logged = self.counted()
        try:
            moved = verb()
        except PilothouseError as error:
            noted = refusals if error.kind == "refused_by_policy" else 0
            assert self.counted() == (revision, logged + noted)
            return None
        if moved is None:
            assert self.counted() == (revision, logged)
            return None
        now = self.counted()
        assert now[0] == revision + 1 == moved.revision
        assert now[1] - logged == (2 if moved.overridden else 1) + made
        return moved

    def name(self, words, asked=None):
        """The app's files name these flags from now on, and control has read them."""
        named = {key: declared(key, said) for key, said in words.items() if said}
        config = msgspec.structs.replace(self.config, flags=named)
        self.clock.advance(1)
        flags.sync(self.store, config, self.dying(asked))
        self.config = config
        self.remember()

    def remember(self):
        """What every flag is now, where that is something else than it was."""
        with self.store.read() as conn:
            now = flags.entries(conn, self.config)
        for (key, env), known in self.was.items():
            entry = now.get(env, {}).get(key)
            if (known[-1][1] if known else None) != entry:
                known.append((self.clock.now_us(), entry))

    def dying(self, asked):
        return self.clock if asked is None else Dying(self.clock.now_us(), asked)

    def order(self, key, env, asked=None, **what):
        self.clock.advance(1)
        order = flags.FlagOrder(key=key, env=env, actor=ANA, reason="test", **what)
        done = flags.change(self.store, self.config, order, self.dying(asked))
        self.remember()
        return done

    @rule(key=st.sampled_from(FLAGS), words=st.sampled_from(WORDS))
    def write_in_the_files(self, key, words):
        """A flag is declared, declared otherwise, removed, or back: logged once for each environment, or not at all."""
        before, (revision, logged) = self.config.flags.get(key), self.counted()
        others = {name: tuple(flag.variants) for name, flag in self.config.flags.items() if name != key}
        self.name({**others, key: words})
        edited = self.config.flags.get(key) != before
        assert self.counted() == (revision + edited, logged + len(ENVIRONMENTS) * edited)

    @rule(
        key=st.sampled_from(FLAGS),
        env=ENVS,
        what=st.one_of(
            st.builds(lambda to: {"variant": to}, st.sampled_from(("one", "two", "three"))),
            st.builds(lambda to, part: {"rollout": (Share(to, part),)}, st.sampled_from(tuple(NUMBERS)), st.just(0.3)),
            st.builds(
                lambda to: {"rules": (FlagRule(when=AllOf(()), serve=(Share(to),)),)}, st.sampled_from(tuple(NUMBERS))
            ),
            st.builds(lambda on: {"enabled": on}, st.booleans()),
            st.just({"reset": True}),
        ),
        stale=st.sampled_from((None, None, None, 99)),
    )
    def flip(self, key, env, what, stale):
        """One change, one revision of the table, or neither; a release that is chosen is one that can be served."""
        (revision, logged), known = self.counted(), {at: list(told) for at, told in self.was.items()}
        try:
            done = self.order(key, env, expected_revision=stale, **what)
        except PilothouseError:
            assert self.counted() == (revision, logged)
            self.remember()
            assert self.was == known
            return
        assert (self.counted(), done.table) == ((revision + 1, logged + 1), revision + 1)
        assert self.was[key, env][-1] == (self.clock.now_us(), done.after)
        pointed, chosen = self.pointer(env), self.config.flags[key].selects
        for word in flags.reached(done.after):
            if chosen is not None and NUMBERS[word] and pointed is not None:
                assert NUMBERS[word] not in self.gone[env] and NUMBERS[word] <= self.newest()

    @rule(key=st.sampled_from(FLAGS), env=ENVS, asked=st.integers(0, 3), words=st.sampled_from(WORDS))
    def crash_inside_a_flag(self, key, env, asked, words):
        """Neither half of a change of a flag is left, nor of new words of the files, at whichever moment it dies."""
        for verb in (lambda: self.order(key, env, asked, variant="two"), lambda: self.name({key: words}, asked)):
            before, known = self.counted(), {at: list(told) for at, told in self.was.items()}
            try:
                verb()
            except (Crash, PilothouseError):
                self.reopen()
                self.remember()
                assert (self.counted(), self.was) == (before, known)

    @rule(env=ENVS)
    def look_at_the_table(self, env):
        """What a worker gets is what the flags are, and only releases to choose from that can be served."""
        made = table.build(self.store, self.config, {}, self.clock)
        with self.store.read() as conn:
            assert made.flags == flags.entries(conn, self.config)
            assert made.revision == pointers.revision(conn)
            if (entry := made.entry(R, env)) is not None:
                for number in entry.selectable:
                    assert releases.missing(conn, releases.get(conn, R, number)) == ()
                    assert number not in self.gone[env]

    @rule(text=st.integers(1, 6))
    def create(self, text):
        before = self.newest()
        made = registry.create(self.store, self.kit.route(text=f"Prompt number {text}."), actor=ANA, clock=self.clock)
        assert made.number == (before if made.reused else before + 1)

    @rule(release=RELEASES, word=st.sampled_from(["pass", "pass", "block", "inconclusive"]))
    def gate(self, release, word):
        if release <= self.newest():
            self.kit.judge(self.store, self.clock, release, word)

    @rule(env=ENVS, release=RELEASES, share=SHARES, force=st.booleans(), tier=st.sampled_from(["standard", "high"]))
    def promote(self, env, release, share, force, tier):
        order = Promotion(env=env, release=release, actor=ANA, reason="test", share=share, force=force)
        route = self.kit.route(gate=True, tier=tier)
        before = self.pointer(env)
        moved = self.attempt(lambda: pointer.promote(self.store, route, order, self.clock), refusals=1)
        if moved is None:
            return
        if moved.what == "promoted":
            self.undo[env].append(release)
            direct = before is not None and before.canary != release
            assert not (direct and tier == "high" and env == "prod") or force

    @rule(env=ENVS, release=RELEASES, tier=st.sampled_from(["standard", "high"]), gated=st.booleans())
    def carry_on(self, env, release, tier, gated):
        """What the dry run says is what is done; a dry run does nothing."""
        route = self.kit.route(gate=gated, tier=tier)
        revision = self.counted()
        try:
            steps = plan.plan(self.store, route, env, release, POLICY)
        except PilothouseError:
            assert release > self.newest()
            return
        dry = plan.dry_run(self.store, route, env, release, steps, now_us=self.clock.now_us() + 1_000_000)
        assert self.counted() == revision
        following = next((one for one in dry if one.state != "done"), None)

        def verb():
            return plan.advance(
                self.store, route, plan.Advance(env=env, release=release, actor=ANA), steps, self.clock
            ).moved

        moved = self.attempt(verb, refusals=1)
        if moved is None:
            return
        assert following is not None
        assert following.state == "ready"
        assert moved.env == (following.step.env if isinstance(following.step, plan.Stage) else env)
        if moved.what == "promoted":
            self.undo[moved.env].append(release)

    @rule(bad=st.booleans(), seconds=st.sampled_from([1, 700]))
    def look_at_canaries(self, bad, seconds):
        """A bad canary is taken back by its watch; a good one is let go on."""
        self.clock.advance(seconds)
        with self.store.read() as conn:
            share = {(one.route, one.env): one.share for one in pointers.every(conn)}

        def counts(arm):
            n = int(2_000 * (share[arm.route, arm.env] if arm.canary else 1 - share[arm.route, arm.env]))
            return Counts(requests=n, failures=n if bad and arm.canary else 0)

        before = self.counted()
        seen = canary.watch(self.store, of_one_store(counts), self.clock, policy=POLICY)
        taken = [one for one in seen if one.moved is not None]
        for one in taken:
            if one.decision.kind == "abort":
                self.gone[one.run.env].add(one.run.release)
        assert self.counted()[0] == before[0] + len(taken)
        assert not bad or len(taken) == len(seen)

    @rule(env=ENVS)
    def rollback(self, env):
        dry = history.rollback_dry_run(self.store, R, env)
        before = self.pointer(env)
        moved = self.attempt(lambda: pointer.rollback(self.store, R, env, actor=ANA, reason="test", clock=self.clock))
        assert dry.ok == (moved is not None)
        if moved is None:
            return
        assert moved.to_release == dry.target
        self.gone[env].add(before.canary or before.stable)
        if before.canary is None:
            while self.undo[env][-1] != moved.to_release:
                self.undo[env].pop()
            assert before.stable not in self.undo[env][-1:]

    @rule(env=ENVS, to=RELEASES)
    def rollback_to(self, env, to):
        before = self.pointer(env)
        if before is None or to > self.newest():
            return
        dry = history.rollback_dry_run(self.store, R, env, to)
        moved = self.attempt(
            lambda: pointer.rollback(self.store, R, env, actor=ANA, reason="test", clock=self.clock, to=to)
        )
        assert dry.ok == (moved is not None)
        if moved is not None:
            self.gone[env] |= {before.stable, before.canary} - {None}
        if moved is None or moved.what == "canary_aborted":
            return
        standing = self.undo[env]
        if to in standing:
            self.undo[env] = standing[: len(standing) - standing[::-1].index(to)]
        else:
            standing[-1] = to

    @rule(env=ENVS, part=st.sampled_from(["prompt", "prompt", "prompt", "index", "nonsense"]), to=st.none() | RELEASES)
    def revert_part(self, env, part, to):
        """Only that part changes, and the release it makes is served."""
        before = self.pointer(env)
        news = self.newest()

        def verb():
            made = mixed.compose(self.store, R, env, part, to)
            return mixed.revert(self.store, made, actor=ANA, reason="test", verified="tried", clock=self.clock)[0]

        try:
            made = not mixed.compose(self.store, R, env, part, to).exists
        except PilothouseError:
            made = False
        moved = self.attempt(verb, made=int(made))
        if moved is None:
            assert self.newest() == news
            return
        assert self.newest() == news + made
        self.undo[env][-1] = moved.to_release
        with self.store.read() as conn:
            old = releases.get(conn, R, before.stable).parts
            new = releases.get(conn, R, moved.to_release).parts
        assert [name for name in PARTS if old[name] != new[name]] == [part]

    @rule(env=ENVS, release=RELEASES, share=SHARES)
    def promotion_whose_push_fails(self, env, release, share):
        """What cannot be pushed is put back."""
        before, stood = self.pointer(env), list(self.undo[env])
        order = Promotion(env=env, release=release, actor=ANA, reason="test", share=share, force=True)
        moved = self.attempt(lambda: pointer.promote(self.store, self.kit.route(), order, self.clock))
        if moved is None:
            return
        back = self.attempt(
            lambda: pointer.restore(self.store, moved, actor=ANA, reason="the push failed", clock=self.clock)
        )
        if before is None:
            assert back is None
            self.undo[env].append(release)
            return
        assert (back.pointer.stable, back.pointer.canary) == (before.stable, None)
        self.undo[env] = stood

    @rule(env=ENVS, disabled=st.booleans())
    def switch(self, env, disabled):
        self.attempt(
            lambda: pointer.set_disabled(self.store, R, env, disabled, actor=ANA, reason="test", clock=self.clock)
        )

    @rule(env=ENVS, model=st.sampled_from(["", "local/smollm2", "nonsense"]))
    def pin(self, env, model):
        self.attempt(lambda: pointer.pin_model(self.store, R, env, model, actor=ANA, reason="test", clock=self.clock))

    @rule(env=ENVS, release=RELEASES)
    def crash_inside_a_move(self, env, release):
        """Neither half of a move is left: the process dies after it was made and before it was committed."""
        before, pointed = self.counted(), self.pointer(env)
        order = Promotion(env=env, release=release, actor=ANA, reason="test", force=True)
        try:
            with self.store.write() as conn:
                pointer.promote_in(conn, self.kit.route(), order, self.clock)
                raise Crash
        except (Crash, PilothouseError):
            pass
        self.reopen()
        assert (self.counted(), self.pointer(env)) == (before, pointed)

    @rule()
    def reopen(self):
        self.store.engine.dispose()
        self.store = StateStore(self.path)

    @rule(env=ENVS, stable=RELEASES, share=st.sampled_from([0.0, 0.5]), gone=st.booleans())
    @precondition(lambda self: self.pointer("prod") is not None)
    def edit_in_the_database(self, env, stable, share, gone):
        """An edit beside the verbs is put back, and told."""
        before = self.pointer(env)
        outside = sqlite3.connect(self.path)
        if gone:
            outside.execute("DELETE FROM pointers WHERE env = ?", (env,))
        else:
            outside.execute("UPDATE pointers SET stable = ?, share = ? WHERE env = ?", (stable, share, env))
        outside.commit()
        outside.close()
        edited = self.pointer(env) != before
        found = integrity.mend(self.store, self.clock)
        assert [(one.route, one.env, one.mended) for one in found] == ([(R, env, True)] if edited else [])
        assert self.pointer(env) == before
        with self.store.read() as conn:
            told = changes.find(conn, actions=(integrity.ACTION,), limit=1)
        assert not edited or told[0].change.env == env

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
    def what_is_served_is_not_gone(self):
        for env, gone in self.gone.items():
            pointed = self.pointer(env)
            if pointed is not None:
                gone -= {pointed.stable, pointed.canary}

    @invariant()
    def history_reconstructs_every_flag(self):
        """What each was at each time at which it became something else, just before that, and now."""
        with self.store.read() as conn:
            for (key, env), known in self.was.items():
                before = None
                for ts_us, entry in known[-2:]:
                    assert flags.then(conn, key, env, ts_us) == entry
                    assert len(known) > 2 or flags.then(conn, key, env, ts_us - 1) == before
                    before = entry
                assert flags.then(conn, key, env, self.clock.now_us()) == (known[-1][1] if known else None)

    @invariant()
    def history_reconstructs_the_state(self):
        for env, standing in self.undo.items():
            taken = history.history(self.store, R, env)
            assert (taken[-1].after if taken else None) == self.pointer(env)
            for earlier, later in itertools.pairwise(taken):
                assert later.before == earlier.after
            assert history.stack(taken) == standing

    @invariant()
    def every_rollback_is_kept(self):
        with self.store.read() as conn:
            kept = drills.list_rollbacks(conn, R)
            logged = changes.find(conn, actions=("release.rollback", "canary.abort", "release.revert_part"))
        assert len(kept) == len(logged)
        assert all(one.t_flip_us is not None for one in kept)

    @invariant()
    def the_chain_holds(self):
        with self.store.read() as conn:
            report = verify(changes.rows(conn))
            assert report.ok, report
            assert integrity.strays(conn) == []


def test_any_order_of_verbs_keeps_the_invariants(kit):
    limits = settings(max_examples=25, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(lambda: Machine(kit), settings=limits)


def test_a_pointer_is_what_its_struct_says(store, clock, ana, kit):
    """An edit that brings nothing new is none: the row is compared field by field."""
    kit.make_releases(store, clock, 1)
    pointer.promote(store, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    with store.write() as conn:
        found = pointers.get(conn, R, "prod")
        pointers.overwrite(conn, R, "prod", msgspec.structs.replace(found))
        assert integrity.strays(conn) == []
