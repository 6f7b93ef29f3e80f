"""The installation's own secrets: random, made once, in files that only their owner can read."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from pilothouse.domain.errors import StoreError


class Secrets(msgspec.Struct, frozen=True):
    """What a process group shares: `pepper` for API keys, `salt` for pseudonyms, and the pages' two."""

    pepper: bytes
    salt: bytes
    admin_token: str
    session_key: bytes

    def __repr__(self) -> str:
        return "Secrets(…)"


def ensure(directory: Path) -> Secrets:
    """Read the secrets of `directory`, making it (0700) and the missing ones (0600).

    Processes that start together agree: the first to finish a file wins, and the others read it. Raises
    `StoreError` where a file cannot be read, is malformed, or can be read by others.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        return Secrets(
            pepper=_hex(directory / "pepper"),
            salt=_hex(directory / "salt"),
            admin_token=_text(directory / "admin_token", lambda: secrets.token_urlsafe(32)),
            session_key=_hex(directory / "session_key"),
        )
    except OSError as failure:
        raise StoreError(
            f"cannot make or read the installation's secrets: {failure.strerror}",
            where=str(failure.filename or directory),
            hint="check owner and permissions of the data directory",
        ) from failure


def _hex(path: Path) -> bytes:
    text = _text(path, lambda: secrets.token_hex(32))
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) < 16:
        raise StoreError("a secret file does not hold at least 16 bytes in hex", where=str(path), hint="restore it")
    return value


def _text(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        _create(path, make())
    if path.stat().st_mode & 0o077:
        raise StoreError("a secret file can be read by others", where=str(path), hint=f"chmod 600 {path}")
    text = path.read_text(encoding="ascii").strip()
    if not text:
        raise StoreError("a secret file is empty", where=str(path), hint="restore it, or delete it to have a new one")
    return text


def _create(path: Path, text: str) -> None:
    """Write beside and link into place: a link fails where the name exists, and never shows half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            return  # another process was first: its value counts
    finally:
        beside.unlink(missing_ok=True)
