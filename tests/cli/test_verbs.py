"""The command line without a running control: the same app in the verb's own process."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from typer.main import get_command
from typer.testing import CliRunner, Result

from pilothouse.cli.main import app

Verb = Callable[..., Any]


@pytest.fixture
def invoke(tmp_path: Path, scripted_app: Callable[..., Path]) -> Callable[..., Result]:
    folder = scripted_app()

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--data", str(tmp_path / "data"), "--dir", str(folder)])

    return run


@pytest.fixture
def verb(invoke: Callable[..., Result]) -> Verb:
    def run(*words: str, code: int = 0) -> Any:
        done = invoke(*words, "--json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    return run


def commands(group: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found += commands(command, f"{prefix}{name} ") if inner else [prefix + name]
    return sorted(found)


def test_the_verbs() -> None:
    assert commands(get_command(app)) == snapshot(
        [
            "alerts ack",
            "alerts list",
            "audit list",
            "audit verify",
            "backup",
            "config check",
            "demo",
            "drill export",
            "drill fallback",
            "drill kill-switch",
            "drill model-switch",
            "drill provider-outage",
            "drill rescan",
            "drill restore",
            "drill rollback",
            "eval run",
            "eval show",
            "export",
            "flag disable",
            "flag enable",
            "flag eval",
            "flag history",
            "flag list",
            "flag rollout",
            "flag set",
            "flag show",
            "hosts forget",
            "hosts list",
            "import",
            "index list",
            "index register",
            "init",
            "keys create",
            "keys list",
            "keys revoke",
            "model back",
            "model list",
            "model qualify",
            "model switch",
            "release apply",
            "release create",
            "release diff",
            "release history",
            "release notes",
            "release plan",
            "release promote",
            "release rollback",
            "restore",
            "retention",
            "review",
            "rollback",
            "route disable",
            "route enable",
            "rules check",
            "rules list",
            "runbook",
            "status",
            "store grants",
            "store migrate",
            "trace list",
            "trace replay",
            "trace show",
            "up",
        ]
    )


def test_every_verb_has_json_and_a_sentence_of_help() -> None:
    for name in commands(get_command(app)):
        command: Any = get_command(app)
        for word in name.split():
            command = command.commands[word]
        assert command.help, name
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, name


def test_help_imports_nothing_heavy() -> None:
    heavy = ("duckdb", "sqlalchemy", "scipy", "numpy")
    code = f"import sys; from pilothouse.cli.main import app; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_live_before_anything_runs(invoke: Callable[..., Result], verb: Verb) -> None:
    made = verb("keys", "create", "--name", "app", "--env", "prod")
    assert made["key"].startswith("ph_prod_")
    assert made["workers"] == 0
    listed = verb("keys", "list")["keys"]
    assert [(key["id"], key["name"], key["revoked_us"]) for key in listed] == [(made["id"], "app", None)]
    assert made["key"] not in invoke("keys", "list").output
    verb("keys", "revoke", made["id"])
    assert verb("keys", "list")["keys"][0]["revoked_us"]
    assert "revoked" in invoke("keys", "list").stdout


def test_releases_from_files_to_pointer(
    invoke: Callable[..., Result], verb: Verb, scripted_app: Callable[..., Path]
) -> None:
    folder = scripted_app()
    assert verb("release", "create", "answer", "-m", "first")["release"] == 1
    assert verb("release", "create", "answer")["reused"] is True
    moved = verb("release", "promote", "answer", "--env", "staging")
    assert (moved["from"], moved["to"], moved["of"]) == (None, 1, 0)
    (folder / "prompts/answer.system.md").write_text("You are a helper.\nBe kind.\n")
    assert verb("release", "create", "answer", "--notes", "kinder")["release"] == 2
    for words in (("--from", "1"), ("1",), ("1", "2")):
        changed = {part["part"]: part["changed"] for part in verb("release", "diff", "answer", *words)["parts"]}
        assert [name for name, differs in changed.items() if differs] == ["system"]
    assert "+Be kind." in invoke("release", "diff", "answer", "--from", "1").stdout
    assert [step["kind"] for step in verb("release", "plan", "answer")["steps"]] == ["check", "stage", "promote"]
    assert "back out at any step: pilothouse rollback answer" in invoke("release", "plan", "answer").stdout
    verb("release", "promote", "answer", "2", "--env", "staging")
    back = verb("rollback", "answer", "--env", "staging", "--reason", "try")
    assert (back["from"], back["to"]) == (2, 1)
    history = verb("release", "history", "answer")
    assert [release["release"] for release in history["releases"]] == [2, 1]
    assert [move["action"] for move in history["moves"]] == ["release.promote", "release.promote", "release.rollback"]
    assert "kinder" in invoke("release", "history", "answer").stdout
    assert "# answer, release 2" in invoke("release", "notes", "answer", "2").stdout
    assert verb("audit", "verify") | {"head": ""} == {
        "ok": True, "rows": 6, "head": "", "first_bad_seq": None, "reason": "",
    }  # fmt: skip
    assert "release.rollback" in invoke("audit", "list").stdout
    kept = verb("retention", "--now")
    assert (kept["over_cap"], kept["removals"], kept["rules"]["general"]["floor"]) == (False, [], 30)
    assert "no cap" in invoke("retention").stdout


def test_a_plan_is_carried_on_to_where_it_waits_and_to_where_it_is_blocked(
    invoke: Callable[..., Result], verb: Verb, scripted_app: Callable[..., Path]
) -> None:
    folder = scripted_app()
    verb("release", "create", "answer")
    first = verb("release", "apply", "answer", "--env", "staging")
    assert (first["state"], first["moved"]["what"]) == ("done", "promoted")
    assert [(one["kind"], one["state"]) for one in first["evidence"]] == [("check", "done"), ("promote", "done")]
    assert "done; to take it back: pilothouse rollback answer" in invoke("release", "apply", "answer").stdout
    (folder / "prompts/answer.system.md").write_text("You are a helper.\nBe kind.\n")
    verb("release", "create", "answer")
    waiting = verb("release", "apply", "answer", code=3)  # staged, and a canary that nobody watches here
    assert [(one["kind"], one["state"]) for one in waiting["steps"]][:3] == [
        ("check", "done"), ("stage", "done"), ("canary", "waiting"),
    ]  # fmt: skip
    pointers = {one["env"]: one for one in verb("release", "history", "answer")["pointers"]}
    assert (pointers["staging"]["stable"], pointers["prod"]["stable"], pointers["prod"]["canary"]) == (2, 1, 2)
    said = invoke("release", "apply", "answer", "2")
    assert said.exit_code == 3
    assert "waiting" in said.stdout
    assert "to go on: pilothouse release apply answer 2" in said.stdout
    verb("rollback", "answer")
    blocked = verb("release", "apply", "answer", "2", code=1)
    assert "its canary was taken back: taken back by hand" in blocked["steps"][2]["message"]
    kept = [(one["kind"], one["state"]) for one in verb("release", "plan", "answer", "2")["evidence"]]
    assert kept == [
        *(("check", "done"), ("stage", "done"), ("canary", "ready"), ("canary", "waiting")),
        ("canary", "blocked"),
    ]


def test_a_move_that_cannot_be_pushed_is_put_back(
    invoke: Callable[..., Result], verb: Verb, scripted_app: Callable[..., Path], tmp_path: Path
) -> None:
    """Another route's live release does not resolve, so no table can be made: nothing stays half done."""
    other = "  other: {owner: ana, backup: ben, model: fake/small-2026-01-01, system: prompts/other.md}\n"
    folder = scripted_app()
    (folder / "prompts" / "other.md").write_text("Another.\n")
    (folder / "pilothouse.yaml").write_text((folder / "pilothouse.yaml").read_text() + other)
    for route in ("answer", "other"):
        verb("release", "create", route)
        verb("release", "promote", route)
    (folder / "prompts/answer.system.md").write_text("You are a helper.\nBe kind.\n")
    verb("release", "create", "answer")
    outside = sqlite3.connect(tmp_path / "data" / "state.db")
    outside.executescript(
        "DROP TRIGGER parts_no_update; UPDATE parts SET content = 'null' WHERE content LIKE '%Another%'"
    )
    outside.close()
    done = invoke("release", "promote", "answer")
    assert done.exit_code == 2
    assert "the system of release 1 does not resolve; the pointer was put back" in done.stderr
    history = verb("release", "history", "answer")
    assert history["pointers"][0]["stable"] == 1
    assert [move["action"] for move in history["moves"]] == ["release.promote", "release.promote", "release.restore"]
    assert invoke("release", "apply", "answer").exit_code == 2
    assert verb("release", "history", "answer")["pointers"][0]["canary"] is None


