"""The plan, the facts and the notes over one story: a route goes from release 1 to 2."""

import sqlite3

import msgspec
import pytest
from inline_snapshot import snapshot

from pilothouse.config.canary import CanaryPolicy, Shadow
from pilothouse.domain.callers import Callers
from pilothouse.domain.errors import Conflict, NotFound, Refused
from pilothouse.domain.evaluation import CaseResult
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.release import StepEvidence
from pilothouse.domain.release_facts import Drill, StagedChanges
from pilothouse.releases import facts, plan, pointer, registry
from pilothouse.releases.arms import Counts
from pilothouse.releases.canary import watch
from pilothouse.releases.notes import release_notes, rollback_dry_run
from pilothouse.releases.pointer import Promotion
from pilothouse.releases.shown import of_one_store
from pilothouse.store.state import drills, runs, steps
from pilothouse.store.state.runs import EvalRun

R = "docs-answer"
POLICY = CanaryPolicy(steps=(0.05, 0.5, 1.0), min_seconds=60)


@pytest.fixture
def gated(kit, tmp_path):
    dataset = tmp_path / "d.jsonl"
    dataset.write_text('{"id": "1"}\n\n' * 246)
    route = kit.route(gate=True)
    return msgspec.structs.replace(route, gate=msgspec.structs.replace(route.gate, dataset=dataset))


@pytest.fixture
def live(store, clock, ana, kit, gated):
    kit.make_releases(store, clock, 2)
    pointer.promote(store, gated, Promotion(env="prod", release=1, actor=ana), clock)
    return store


def test_the_plan_in_words(live, clock, gated):
    with live.write() as conn:
        run = runs.start(conn, EvalRun(id=0, route=R, release=1), clock)
        for number in range(123):
            runs.put_case(conn, run.id, CaseResult(case_id=str(number), task="t", cost_usd=0.0025))
        clock.advance(120)
        runs.finish(conn, run.id, clock)
    steps = plan.plan(live, gated, "prod", 2, POLICY)
    assert [plan.describe(step) for step in steps] == snapshot(
        [
            "check CR.1 T1.3 T10.1 CR.6",
            "gate 246 cases, margin 3 pp, detects ≥ 5.0 pp at 80 % power, about 0.62 USD, 4 min",
            "canary 5 %, at least 1 min and 20 requests",
            "canary 50 %, at least 1 min and 20 requests",
            "promote release 2",
        ]
    )
    assert plan.back_out(R, "prod") == "pilothouse rollback docs-answer"


def test_outside_prod_and_at_first_there_is_less_to_do(store, clock, kit, gated):
    kit.make_releases(store, clock, 1)
    for env in ("prod", "dev"):
        assert [type(step).__name__ for step in plan.plan(store, gated, env, 1)] == ["Check", "Promote"]
    with pytest.raises(NotFound):
        plan.plan(store, gated, "prod", 7)


def states(results):
    return [result.state for result in results]


def test_the_same_steps_are_tried_dry_and_executed_to_the_end(live, clock, ana, kit, gated):
    steps = plan.plan(live, gated, "prod", 2, POLICY)

    def dry():
        return states(plan.dry_run(live, gated, "prod", 2, steps))

    def go():
        return plan.advance(live, gated, plan.Advance(env="prod", release=2, actor=ana), steps, clock).moved

    def traffic(arm):
        share = 0.05 if arm.since_us < second else 0.5
        return Counts(requests=int(40_000 * (share if arm.canary else 1 - share)))

    second = 1 << 62
    assert dry() == ["done", "ready", "ready", "ready", "blocked"]
    assert go() is None  # the gate is not ours to run
    kit.judge(live, clock, 2, "block")
    assert dry()[1] == "blocked"
    assert go() is None
    kit.judge(live, clock, 2, "pass")
    assert dry() == ["done", "done", "ready", "ready", "ready"]
    assert go().pointer.share == 0.05
    assert dry() == ["done", "done", "waiting", "ready", "ready"]
    assert go() is None
    clock.advance(61)
    watch(live, of_one_store(traffic), clock, policy=POLICY)
    assert dry()[2] == "done"
    second = clock.now_us()
    assert go().pointer.share == 0.5
    assert dry() == ["done", "done", "done", "waiting", "ready"]
    clock.advance(61)
    watch(live, of_one_store(traffic), clock, policy=POLICY)
    assert go().what == "promoted"
    assert dry() == ["done"] * 5
    assert go() is None


