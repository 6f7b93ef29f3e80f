"""Backup and restore of the state: one file, checked line by line, the same whichever engine the state is kept in.

    backup.json            what the file holds: schema, rows and sum of every table, the change log's head, hashes
    state/<table>.jsonl    the rows
    table.json             the table that the workers held
    telemetry/…            what is recorded, where it was asked for

The rows are one snapshot. A restore is one transaction: it ends with the state of the backup, proven table by table
and through the change log's chain, or leaves what was there.
"""

import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection

from pilothouse import __version__
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Refused, StoreError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.security import audit
from pilothouse.store.state import changes, dump, hosts
from pilothouse.store.state.dump import Summing, TableSum
from pilothouse.store.state.engine import HEAD, StateStore, schema, upgrade

FORMAT = 1
CONTENTS = "backup.json"
TELEMETRY = "telemetry/"
_LINE_MAX = 256 << 20  # bytes
# What reading an archive whose bytes have changed can raise: sums, lengths, names, and flags for what nobody wrote.
_DAMAGE = (
    KeyError, zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError,
)  # fmt: skip

Progress = Callable[[int, int], None]  # tables done, of how many


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. `files`: hashes of the app's files; `secrets`: fingerprint of the secrets, not in it."""

    kind: Literal["pilothouse-backup"] = "pilothouse-backup"
    format: int = FORMAT
    made_us: int
    version: str
    schema: str
    engine: str
    tables: dict[str, TableSum]
    changes: int  # rows of the change log …
    head: str  # … and the hash of the last
    files: dict[str, str] = {}
    secrets: str = ""
    others: dict[str, str] = {}  # every other file in the backup → its SHA-256


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was made."""

    file: str
    bytes: int
    contents: Contents


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A restore that was proven. `same_secrets`: None where nobody said which secrets this host has."""

    tables: dict[str, TableSum]
    rows: int
    changes: int
    head: str
    made_us: int
    from_engine: str
    to_engine: str
    schema: str
    same_secrets: bool | None = None


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """What goes along beside the state: `files` under their names in the backup, and what is told of the host."""

    files: dict[str, Path] = {}
    app_files: dict[str, str] = {}
    secrets: str = ""


def write(store: StateStore, to: Path, clock: Clock, extra: Extra, progress: Progress) -> Written:
    """Write the backup of now to `to`, whole or not at all, readable by its owner alone. StoreError."""
    beside = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w+b") as out:
                contents = _write(store, out, clock, extra, progress)
                out.flush()
                os.fsync(out.fileno())
            beside.replace(to)
        finally:
            beside.unlink(missing_ok=True)
        return Written(file=str(to), bytes=to.stat().st_size, contents=contents)
    except OSError as error:
        raise StoreError(f"the backup cannot be written: {error.strerror}", where=str(to)) from error


def _write(store: StateStore, out: Any, clock: Clock, extra: Extra, progress: Progress) -> Contents:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with store.read() as conn:
            made_us = clock.now_us()
            sums = _write_tables(archive, conn, progress)
            checked = audit.verify(changes.rows(conn))
            found = schema(conn) or ""
        if not checked.ok:
            raise StoreError(
                f"the change log is not whole: {checked.reason}", where="changes",
                hint="a backup of it would be worth nothing; `pilothouse audit verify` says more",
            )  # fmt: skip
        others = {name: _add(archive, name, path) for name, path in extra.files.items()}
        contents = Contents(
            made_us=made_us,
            version=__version__,
            schema=found,
            engine=store.engine.dialect.name,
            tables=sums,
            changes=checked.rows,
            head=checked.head,
            files=extra.app_files,
            secrets=extra.secrets,
            others=others,
        )
        archive.writestr(CONTENTS, msgspec.json.format(msgspec.json.encode(contents), indent=2))
    return contents


def _write_tables(archive: zipfile.ZipFile, conn: Connection, progress: Progress) -> dict[str, TableSum]:
    sums: dict[str, TableSum] = {}
    tables = dump.tables(conn)
    for done, table in enumerate(tables):
        progress(done, len(tables))
        summing = Summing()
        with archive.open(_name(table.name), "w", force_zip64=True) as rows:
            for line in summing.passing(dump.lines(conn, table)):
                rows.write(line + b"\n")
        sums[table.name] = summing.total
    progress(len(tables), len(tables))
    return sums


def _name(table: str) -> str:
    return f"state/{table}.jsonl"


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    archive.write(path, name)
    return bytes_hash(path.read_bytes())


def read(file: Path) -> Contents:
    """What a backup holds; StoreError where it is none, or a newer version's."""
    with _opened(file) as archive:
        return _contents(archive, file)


