"""Traces: the list's filter from an address, one trace, its payloads; what the pages and the JSON twins share."""

import threading
from collections import OrderedDict

from pilothouse.domain.clock import Clock
from pilothouse.server.pages.context import TraceDetail
from pilothouse.server.views import rows
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import listing, read, waterfall
from pilothouse.telemetry.filter import Query, Term
from pilothouse.telemetry.listing import Asked
from pilothouse.telemetry.waterfall import Waterfall

SIBLINGS_MAX = 50
KEPT = 4  # traces whose tree is kept for the windows that follow the first
KEPT_US = 60_000_000


def request(store: TelemetryStore, ident: str, *, whole: bool = False) -> TraceDetail | None:
    """A trace by the id of a request in it or its own; None where nothing of it is stored.

    `whole`: with the spans in full, which of a large trace take long.
    """
    found = read.request_row(store, ident)
    if found is None:
        first = store.rows("SELECT id FROM requests WHERE trace_id = ? ORDER BY ts LIMIT 1", [ident])
        found = read.request_row(store, first[0][0]) if first else None
    trace_id = found["trace_id"] if found else ident
    tree = waterfall.trace(store, trace_id)
    if tree is None:
        return None
    record = rows.record(found) if found else None
    others = Query((Term("id", (trace_id,)),)) if len(tree.request_ids) > 1 else None
    near = listing.find(store, Asked(query=others, limit=SIBLINGS_MAX)).rows if others else []
    return TraceDetail(
        record=record,
        spans=tuple(rows.span(one) for one in waterfall.spans(store, trace_id)) if whole else (),
        siblings=tuple(row for row in near if record is None or row.id != record.id),
        waterfall=tree,
        replay=f"pilothouse trace replay {record.id}" if record else "",
    )


def cursor(store: TelemetryStore, before: str) -> str:
    """Where a page begins: a cursor as it stands, or one after the row of that id; empty where that row is gone."""
    if not before or ":" in before:
        return before
    found = store.rows("SELECT epoch_us(ts), n FROM entries WHERE id = ? AND listed LIMIT 1", [before])
    return f"{found[0][0]}:{found[0][1]}" if found else ""


class Trees:
    """The trees of the traces that were looked at last, so that scrolling does not build one for every window."""

    def __init__(self, store: TelemetryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._kept: OrderedDict[str, tuple[int, Waterfall]] = OrderedDict()
        self._lock = threading.Lock()

    def detail(self, ident: str) -> TraceDetail | None:
        """A trace as it is now."""
        found = request(self._store, ident)
        if found is not None:
            self._keep(found.waterfall)
        return found

    def tree(self, trace_id: str) -> Waterfall | None:
        """The tree of a trace, at most a minute old."""
        with self._lock:
            at, tree = self._kept.get(trace_id, (0, None))
        if tree is not None and self._clock.now_us() - at < KEPT_US:
            return tree
        found = waterfall.trace(self._store, trace_id)
        if found is not None:
            self._keep(found)
        return found

    def _keep(self, tree: Waterfall) -> None:
        with self._lock:
            self._kept[tree.trace_id] = (self._clock.now_us(), tree)
            self._kept.move_to_end(tree.trace_id)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
