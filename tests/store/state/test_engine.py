"""Opening, migrating, locking."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text

from pilothouse.domain.errors import StoreError
from pilothouse.store.state import engine, pointers
from pilothouse.store.state.engine import HEAD, StateStore
from pilothouse.store.state.tables import APPEND_ONLY, METADATA, table_revision


def test_an_empty_file_is_migrated_to_exactly_the_tables(store):
    with store.read() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert conn.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        assert pointers.revision(conn) == 0


def test_head_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(Path(engine.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_an_open_store_is_private_walled_and_keyed(store):
    assert store.path.stat().st_mode & 0o777 == 0o600
    with store.read() as conn:
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_store_at_head_opens_fast(store):
    started = time.process_time()
    for _ in range(10):
        StateStore(store.path).close()
    assert (time.process_time() - started) / 10 < 0.3


def test_what_was_written_is_there_after_reopening(tmp_path):
    first = StateStore(tmp_path / "state.db")
    with first.write() as conn:
        pointers.next_revision(conn)
    first.close()
    second = StateStore(tmp_path / "state.db")
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


def test_two_openers_migrate_once(tmp_path):
    barrier = threading.Barrier(4)
    opened: list[StateStore] = []

    def run() -> None:
        barrier.wait()
        opened.append(StateStore(tmp_path / "state.db"))

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
        StateStore(store.path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open the state store"):
        StateStore(tmp_path / "file" / "state.db")


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("verb", ["UPDATE {} SET rowid = rowid", "DELETE FROM {}"])
def test_append_only_tables_refuse_update_and_delete(store, table, verb):
    columns = {column.name: 1 for column in METADATA.tables[table].columns if not column.nullable}
    with store.write() as conn:
        conn.execute(METADATA.tables[table].insert().values(columns))
    outside = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
        outside.execute(verb.format(table))
    outside.close()


def test_a_lock_that_is_held_too_long_is_an_error_and_passes(store):
    other = StateStore(store.path)
    with other.engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA busy_timeout=1")
    with store.write() as held:
        pointers.next_revision(held)
        with pytest.raises(StoreError, match=r"database is locked.*another process holds it"), other.write():
            pass
    with other.write() as conn:
        assert pointers.next_revision(conn) == 2
    other.close()
