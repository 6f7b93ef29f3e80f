"""The typed functions of the nouns that have no room of their own test here: changes, keys, runs, alerts, waivers …"""

import msgspec
import pytest

from pilothouse.domain.alert import Action, Alert, Rule
from pilothouse.domain.change import Change, link_hash
from pilothouse.domain.errors import Conflict, NotFound, Refused, StoreError
from pilothouse.domain.evaluation import CaseResult, Score, Verdict
from pilothouse.domain.finding import Review
from pilothouse.domain.release import Pointer, Release, Rollback
from pilothouse.domain.release_facts import Drill
from pilothouse.domain.table import KeyEntry
from pilothouse.store.state import alerts, canaries, changes, drills, keys, pointers, releases, runs, waivers
from pilothouse.store.state.runs import EvalRun
from pilothouse.store.state.waivers import Waiver


def broken(rows) -> list[int]:
    """Sequence numbers whose hash or link is wrong."""
    found, previous = [], ""
    for row in rows:
        if row.prev_hash != previous or row.hash != link_hash(row.prev_hash, row.seq, row.ts_us, row.change):
            found.append(row.seq)
        previous = row.hash
    return found


def log(conn, ana, clock, action="rule.put", **more):
    change = Change(actor=ana, action=action, object_type="rule", object_id="r", **more)
    return changes.append(conn, change, clock)


def test_changes_are_chained_found_and_counted_from_one(store, ana, clock):
    with store.write() as conn:
        first = log(conn, ana, clock, route="a", env="prod", detail={"share": 0.25, "n": 3})
        clock.advance(1)
        log(conn, ana, clock, action="key.create", route="b")
        third = log(conn, ana, clock, route="a")
    with store.read() as conn:
        rows = changes.rows(conn)
        assert [row.seq for row in rows] == [1, 2, 3]
        assert rows[0] == first
        assert broken(rows) == []
        assert changes.rows(conn, after_seq=2) == [third]
        assert [row.seq for row in changes.find(conn, route="a")] == [1, 3]
        assert [row.seq for row in changes.find(conn, env="prod")] == [1]
        assert [row.seq for row in changes.find(conn, actions=("key.create",), since_us=clock.now_us())] == [2]
        assert [row.seq for row in changes.find(conn, limit=2)] == [2, 3]


@pytest.mark.parametrize("column", ["change", "ts_us", "hash", "prev_hash"])
def test_a_row_that_was_edited_behind_the_triggers_breaks_the_chain(store, ana, clock, column, outside, unguarded):
    with store.write() as conn:
        for number in range(4):
            log(conn, ana, clock, reason=f"reason {number}")
    unguarded("changes", "update")
    value = {"ts_us": "ts_us + 1", "change": "replace(change, 'reason 1', 'reason 7')"}.get(column, f"'0' || {column}")
    outside(f"UPDATE changes SET {column} = {value} WHERE seq = 2")
    with store.read() as conn:
        assert 2 in broken(changes.rows(conn))


def test_a_row_that_was_taken_out_breaks_the_chain(store, ana, clock, outside, unguarded):
    with store.write() as conn:
        for _ in range(3):
            log(conn, ana, clock)
    unguarded("changes", "delete")
    outside("DELETE FROM changes WHERE seq = 2")
    with store.read() as conn:
        assert broken(changes.rows(conn)) == [3]


def test_a_row_that_is_no_longer_json_is_an_error_that_names_it(store, ana, clock, outside, unguarded):
    with store.write() as conn:
        log(conn, ana, clock)
    unguarded("changes", "update")
    outside("UPDATE changes SET change = '{'")
    with store.read() as conn, pytest.raises(StoreError, match="row 1 of the change log"):
        changes.rows(conn)


