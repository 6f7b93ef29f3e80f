"""When a trace or a request was, by its id: what lies in order of time is then read there alone."""

from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry import marks
from pilothouse.telemetry.filter_sql import Condition, Window

_EVER = Window()


def when(store: TelemetryStore, ident: str) -> Window:
    """From the first to the last row of a trace or request; open where that is not known, or not yet."""
    found = store.rows(
        "SELECT epoch_us(min(least(e.first, e.ts))), epoch_us(max(e.last)), "  # noqa: S608  # own fragments
        f"(SELECT count(*) FROM meta WHERE key = '{LEFT}') FROM entries e "
        f"WHERE {marks.having(((ident,),))} AND (e.trace_id = ? OR e.id = ? OR e.own_trace_id = ?)",
        [ident] * 3,
    )
    since, until, left = found[0] if found else (None, None, 0)
    return _EVER if since is None or left else Window(since, until + 1)


def within(store: TelemetryStore, ident: str, column: str, later_us: int = 0) -> Condition:
    """A condition that a row's time is the trace's or the request's."""
    return when(store, ident).of(column, later_us)


LEFT = "entries_left"  # in `meta`: entries of rows of an earlier version are still to be made, before this time in µs
