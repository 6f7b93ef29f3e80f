"""What arrives again is left out: an exporter whose answer was lost sends its batch once more.

A span is told by its time, trace and id; a score by its time and id; log records and metric points, which have no id,
by all that they say. The first stays: OTLP sends a span when it has ended, so a later one says nothing more. Requests
need no look-up, each has one line in the journal.
"""

from collections.abc import Iterable
from typing import Any

from pilothouse.store.telemetry import TelemetryStore, lines
from pilothouse.store.telemetry.recall import Between, Recall

HOUR_US = 3_600_000_000
RANGES_MAX = 8

# kind → table, and the columns that tell its rows apart, beside the time; by the last of them they are looked up
_TOLD_BY: dict[str, tuple[str, dict[str, str]]] = {
    "span": ("spans", {"trace_id": "VARCHAR", "span_id": "VARCHAR"}),
    "event": ("span_events", {"digest": "UBIGINT"}),
    "metric": ("app_metrics", {"digest": "UBIGINT"}),
    "score": ("scores", {"id": "VARCHAR"}),
}


def leave_out(store: TelemetryStore, write: Any, kinds: list[str]) -> dict[str, int]:
    """Take out of the staged batches what stands in them twice, or in the store already; kind → how many."""
    return {kind: count for kind in kinds if kind in _TOLD_BY and (count := _leave_out(store, write, kind))}


def _leave_out(store: TelemetryStore, write: Any, kind: str) -> int:
    table, columns = _TOLD_BY[kind]
    batch = lines.batch(kind)
    told = ", ".join(("ts", *columns))
    gone = 0
    if write.execute(f"SELECT 1 FROM {batch} GROUP BY {told} HAVING count(*) > 1 LIMIT 1").fetchone():  # noqa: S608
        gone += _removed(
            write,
            f"DELETE FROM {batch} WHERE rowid IN (SELECT rowid FROM {batch} "  # noqa: S608  # our own names
            f"QUALIFY row_number() OVER (PARTITION BY {told} ORDER BY rowid) > 1)",
        )
    what = Recall(
        into="known", table=table, key=list(columns)[-1], wanted=batch,
        columns={"ts": ("t.ts", "TIMESTAMP"), **{name: (f"t.{name}", type_) for name, type_ in columns.items()}},
    )  # fmt: skip
    write.execute(what.create())
    for between in ranges(write, f"SELECT epoch_us(ts) AS a, epoch_us(ts) AS b FROM {batch}"):  # noqa: S608
        store.recall(write, what, between)
    same = " AND ".join(f"b.{name} = k.{name}" for name in ("ts", *columns))
    if write.execute("SELECT 1 FROM known LIMIT 1").fetchone():
        gone += _removed(write, f"DELETE FROM {batch} b USING known k WHERE {same}")  # noqa: S608  # our own names
    write.execute("DROP TABLE known")
    return gone


def _removed(write: Any, sql: str) -> int:
    row = write.execute(sql).fetchone()
    return int(row[0]) if row else 0


def ranges(write: Any, times: str) -> list[Between]:
    """The times from `a` to `b` (µs) of a query's rows as few ranges."""
    found = write.execute(
        f"SELECT min(a), max(b) FROM ({times}) WHERE a IS NOT NULL GROUP BY a // {HOUR_US}"  # noqa: S608  # our own names
    ).fetchall()
    return clustered(found)


def clustered(times: Iterable[Between]) -> list[Between]:
    """Few ranges that hold all of these: one clock that is years off widens no other's."""
    made: list[Between] = []
    for low, high in sorted(times):
        near = made and low - made[-1][1] <= HOUR_US
        if near or len(made) == RANGES_MAX:
            made[-1] = (made[-1][0], max(made[-1][1], high))
        else:
            made.append((low, high))
    return made