def test_the_plan_of_what_is_live_is_done_whatever_its_gate_said(live, clock, kit, gated):
    steps = plan.plan(live, gated, "prod", 1, POLICY)
    found = plan.dry_run(live, gated, "prod", 1, steps)
    assert states(found) == ["done"] * 5 and found[1].message == "not run, and release 1 is the stable one"
    kit.judge(live, clock, 1, "block")
    found = plan.dry_run(live, gated, "prod", 1, steps)
    assert states(found) == ["done"] * 5 and "all the same; block:" in found[1].message


def test_a_check_blocks_what_could_not_be_taken_back(live, gated):
    outside = sqlite3.connect(live.path)
    outside.executescript(
        "DROP TRIGGER parts_no_update; UPDATE parts SET content = 'null' WHERE content LIKE '%Prompt number 1%';"
    )
    outside.close()
    (first, *_) = plan.dry_run(live, gated, "prod", 2, plan.plan(live, gated, "prod", 2))
    assert (first.state, first.message) == ("blocked", "CR.6: no way back, prompt of release 1 do not resolve")


def test_facts_of_a_route_that_is_not_live(store, clock, kit):
    found = facts.gather(store, kit.config(kit.route()), R, "prod", clock)
    assert (found.current, found.rollback.ok, found.rollback.reason) == (None, False, "docs-answer is not live in prod")


def test_facts_follow_the_story(live, clock, ana, kit, gated):
    config = kit.config(gated)
    first = facts.gather(live, config, R, "prod", clock)
    assert (first.current.number, first.hashes_resolvable, first.gated) == (1, 8, True)
    assert (first.prompt_tag, len(first.schema_tag), first.floating_alias) == ("v3", 12, "")
    assert (first.alternate_models, first.static_fallback) == (("local/smollm2",), True)
    assert (first.rollback.ok, first.verdict, first.changes_90d) == (False, None, StagedChanges())

    order = Promotion(env="prod", release=2, actor=ana, share=0.5, force=True, reason="hot")
    pointer.promote(live, gated, order, clock)
    during = facts.gather(live, config, R, "prod", clock)
    assert (during.canary.number, during.canary_share, during.rollback.target) == (2, 0.5, 1)

    moved = pointer.rollback(live, R, "prod", actor=ana, reason="bad", clock=clock)
    with live.write() as conn:
        drills.propagated(conn, moved.rollback_id, ms=140.0, workers=2)
        drill = Drill(id=0, kind="rollback", route=R, env="prod", ts_us=0, ok=True, detail={"propagated_ms": 90.0})
        stored = drills.record(conn, drill, clock)
    kit.judge(live, clock, 2, "pass")
    pointer.promote(live, gated, Promotion(env="prod", release=2, actor=ana), clock)
    after = facts.gather(live, config, R, "prod", clock)
    assert (after.last_rollback.propagated_ms, after.last_drill) == (140.0, stored)
    assert after.changes_90d == StagedChanges(total=2, staged=1, direct=1, forced=1)
    assert (after.verdict.verdict, after.verdict_baseline, after.verdict_us) == ("pass", 1, clock.now_us())
    assert (after.rollback.ok, after.rollback.target) == (True, 1)
    clock.advance(91 * 86_400)
    assert facts.gather(live, config, R, "prod", clock).changes_90d == StagedChanges()


def test_a_model_of_our_own_process_is_no_floating_alias(store, clock, ana, kit):
    for name, alias in (("local", ""), ("openai", "openai/smollm2")):
        route = kit.route(name)
        route = msgspec.structs.replace(
            route, manifest=msgspec.structs.replace(route.manifest, model=ModelRef(name, "smollm2"))
        )
        assert registry.create(store, route, actor=ana, clock=clock).floating_alias == f"{name}/smollm2"
        pointer.promote(store, route, Promotion(env="prod", release=1, actor=ana), clock)
        assert facts.gather(store, kit.config(route), name, "prod", clock).floating_alias == alias


