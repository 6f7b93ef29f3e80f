"""A backup holds the state whole, restores into either engine, and a damaged one changes nothing."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.postgres import Postgres
from typer.testing import CliRunner

from pilothouse.cli.main import app
from pilothouse.domain.alert import Action, Alert, Rule
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import PilothouseError, Refused, StoreError
from pilothouse.domain.evaluation import CaseResult
from pilothouse.domain.release import Pointer, Release, Rollback
from pilothouse.domain.release_facts import Drill
from pilothouse.domain.table import KeyEntry
from pilothouse.security import audit
from pilothouse.server import backup
from pilothouse.server.backup import CONTENTS, Extra
from pilothouse.store.state import alerts, canaries, changes, drills, dump, hosts, keys, pointers, releases, runs, views
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.hosts import HostState
from pilothouse.store.state.runs import EvalRun
from pilothouse.store.state.views import View

ANA = Actor(type="person", id="ana")
PARTS = ("prompt", "system", "model", "params", "tools", "schema", "index", "policy")


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """`fresh("sqlite")`, `fresh("postgresql")`: an empty store."""
    opened: list[StateStore] = []

    def make(engine: str) -> StateStore:
        if engine == "sqlite":
            store = StateStore(tmp_path / f"{len(opened)}.db")
        else:
            server: Postgres = request.getfixturevalue("postgres")
            store = StateStore(server.fresh(migrated=True))
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


def filled(store: StateStore, clock: FrozenClock) -> StateStore:
    """Something of everything, with what text, numbers and signs can be difficult."""
    with store.write() as conn:
        parts = {name: releases.put_part(conn, name, f'{{"n":"{name} \\u0000 ü"}}'.encode(), clock) for name in PARTS}
        for number in (1, 2):
            notes = "line\nline ‚Äì \U0001f6e9 'quoted' \"twice\" \\"
            releases.add(conn, Release(route="Å", number=number, manifest_hash="0" * 64, parts=parts, notes=notes))
        pointers.put(conn, Pointer(route="Å", env="prod", stable=1, canary=2, share=0.1), clock)
        canaries.start(conn, Pointer(route="Å", env="prod", stable=1, canary=2, share=1 / 3), clock)
        keys.create(conn, KeyEntry("aaaaaaaa", "h1", "prod", "app"), actor=ANA, clock=clock)
        run = runs.start(conn, EvalRun(id=0, route="Å", release=1, key="k"), clock)
        for case in range(20):
            runs.put_case(conn, run.id, CaseResult(case_id=f"c{case}", task="t"))
        alerts.put_rule(
            conn, Rule(name="r", metric="m", route="Å", threshold=0.05, owner="ana", actions=(Action("rollback"),))
        )
        alerts.put(conn, Alert(id="1", rule="r", route="Å", env="prod", state="firing", since_us=2**52))
        drills.record(
            conn, Drill(id=0, kind="rollback", route="Å", env="prod", ts_us=0, ok=True, detail={"ms": 0.1}), clock
        )
        drills.add_rollback(
            conn, Rollback(id=0, route="Å", env="prod", from_release=2, to_release=1, ts_us=1, propagated_ms=1e-9)
        )
        views.put(conn, View(name="v", filter="a:b"), actor=ANA, clock=clock)
    return store


NOT_FILLED = {
    *("waivers", "reviews", "verdicts", "flags", "canary_looks", "canary_pairs", "probe_days", "index_versions"),
    *("sightings", "step_evidence"),
}  # what `filled` leaves empty


def write(store: StateStore, to: Path, clock: FrozenClock) -> backup.Written:
    return backup.write(store, to, clock, Extra(), lambda _done, _of: None)


def whole(store: StateStore) -> dict[str, list[bytes]]:
    """Every row of every table."""
    with store.read() as conn:
        return {table.name: sorted(dump.lines(conn, table)) for table in dump.tables(conn)}


@pytest.mark.parametrize("first", ["sqlite", "postgresql"])
@pytest.mark.parametrize("second", ["sqlite", "postgresql"])
def test_what_is_restored_is_what_was_backed_up(fresh, tmp_path, first, second, monkeypatch):
    clock = FrozenClock()
    monkeypatch.setattr(dump, "_BATCH", 7)  # rows go in by batches, the last one not full
    source = filled(fresh(first), clock)
    written = write(source, tmp_path / "b", clock)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    target = fresh(second)
    done = backup.restore(target, tmp_path / "b")
    assert whole(target) == whole(source)
    assert (done.from_engine, done.to_engine) == (first, second)
    assert done.tables == written.contents.tables
    assert {name for name, table in done.tables.items() if not table.rows} == NOT_FILLED
    with target.read() as conn:
        report = audit.verify(changes.rows(conn))
        assert (report.ok, report.rows, report.head) == (True, done.changes, done.head)
    with target.write() as conn:  # and it goes on from there: numbers are not given twice, guards are up
        assert canaries.start(conn, Pointer(route="Å", env="dev", stable=1, canary=2, share=0.1), clock) == 2
        assert runs.start(conn, EvalRun(id=0, route="Å", release=1), clock).id == 2
    with pytest.raises(StoreError, match="append-only"), target.write() as conn:
        conn.exec_driver_sql("DELETE FROM changes")


def test_a_backup_is_one_snapshot(fresh, tmp_path):
    """What is written while a backup is made is in it whole or not at all."""
    clock = FrozenClock()
    store = filled(fresh("sqlite"), clock)
    before = whole(store)

    def interfere(done: int, _of: int) -> None:
        if done in (1, 5):
            with store.write() as conn:
                keys.create(conn, KeyEntry(f"bbbbbbb{done}", "h", "prod", "late"), actor=ANA, clock=clock)

    backup.write(store, tmp_path / "b", clock, Extra(), interfere)
    target = fresh("sqlite")
    backup.restore(target, tmp_path / "b")
    assert whole(target) == before


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_state_that_is_there_is_replaced_only_by_force(fresh, tmp_path, engine):
    clock = FrozenClock()
    source = filled(fresh("sqlite"), clock)
    write(source, tmp_path / "b", clock)
    target = filled(fresh(engine), clock)
    with target.write() as conn:
        keys.create(conn, KeyEntry("cccccccc", "h", "prod", "other"), actor=ANA, clock=clock)
    before = whole(target)
    with pytest.raises(Refused, match="there is state here already"):
        backup.restore(target, tmp_path / "b")
    assert whole(target) == before
    backup.restore(target, tmp_path / "b", force=True)
    assert whole(target) == whole(source)


def test_a_store_that_hosts_run_on_is_left_alone(fresh, tmp_path):
    clock = FrozenClock()
    write(filled(fresh("sqlite"), clock), tmp_path / "b", clock)
    target = fresh("postgresql")
    with target.beat() as conn:
        hosts.beat(conn, HostState(host="a", ident="1", revision=1, workers={}), news=False)
    with pytest.raises(Refused, match="a runs on this store"):
        backup.restore(target, tmp_path / "b", force=True)


def changed(file: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """The backup with one of its files changed, and its list made to fit where it can be."""
    to = file.with_name("changed")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(to, "w") as new:
        for one in old.namelist():
            new.writestr(one, change(old.read(one)) if one == name else old.read(one))
    return to


def newer(data: bytes) -> bytes:
    return json.dumps({**json.loads(data), "schema": "v9999"}).encode()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("state/keys.jsonl", lambda data: data.replace(b"aaaaaaaa", b"aaaaaaab"), "keys do not add up"),
        ("state/changes.jsonl", lambda data: data.replace(b"key.create", b"key.delete"), "changes do not add up"),
        ("state/eval_cases.jsonl", lambda data: data[: len(data) // 2], "row of eval_cases is not readable"),
        ("state/eval_cases.jsonl", lambda data: data.partition(b"\n")[2], "eval_cases do not add up"),
        ("state/keys.jsonl", lambda _: b"", "keys do not add up"),
        (CONTENTS, newer, "newer version"),
        (CONTENTS, lambda _: b"{}", "no backup of pilothouse"),
    ],
)
def test_a_damaged_backup_changes_nothing(fresh, tmp_path, name, change, said):
    clock = FrozenClock()
    write(filled(fresh("sqlite"), clock), tmp_path / "b", clock)
    target = filled(fresh("sqlite" if "cases" in name else "postgresql"), clock)
    before = whole(target)
    with pytest.raises(PilothouseError, match=said):
        backup.restore(target, changed(tmp_path / "b", name, change), force=True)
    assert whole(target) == before


def test_files_that_are_no_backup(fresh, tmp_path):
    (tmp_path / "text").write_text("not a backup")
    for name in ("text", "missing"):
        with pytest.raises(StoreError):
            backup.restore(fresh("sqlite"), tmp_path / name)


def test_whichever_byte_flips_what_is_restored_is_the_backup_or_nothing(fresh, tmp_path):
    clock = FrozenClock()
    source = filled(fresh("sqlite"), clock)
    write(source, tmp_path / "b", clock)
    good, known = (tmp_path / "b").read_bytes(), whole(source)
    target = fresh("sqlite")
    empty = whole(target)
    refused = 0
    for place in range(11, len(good), len(good) // 20):
        flipped = bytearray(good)
        flipped[place] ^= 0x55
        (tmp_path / "flipped").write_bytes(flipped)
        try:
            backup.restore(target, tmp_path / "flipped")
        except StoreError:
            refused += 1
            assert whole(target) == empty
        else:  # a byte that says nothing of the content, such as a time in the archive's own list
            assert whole(target) == known
            target = fresh("sqlite")
    assert refused > 3


def test_a_backup_of_an_older_schema_is_brought_to_the_newest(fresh, tmp_path):
    """As a backup that was made before an upgrade: it is restored as it was, then migrated."""
    clock = FrozenClock()
    source = filled(fresh("sqlite"), clock)
    write(source, tmp_path / "b", clock)

    def older(data: bytes) -> bytes:
        told = json.loads(data)
        del told["tables"]["flags"], told["tables"]["canary_steps"]  # which it had not, or not all columns of
        return json.dumps({**told, "schema": "v0004"}).encode()

    target = fresh("postgresql")
    backup.restore(target, changed(tmp_path / "b", CONTENTS, older))
    assert whole(target) == {**whole(source), "flags": [], "canary_steps": []}


def test_a_change_log_that_is_not_whole_is_not_backed_up(fresh, tmp_path):
    clock = FrozenClock()
    store = filled(fresh("sqlite"), clock)
    with store.write() as conn:
        conn.exec_driver_sql("DROP TRIGGER changes_no_delete")
        conn.exec_driver_sql("DELETE FROM changes WHERE seq = 1")
    with pytest.raises(StoreError, match="not whole"):
        write(store, tmp_path / "b", clock)
    assert list(tmp_path.glob("*b")) == [tmp_path / "0.db"]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_rehearsal_restores_beside_and_compares(fresh, engine):
    clock = FrozenClock()
    store = filled(fresh(engine), clock)
    before = whole(store)
    found = backup.rehearse(store, clock)
    assert (found.ok, found.problem) == (True, "")
    assert found.rows == sum(len(rows) for rows in before.values())
    assert whole(store) == before


def run(*words: str, ok: int = 0) -> Any:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == ok, done.output
    return json.loads(done.stdout) if ok == 0 else done.output


def test_from_the_command_line_with_what_was_recorded(scripted_app, tmp_path):
    folder = str(scripted_app())
    at, other = ("--dir", folder, "--data", str(tmp_path / "d")), ("--dir", folder, "--data", str(tmp_path / "e"))
    run("keys", "create", "--name", "app", "--env", "prod", *at)
    run("release", "create", "answer", *at)
    made = run("backup", str(tmp_path / "b"), "--telemetry", *at)
    assert made["contents"]["tables"]["releases"]["rows"] == 1
    assert set(made["contents"]["files"]) == {"pilothouse.yaml", "prompts/answer.system.md"}
    assert "table.json" in made["contents"]["others"]
    done = run("restore", str(tmp_path / "b"), *other)
    assert done["tables"] == made["contents"]["tables"]
    assert done["same_secrets"] is False  # another host: its keys need the first one's `secret`
    assert done["telemetry"] is not None
    assert run("audit", "verify", *other)["head"] == made["contents"]["head"]
    assert [key["name"] for key in run("keys", "list", *other)["keys"]] == ["app"]
    assert "there is state here already" in run("restore", str(tmp_path / "b"), *other, ok=2)
    assert "--force" not in run("restore", str(tmp_path / "b"), "--force", *other)
