"""Heartbeats: who is there, who is cut off, and whose name is whose."""

import msgspec
import pytest

from pilothouse.domain.errors import NotFound, StateError
from pilothouse.store.state import hosts
from pilothouse.store.state.hosts import CUT_OFF_S, HostState

A = HostState(
    host="a", ident="1", revision=7, workers={"edge-0": 7, "ingest-0": 6}, leads=True, watched_s=2.0, files="f"
)


def later(outside, seconds):
    """Let time pass for what was written."""
    outside(f"UPDATE hosts SET seen_us = seen_us - {int(seconds * 1e6)}")


def test_a_heartbeat_is_replaced_and_grows_old(store, outside):
    with store.beat() as conn:
        hosts.beat(conn, A, news=True)
        hosts.beat(conn, msgspec.structs.replace(A, revision=8), news=False)
        hosts.beat(conn, HostState(host="b", ident="2", revision=8, workers={}), news=False)
        first, second = hosts.every(conn)
    assert (first.host, first.revision, first.workers, first.leads) == ("a", 8, A.workers, True)
    assert second.host == "b"
    assert not first.cut_off
    later(outside, CUT_OFF_S + 1)
    with store.read() as conn:
        assert [one.cut_off for one in hosts.every(conn)] == [True, True]
        assert hosts.every(conn)[0].age_s > CUT_OFF_S
        assert hosts.every(conn)[0].watched_s > CUT_OFF_S + 2  # it grows old with its host
        assert hosts.every(conn)[1].watched_s is None


def test_a_table_is_held_when_control_and_every_worker_hold_it():
    assert A.holds(6)
    assert not A.holds(7)  # ingest-0 is behind
    assert msgspec.structs.replace(A, workers={"edge-0": 9}).holds(7)
    assert not msgspec.structs.replace(A, workers={}, revision=6).holds(7)


def test_a_name_is_one_hosts_until_that_is_gone(store, outside):
    other = msgspec.structs.replace(A, ident="2")
    with store.beat() as conn:
        hosts.beat(conn, A, news=False)
    with pytest.raises(StateError, match="another host named 'a'"), store.beat() as conn:
        hosts.beat(conn, other, news=False)
    later(outside, CUT_OFF_S + 1)
    with store.beat() as conn:
        hosts.beat(conn, other, news=False)  # a machine that was set up anew takes the name of the one that died
        assert [one.ident for one in hosts.every(conn)] == ["2"]


def test_two_hosts_do_not_load_into_one_telemetry_server(store):
    first, second = (HostState(host=n, ident=n, revision=1, workers={}, telemetry="clickhouse://h/d") for n in "ab")
    with store.beat() as conn:
        hosts.beat(conn, first, news=False)
        hosts.beat(conn, msgspec.structs.replace(second, telemetry="clickhouse://h/other"), news=False)
        hosts.beat(conn, msgspec.structs.replace(second, telemetry=""), news=False)
    with pytest.raises(StateError, match="a keeps its telemetry in the same database"), store.beat() as conn:
        hosts.beat(conn, second, news=False)


def test_a_host_is_forgotten_once(store):
    with store.beat() as conn:
        hosts.beat(conn, A, news=False)
        hosts.forget(conn, "a")
        assert hosts.every(conn) == []
        with pytest.raises(NotFound):
            hosts.forget(conn, "a")


def test_the_first_host_says_which_the_secrets_are(store):
    with store.write() as conn:
        assert hosts.same_secrets(conn, "x")
        assert hosts.same_secrets(conn, "x")
        assert not hosts.same_secrets(conn, "y")