def test_a_release_with_a_missing_part_is_told_and_no_target(live, clock, ana, kit, gated):
    kit.judge(live, clock, 2, "pass")
    pointer.promote(live, gated, Promotion(env="prod", release=2, actor=ana), clock)
    outside = sqlite3.connect(live.path)
    outside.executescript(
        "DROP TRIGGER parts_no_update; UPDATE parts SET content = 'null' WHERE content LIKE '%Prompt number 1%';"
    )
    outside.close()
    dry = rollback_dry_run(live, R, "prod")
    assert (dry.ok, len(dry.missing), dry.reason) == (False, 1, "no earlier release resolves: 1 part missing")
    with pytest.raises(Refused, match="no earlier release resolves"):
        pointer.rollback(live, R, "prod", actor=ana, reason="", clock=clock)


def test_notes_on_one_page(live, clock, ana, kit):
    kit.judge(live, clock, 2, "pass")
    assert release_notes(live, R, 2) == snapshot("""\
# docs-answer, release 2

Made 2025-06-15 15:06 UTC by person:ana, manifest `976c97b8d344`, commit not recorded.

try 2

## Changes since release 1

| part | before | after | change |
|---|---|---|---|
| prompt | `774b40da` | `78c94d4f` | +1 −1 lines |
| system | `74234e98` | `74234e98` | unchanged |
| model | `54dc5799` | `54dc5799` | unchanged |
| params | `3343deb6` | `3343deb6` | unchanged |
| tools | `74234e98` | `74234e98` | unchanged |
| schema | `fc001f6a` | `fc001f6a` | unchanged |
| index | `74234e98` | `74234e98` | unchanged |
| policy | `da69d221` | `da69d221` | unchanged |

`prompt`:

```diff
@@ -1 +1 @@
-Prompt number 1.
+Prompt number 2.
```

## Gate

**pass** against release 1: 26 broke, 7 mended (pass rate 0.894 → 0.817, -0.077 [-0.114, -0.040], n=246).

## Rollback

```
pilothouse rollback docs-answer
```

Dry run: once live, it goes back to release 1, all 8 parts resolve.
""")
    assert "The first release: there is none to compare with." in release_notes(live, R, 1)


def test_notes_with_a_plan_its_callers_and_the_way_back_of_each_part(live, clock, ana, kit):
    manifest = msgspec.structs.replace(kit.manifest("Another."), schema=None)
    route = msgspec.structs.replace(kit.route(), manifest=manifest)
    registry.create(live, route, actor=ana, clock=clock)
    seen = Callers(total=40, sample=9, prompted=9, objects=9, fields={"/answer": 9})
    text = release_notes(live, R, 3, config=route, callers=seen)
    assert "Compared with 9 of 40 requests of the last 7 days:\n\n- **breaks** schema: the schema is gone" in text
    assert "## Plan\n\n1. check CR.1 T1.3 T10.1 CR.6: blocked\n2. canary 1 %" in text
    assert "```\npilothouse release apply docs-answer 3\n```" in text
    assert "pilothouse rollback docs-answer --part prompt\npilothouse rollback docs-answer --part schema\n```" in text
    assert "Nothing that they send or are served is taken away" in release_notes(live, R, 2, callers=seen)
    assert len(text.splitlines()) < 80  # one page, as it is shown


def test_notes_of_what_is_live_say_what_a_rollback_does_now(live, clock, ana, kit, gated):
    floating = msgspec.structs.replace(kit.manifest("`````\nlong\n" * 20), model=ModelRef("openai", "gpt-5-mini"))
    route = msgspec.structs.replace(gated, manifest=floating, gate=None)
    registry.create(live, route, actor=ana, clock=clock, vcs="ab12cd-dirty")
    pointer.promote(live, route, Promotion(env="prod", release=3, actor=ana, share=0.5), clock)
    text = release_notes(live, R, 3)
    assert "commit ab12cd with uncommitted changes" in text
    assert "**openai/gpt-5-mini is not pinned to a version: the provider may change it.**" in text
    assert "more lines\n``````\n" in text  # a fence longer than any in the prompt
    assert "No gate has judged this release." in text
    assert "Dry run: release 3 → 1, all 8 parts resolve." in text
    assert "**Dry run fails: release 1 is the first one live in prod" not in text
    pointer.rollback(live, R, "prod", actor=ana, reason="bad", clock=clock)
    assert "**Dry run fails: release 1 is the first one live in prod" in release_notes(live, R, 1)
    assert "Nothing is live in staging yet" in release_notes(live, R, 3, env="staging")