def test_keys_live_are_revoked_once_and_expire(store, ana, clock):
    now = clock.now_us()
    with store.write() as conn:
        keys.create(conn, KeyEntry("aaaaaaaa", "h1", "prod", "app"), actor=ana, clock=clock)
        short = KeyEntry("bbbbbbbb", "h2", "dev", "ci", now + 10_000_000)
        keys.create(conn, short, actor=ana, clock=clock, owner="ben")
        with pytest.raises(Conflict):
            keys.create(conn, short, actor=ana, clock=clock)
        assert set(keys.entries(conn, now)) == {"aaaaaaaa", "bbbbbbbb"}
        assert keys.entries(conn, now)["bbbbbbbb"] == short
        keys.touch(conn, "aaaaaaaa", now + 5)
        keys.touch(conn, "aaaaaaaa", now + 2)
    clock.advance(20)
    with store.write() as conn:
        assert set(keys.entries(conn, clock.now_us())) == {"aaaaaaaa"}
        ended = keys.revoke(conn, "aaaaaaaa", actor=ana, clock=clock, reason="leaked")
        assert keys.revoke(conn, "aaaaaaaa", actor=ana, clock=clock) == ended
        assert not ended.live(clock.now_us())
        assert keys.entries(conn, clock.now_us()) == {}
        assert [(key.owner, key.last_used_us) for key in keys.list_keys(conn)] == [("person:ana", now + 5), ("ben", 0)]
        assert [key.id for key in keys.list_keys(conn, revoked=False)] == ["bbbbbbbb"]
        assert pointers.revision(conn) == 3
        assert [row.change.action for row in changes.rows(conn)] == ["key.create", "key.create", "key.revoke"]
        assert "h1" not in str(changes.rows(conn))
        with pytest.raises(NotFound, match="no key 'cccccccc'"):
            keys.get(conn, "cccccccc")


def verdict(word="pass", run_id=None):
    return Verdict(
        verdict=word, reason="r", n=4, baseline_rate=None, candidate_rate=1.0, delta=None, low=None, high=None,
        p_harm=None, broke=0, mended=0, errors=0, mde=None, margin=0.03, run_id=run_id,
    )  # fmt: skip


def released(conn, clock, number=1):
    parts = {"model": releases.put_part(conn, "model", b'{"name":"m","provider":"p"}', clock)}
    release = Release(route="a", number=number, manifest_hash="0" * 64, parts=parts)
    releases.add(conn, release)
    return release


def test_runs_resume_by_key_and_keep_their_cases(store, clock):
    with store.write() as conn:
        run = runs.start(conn, EvalRun(id=0, route="a", release=1, key="k", dataset_hash="d", n=2), clock)
        again = CaseResult(case_id="c1", task="t", scores=[Score(scorer="exact", passed=True)], passed=True)
        runs.put_case(conn, run.id, CaseResult(case_id="c1", task="t", error="timeout"))
        runs.put_case(conn, run.id, again)
        runs.put_case(conn, run.id, again, repeat=1)
        runs.put_case(conn, run.id, CaseResult(case_id="c0", task="t"))
        found = runs.by_key(conn, "k")
        assert found is not None
        assert (found.id, found.status) == (run.id, "running")
        assert [case.case_id for case in runs.cases(conn, run.id)] == ["c0", "c1"]
        assert runs.cases(conn, run.id)[1] == again
        assert len(runs.cases(conn, run.id, repeat=None)) == 3
        clock.advance(5)
        runs.finish(conn, run.id, clock)
        done = runs.get(conn, run.id)
        assert (done.status, done.finished_us) == ("done", clock.now_us())
        assert runs.list_runs(conn, route="a", release=1) == [done]
        assert runs.by_key(conn, "other") is None
        with pytest.raises(NotFound):
            runs.get(conn, 99)


