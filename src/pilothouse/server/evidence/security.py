"""T8: secrets by reference, plain-text secrets, keys, the change log."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from pilothouse.config.app import FILE, ProviderConfig
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.security_facts import AuditFact, KeyFact, PlaintextFact, SecretFact
from pilothouse.security import audit, scan
from pilothouse.security.secrets import fingerprint, make_secret_reader
from pilothouse.server.composition import Control
from pilothouse.server.reading import READ
from pilothouse.store.state import changes, grants, keys, pointers, releases
from pilothouse.store.telemetry import dialect

CREDENTIAL_ACTIONS = ("key.create", "key.revoke")


def secrets(control: Control, conn: Connection) -> dict[str, SecretFact]:
    """Provider → its secret, for the providers that name one."""
    used = _environments(conn)
    read = make_secret_reader(control.app_dir)
    found = {}
    for name, provider in control.config.providers.items():
        reference = provider.key or provider.options.get("secret_key", "")
        if not reference:
            continue
        try:
            digest = fingerprint(control.secret.salt, read(reference))
        except ConfigError:
            digest = ""
        found[name] = SecretFact(
            name=name,
            reference=reference,
            backend=reference.partition("://")[0],
            owner=provider.key_owner,
            rotate_s=provider.rotate_s,
            rotated_us=_rotated(provider),
            envs=used.get(name, ()),
            fingerprint=digest,
        )
    return found


def _rotated(provider: ProviderConfig) -> int | None:
    if not provider.rotated:
        return None
    try:
        day = datetime.fromisoformat(provider.rotated)
    except ValueError as error:
        raise ConfigError(
            f"rotated: {provider.rotated!r} is not a date", where=f"{FILE}: {provider.name}", hint="2026-11-23"
        ) from error
    return int(day.replace(tzinfo=day.tzinfo or UTC).timestamp() * 1_000_000)


def _environments(conn: Connection) -> dict[str, tuple[str, ...]]:
    """Provider → environments in which a live release calls it, fallbacks included."""
    used: dict[str, set[str]] = {}
    for pointer in pointers.every(conn):
        manifest = releases.manifest(conn, releases.get(conn, pointer.route, pointer.stable))
        models = [manifest.model, *(step.model for step in manifest.policy.fallback if step.model is not None)]
        for model in models:
            used.setdefault(model.provider, set()).add(pointer.env)
    return {name: tuple(sorted(envs)) for name, envs in used.items()}


def files_of(control: Control) -> list[Path]:
    """The app's files that must hold no secret: the config and every template, tool list and schema."""
    named = {name for route in control.config.routes.values() for name in route.files.values()}
    found = [control.app_dir / FILE, *(control.app_dir / name for name in sorted(named))]
    return [path for path in found if path.is_file()]


def plaintext(control: Control, files: list[Path]) -> list[PlaintextFact]:
    """Secrets written out in the app's files; StoreError where one cannot be read."""
    return [
        PlaintextFact(
            where=f"{hit.file}:{hit.line}",
            kind=hit.rule,
            place="config" if hit.file == str(control.app_dir / FILE) else "template",
        )
        for hit in scan.scan_files(files)
    ]


USED = f"SELECT key_id, list(DISTINCT env) FROM requests WHERE ts >= {dialect.at()} AND env <> '' GROUP BY key_id"  # noqa: S608


def keys_of(control: Control, conn: Connection, since_us: int) -> list[KeyFact]:
    """Our API keys with the environments of the requests they made."""
    seen = control.telemetry.rows(USED, [since_us])
    envs = {key: tuple(sorted(found)) for key, found in seen}
    return [
        KeyFact(id=k.id, name=k.name, env=k.env, revoked=bool(k.revoked_us), request_envs=envs.get(k.id, ()))
        for k in keys.list_keys(conn)
    ]


def log_of(conn: Connection) -> AuditFact:
    """The change log verified from its first row, and the credentials that store and log count."""
    rows = changes.rows(conn)
    report = audit.verify(rows)
    stored = keys.list_keys(conn)
    return AuditFact(
        ok=report.ok,
        rows=report.rows,
        reason=report.reason,
        credential_changes=len(stored) + sum(bool(one.revoked_us) for one in stored),
        credential_rows=sum(row.change.action in CREDENTIAL_ACTIONS for row in rows),
        reads=sum(row.change.action == READ for row in rows),
        editable=grants.editable(conn),
    )
