"""Secrets where none belong: in the app's config, prompts, schemas and datasets."""

import functools
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pilothouse.domain.errors import StoreError
from pilothouse.security.detectors import SECRETS, Detectors
from pilothouse.security.secrets import is_reference

# A key that holds a secret by its name, in YAML, TOML, JSON or an env file; its value is judged by `_written_out`.
_ASSIGNED = re.compile(
    rb"""^\s*(?:-\s*|export\s+)?["']?(?P<name>[A-Za-z0-9_.-]*?(?:key|secret|token|password|passwd|pwd|dsn|credentials?))["']?"""
    rb"""\s*[:=]\s*(?P<quote>["']?)(?P<value>[^"'#\s,{}\[\]]+)(?P=quote)\s*[,;]?\s*(?:\#.*)?$""",
    re.IGNORECASE,
)
_MAX = 16 << 20  # bytes of one file


class SecretHit(msgspec.Struct, frozen=True):
    """A secret in plain text: where, and the rule that found it. Never the secret."""

    file: str
    line: int
    rule: str


@functools.cache
def _detectors() -> Detectors:
    return Detectors(SECRETS)


def _written_out(value: str) -> bool:
    """Whether the value of a secret's key is the secret itself: neither a reference nor a template's variable."""
    if is_reference(value) or "://" in value or value.startswith(("$", "{", "<", "%", "!", "*", "&")):
        return False
    if len(value) < 8 or value.lower() in ("none", "null", "true", "false", "required", "optional"):
        return False
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value)


def plain_secret(name: str, value: str) -> bool:
    """Whether the config key `name` holds a secret written out instead of a reference."""
    match = _ASSIGNED.match(f"{name}: {value}".encode())
    return match is not None and _written_out(value)


def scan_text(text: str, file: str = "") -> list[SecretHit]:
    """Secrets in `text`, one hit per line and rule, in order. A key over many lines counts on its first."""
    data = text.encode("utf-8", "surrogatepass")
    hits = {(data.count(b"\n", 0, f.start) + 1, f.detector.rule) for f in _detectors().find(data)}
    found = {line for line, _ in hits}
    for number, line in enumerate(data.splitlines(), 1):
        match = _ASSIGNED.match(line) if number not in found else None
        if match is not None and _written_out(match["value"].decode("utf-8", "replace")):
            hits.add((number, "plain-secret-value"))
    return [SecretHit(file=file, line=line, rule=rule) for line, rule in sorted(hits)]


def scan_files(paths: Iterable[Path]) -> list[SecretHit]:
    """Secrets in files; a directory is walked, hidden entries left out. Binary files hold no lines and are skipped.

    Raises `StoreError` for what cannot be read: a file that was not looked at must not count as clean.
    """
    hits: list[SecretHit] = []
    for path in paths:
        for file in _files(path):
            hits += scan_text(_read(file), str(file))
    return hits


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = (p for p in path.rglob("*") if not any(part.startswith(".") for part in p.relative_to(path).parts))
    return sorted(p for p in inside if p.is_file())


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _MAX:
            raise StoreError(f"a file over {_MAX} bytes was not scanned for secrets", where=str(file))
        data = file.read_bytes()
    except OSError as failure:
        raise StoreError(
            f"cannot scan a file for secrets: {failure.strerror}", where=str(file), hint="check path and permissions"
        ) from failure
    return "" if b"\0" in data[:8192] else data.decode("utf-8", "replace")
