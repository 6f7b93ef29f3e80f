"""Who may use the control plane."""

from pathlib import Path

import pytest

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StateError, StoreError, Unauthorized
from pilothouse.security.files import ensure
from pilothouse.server import auth
from pilothouse.server.auth import Gate


def gate(tmp_path: Path, clock: FrozenClock, port: int = 4001) -> Gate:
    return Gate(tmp_path, ensure(tmp_path), clock, port)


def test_a_link_signs_in_once(tmp_path: Path) -> None:
    clock = FrozenClock()
    door = gate(tmp_path, clock)
    token = door.issue_link()
    value = door.open_link(token)
    assert value is not None
    assert door.open_link(token) is None
    session = door.session({door.cookie: value})
    assert session is not None
    assert str(session.actor) == "person:admin"


def test_a_link_outlives_a_restart_and_is_still_spent_once(tmp_path: Path) -> None:
    clock = FrozenClock()
    first, second = gate(tmp_path, clock), None
    token, spent = first.issue_link(), first.issue_link()
    first.open_link(spent)
    second = gate(tmp_path, clock)
    assert second.open_link(spent) is None
    assert second.open_link(token) is not None


def test_an_old_link_opens_nothing(tmp_path: Path) -> None:
    clock = FrozenClock()
    door = gate(tmp_path, clock)
    token = door.issue_link()
    clock.advance(auth.LINK_S + 1)
    assert door.open_link(token) is None


def test_a_link_is_not_kept_in_plain_text(tmp_path: Path) -> None:
    token = gate(tmp_path, FrozenClock()).issue_link()
    kept = tmp_path / "sessions.json"
    assert token not in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_session_ends_by_time_and_by_signing_out(tmp_path: Path) -> None:
    clock = FrozenClock()
    door = gate(tmp_path, clock)
    one, other = door.open_link(door.issue_link()), door.open_link(door.issue_link())
    assert one and other
    door.sign_out({door.cookie: one})
    assert door.session({door.cookie: one}) is None
    assert gate(tmp_path, clock).session({door.cookie: one}) is None  # after a restart too
    assert door.session({door.cookie: other}) is not None
    clock.advance(auth.SESSION_S + 1)
    assert door.session({door.cookie: other}) is None


@pytest.mark.parametrize("forged", ["", ".", "abc.def", "eyJ9.00", "\x00.\xff"])
def test_a_forged_cookie_is_nobody(tmp_path: Path, forged: str) -> None:
    door = gate(tmp_path, FrozenClock())
    assert door.session({door.cookie: forged}) is None


def test_a_changed_cookie_is_nobody(tmp_path: Path) -> None:
    door = gate(tmp_path, FrozenClock())
    value = door.open_link(door.issue_link())
    assert value is not None
    body, _, signature = value.partition(".")
    assert door.session({door.cookie: f"{body[:-2]}AA.{signature}"}) is None
    assert door.session({door.cookie: f"{body}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}"}) is None


def test_each_session_has_its_own_csrf_token(tmp_path: Path) -> None:
    door = gate(tmp_path, FrozenClock())
    values = [door.open_link(door.issue_link()) for _ in range(2)]
    sessions = [door.session({door.cookie: value or ""}) for value in values]
    assert sessions[0] and sessions[1]
    assert sessions[0].csrf != sessions[1].csrf
    assert not door.check_csrf_token(sessions[0].csrf, sessions[1].csrf)
    assert not door.check_csrf_token(sessions[0].csrf, "")


def test_only_the_admin_token_is_a_bearer(tmp_path: Path) -> None:
    door = gate(tmp_path, FrozenClock())
    token = ensure(tmp_path).admin_token
    assert door.bearer(f"Bearer {token}")
    assert door.bearer(f"bearer {token}")
    for wrong in (None, "", "Bearer ", f"Basic {token}", f"Bearer {token}x", token, "Bearer é"):
        assert not door.bearer(wrong)


def test_the_password_is_kept_as_a_hash_and_guesses_are_limited(tmp_path: Path) -> None:
    clock = FrozenClock()
    door = gate(tmp_path, clock)
    assert not door.password_set
    auth.set_password(tmp_path, "correct horse battery")
    kept = tmp_path / "admin_password"
    assert "correct" not in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    assert door.password_set
    assert door.sign_in("correct horse battery") is not None
    for _ in range(5):
        assert door.sign_in("wrong") is None
    with pytest.raises(StateError, match="too many"):
        door.sign_in("correct horse battery")
    clock.advance(61)
    assert door.sign_in("correct horse battery") is not None


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unauthorized, match="12 characters"):
        auth.set_password(tmp_path, "short")


def test_a_spoilt_sessions_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sessions.json").write_text("{")
    with pytest.raises(StoreError, match="sessions"):
        gate(tmp_path, FrozenClock())


def test_two_installations_on_one_host_have_two_cookies(tmp_path: Path) -> None:
    assert gate(tmp_path, FrozenClock(), 4001).cookie != gate(tmp_path, FrozenClock(), 5001).cookie