def test_indexes_kill_switches_and_alternates(
    invoke: Callable[..., Result], verb: Verb, scripted_app: Callable[..., Path]
) -> None:
    scripted_app(route="    index: docs\n    alternates: [fake/other-2026-01-01]\n")
    assert verb("index", "register", "docs", "2026-11-27", "--documents", "120")["documents"] == 120
    verb("release", "create", "answer")
    verb("release", "promote", "answer")
    assert verb("index", "list")["versions"][0]["serves"] == ["answer@prod"]
    assert "answer@prod" in invoke("index", "list").stdout
    assert "is registered already" in invoke("index", "register", "docs", "2026-11-27").stderr

    assert verb("route", "disable", "answer", "--reason", "wrong answers")["what"] == "disabled"
    assert invoke("route", "disable", "answer").exit_code == 2
    assert "answer is enabled in prod" in invoke("route", "enable", "answer").stdout

    assert verb("model", "list", "answer")["alternates"][0]["objections"] == [
        "never evaluated", "not probed in the last 2 hours",
    ]  # fmt: skip
    refused = invoke("model", "switch", "answer")
    assert refused.exit_code == 2
    assert "fake/other-2026-01-01: never evaluated" in refused.stderr
    assert "is no alternate of answer" in invoke("model", "switch", "answer", "fake/unheard").stderr
    assert "no gate to evaluate with" in invoke("model", "qualify", "answer").stderr
    moved = verb("model", "switch", "answer", "fake/other-2026-01-01", "--force", "--reason", "outage")
    assert (moved["what"], moved["model"]) == ("pinned", "fake/other-2026-01-01")
    assert "answer is served by its release's own model" in invoke("model", "back", "answer").stdout


