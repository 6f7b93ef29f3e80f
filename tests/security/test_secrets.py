"""Secrets by reference, and the installation's own."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse.domain.errors import ConfigError, StoreError
from pilothouse.security.files import ensure
from pilothouse.security.secrets import fingerprint, is_reference, make_secret_reader, read_secret


def test_a_secret_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "value\n")
    assert read_secret("env://A_KEY") == "value"


def test_a_secret_is_read_from_a_file_absolute_or_beside_the_app(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "openai").write_text("first\nsecond\n\n")
    assert read_secret(f"file://{tmp_path}/keys/openai") == "first\nsecond\n"
    assert make_secret_reader(tmp_path)("file://keys/openai") == "first\nsecond\n"


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("env://NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
        ("file:///no/such/file", "No such file"),
        ("file://sub", "cannot read"),
        ("file://empty", "is empty"),
        ("file://binary", "not UTF-8"),
        ("file://big", "over 65536 bytes"),
    ],
)
def test_what_cannot_be_read_says_why(ref: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "big").write_bytes(b"x" * 70_000)
    with pytest.raises(ConfigError, match=says):
        read_secret(ref, tmp_path)


def test_a_secret_written_out_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        read_secret("hunter2hunter2")
    assert "hunter2" not in str(caught.value)
    assert not is_reference("hunter2hunter2")


def test_fingerprints_tell_equal_secrets_without_showing_them() -> None:
    assert fingerprint(b"s", "v") == fingerprint(b"s", "v") != fingerprint(b"t", "v")


def test_the_installations_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    first = ensure(tmp_path / "secret")
    assert ensure(tmp_path / "secret") == first
    assert len(first.pepper) == len(first.salt) == len(first.session_key) == 32
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o700
    names = sorted(p.name for p in (tmp_path / "secret").iterdir())
    assert names == ["admin_token", "pepper", "salt", "session_key"]
    assert all(stat.S_IMODE((tmp_path / "secret" / n).stat().st_mode) == 0o600 for n in names)
    assert first.admin_token not in repr(first)


def test_a_secret_that_others_can_read_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / "salt").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        ensure(tmp_path)
    (tmp_path / "salt").chmod(0o600)
    (tmp_path / "salt").write_text("nonsense")
    with pytest.raises(StoreError, match="16 bytes in hex"):
        ensure(tmp_path)
    (tmp_path / "salt").write_text("")
    with pytest.raises(StoreError, match="empty"):
        ensure(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="secrets"):
        ensure(tmp_path / "file" / "secret")


@pytest.mark.process
def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from pilothouse.security.files import ensure; sys.stdin.read(1); "
        "s = ensure(pathlib.Path(sys.argv[1])); print(s.pepper.hex(), s.salt.hex(), s.admin_token)"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "secret")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ,
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write(b"g")
        starter.stdin.flush()
    answers = {starter.communicate()[0] for starter in starters}
    assert len(answers) == 1
    assert all(starter.returncode == 0 for starter in starters)
