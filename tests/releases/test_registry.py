"""Releases are made from what the files say, stored once, and resolved again."""

import os
import sqlite3
import subprocess

import msgspec
import pytest

from pilothouse.domain.errors import Conflict, NotFound, StoreError
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Policy, Timeouts
from pilothouse.domain.table import KeyEntry
from pilothouse.releases import registry, table, vcs
from pilothouse.releases.pointer import Promotion, promote
from pilothouse.store.state import changes, keys, releases
from pilothouse.store.state.tables import parts


def test_a_release_is_numbered_logged_and_resolves(store, clock, ana, kit):
    made = registry.create(store, kit.route(), actor=ana, clock=clock, notes="first", vcs="ab12-dirty")
    assert (made.number, made.vcs_commit, made.vcs_dirty, made.author) == (1, "ab12", True, "person:ana")
    live = registry.release(store, "docs-answer", 1)
    assert live.manifest == kit.manifest()
    assert live.parts == kit.manifest().hashes() == made.parts
    assert live.hash == kit.manifest().hash() == made.manifest_hash
    with store.read() as conn:
        (row,) = changes.rows(conn)
        assert releases.missing(conn, made) == ()
    assert (row.change.action, row.change.after_hash) == ("release.create", made.manifest_hash)


def test_the_same_manifest_again_gives_the_newest_release_and_says_so(store, clock, ana, kit):
    first = registry.create(store, kit.route(), actor=ana, clock=clock)
    again = registry.create(store, kit.route(), actor=ana, clock=clock, notes="other")
    assert not first.reused
    assert again == msgspec.structs.replace(first, reused=True)
    other = registry.create(store, kit.route(text="Other."), actor=ana, clock=clock)
    back = registry.create(store, kit.route(), actor=ana, clock=clock)
    assert (other.number, back.number, back.manifest_hash) == (2, 3, first.manifest_hash)
    with store.read() as conn:
        stored = conn.execute(parts.select()).all()
    # 8 parts, of which system, tools and index are absent alike; then one more prompt
    assert len(stored) == 6 + 1


def test_whole_numbers_in_a_float_s_place_have_the_same_address(store, clock, ana, kit):
    def timed(total):
        base = kit.route()
        policy = Policy(timeout=Timeouts(total=total))
        return msgspec.structs.replace(base, manifest=msgspec.structs.replace(base.manifest, policy=policy))

    registry.create(store, timed(30), actor=ana, clock=clock)
    assert registry.create(store, timed(30.0), actor=ana, clock=clock).reused
    live = registry.release(store, "docs-answer", 1)
    assert live.manifest.hashes() == live.parts


@pytest.mark.parametrize(
    "name",
    [
        "gpt-5-mini-2026-08-07", "claude-sonnet-4-20250514", "gpt-4-0613", "gemini-1.5-pro-002", "mistral-7b-v0.3",
        "claude-3-5-sonnet@20240620", "smollm2:sha256-0a1b2c3d4e5f", "anthropic.claude-3-haiku-20240307-v1",
    ],
)  # fmt: skip
def test_models_that_name_a_version(name):
    assert registry.floating_alias(ModelRef("p", name)) == ""


@pytest.mark.parametrize("name", ["gpt-5-mini", "claude-sonnet-latest", "smollm2", "smollm2-135m", "gpt-4o-preview"])
def test_models_that_may_change_under_us(name):
    assert registry.floating_alias(ModelRef("p", name)) == f"p/{name}"


def test_a_release_that_is_not_there(store, clock, ana, kit):
    registry.create(store, kit.route(), actor=ana, clock=clock)
    with pytest.raises(NotFound, match="no release 4 — the newest is 1"):
        registry.release(store, "docs-answer", 4)


def test_who_saw_no_release_is_pointed_to_the_one_that_was_made_meanwhile(store, clock, ana, kit):
    made = registry.Made(actor=ana)
    assert registry.create_after(store, kit.route(), made, clock, newest=0).number == 1
    with pytest.raises(Conflict) as refused:
        registry.create_after(store, kit.route(text="Other."), made, clock, newest=0)
    assert refused.value.hint == "see what it is: pilothouse release notes docs-answer 1"
    registry.create_after(store, kit.route(text="Other."), made, clock, newest=1)
    with pytest.raises(Conflict) as refused:
        registry.create_after(store, kit.route(text="More."), made, clock, newest=1)
    assert refused.value.hint == "see what differs: pilothouse release diff docs-answer 1 2"


