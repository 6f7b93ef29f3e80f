"""Payload files: one is written whole and on the disk before it is listed; many small ones are put together.

All of it happens on the writer's connection, so that nobody else is between writing a file and listing it.
"""

import fcntl
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.files import quoted, synced
from pilothouse.telemetry.payloads import COLUMNS, folder, read

GROUP_ROWS = 2048  # of a row group: what is read and unpacked to open one payload
TIERS = (64 << 10, 512 << 10, 4 << 20)  # bytes: so many files below one of these …
TOGETHER = 8  # … and no other are put together; of a day that is over, two are enough
_ON_DISK = ".parquet"
_UNFINISHED = ".parquet.part"


class Listed(msgspec.Struct, frozen=True):
    """A file as the list has it: `day` in µs since 1970."""

    file: str
    day: int
    route: str
    bytes: int


def put(write: duckdb.DuckDBPyConnection, root: Path, day_us: int, route: str, rows: str, params: Any = ()) -> int:
    """Write what `rows` selects, which has `COLUMNS`, as a file of that day and route, and list it; its bytes.

    Inside the caller's transaction: the file counts once that is committed. Raises duckdb.Error, OSError.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    day = write.execute("SELECT strftime(make_timestamp(?::BIGINT), '%Y-%m-%d')", [day_us]).fetchone()
    path = root / f"{day[0] if day else ''}-{secrets.token_hex(6)}{_ON_DISK}"
    fresh = path.with_suffix(_UNFINISHED)
    write.execute(
        f"COPY (SELECT {COLUMNS} FROM ({rows}) ORDER BY owner) TO {quoted(fresh)} "  # noqa: S608  # our own names
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS})",
        params,
    )
    fresh.chmod(0o600)
    synced(fresh)
    fresh.replace(path)
    synced(root)
    size = path.stat().st_size
    write.execute(
        "INSERT INTO payload_files SELECT $file, make_timestamp($day)::DATE, $route, min(ts), max(ts), "  # noqa: S608
        f"count(*), $bytes FROM read_parquet({quoted(path)})",
        {"file": path.name, "day": day_us, "route": route, "bytes": size},
    )
    return size


def sweep(store: TelemetryStore) -> int:
    """Delete files that no list names: what a kill has left, and what was put together; their number.

    Another time where a reader holds them.
    """
    root = folder(store)
    if root is None or not root.is_dir():
        return 0
    with store.writer() as write, _unheld(root) as free:
        if not free:
            return 0
        listed = {name for (name,) in write.execute("SELECT file FROM payload_files").fetchall()}
        litter = [path for path in root.glob("*.parquet*") if path.name not in listed]
        for path in litter:
            path.unlink(missing_ok=True)
    return len(litter)


def merge(store: TelemetryStore, over: Callable[[int], bool]) -> int:
    """Put small files of one day and route together, the smallest first; how many there are fewer.

    `over`: whether a day (µs) is. Raises duckdb.Error, OSError, and then the rest stays as it is.
    """
    root = folder(store)
    fewer = 0
    while root is not None and (parts := _together(store, over)):
        with store.transaction() as write:
            put(write, root, parts[0].day, parts[0].route, f"FROM {read(store, [part.file for part in parts])}")
            marks = ", ".join("?" * len(parts))
            write.execute(f"DELETE FROM payload_files WHERE file IN ({marks})", [part.file for part in parts])  # noqa: S608
        fewer += len(parts) - 1
    if fewer:
        sweep(store)
    return fewer


def _together(store: TelemetryStore, over: Callable[[int], bool]) -> Sequence[Listed]:
    """Files to be put together next."""
    small = store.query(
        "SELECT file, epoch_us(day::TIMESTAMP) AS day, route, bytes FROM payload_files WHERE bytes < ? ORDER BY bytes",
        [TIERS[-1]],
    )
    groups: defaultdict[tuple[int, str, int], list[Listed]] = defaultdict(list)
    for one in msgspec.convert(small, list[Listed]):
        groups[one.day, one.route, sum(one.bytes >= tier for tier in TIERS)].append(one)
    for (day_us, _, _), found in groups.items():
        if len(found) >= (2 if over(day_us) else TOGETHER):
            return found[:TOGETHER]
    return ()


@contextmanager
def _unheld(root: Path) -> Iterator[bool]:
    """Whether no reader holds the files, and none can take hold meanwhile."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