def test_errors_say_what_where_and_what_to_do(invoke: Callable[..., Result]) -> None:
    done = invoke("release", "create", "answr")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "no route 'answr' — routes: answer\n"
    assert invoke("release", "promote", "answer").exit_code == 2
    assert invoke("rollback", "answer").exit_code == 2
    assert "not a share" in invoke("release", "promote", "answer", "1", "--canary", "many").stderr
    assert "no request" in invoke("trace", "replay", "nope").stderr
    assert "no eval run 7" in invoke("eval", "show", "7").stderr
    assert invoke("eval", "run", "answer").exit_code == 2


def test_an_eval_needs_its_hosted_provider_to_run(
    invoke: Callable[..., Result], scripted_app: Callable[..., Path]
) -> None:
    folder = scripted_app(route="    gate: {dataset: cases.jsonl, scorers: [contains], margin: 5pp}\n")
    assert invoke("release", "create", "answer").exit_code == 2  # the dataset is missing, and the error says so
    (folder / "cases.jsonl").write_text('{"id": "a", "input": "x", "target": "x"}\n')
    invoke("release", "create", "answer")
    done = invoke("eval", "run", "answer")
    assert done.exit_code == 2
    assert "runs only under `pilothouse up`" in done.stderr


def test_the_review_has_four_faces_and_an_exit_code(invoke: Callable[..., Result], verb: Verb) -> None:
    made = verb("review")
    items = {item["id"]: item for item in made["routes"][0]["items"]}
    assert made["ready"] is False
    assert items["T1.0"]["status"] == "NO_DATA"
    assert items["G1"]["owner"] == "Ana"
    assert "NOT READY" in invoke("review", "answer").stdout
    assert invoke("review", "--format", "md").stdout.startswith("#")
    assert "<" in invoke("review", "--format", "html").stdout
    assert json.loads(invoke("review", "--format", "json").stdout)["routes"]
    assert invoke("review").exit_code == 0
    assert invoke("review", "--gate").exit_code in (1, 3)
    assert invoke("review", "nope").exit_code == 2


