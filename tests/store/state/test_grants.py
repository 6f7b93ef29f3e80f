"""The product under a role of its own in a real PostgreSQL: it does its work, and can edit no history."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from tests.postgres import PASSWORD, Postgres

from pilothouse.config.route import RouteConfig
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.manifest import Manifest, Template
from pilothouse.domain.model_ref import ModelRef
from pilothouse.releases import history, pointer, registry
from pilothouse.releases.pointer import Promotion
from pilothouse.security.audit import verify
from pilothouse.store.state import changes, grants, pointers
from pilothouse.store.state.engine import HEAD, StateStore
from pilothouse.store.state.postgres import Server
from pilothouse.store.state.tables import APPEND_ONLY

ANA = Actor(type="person", id="ana")
APP = "a role of its own"  # a name that has to be quoted


@pytest.fixture
def owner(postgres: Postgres) -> Iterator[Server]:
    """A database at the newest schema, in a server that knows the product's role too."""
    with psycopg.connect(postgres.address("postgres"), autocommit=True) as conn:
        if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP]).fetchone() is None:
            conn.execute(f"CREATE ROLE \"{APP}\" LOGIN PASSWORD '{PASSWORD}'".encode())
    yield postgres.fresh(migrated=True)


def as_app(server: Server) -> Server:
    return Server(url=server.url.replace("pilothouse@", f"{APP.replace(' ', '%20')}@"), password=PASSWORD)


def granted(server: Server) -> None:
    state = StateStore(server)
    with state.write() as conn:
        grants.grant(conn, APP)
    state.close()


@pytest.fixture
def app(owner: Server) -> Iterator[StateStore]:
    granted(owner)
    store = StateStore(as_app(owner))
    yield store
    store.close()


def route(words: str) -> RouteConfig:
    manifest = Manifest(model=ModelRef("fake", "small-1"), prompt=Template(text=words))
    return RouteConfig(name="answer", app="", owner="ana", backup="ben", tier="standard", manifest=manifest)


def test_releases_are_made_moved_and_taken_back(app: StateStore) -> None:
    clock = FrozenClock()
    for number, words in enumerate(("one", "two"), 1):
        registry.create(app, route(words), actor=ANA, clock=clock)
        clock.advance(1)
        pointer.promote(app, route(words), Promotion(env="prod", release=number, actor=ANA), clock)
    moved = pointer.rollback(app, "answer", "prod", actor=ANA, reason="worse", clock=clock)
    assert moved.to_release == 1
    with app.read() as conn:
        assert verify(changes.rows(conn)).ok
        assert pointers.get(conn, "answer", "prod") == history.moves(conn, "answer")[-1].after
        assert grants.editable(conn) == ()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET created = created", "DELETE FROM {}", "TRUNCATE {} CASCADE", "DROP TABLE {} CASCADE",
     "ALTER TABLE {} DISABLE TRIGGER ALL", "DROP TRIGGER {}_no_update ON {}"],
)  # fmt: skip
def test_history_cannot_be_edited_nor_its_guards_be_taken_away(app: StateStore, table: str, statement: str) -> None:
    with pytest.raises(StoreError, match=r"permission denied|must be owner"), app.write() as conn:
        column = "manifest_hash" if table == "releases" else "hash"
        conn.execute(text(statement.replace("{}", table).replace("created", column)))


def test_what_is_no_history_may_be_changed_and_the_schema_may_not(app: StateStore) -> None:
    with app.write() as conn:
        pointers.next_revision(conn)
        for table in ("pointers", "flags", "hosts", "waivers"):
            conn.execute(text(f"DELETE FROM {table}"))
    for statement in ("CREATE TABLE mine (x int)", "DELETE FROM alembic_version", "ALTER TABLE pointers ADD x int"):
        with pytest.raises(StoreError, match=r"permission denied|must be owner"), app.write() as conn:
            conn.execute(text(statement))


def test_a_role_that_owns_the_tables_could_edit_them_and_that_is_told(owner: Server) -> None:
    state = StateStore(owner)
    with state.read() as conn:
        assert grants.editable(conn) == APPEND_ONLY
    with pytest.raises(StoreError, match="may still change parts, releases, changes"), state.write() as conn:
        grants.grant(conn, "pilothouse")
    with pytest.raises(StoreError, match="no role 'nobody'") as raised, state.write() as conn:
        grants.grant(conn, "nobody")
    assert "CREATE ROLE" in raised.value.hint
    state.close()


def test_the_owner_makes_and_migrates_the_tables_and_the_role_says_who_must(owner: Server, postgres: Postgres) -> None:
    empty = postgres.fresh()
    with pytest.raises(StoreError, match="schema none, and this role may not") as raised:
        StateStore(as_app(empty))
    assert "pilothouse store grants" in raised.value.hint
    state = StateStore(empty)  # the owner
    with state.write() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = 'v0001'"))
        grants.grant(conn, APP)
    state.close()
    with pytest.raises(StoreError, match=f"schema v0001, and this role may not bring it to {HEAD}"):
        StateStore(as_app(empty))


def test_the_verb_sets_a_database_up_from_nothing(owner: Server, postgres: Postgres, tmp_path: Path) -> None:
    empty = postgres.fresh()
    command = [sys.executable, "-m", "pilothouse", "store", "grants", APP, "--owner", empty.url]
    command += ["--owner-password", "env://OWNER_PASSWORD", "--dir", str(tmp_path)]
    for _ in range(2):  # again after an upgrade
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "OWNER_PASSWORD": PASSWORD}
        )
        assert done.returncode == 0, done.stderr
        assert "parts, releases, changes: add, no more" in done.stdout
        assert PASSWORD not in done.stdout + done.stderr
    store = StateStore(as_app(empty))
    with store.write() as conn:
        change = Change(actor=ANA, action="key.create", object_type="key", object_id="k")
        assert changes.append(conn, change, FrozenClock()).seq == 1
    store.close()
    inline: Any = subprocess.run(
        [*command[:6], "--owner", "postgresql://a:b@h/d"], capture_output=True, text=True, check=False
    )
    assert inline.returncode == 2 and "password does not belong here" in inline.stderr