def test_a_dataset_that_is_gone_shows_as_no_cases(live, gated):
    gated.gate.dataset.unlink()
    gate = plan.plan(live, gated, "prod", 2)[1]
    assert (gate.n, gate.detects, gate.cost_usd, gate.seconds, gate.baseline) == (0, 1.0, None, None, 1)


def test_a_plan_behind_another_canary_is_blocked(live, clock, ana, kit):
    route = kit.route()
    registry.create(live, kit.route(text="Third."), actor=ana, clock=clock)
    pointer.promote(live, route, Promotion(env="prod", release=3, actor=ana, share=0.5), clock)
    steps = plan.plan(live, route, "prod", 2, POLICY)
    results = plan.dry_run(live, route, "prod", 2, steps)
    assert states(results) == ["done", "blocked", "blocked", "blocked"]
    assert results[1].message == "a canary of release 3 is running"


def test_a_plan_goes_through_the_environments_before_and_holds_where_the_tier_is_high(live, clock, ana, kit):
    route = kit.route(tier="high")
    for env in ("dev", "staging"):
        pointer.promote(live, route, Promotion(env=env, release=1, actor=ana), clock)
    steps = plan.plan(live, route, "prod", 2, POLICY)
    assert [plan.describe(step) for step in steps] == [
        "check CR.1 T1.3 T10.1 CR.6",
        "stage release 2 in dev",
        "stage release 2 in staging",
        "canary 5 %, at least 1 min and 20 requests",
        "canary 50 %, at least 1 min and 20 requests",
        "hold 50 % for 10 min",
        "promote release 2",
    ]

    def go():
        return plan.advance(live, route, plan.Advance(env="prod", release=2, actor=ana), steps, clock).moved

    def traffic(arm):
        return Counts(requests=int(40_000 * (share if arm.canary else 1 - share)))

    assert [(moved.env, moved.what) for moved in (go(), go())] == [("dev", "promoted"), ("staging", "promoted")]
    for share in (0.05, 0.5):
        assert go().pointer.share == share
        clock.advance(61)
        watch(live, of_one_store(traffic), clock, policy=POLICY)
    results = plan.dry_run(live, route, "prod", 2, steps, now_us=clock.now_us())
    assert (results[5].state, results[5].message) == ("waiting", "61 of 600 s at 50 %")
    assert plan.dry_run(live, route, "prod", 2, steps)[5].state == "waiting"  # nobody says what time it is
    assert go() is None
    clock.advance(600)
    watch(live, of_one_store(traffic), clock, policy=POLICY)
    assert go().what == "promoted"
    assert states(plan.dry_run(live, route, "prod", 2, steps)) == ["done"] * 7
    assert [plan.describe(step) for step in plan.plan(live, route, "staging", 2)] == [
        "check CR.1 T1.3 T10.1 CR.6", "stage release 2 in dev", "promote release 2",
    ]  # fmt: skip


def test_a_canary_that_was_taken_back_is_not_begun_again_by_its_plan(live, clock, ana, kit):
    route = kit.route()
    steps = plan.plan(live, route, "prod", 2, POLICY)

    def go():
        return plan.advance(live, route, plan.Advance(env="prod", release=2, actor=ana), steps, clock)

    assert go().moved.what == "canary_started"
    clock.advance(5)
    watch(live, of_one_store(lambda arm: Counts(requests=40, failures=40 if arm.canary else 0)), clock, policy=POLICY)
    stopped = go()
    assert stopped.moved is None
    assert (stopped.results[1].state, stopped.results[1].evidence["decision"]) == ("blocked", "abort")
    assert stopped.results[1].message.startswith("its canary was taken back: aborted: 40 of 40 requests failed")
    assert stopped.results[1].message.endswith("pilothouse release promote docs-answer 2 --canary 5%")
    pointer.promote(live, route, Promotion(env="prod", release=2, actor=ana, share=0.05), clock)
    assert go().results[1].state == "waiting"  # a person has begun it again