def test_rules_and_alerts_at_rest(invoke: Callable[..., Result], verb: Verb) -> None:
    assert verb("rules", "check")["ok"] is True
    assert {rule["from"] for rule in verb("rules", "list")["rules"]} == {"default"}
    assert "error.rate" in invoke("rules", "list").stdout
    assert invoke("alerts", "list").stdout == "nothing fires\n"
    assert "no alert" in invoke("alerts", "ack", "nope").stderr


def test_what_is_stored_leaves_and_comes_back(invoke: Callable[..., Result], verb: Verb, tmp_path: Path) -> None:
    made = verb("export", str(tmp_path / "out"), "--since", "7d")
    assert made["rows"]["requests"] == 0
    assert list((tmp_path / "out").glob("export-*.json"))
    assert sum(verb("import", str(tmp_path / "out"))["added"].values()) == 0
    assert [c["change"]["action"] for c in verb("audit", "list")["changes"]][:2] == [
        "telemetry.import",
        "telemetry.export",
    ]
    missing = invoke("import", str(tmp_path / "nowhere"))
    assert missing.exit_code == 2
    assert "there is no such folder" in missing.stderr
    assert "is not a time" in invoke("export", str(tmp_path / "out"), "--since", "yesterday").stderr


def test_a_drill_without_traces_is_no_evidence(invoke: Callable[..., Result], verb: Verb) -> None:
    found = verb("drill", "export", "answer")
    assert (found["kind"], found["ok"], found["traces"]) == ("export", True, 0)
    assert "NO DATA" in invoke("drill", "export", "answer").stdout
    assert invoke("drill", "export", "nobody").exit_code == 2


def test_init_writes_files_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    folder = tmp_path / "new"
    done = CliRunner().invoke(app, ["init", "--dir", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    written = json.loads(done.stdout)["written"]
    assert {"pilothouse.yaml", "prompts/support-answer.system.md", "schemas/ticket.json"} <= set(written)
    checked = CliRunner().invoke(app, ["config", "check", "--dir", str(folder), "--json"])
    assert json.loads(checked.stdout)["cases"] == {"support-answer": 8, "ticket-triage": 6}
    again = CliRunner().invoke(app, ["init", "--dir", str(folder)])
    assert again.exit_code == 2
    assert "already" in again.stderr


def test_a_wrong_file_is_named_with_its_line(scripted_app: Callable[..., Path]) -> None:
    folder = scripted_app(route="    ownr: ana\n")
    done = CliRunner().invoke(app, ["config", "check", "--dir", str(folder)])
    assert done.exit_code == 2
    assert "pilothouse.yaml:" in done.stderr
    assert "owner" in done.stderr


def test_nothing_runs_here(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["status", "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert "pilothouse up" in done.stderr


def test_a_host_whose_state_is_in_a_file_is_alone(verb: Verb, invoke: Callable[..., Result]) -> None:
    assert verb("hosts", "list")["hosts"] == []
    assert "alone" in invoke("hosts", "list").output
    assert "there is no host 'b'" in invoke("hosts", "forget", "b").output
