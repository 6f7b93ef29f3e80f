"""Export of what is recorded to plain files, and import of such files without loss or doubling.

    DEST/requests/day=2026-11-24/<export>.parquet     one folder per table and day (UTC), as analytical tools like it
    DEST/export-<export>.json                         what was written: window, rows, bytes and SHA-256 of every file

The list is written last: an export without one did not end, and is not imported. Import takes each row once, however
often it is repeated, and adds the minute rollups of the requests that are new.
"""

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from pilothouse import __version__
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import BadRequest, StoreError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.store.telemetry.files import quoted
from pilothouse.store.telemetry.schema import SCHEMA_VERSION
from pilothouse.telemetry import entries, payloads, rollups

Format = Literal["parquet", "jsonl"]
Progress = Callable[[int, int], None]  # steps done, of how many

# What tells a row from all others; a row whose table has none is told by all that it says.
IDENTITY: dict[str, tuple[str, ...]] = {
    "requests": ("id",),
    "attempts": ("request_id", "n"),
    "spans": ("trace_id", "span_id"),
    "span_events": (),
    "app_metrics": (),
    "scores": ("id",),
    "losses": (),
    "payloads": ("owner",),
}
_COPY = {".parquet": "FORMAT parquet, COMPRESSION zstd", ".jsonl": "FORMAT json"}
_DAY_US = payloads.DAY_US
_BLOCK = 1 << 20


class ExportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an export. `path` is relative to the destination."""

    path: str
    table: str
    rows: int
    bytes: int
    sha256: str


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds: rows with `since_us` ≤ time < `until_us` (µs since 1970)."""

    id: str
    format: Format
    schema: int
    version: str
    since_us: int
    until_us: int
    files: list[ExportedFile]

    @property
    def rows(self) -> dict[str, int]:
        """Rows by table."""
        found: dict[str, int] = dict.fromkeys(IDENTITY, 0)
        for file in self.files:
            found[file.table] += file.rows
        return found


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did, by table: rows that are new, and rows that were there already."""

    added: dict[str, int]
    known: dict[str, int]


def export(
    store: TelemetryStore,
    to: str,
    window: tuple[int, int],
    clock: Clock,
    *,
    format: Format = "parquet",  # noqa: A002  # the word that people use
    traces: Sequence[str] | None = None,
    progress: Progress = lambda _done, _of: None,
) -> Export:
    """Write the rows of `window` below `to`: a folder, or a URL that fsspec knows (s3://…). Raises StoreError.

    `traces`: only what belongs to the traces with these ids.
    """
    since_us, until_us = window
    if since_us >= until_us:
        raise BadRequest("there is no time between the start and the end", where="since", hint="give an earlier start")
    made = f"{clock.now_us() // 1_000_000}-{os.urandom(3).hex()}"
    with _outgoing(to) as folder:
        only = _belonging(traces)
        days = _days(store, only, since_us, until_us)
        files = []
        for done, (table, day_us) in enumerate(days):
            bounds = (max(since_us, day_us), min(until_us, day_us + _DAY_US))
            relative = Path(table) / f"day={_day(store, day_us)}" / f"{made}.{format}"
            written = _write(store, folder / relative, relative, (table, only[table]), bounds)
            files += [written] if written.rows else []
            progress(done + 1, len(days))
        result = Export(
            id=made, format=format, schema=SCHEMA_VERSION, version=__version__,
            since_us=since_us, until_us=until_us, files=files,
        )  # fmt: skip
        (folder / f"export-{made}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    return result


def import_(store: TelemetryStore, source: str, *, progress: Progress = lambda _done, _of: None) -> Imported:
    """Take every export below `source`; raises BadRequest where a file is not what its list says, StoreError."""
    with _incoming(source) as folder:
        lists = sorted(folder.glob("export-*.json"))
        if not lists:
            raise BadRequest("there is no finished export here", where=source, hint="look for export-….json")
        wanted = [(found, file) for path in lists for found in [_list(path)] for file in found.files]
        for _, file in wanted:
            _check(folder / file.path, file)
        added, known = dict.fromkeys(IDENTITY, 0), dict.fromkeys(IDENTITY, 0)
        with store.transaction() as write:
            for done, (found, file) in enumerate(wanted):
                new = _take(store, write, folder / file.path, file, found.format)
                added[file.table] += new
                known[file.table] += file.rows - new
                progress(done + 1, len(wanted))
    return Imported(added=added, known=known)


def _belonging(traces: Sequence[str] | None) -> dict[str, str]:
    """Table → the condition that its rows belong to these traces."""
    if traces is None:
        return dict.fromkeys(IDENTITY, "true")
    if not all(len(trace) == 32 and trace.isalnum() for trace in traces):
        raise BadRequest("a trace id has 32 hex characters", where="traces")
    listed = "(" + ", ".join(f"'{trace}'" for trace in traces) + ")" if traces else "('')"
    requests = f"(SELECT id FROM requests WHERE trace_id IN {listed})"  # noqa: S608  # letters and digits alone
    by_trace = f"trace_id IN {listed}"
    return dict.fromkeys(IDENTITY, "false") | {
        "requests": by_trace,
        "spans": by_trace,
        "span_events": by_trace,
        "scores": f"{by_trace} OR request_id IN {requests}",
        "attempts": f"request_id IN {requests}",
        "payloads": f"owner IN {requests} OR left(owner, 32) IN {listed}",
    }


def _days(store: TelemetryStore, only: dict[str, str], since_us: int, until_us: int) -> list[tuple[str, int]]:
    """(table, start of a UTC day in µs) wherever there are rows in the window."""
    found = []
    for table, condition in only.items():
        if table == "payloads":
            continue
        found += [(table, day_us) for day_us in _days_of(store, table, condition, (since_us, until_us))]
    if only["payloads"] == "true":
        days = _days_of(store, _PAYLOAD_TIMES, "true", (since_us, until_us))
    else:  # of some traces: the days of their requests and spans
        days = sorted({day_us for table, day_us in found if table in ("requests", "spans")})
    return found + [("payloads", day_us) for day_us in days]


_PAYLOAD_TIMES = """(SELECT ts FROM payloads UNION ALL SELECT since FROM payload_files
  UNION ALL SELECT until FROM payload_files)"""


def _days_of(store: TelemetryStore, table: str, condition: str, window: tuple[int, int]) -> list[int]:
    rows = store.rows(
        f"SELECT DISTINCT epoch_us(ts) // {_DAY_US} FROM {table} "  # noqa: S608  # our own names, and hex
        f"WHERE ts >= make_timestamp(?::BIGINT) AND ts < make_timestamp(?::BIGINT) AND ({condition})",
        [window[0] // _DAY_US * _DAY_US, window[1]],
    )
    return [day * _DAY_US for (day,) in sorted(rows)]


def _day(store: TelemetryStore, day_us: int) -> str:
    return str(store.rows("SELECT strftime(make_timestamp(?::BIGINT), '%Y-%m-%d')", [day_us])[0][0])


def _write(
    store: TelemetryStore, path: Path, relative: Path, rows_of: tuple[str, str], bounds: tuple[int, int]
) -> ExportedFile:
    (table, condition), (since_us, until_us) = rows_of, bounds
    path.parent.mkdir(parents=True, exist_ok=True)
    with payloads.held(store), store.reading() as ask:
        rows_in = payloads.source(store, ask, since_us, until_us) if table == "payloads" else table
        wanted = (
            f"SELECT * FROM {rows_in} WHERE ts >= make_timestamp({since_us}) AND ts < make_timestamp({until_us}) "  # noqa: S608
            f"AND ({condition}) ORDER BY ts"
        )
        rows = store.copy(ask, wanted, table, path, _COPY[path.suffix])
    if not rows:
        path.unlink()
        return ExportedFile(path=str(relative), table=table, rows=0, bytes=0, sha256="")
    return ExportedFile(path=str(relative), table=table, rows=rows, bytes=path.stat().st_size, sha256=_sha256(path))


def _list(path: Path) -> Export:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Export)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"this is not the list of an export: {error}", where=path.name) from None
    if found.schema > SCHEMA_VERSION:
        raise BadRequest(
            f"the export has schema {found.schema}, this version knows {SCHEMA_VERSION}",
            where=path.name, hint="upgrade pilothouse",
        )  # fmt: skip
    for file in found.files:
        parts = Path(file.path).parts
        if file.table not in IDENTITY or not parts or Path(file.path).is_absolute() or ".." in parts:
            raise BadRequest(f"the list names a file that no export has: {file.path[:200]}", where=path.name)
    return found


def _check(path: Path, file: ExportedFile) -> None:
    try:
        same = path.stat().st_size == file.bytes and _sha256(path) == file.sha256
    except FileNotFoundError:
        raise BadRequest("a file of the export is missing", where=file.path, hint="copy the folder again") from None
    if not same:
        raise BadRequest("a file is not as it was exported", where=file.path, hint="copy the folder again")


def _take(
    store: TelemetryStore, write: duckdb.DuckDBPyConnection, path: Path, file: ExportedFile, format_: Format
) -> int:
    """Insert the rows that are not there yet; their number."""
    columns = write.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND NOT internal",
        [file.table],
    ).fetchall()
    if format_ == "parquet":
        source = f"read_parquet({quoted(path)})"
    else:
        spec = ", ".join(f"\"{name}\": '{type_}'" for name, type_ in columns)
        source = f"read_json({quoted(path)}, format = 'newline_delimited', columns = {{{spec}}})"
    names = {name for name, _ in columns}
    have = [row[0] for row in write.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()]  # noqa: S608
    chosen = ", ".join(f'"{name}"' for name in have if name in names)
    key = IDENTITY[file.table]
    once = f"QUALIFY row_number() OVER (PARTITION BY {', '.join(key)}) = 1" if key else ""
    write.execute(f"CREATE OR REPLACE TEMP TABLE arriving AS SELECT {chosen} FROM {source} {once}")  # noqa: S608
    same = " AND ".join(f"t.{name} IS NOT DISTINCT FROM a.{name}" for name in key or chosen.split(", "))
    bounds = write.execute("SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM arriving").fetchone()
    since_us, until_us = bounds if bounds and bounds[0] is not None else (0, 0)
    if file.table == "payloads" and payloads.folder(store) is not None:
        there = payloads.source(store, _asking(write), since_us, until_us + 1)
    else:
        there = store.stored(write, file.table, (since_us, until_us), key)
    write.execute(
        f"DELETE FROM arriving a USING {there} t "  # noqa: S608  # our own names
        f"WHERE t.ts >= make_timestamp(?::BIGINT) AND t.ts <= make_timestamp(?::BIGINT) AND {same}",
        [since_us, until_us],
    )
    added = write.execute(f"INSERT INTO {file.table} BY NAME SELECT * FROM arriving").fetchone()  # noqa: S608
    if file.table in _DERIVED:
        _derive(store, write, file.table)
    write.execute("DROP TABLE arriving")
    return int(added[0]) if added else 0


_DERIVED = {"requests": "request", "spans": "span", "scores": "score"}


def _derive(store: TelemetryStore, write: duckdb.DuckDBPyConnection, table: str) -> None:
    """Count what arrived, and make its entries."""
    # An export of an earlier version lacks columns.
    write.execute(f"CREATE OR REPLACE TEMP TABLE arrived AS FROM {table} LIMIT 0")  # our own names
    write.execute("INSERT INTO arrived BY NAME SELECT * FROM arriving")
    if table == "requests":
        rollups.add(write, "arrived")
    if table == "spans":
        rollups.add_spans(write, "arrived")
    entries.add(store, write, {_DERIVED[table]: "arrived"})
    write.execute("DROP TABLE arrived")


def _asking(write: duckdb.DuckDBPyConnection) -> payloads.Ask:
    """Questions within the transaction under way."""

    def ask(sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        found = write.execute(sql, list(params))
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    return ask


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _outgoing(to: str) -> Iterator[Path]:
    """A local folder that is `to`, or whose files are sent there at the end, the list last."""
    if "://" not in to:
        folder = Path(to).expanduser().absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield folder
        except (OSError, duckdb.Error) as error:
            raise StoreError(f"the export cannot be written: {error}", where=to) from error
        return
    system, root = _remote(to)
    with tempfile.TemporaryDirectory(prefix="pilothouse-export-") as made:
        folder = Path(made)
        yield folder
        try:
            for path in sorted(folder.rglob("*.*"), key=lambda path: path.suffix == ".json"):
                if path.is_file():
                    system.put_file(str(path), f"{root}/{path.relative_to(folder)}")
        except OSError as error:
            raise StoreError(f"the export cannot be sent: {error}", where=to) from error


@contextmanager
def _incoming(source: str) -> Iterator[Path]:
    if "://" not in source:
        folder = Path(source).expanduser().absolute()
        if not folder.is_dir():
            raise BadRequest("there is no such folder", where=source)
        yield folder
        return
    system, root = _remote(source)
    with tempfile.TemporaryDirectory(prefix="pilothouse-import-") as made:
        try:
            for name in system.find(root):
                path = Path(made) / str(name).removeprefix(root).lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                with system.open(name, "rb") as file, path.open("wb") as copy:
                    shutil.copyfileobj(file, copy, _BLOCK)
        except OSError as error:
            raise StoreError(f"the export cannot be fetched: {error}", where=source) from error
        yield Path(made)


def _remote(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; raises BadRequest where its protocol is not to be had."""
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        raise BadRequest(
            "files elsewhere need the extra `s3`", where=url, hint="pip install 'pilothouse[s3]'"
        ) from error
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise BadRequest(f"this address cannot be used: {error}", where=url) from error
    return system, str(root).rstrip("/")
