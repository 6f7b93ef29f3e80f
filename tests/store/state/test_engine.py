"""Opening, migrating, locking."""

import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from pilothouse.domain.errors import StoreError
from pilothouse.store.state import engine, pointers
from pilothouse.store.state.engine import HEAD, StateStore
from pilothouse.store.state.tables import APPEND_ONLY, METADATA, table_revision


def test_an_empty_database_is_migrated_to_exactly_the_tables(place):
    store = StateStore(place)
    with store.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert conn.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        assert pointers.revision(conn) == 0
    store.close()


def test_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_an_open_file_is_private_walled_and_keyed(tmp_path):
    store = StateStore(tmp_path / "state.db")
    assert store.path.stat().st_mode & 0o777 == 0o600
    with store.read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()


def test_a_store_at_head_opens_fast(store):
    started = time.process_time()
    for _ in range(10):
        StateStore(store.place).close()
    assert (time.process_time() - started) / 10 < 0.3


def test_what_was_written_is_there_after_reopening(place):
    first = StateStore(place)
    with first.write() as conn:
        pointers.next_revision(conn)
    first.close()
    second = StateStore(place)
    with second.read() as conn:
        assert pointers.revision(conn) == 1
    second.close()


def test_an_error_in_a_write_leaves_nothing(store):
    class Stopped(BaseException):
        pass

    with pytest.raises(Stopped), store.write() as conn:
        pointers.next_revision(conn)
        raise Stopped
    with store.read() as conn:
        assert pointers.revision(conn) == 0


def test_openers_at_the_same_time_migrate_once(place):
    barrier = threading.Barrier(4)
    opened: list[StateStore] = []

    def run() -> None:
        barrier.wait()
        opened.append(StateStore(place))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for one in opened:
        with one.read() as conn:
            assert conn.execute(select(table_revision.c.revision)).all() == [(0,)]
        one.close()


def test_writers_follow_one_another_and_readers_do_not_wait(store):
    with store.write() as conn:
        pointers.next_revision(conn)
        with store.read() as other:
            assert pointers.revision(other) == 0

    def add() -> None:
        for _ in range(20):
            with store.write() as conn:
                pointers.next_revision(conn)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as conn:
        assert pointers.revision(conn) == 61


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "state.db"
    path.write_text("not a database, and long enough to be read as one" * 40)
    with pytest.raises(StoreError, match="file is not a database"):
        StateStore(path)


def test_a_store_of_a_newer_version_is_left_alone(store):
    with store.write() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))
    with pytest.raises(StoreError, match="newer than"):
        StateStore(store.place)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open the state store"):
        StateStore(tmp_path / "file" / "state.db")


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("verb", ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}"])
def test_append_only_tables_refuse_update_and_delete(store, table, verb, outside):
    columns = {column.name: 1 for column in METADATA.tables[table].columns if not column.nullable}
    values = {name: True if name == "vcs_dirty" else value for name, value in columns.items()}
    with store.write() as conn:
        conn.execute(METADATA.tables[table].insert().values(values))
    with pytest.raises(DBAPIError, match=f"{table} is append-only"):
        outside(verb.format(table, next(iter(columns))))


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_append_only_tables_cannot_be_emptied_at_once(postgres, table):
    store = StateStore(postgres.fresh(migrated=True))
    with pytest.raises(StoreError, match=f"{table} is append-only"), store.write() as conn:
        conn.execute(text(f"TRUNCATE {table} CASCADE"))
    store.close()


def test_a_lock_that_is_held_too_long_is_an_error_and_passes(store, monkeypatch):
    monkeypatch.setattr("pilothouse.store.state.sqlite.BUSY_TIMEOUT_MS", 1)
    monkeypatch.setattr("pilothouse.store.state.postgres.LOCK_MS", 1)
    other = StateStore(store.place)
    with store.write() as held:
        pointers.next_revision(held)
        with pytest.raises(StoreError, match=r"lock.*another process holds it"), other.write():
            pass
    with other.write() as conn:
        assert pointers.next_revision(conn) == 2
    other.close()


def test_one_place_alone_knows_how_a_dialect_replaces_a_row():
    folder = Path(engine.__file__).parent
    using = {file.name for file in folder.glob("*.py") if "sqlalchemy.dialects" in file.read_text()}
    assert using == {"rows.py"}
