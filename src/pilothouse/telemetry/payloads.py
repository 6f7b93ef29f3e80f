"""Prompts, answers and whatever else is bulky, apart from the rows that questions read.

    <store's folder>/payloads/2026-11-24-9f3a6c21d0b4.parquet      ZSTD, of one day (UTC) and one route, by owner

New payloads go straight into a file where one load brings much (`landing`), else into the table `payloads`, which is
moved into files when there is much of it and when the day is over; small files are put together (`roller`). A file
counts when the table `payload_files` lists it, and that is written in the transaction that brings its rows or takes
them from where they were; so a kill at any point neither loses nor doubles one. A file that is not listed is what such
a kill left: it is deleted.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.files import quoted
from pilothouse.telemetry import lookup
from pilothouse.telemetry.filter_sql import Condition, Window

FOLDER = "payloads"
LOOKED_UP_MAX = 4  # owners whose time is looked up, to read less
DAY_US = 86_400_000_000
COLUMNS = "owner, ts, request, response, upstream"
_BODIES = "owner, request, response, upstream"

Ask = Callable[..., list[dict[str, Any]]]


def folder(store: TelemetryStore) -> Path | None:
    """Where the store's payload files are; None for a store without: payloads stay in its table."""
    return None if store.folder is None else store.folder / FOLDER


@contextmanager
def held(store: TelemetryStore) -> Iterator[None]:
    """While this is held no file goes because its payloads were put into another. Hold it before the list is read."""
    root = folder(store)
    if root is None or not root.is_dir():
        yield
        return
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def fetch(store: TelemetryStore, owners: Sequence[str]) -> dict[str, dict[str, str]]:
    """Owner → request, response, upstream, of those owners that have payloads. Raises StoreError."""
    try:
        return _fetch(store, owners)
    except StoreError:  # a file may have expired between the look at the list and its opening
        return _fetch(store, owners)


def _fetch(store: TelemetryStore, owners: Sequence[str]) -> dict[str, dict[str, str]]:
    if not owners:
        return {}
    with (
        held(store),
        store.reading() as ask,
    ):  # one snapshot: a roll in between neither hides a payload nor shows it twice
        marks = ", ".join("?" * len(owners))
        rows = ask(f"SELECT {_BODIES} FROM payloads WHERE owner IN ({marks})", list(owners))  # noqa: S608  # marks alone
        missing = sorted(set(owners) - {row["owner"] for row in rows})
        files = _files_of(store, ask, missing)
        if files:
            marks = ", ".join("?" * len(missing))
            rows += ask(f"SELECT {_BODIES} FROM {read(store, files)} WHERE owner IN ({marks})", missing)  # noqa: S608
    return {row.pop("owner"): {name: text or "" for name, text in row.items()} for row in rows}


def _near(store: TelemetryStore, idents: list[str]) -> Condition:
    """The time of these, where they are few: to look for it is worth it then."""
    if len(set(idents)) > LOOKED_UP_MAX:
        return Condition()
    windows = [lookup.when(store, ident) for ident in set(idents)]
    if not all(window.until_us for window in windows):
        return Condition()
    return Window(min(w.since_us for w in windows), max(w.until_us for w in windows)).of("ts")


def _files_of(store: TelemetryStore, ask: Ask, owners: list[str]) -> list[str]:
    """The files in whose time these owners are: the requests' and the spans' rows say when that was."""
    if not owners or not ask("SELECT 1 FROM payload_files LIMIT 1"):
        return []
    rows = ask(
        "SELECT file FROM payload_files WHERE EXISTS "
        "(SELECT 1 FROM unnest(?::TIMESTAMP[]) AS t(moment) WHERE moment BETWEEN since AND until)",
        [[row["ts"] for row in _times(store, ask, owners)]],
    )
    return [row["file"] for row in rows]


def _times(store: TelemetryStore, ask: Ask, owners: list[str]) -> list[dict[str, Any]]:
    """When these requests and spans were."""
    requests = [owner for owner in owners if "/" not in owner]
    spans = [owner.split("/", 1) for owner in owners if "/" in owner]
    times = []
    if requests:
        marks = ", ".join("?" * len(requests))
        near = _near(store, requests)
        times += ask(f"SELECT ts FROM requests WHERE id IN ({marks}) AND {near.sql}", [*requests, *near.params])  # noqa: S608
    if spans:
        marks = ", ".join(["(?, ?)"] * len(spans))
        near = _near(store, [trace for trace, _ in spans])
        times += ask(
            f"SELECT ts FROM spans WHERE (trace_id, span_id) IN (VALUES {marks}) AND {near.sql}",  # noqa: S608
            [*(part for pair in spans for part in pair), *near.params],
        )
    return times


def source(store: TelemetryStore, ask: Ask, since_us: int, until_us: int) -> str:
    """SQL of a relation with `COLUMNS`: table and files that hold payloads of the window, in `ask`'s snapshot.

    Readers have them `held` until they have read it.
    """
    files = ask(
        "SELECT file FROM payload_files WHERE until >= make_timestamp(?::BIGINT) AND since < make_timestamp(?::BIGINT)",
        [since_us, until_us],
    )
    hot = f"SELECT {COLUMNS} FROM payloads"  # noqa: S608  # our own names
    if folder(store) is None:
        return "payloads"
    if not files:
        return f"({hot})"
    return f"({hot} UNION ALL SELECT {COLUMNS} FROM {read(store, [row['file'] for row in files])})"  # noqa: S608


def read(store: TelemetryStore, files: Sequence[str]) -> str:
    """SQL of what these files hold."""
    root = folder(store)
    paths = ", ".join(quoted(root / name) for name in files) if root else ""
    return f"read_parquet([{paths}])"
