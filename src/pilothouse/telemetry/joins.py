"""One call to a model, seen by several, counted once: by the gateway's request, else by the innermost span that knows.

Which spans and requests may be of one call is found over the batch that arrives and what is stored near it in time, so
either may come first, also over a restart:

nested    a span that asks a model, inside another that does, with nothing between but plain spans (HTTP, say)
parent    the request's parent (`traceparent`) is such a span, or a plain span below one
response  both tell the same response id, at the same time; a long id that only these two tell, within ten minutes
twins     spans of two instrumentations with the same response id, at the same time

`one_call` decides who counts. Until the load's end three temporary tables stand on the writer's connection: `joined`
(what changes on spans), `stopped` (stored spans that counted until now, whole, as they were: sums that hold them must
lose them) and `moved` (requests that came without a trace, and go into their client's).
"""

from typing import Any

from pilothouse.store.telemetry import TelemetryStore, lines
from pilothouse.store.telemetry.recall import Between, Recall
from pilothouse.telemetry import joins_sql as sql
from pilothouse.telemetry.arrivals import ranges
from pilothouse.telemetry.one_call import Call, Change, Joining, Match


def find(store: TelemetryStore, write: Any, kinds: list[str]) -> None:
    """What the staged batches change: `joined`, `stopped` and `moved`, empty where nothing does."""
    arrived = [one for kind in kinds for one in sql.ARRIVED.get(kind, ())]
    _each(write, (*sql.NEW, *arrived))
    near = [(low - sql.NEAR_US, high + sql.NEAR_US) for low, high in ranges(write, sql.WHEN)]
    for wanted, what, after in sql.LOOK_UPS:
        write.execute(sql.wanted(wanted))
        if _recall(store, write, what, near):
            _each(write, after)
    _each(write, sql.BELONG)
    _decide(write)
    _each(write, (sql.MOVED, sql.STAY, sql.STOPPING))
    stopped = sql.stopped(write.execute(sql.WHOLE).fetchall())
    if _recall(store, write, stopped, ranges(write, "SELECT epoch_us(ts) AS a, epoch_us(ts) AS b FROM stopping")):
        write.execute(sql.ONLY_STOPPED)


def apply(store: TelemetryStore, write: Any, kinds: list[str]) -> None:
    """Make the changes inside the load's transaction: on the batches before they move, and on what is stored."""
    for kind, change in (("span", sql.SPANS), ("request", sql.REQUESTS)):
        if kind in kinds:
            write.execute(sql.on_batch(change, lines.batch(kind)))
        times = f"SELECT epoch_us(ts) AS a, epoch_us(ts) AS b FROM {change.changes} WHERE NOT fresh"  # noqa: S608
        for between in ranges(write, times):
            store.amend(write, change, between)


def forget(write: Any) -> None:
    """Let the temporary tables go."""
    _each(write, tuple(f"DROP TABLE IF EXISTS {table}" for table in sql.TABLES))


def _each(write: Any, statements: tuple[str, ...]) -> None:
    for one in statements:
        write.execute(one)


def _recall(store: TelemetryStore, write: Any, what: Recall, near: list[Between]) -> bool:
    """Look up what is wanted, where anything is; whether anything was found."""
    write.execute(what.create())
    if not _any(write, what.wanted):
        return False
    for between in near:
        store.recall(write, what, between)
    return _any(write, what.into)


def _any(write: Any, table: str) -> bool:
    return write.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None  # noqa: S608  # our own names


def _decide(write: Any) -> None:
    """Fetch what belongs together, and write down who counts."""
    related = [write.execute(f"SELECT * FROM {table}").fetchall() for table in ("nested", "twins", "matched")]  # noqa: S608
    nested, twins, matched = related
    joining = Joining(
        [Call(f"{trace}/{span}", *rest) for trace, span, *rest in write.execute(sql.INVOLVED).fetchall()]
        if any(related)
        else [],
        [(f"{trace}/{inner}", f"{trace}/{outer}") for trace, inner, outer in nested],
        [(f"{trace}/{span}", f"{other}/{beside}") for trace, span, other, beside in twins],
        [Match(request, ts_us, f"{trace}/{span}", answer) for request, ts_us, trace, span, answer in matched],
    )
    changes = joining.decide()
    write.execute(sql.JOINED, {name: [getattr(one, name) for one in changes] for name in Change.__struct_fields__})
