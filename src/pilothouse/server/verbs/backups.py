"""Backups of a running installation, with progress line by line; restores of one that does not run."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.config.app import AppConfig, load
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import Refused
from pilothouse.domain.hashing import bytes_hash
from pilothouse.security.files import ensure
from pilothouse.server import backup
from pilothouse.server.backup import TELEMETRY, Extra
from pilothouse.server.composition import Control, app_file_names, secrets_fingerprint, state_place
from pilothouse.server.datadir import DataDir, control_address, supervisor_state
from pilothouse.server.link import table_path
from pilothouse.server.opening import open_telemetry
from pilothouse.server.streamed import Tell, streamed, threaded
from pilothouse.store.state import changes
from pilothouse.store.state.engine import StateStore
from pilothouse.telemetry import transfer


class BackUp(msgspec.Struct, forbid_unknown_fields=True):
    """POST /backups. `to`: a file on control's machine; `telemetry`: what this host has recorded too."""

    to: str
    telemetry: bool = False


async def back_up(control: Control, asked: BackUp, actor: Actor) -> AsyncIterator[dict[str, Any]]:
    """Lines of progress, then what the backup holds."""
    await control.load()

    def work(tell: Tell) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="pilothouse-backup-", dir=control.data.path) as folder:
            files = _recorded(control, Path(folder), _progress(tell)) if asked.telemetry else {}
            if (table := table_path(control.data.path)).exists():
                files["table.json"] = table
            extra = Extra(files=files, app_files=_app_files(control), secrets=secrets_fingerprint(control.secret))
            _note(control, actor, asked)  # before: the backup then holds that it was made
            written = backup.write(control.state, Path(asked.to), control.clock, extra, _progress(tell))
        return {"file": written.file, "bytes": written.bytes, "contents": msgspec.to_builtins(written.contents)}

    async for line in streamed(control.tasks, "backup", threaded(work)):
        yield line


def _recorded(control: Control, folder: Path, progress: transfer.Progress) -> dict[str, Path]:
    """What is recorded, exported into `folder`; name in the backup → file."""
    transfer.export(control.telemetry, str(folder), (0, control.clock.now_us()), control.clock, progress=progress)
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{TELEMETRY}{path.relative_to(folder)}": path for path in found}


def _app_files(control: Control) -> dict[str, str]:
    found = {}
    for name in app_file_names(control.config):
        path = control.app_dir / name
        found[name] = bytes_hash(path.read_bytes()) if path.is_file() else ""
    return found


def _note(control: Control, actor: Actor, asked: BackUp) -> None:
    with control.state.write() as conn:
        change = Change(
            actor=actor, action="state.backup", object_type="state", object_id=asked.to,
            detail={"telemetry": asked.telemetry},
        )  # fmt: skip
        changes.append(conn, change, control.clock)


def _progress(tell: Tell) -> backup.Progress:
    return lambda done, total: tell({"type": "progress", "done": done, "total": total})


def restore(app_dir: Path, data: DataDir, file: Path, *, force: bool, progress: backup.Progress) -> dict[str, Any]:
    """Restore state, and what is recorded where the backup has it, into what the app's files say. Blocking.

    Refused while something runs on the data directory or on the store, or where there is state and not `force`.
    """
    if control_address(data) is not None or supervisor_state(data) is not None:
        raise Refused("pilothouse runs on this data directory", where=str(data.path), hint="stop it first")
    backup.read(file)
    data.make()
    secret = ensure(data.secret)
    config = load(app_dir)
    state = StateStore(state_place(config, data))
    try:
        done = backup.restore(state, file, force=force, secrets=secrets_fingerprint(secret), progress=progress)
    finally:
        state.close()
    table_path(data.path).unlink(missing_ok=True)  # it is of the state before; control writes that of now
    return {**msgspec.to_builtins(done), "telemetry": _restore_recorded(config, data, file, progress)}


def _restore_recorded(
    config: AppConfig, data: DataDir, file: Path, progress: transfer.Progress
) -> dict[str, int] | None:
    """Rows that came new into each table; None where the backup has nothing that was recorded."""
    with tempfile.TemporaryDirectory(prefix="pilothouse-restore-", dir=data.path) as folder:
        if not backup.extract(file, Path(folder)):
            return None
        telemetry = open_telemetry(config.store, data, config.dir)
        try:
            return dict(transfer.import_(telemetry, folder, progress=progress).added)
        finally:
            telemetry.close()


async def rehearse(control: Control) -> backup.Rehearsal:
    """Back up, restore beside, compare: for the drill."""
    return await asyncio.to_thread(backup.rehearse, control.state, control.clock)
