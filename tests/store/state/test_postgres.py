"""What only a server does: it leaves, comes back, and is asked what became of a commit."""

import asyncio
import signal
import threading
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import text
from tests.conftest import Running
from tests.postgres import PASSWORD, Postgres

from pilothouse.domain.errors import StateError, StoreError
from pilothouse.domain.tasks import Tasks
from pilothouse.store.state import pointers, postgres
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.postgres import Lead, Server


@pytest.fixture(scope="module")
def own():
    """A server that these tests may stop."""
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def opened(own):
    store = StateStore(own.fresh(migrated=True))
    yield store
    store.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_server_that_was_restarted_is_no_error_for_the_next_that_asks(own, opened, how):
    with opened.write() as conn:
        pointers.next_revision(conn)
    own.stop(how)
    own.start()
    with opened.read() as conn:
        assert pointers.revision(conn) == 1
    with opened.write() as conn:
        assert pointers.next_revision(conn) == 2


def test_who_asks_while_the_server_is_away_waits_for_it(own, opened):
    own.stop()
    found: list[int] = []

    def read() -> None:
        with opened.read() as conn:
            found.append(pointers.revision(conn))

    reader = threading.Thread(target=read)
    reader.start()
    own.start()
    reader.join()
    assert found == [0]


def test_a_server_that_stays_away_is_an_error_that_says_so(own, opened, monkeypatch):
    monkeypatch.setattr(postgres, "RETURN_S", 0.1)
    own.stop()
    try:
        with pytest.raises(StoreError, match="the state store") as raised, opened.read():
            pass
        assert PASSWORD not in str(raised.value)
        assert str(opened.place) in str(raised.value)
    finally:
        own.start()


def test_a_server_that_leaves_amid_a_write_leaves_nothing_of_it(own, opened):
    with pytest.raises(StoreError, match="left in the middle") as raised, opened.write() as conn:
        pointers.next_revision(conn)
        own.stop(signal.SIGQUIT)
        own.start()
        pointers.next_revision(conn)
    assert raised.value.kind == "store_away"
    with opened.read() as conn:
        assert pointers.revision(conn) == 0


@pytest.mark.parametrize("arrived", [True, False])
def test_a_commit_whose_answer_is_lost_is_asked_after(opened, arrived, monkeypatch):
    """The connection breaks at the commit: what counts is what the server has done, not what we have heard."""
    commit = psycopg.Connection.commit

    def cut(connection):
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
            return commit(connection)
        if arrived:
            commit(connection)
        connection.close()
        raise psycopg.OperationalError("the connection is lost")

    def move():
        with opened.write() as conn:
            revision = pointers.next_revision(conn)
            monkeypatch.setattr(psycopg.Connection, "commit", cut)
            return revision

    if arrived:
        assert move() == 1
    else:
        with pytest.raises(StoreError, match="nothing of this was written"):
            move()
    monkeypatch.undo()
    with opened.read() as conn:
        assert pointers.revision(conn) == int(arrived)


def test_the_write_lock_holds_over_processes(own, opened):
    """Two stores of one database, as two hosts have them: each counts up what the other has left."""
    second = StateStore(opened.place)

    def add(store):
        for _ in range(25):
            with store.write() as conn:
                seen = pointers.revision(conn)
                conn.execute(text("UPDATE table_revision SET revision = :next"), {"next": seen + 1})

    threads = [threading.Thread(target=add, args=(store,)) for store in (opened, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    with opened.read() as conn:
        assert pointers.revision(conn) == 50


def test_one_session_leads_and_another_follows_when_it_ends(opened):
    with closing(Lead(opened.place)) as first, closing(Lead(opened.place)) as second:
        assert first.hold() and first.hold()
        assert not second.hold()
        first.close()
        Running.eventually(second.hold)  # the server ends the first one's session when it comes to it


def test_a_leader_whose_server_left_does_not_lead(own, opened):
    lead = Lead(opened.place)
    assert lead.hold()
    own.stop(signal.SIGQUIT)
    assert not lead.hold()
    own.start()
    assert lead.hold()
    lead.close()


async def test_news_come_with_the_commit_and_not_before(opened):
    heard: asyncio.Queue[str] = asyncio.Queue()
    tasks = Tasks()
    listening = tasks.spawn(postgres.listen(opened.place, heard.put_nowait), "listen")
    assert await heard.get() == ""

    class Stopped(BaseException):
        pass

    with pytest.raises(Stopped), opened.write() as conn:
        pointers.next_revision(conn)
        raise Stopped
    with opened.write() as conn:
        pointers.next_revision(conn)
        assert heard.empty()
    assert await heard.get() == postgres.TABLE_CHANNEL
    assert heard.empty()  # the one that was not committed was not told
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def test_an_address_that_is_none_and_a_database_that_is_not_there(own):
    with pytest.raises(StoreError, match="no address of a database"):
        StateStore(Server(url="nonsense"))
    missing = Server(url=own.fresh().url.rpartition("/")[0] + "/missing", password=PASSWORD)
    with pytest.raises(StoreError, match='"missing" does not exist'):
        StateStore(missing)
    with pytest.raises(StoreError, match="password") as raised:
        StateStore(Server(url=own.fresh().url, password="wrong one"))
    assert "wrong one" not in str(raised.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(StateError, match=r"pilothouse\[postgres\]"):
        StateStore(Server(url="postgresql://a@127.0.0.1/b"))