def test_a_check_stops_at_callers_that_would_not_survive(live, clock, ana, kit):
    narrower = msgspec.structs.replace(kit.manifest("Prompt number 2."), schema={"type": "object", "required": []})
    registry.create(live, msgspec.structs.replace(kit.route(), manifest=narrower), actor=ana, clock=clock)
    route = kit.route()
    seen = Callers(total=9, sample=9, prompted=9, objects=9, fields={"/answer": 9})
    answer = {"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}}
    for text, schema in (("Four.", answer), ("Five.", None)):
        manifest = msgspec.structs.replace(kit.manifest(text), schema=schema)
        registry.create(live, msgspec.structs.replace(route, manifest=manifest), actor=ana, clock=clock)
    pointer.promote(live, route, Promotion(env="prod", release=4, actor=ana), clock)
    steps = plan.plan(live, route, "prod", 5, POLICY, seen)
    (first, *_) = plan.dry_run(live, route, "prod", 5, steps)
    gone = "schema: the schema is gone: JSON becomes text, 9 of 9 requests rely on it"
    assert (first.state, first.message) == ("blocked", f"T10.1: callers would not survive it: {gone}")
    assert plan.advance(live, route, plan.Advance(env="prod", release=5, actor=ana), steps, clock).moved is None
    (first, *_) = plan.dry_run(live, route, "prod", 5, plan.plan(live, route, "prod", 5, POLICY, Callers()))
    assert first.state == "done"
    assert "worth a look: schema: the schema is gone: JSON becomes text, no caller seen" in first.message


def test_a_plan_stands_only_if_nobody_moved_the_pointer(live, clock, ana, kit, monkeypatch):
    route = kit.route()
    steps = plan.plan(live, route, "prod", 2, POLICY)
    promote = pointer.promote

    def raced(store, route_, order, clock_):
        pointer.set_disabled(store, R, "prod", True, actor=ana, reason="meanwhile", clock=clock_)
        return promote(store, route_, order, clock_)

    monkeypatch.setattr(pointer, "promote", raced)
    with pytest.raises(Conflict, match="the pointer in prod is at revision 2, not 1"):
        plan.advance(live, route, plan.Advance(env="prod", release=2, actor=ana), steps, clock)


def test_evidence_is_kept_when_a_step_changes(live, clock):
    def seen(state, message):
        clock.advance(1)
        one = StepEvidence(route=R, env="prod", release=2, kind="canary", step="canary 5 %", state=state,
                           message=message, evidence={"n": 3}, actor="person:ana", ts_us=clock.now_us())  # fmt: skip
        with live.write() as conn:
            return steps.keep(conn, one)

    told = [("ready", "gets 5 %"), ("waiting", "1 of 20"), ("waiting", "2 of 20"), ("done", "20"), ("done", "20")]
    assert [seen(*one) for one in told] == [True, True, False, True, False]
    with live.read() as conn:
        kept = steps.of_release(conn, R, "prod", 2)
    assert [(one.state, one.evidence) for one in kept] == [(word, {"n": 3}) for word in ("ready", "waiting", "done")]


def test_a_release_is_rolled_back_to_by_number_where_it_was_live_or_passed_its_gate(live, clock, ana, kit, gated):
    kit.judge(live, clock, 2, "block")
    with pytest.raises(Refused, match="has not passed its gate: promote it instead"):
        pointer.rollback(live, R, "prod", actor=ana, reason="", clock=clock, to=2)
    kit.judge(live, clock, 2, "pass")
    moved = pointer.rollback(live, R, "prod", actor=ana, reason="it has passed", clock=clock, to=2)
    assert (moved.what, moved.from_release, moved.to_release) == ("rolled_back", 1, 2)
    assert rollback_dry_run(live, R, "prod").ok is False  # release 1 was left behind
    assert rollback_dry_run(live, R, "prod", 1).target == 1


def test_a_shadow_stage_stands_before_the_first_share(live, clock, ana, kit, gated):
    policy = msgspec.structs.replace(POLICY, shadow=Shadow(requests=50))
    route = msgspec.structs.replace(gated, canary=policy)
    steps = plan.plan(live, route, "prod", 2)
    shares = [step.share for step in steps if isinstance(step, plan.Canary)]
    assert shares == [0.0, *sorted(share for share in POLICY.steps if share < 1)]
    assert plan.describe(steps[2]).startswith("shadow, at least 50 requests")
    kit.judge(live, clock, 2, "pass")
    moved = plan.advance(live, route, plan.Advance(env="prod", release=2, actor=ana), steps, clock).moved
    assert (moved.what, moved.pointer.share) == ("canary_started", 0.0)
    assert states(plan.dry_run(live, route, "prod", 2, steps))[2:4] == ["waiting", "ready"]
    assert plan.advance(live, route, plan.Advance(env="prod", release=2, actor=ana), steps, clock).moved is None