def test_the_newest_verdict_counts_and_older_ones_are_kept(store, clock):
    with store.write() as conn:
        released(conn, clock)
        assert runs.verdict(conn, "a", 1) is None
        runs.put_verdict(conn, "a", 1, None, verdict("block", run_id=3), clock)
        runs.put_verdict(conn, "a", 1, None, verdict("pass"), clock)
        newest = runs.verdict(conn, "a", 1)
        assert newest is not None
        assert newest.verdict == verdict("pass")
        assert [one.verdict.verdict for one in runs.list_verdicts(conn, "a")] == ["pass", "block"]


def test_a_verdict_on_a_release_that_is_not_there_is_refused(store, clock):
    with pytest.raises(StoreError, match=r"(?i)foreign key"), store.write() as conn:
        runs.put_verdict(conn, "a", 7, None, verdict(), clock)


def test_rules_and_alerts(store):
    rule = Rule(name="r", metric="m", route="a", threshold=0.05, owner="ana", actions=(Action("rollback"),))
    alert = Alert(id="1", rule="r", route="a", env="prod", state="firing", since_us=5)
    with store.write() as conn:
        alerts.put_rule(conn, rule)
        alerts.put_rule(conn, msgspec.structs.replace(rule, threshold=0.1))
        assert [one.threshold for one in alerts.list_rules(conn)] == [0.1]
        alerts.put(conn, alert)
        alerts.put(conn, Alert(id="2", rule="r", route="b", env="prod", state="pending", since_us=6))
        alert.state, alert.acknowledged_by = "acknowledged", "ana"
        alerts.put(conn, alert)
        assert alerts.get(conn, "1") == alert
        assert [one.id for one in alerts.list_alerts(conn)] == ["2", "1"]
        assert [one.id for one in alerts.list_alerts(conn, states=("acknowledged",), route="a")] == ["1"]
        alerts.delete_rule(conn, "r")
        for call in (lambda: alerts.delete_rule(conn, "r"), lambda: alerts.get(conn, "9")):
            with pytest.raises(NotFound):
                call()


def test_drills_and_rollbacks_newest_first(store, clock):
    with store.write() as conn:
        for kind, ok in (("rollback", False), ("rollback", True), ("kill_switch", True)):
            clock.advance(1)
            drill = Drill(id=0, kind=kind, route="a", env="prod", ts_us=0, ok=ok, detail={"propagated_ms": 12.5})
            stored = drills.record(conn, drill, clock)
        assert drills.list_drills(conn, "a", "prod")[0] == stored
        assert [one.ok for one in drills.list_drills(conn, "a", kind="rollback")] == [True, False]
        number = drills.add_rollback(
            conn, Rollback(id=0, route="a", env="prod", from_release=2, to_release=1, ts_us=1, actor="x", reason="y")
        )
        assert drills.list_rollbacks(conn, "a")[0].propagated_ms is None
        drills.propagated(conn, number, ms=41.5, workers=2)
        (done,) = drills.list_rollbacks(conn, "a", "prod")
        assert (done.propagated_ms, done.workers) == (41.5, 2)


def test_waivers_expire_need_a_reason_and_are_logged(store, ana, clock):
    until = clock.now_us() + 1_000_000
    with store.write() as conn:
        for bad in (Waiver(item="T1", route="a", until_us=until, reason=" ", by="ana"),
                    Waiver(item="T1", route="a", until_us=1, reason="r", by="ana")):  # fmt: skip
            with pytest.raises(Refused):
                waivers.grant(conn, bad, actor=ana, clock=clock)
        good = Waiver(item="T1", route="a", until_us=until, reason="vendor", by="ana")
        waivers.grant(conn, good, actor=ana, clock=clock)
        waivers.grant(conn, msgspec.structs.replace(good, item="T2", until_us=until + 9), actor=ana, clock=clock)
        assert [one.item for one in waivers.active(conn, clock.now_us())] == ["T1", "T2"]
        assert [one.item for one in waivers.active(conn, until)] == ["T2"]
        waivers.withdraw(conn, "T2", "a", actor=ana, clock=clock)
        with pytest.raises(NotFound):
            waivers.withdraw(conn, "T2", "a", actor=ana, clock=clock)
        actions = [row.change.action for row in changes.rows(conn)]
        assert actions == ["waiver.grant", "waiver.grant", "waiver.withdraw"]


