"""Secrets by reference: the config names where a secret is (`env://NAME`, `file://path`), never what it is."""

import hmac
import os
from pathlib import Path

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.wires import SecretReader

SCHEMES = ("env://", "file://")
_MAX = 64 * 1024  # bytes; a longer file is a mistaken path, not a secret


def is_reference(text: str) -> bool:
    """Whether `text` names a secret's place."""
    return text.startswith(SCHEMES)


def _from_file(ref: str, app: Path | None) -> str:
    path = Path(ref.removeprefix("file://"))
    if app is not None:
        path = app / path  # an absolute path stays as it is
    try:
        if path.stat().st_size > _MAX:
            raise ConfigError(f"the file of {ref} is over {_MAX} bytes", where=str(path), hint="check the path")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {ref}: {reason}", where=str(path), hint="check path and permissions") from None


def read_secret(ref: str, app: Path | None = None) -> str:
    """The value that `ref` names, without one final newline.

    `file:///a/b` is absolute, `file://a/b` relative to `app` (or the working directory). Raises `ConfigError`,
    whose text holds the reference and never a value.
    """
    if ref.startswith("env://"):
        name = ref.removeprefix("env://")
        value = os.environ.get(name)
        if value is None:
            raise ConfigError(f"the environment variable {name} is not set", where=ref, hint=f"export {name}=…")
    elif ref.startswith("file://"):
        value = _from_file(ref, app)
    else:
        raise ConfigError(
            "a secret must be given by reference, and this is not one",
            hint="write env://NAME or file://path instead of the value",
        )
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ConfigError(f"the secret {ref} is empty", where=ref, hint="put the value where the reference points")
    return value


def make_secret_reader(app: Path) -> SecretReader:
    """`read_secret` with relative files looked for in the app's directory."""
    return lambda ref: read_secret(ref, app)


def fingerprint(salt: bytes, value: str) -> str:
    """What tells two secrets apart without showing either: 16 hex characters of HMAC-SHA256."""
    return hmac.digest(salt, b"secret:" + value.encode(), "sha256").hex()[:16]
