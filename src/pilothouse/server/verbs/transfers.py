"""Export and import of what is recorded, with progress line by line."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec

from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import StoreError
from pilothouse.server import reading
from pilothouse.server.composition import Control
from pilothouse.server.datadir import write_private
from pilothouse.server.streamed import Tell, streamed, threaded
from pilothouse.server.twins import moment
from pilothouse.store.state import changes
from pilothouse.telemetry import transfer

DAY_US = 86_400_000_000
EXPORTED = "exported.json"  # in the data directory
NIGHTLY = Actor(type="policy", id="nightly export")


class Export(msgspec.Struct, forbid_unknown_fields=True):
    """POST /exports. Times as `24h`, ISO 8601 or µs since 1970; no `since`: the beginning, no `until`: now."""

    to: str
    since: str = ""
    until: str = ""
    format: Literal["parquet", "jsonl"] = "parquet"


class Exported(msgspec.Struct):
    """How far the nightly export has come."""

    until_us: int


class Import(msgspec.Struct, forbid_unknown_fields=True):
    """POST /imports."""

    source: str


async def export(control: Control, asked: Export, actor: Actor) -> AsyncIterator[dict[str, Any]]:
    """Lines of progress, then the export as its list says it; all that the journals hold is loaded first."""
    await control.load()

    def work(tell: Tell) -> dict[str, Any]:
        window = (moment(asked.since, control.clock), moment(asked.until, control.clock) or control.clock.now_us())
        reading.note_all(control, actor, "export", window, {"to": asked.to})
        made = transfer.export(
            control.telemetry, asked.to, window, control.clock, format=asked.format, progress=_progress(tell)
        )
        _note(control, actor, "telemetry.export", asked.to, {"export": made.id, "rows": made.rows})
        return {"to": asked.to, "rows": made.rows, **msgspec.to_builtins(made)}

    async for line in streamed(control.tasks, "export", threaded(work)):
        yield line


async def import_(control: Control, asked: Import, actor: Actor) -> AsyncIterator[dict[str, Any]]:
    """Lines of progress, then how many rows of each table were new and how many were known."""
    await control.load()

    def work(tell: Tell) -> dict[str, Any]:
        done = transfer.import_(control.telemetry, asked.source, progress=_progress(tell))
        _note(control, actor, "telemetry.import", asked.source, {"added": done.added, "known": done.known})
        return {"source": asked.source, **msgspec.to_builtins(done)}

    async for line in streamed(control.tasks, "import", threaded(work)):
        yield line


async def nightly(control: Control) -> None:
    """Export the days (UTC) that are over and were not exported yet, where the app's files say where to."""
    config = control.config.export
    if config is None:
        return
    today_us = control.clock.now_us() // DAY_US * DAY_US
    since_us = await asyncio.to_thread(_exported, control, today_us)
    if since_us >= today_us:
        return
    await control.load()

    def work() -> None:
        reading.note_all(control, NIGHTLY, "export", (since_us, today_us), {"to": config.to})
        made = transfer.export(control.telemetry, config.to, (since_us, today_us), control.clock, format=config.format)
        _note(control, NIGHTLY, "telemetry.export", config.to, {"export": made.id, "rows": made.rows})
        write_private(control.data.path / EXPORTED, Exported(until_us=today_us))

    await asyncio.to_thread(work)


def exported_us(control: Control) -> int | None:
    """Up to when records are exported, where the app's files ask for a nightly export; None where they do not."""
    return None if control.config.export is None else _exported(control, control.clock.now_us() // DAY_US * DAY_US)


def _exported(control: Control, today_us: int) -> int:
    """Up to when the nightly export has come, in µs; the first one takes the day before."""
    path = control.data.path / EXPORTED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Exported).until_us
    except FileNotFoundError:
        return today_us - DAY_US
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(
            f"cannot read how far the nightly export has come: {error}", where=str(path),
            hint="delete the file to begin with yesterday",
        ) from error  # fmt: skip


def _progress(tell: Tell) -> transfer.Progress:
    return lambda done, total: tell({"type": "progress", "done": done, "total": total})


def _note(control: Control, actor: Actor, action: str, place: str, detail: dict[str, Any]) -> None:
    """Who took the records where: data that leaves is a change that somebody answers for."""
    with control.state.write() as conn:
        change = Change(actor=actor, action=action, object_type="telemetry", object_id=place, detail=detail)
        changes.append(conn, change, control.clock)