def test_a_review_is_kept_under_its_hash(store, ana, clock):
    review = Review(measured_at="2026-11-23T14:32:00Z", window="7 d", ready=False, routes=[])
    with store.write() as conn:
        address = waivers.put_review(conn, review, actor=ana, clock=clock)
        assert waivers.put_review(conn, review, actor=ana, clock=clock) == address
        assert waivers.review(conn, address) == review
        assert changes.rows(conn)[0].change.after_hash == address
        with pytest.raises(NotFound):
            waivers.review(conn, "f" * 64)


def test_a_part_is_stored_once_and_missing_when_its_content_is_another(store, clock, outside, unguarded):
    with store.write() as conn:
        release = released(conn, clock)
        assert releases.put_part(conn, "other", b'{"name":"m","provider":"p"}', clock) == release.parts["model"]
        assert releases.part(conn, release.parts["model"]) == '{"name":"m","provider":"p"}'
        assert "model" not in releases.missing(conn, release)
    unguarded("parts", "update")
    outside("UPDATE parts SET content = '{}'")
    with store.read() as conn:
        assert "model" in releases.missing(conn, release)
        with pytest.raises(StoreError, match="the prompt of release 1 does not resolve"):
            releases.manifest(conn, release)


def test_releases_are_listed_newest_first(store, clock):
    with store.write() as conn:
        assert releases.latest(conn, "a") is None
        with pytest.raises(NotFound, match="pilothouse release create a"):
            releases.get(conn, "a", 1)
        for number in (1, 2):
            released(conn, clock, number)
        assert [one.number for one in releases.of_route(conn, "a")] == [2, 1]


def test_a_pointer_is_put_only_at_the_revision_that_was_read(store, clock):
    with store.write() as conn:
        for number in (1, 2):
            released(conn, clock, number)
        first = pointers.put(conn, Pointer(route="a", env="prod", stable=1), clock)
        assert first.revision == 1
        with pytest.raises(Conflict):
            pointers.put(conn, Pointer(route="a", env="prod", stable=2), clock)
        second = pointers.put(conn, msgspec.structs.replace(first, stable=2), clock)
        with pytest.raises(Conflict):
            pointers.put(conn, first, clock)
        assert pointers.every(conn, "a") == pointers.every(conn) == [second]


def test_a_pointer_to_a_release_that_is_not_there_is_refused(store, clock):
    with pytest.raises(StoreError, match=r"(?i)foreign key"), store.write() as conn:
        pointers.put(conn, Pointer(route="a", env="prod", stable=1), clock)


def test_canary_runs_from_start_to_end(store, clock):
    with store.write() as conn:
        number = canaries.start(conn, Pointer(route="a", env="prod", stable=1, canary=2, share=0.1), clock)
        canaries.decided(conn, number, "step", {"limits": {"failed": 0.03}})
        clock.advance(3)
        canaries.stepped(conn, "a", "prod", clock)
        (run,) = canaries.running(conn, "a", "prod")
        assert (run.release, run.baseline, run.decision) == (2, 1, "")
        assert run.stepped_us - run.started_us == 3_000_000
        assert run.evidence == {"limits": {"failed": 0.03}}
        canaries.end(conn, "a", "prod", "aborted", clock)
        canaries.timed(conn, number, detect_us=1, decide_us=2, flip_us=3)
        canaries.last_bad(conn, number, 4)
        assert canaries.running(conn) == []
        (ended,) = canaries.list_canaries(conn, "a", "prod")
        assert (ended.state, ended.t_detect_us, ended.t_decide_us, ended.t_flip_us, ended.t_last_bad_us) == (
            "aborted", 1, 2, 3, 4,
        )  # fmt: skip