def _opened(file: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except FileNotFoundError as error:
        raise StoreError("there is no such file", where=str(file)) from error
    except _DAMAGE as error:
        raise StoreError(f"this is no backup: {error}", where=str(file)) from error


def _contents(archive: zipfile.ZipFile, file: Path) -> Contents:
    try:
        contents = msgspec.json.decode(archive.read(CONTENTS), type=Contents)
    except (*_DAMAGE, msgspec.DecodeError) as error:
        raise StoreError(f"this is no backup of pilothouse: {error}", where=str(file)) from error
    if contents.format > FORMAT or contents.schema > HEAD:
        raise StoreError(
            f"the backup is of a newer version ({contents.version}, schema {contents.schema})",
            where=str(file),
            hint="restore it with that version",
        )
    return contents


def restore(
    store: StateStore, file: Path, *, force: bool = False, secrets: str = "", progress: Progress = lambda _d, _o: None
) -> Restored:
    """Make the state what it was when the backup was made; proven before it is committed.

    Refused where there is state already, unless `force`, and where hosts run on the store; StoreError where the
    backup is damaged. What was there is then as it was.
    """
    with _opened(file) as archive:
        contents = _contents(archive, file)
        with store.write() as conn:
            _may(conn, force=force)
            dump.clear(conn)
            upgrade(conn, contents.schema)
            _fill(archive, contents, conn, progress)
            _prove(contents, conn, file)
            upgrade(conn)
        return Restored(
            tables=contents.tables,
            rows=sum(one.rows for one in contents.tables.values()),
            changes=contents.changes,
            head=contents.head,
            made_us=contents.made_us,
            from_engine=contents.engine,
            to_engine=store.engine.dialect.name,
            schema=contents.schema,
            same_secrets=secrets == contents.secrets if secrets and contents.secrets else None,
        )


def _may(conn: Connection, *, force: bool) -> None:
    if running := [host.host for host in hosts.every(conn) if not host.cut_off]:
        raise Refused(f"{', '.join(running)} runs on this store", hint="stop every host first", code="running")
    if not force and not dump.is_empty(conn):
        raise Refused(
            "there is state here already", hint="--force puts the backup in its place; back it up first",
            code="not_empty",
        )  # fmt: skip


def _fill(archive: zipfile.ZipFile, contents: Contents, conn: Connection, progress: Progress) -> None:
    tables = [table for table in dump.tables(conn) if table.name in contents.tables]
    for done, table in enumerate(tables):
        progress(done, len(tables))
        dump.fill(conn, table, _lines(archive, table.name))
    progress(len(tables), len(tables))


def _lines(archive: zipfile.ZipFile, table: str) -> Iterator[bytes]:
    try:
        with archive.open(_name(table)) as rows:
            while line := rows.readline(_LINE_MAX):
                yield line.rstrip(b"\n")
    except _DAMAGE as error:
        raise StoreError(f"the backup is damaged: {error}", where=_name(table)) from error


def _prove(contents: Contents, conn: Connection, file: Path) -> None:
    """Every table's rows are those of the backup, and the change log is whole up to the same head."""
    found = dump.sums(conn)
    wrong = [name for name, known in contents.tables.items() if found.get(name) != known]
    if wrong:
        raise StoreError(f"the backup is damaged: {', '.join(wrong)} do not add up", where=str(file))
    checked = audit.verify(changes.rows(conn))
    if not checked.ok or (checked.rows, checked.head) != (contents.changes, contents.head):
        raise StoreError(
            f"the change log of the backup is not whole: {checked.reason or 'it ends elsewhere'}", where=str(file)
        )


def extract(file: Path, folder: Path) -> bool:
    """Unpack what is recorded into `folder`, each file checked; whether there is any. StoreError."""
    with _opened(file) as archive:
        contents = _contents(archive, file)
        wanted = [name for name in contents.others if name.startswith(TELEMETRY)]
        for name in wanted:
            data = _read(archive, name)
            if bytes_hash(data) != contents.others[name] or ".." in Path(name).parts:
                raise StoreError("the backup is damaged", where=name)
            target = folder / name.removeprefix(TELEMETRY)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return bool(wanted)


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except _DAMAGE as error:
        raise StoreError(f"the backup is damaged: {error}", where=name) from error


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was made, restored into a store of its own and compared. Times in seconds."""

    ok: bool
    tables: int
    rows: int
    bytes: int
    changes: int
    head: str
    backup_s: float
    restore_s: float
    problem: str = ""


def rehearse(store: StateStore, clock: Clock, progress: Progress = lambda _d, _o: None) -> Rehearsal:
    """Back up, restore into an empty store beside it and compare every table: what the drill `restore` measures.

    Nothing of the running state is touched. A failure is the drill's result, not an error.
    """
    with tempfile.TemporaryDirectory(prefix="pilothouse-restore-") as name:
        file = Path(name) / "state.backup"
        began = clock.monotonic()
        written = write(store, file, clock, Extra(), progress)
        between = clock.monotonic()
        problem = ""
        second = StateStore(Path(name) / "state.db")
        try:
            restore(second, file)
            with second.read() as conn:
                if dump.sums(conn) != written.contents.tables:
                    problem = "the restored state is not the one that was backed up"
        except (StoreError, Refused) as error:
            problem = str(error)
        finally:
            second.close()
        contents = written.contents
        return Rehearsal(
            ok=not problem,
            tables=len(contents.tables),
            rows=sum(one.rows for one in contents.tables.values()),
            bytes=written.bytes,
            changes=contents.changes,
            head=contents.head,
            backup_s=round(between - began, 3),
            restore_s=round(clock.monotonic() - between, 3),
            problem=problem,
        )