def test_the_commit_and_whether_files_differ(tmp_path):
    assert vcs.describe(tmp_path) == ""

    def git(*words):
        subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True, env=os.environ | {
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b.c"})  # fmt: skip

    git("init", "-q")
    (tmp_path / "prompt.md").write_text("one")
    git("add", ".")
    git("commit", "-qm", "one")
    clean, dirty = vcs.split(vcs.describe(tmp_path))
    assert len(clean) == 40
    assert not dirty
    (tmp_path / "prompt.md").write_text("two")
    assert vcs.split(vcs.describe(tmp_path)) == (clean, True)


def test_the_table_resolves_pointers_keys_and_providers(store, clock, ana, kit):
    kit.make_releases(store, clock, 2)
    config = kit.config(kit.route(tier="high"))
    assert table.build(store, config, {}, clock, allow_anonymous=True).anonymous
    promote(store, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    promote(store, kit.route(), Promotion(env="prod", release=2, actor=ana, share=0.25), clock)
    promote(store, kit.route(), Promotion(env="dev", release=2, actor=ana), clock)
    with store.write() as conn:
        keys.create(conn, KeyEntry("aaaaaaaa", "h", "prod", "app"), actor=ana, clock=clock)
        keys.create(conn, KeyEntry("bbbbbbbb", "h", "prod", "old"), actor=ana, clock=clock)
        keys.revoke(conn, "bbbbbbbb", actor=ana, clock=clock)
    built = table.build(store, config, {"local": "http://127.0.0.1:5000/v1"}, clock, allow_anonymous=True)
    assert built.revision == 6
    assert set(built.entries) == {"docs-answer@prod", "docs-answer@dev"}
    entry = built.entries["docs-answer@prod"]
    assert (entry.tier, entry.app, entry.share, entry.salt != "") == ("high", "docs", 0.25, True)
    assert entry.canary is not None
    assert (entry.stable.release, entry.canary.release) == (1, 2)
    assert entry.canary.manifest.prompt.text == "Prompt number 2."
    assert entry.canary.parts == entry.canary.manifest.hashes()
    assert set(built.keys) == {"aaaaaaaa"}
    assert not built.anonymous
    assert built.providers["local"].base_url == "http://127.0.0.1:5000/v1"
    assert built.providers["openai"].key == "env://K"
    assert built.prices["local/smollm2"].output == 0.2
    assert built.journal.fsync == "always"
    assert msgspec.json.decode(msgspec.json.encode(built), type=type(built)) == built


def test_a_route_that_left_the_config_is_still_served(store, clock, ana, kit):
    kit.make_releases(store, clock, 1)
    promote(store, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    assert "docs-answer@prod" in table.build(store, kit.config(), {}, clock).entries


def test_a_live_release_that_does_not_resolve_stops_the_table(store, clock, ana, kit):
    kit.make_releases(store, clock, 1)
    promote(store, kit.route(), Promotion(env="prod", release=1, actor=ana), clock)
    outside = sqlite3.connect(store.path)
    outside.executescript(
        "DROP TRIGGER parts_no_update; UPDATE parts SET content = '{\"text\":\"x\"}' WHERE kind = 'prompt';"
    )
    outside.close()
    with pytest.raises(StoreError, match="the prompt of release 1 does not resolve"):
        table.build(store, kit.config(kit.route()), {}, clock)


def test_a_release_says_what_its_provider_will_not_take(store, clock, ana, kit):
    made = registry.create(store, kit.route(), actor=ana, clock=clock, kinds=("openai", ""))
    assert [(w.part, w.pointer) for w in made.warnings] == [("schema", "")]
    with store.read() as conn:
        assert releases.get(conn, "docs-answer", 1).warnings == ()  # the change log keeps them
        assert changes.rows(conn)[0].change.detail["warnings"][0]["what"] == made.warnings[0].what
    again = registry.create(store, kit.route(), actor=ana, clock=clock, kinds=("openai",))
    assert again.reused and again.warnings == made.warnings
