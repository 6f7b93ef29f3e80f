"""How much is kept of what apps send: by the route that a span or event names, by its trace, or by the default.

A span names a route by `pilothouse.route`, or by asking for a model of that name, which is how a client calls the
gateway. What names none has the default (`spans.log.mode`), but keeps no more text than the strictest route that its
trace was seen to name: an agent's step holds what its model call was asked.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pilothouse.domain.policy import LogMode
from pilothouse.domain.table import Entry, Table
from pilothouse.telemetry.dialects import DIALECTS
from pilothouse.telemetry.otlp_logs import OtlpEvent
from pilothouse.telemetry.spans import OtlpSpan

STRICTEST: tuple[LogMode, ...] = ("off", "metadata", "redacted", "full")
TRACES = 16_384  # of which the strictest named route is remembered
_ROUTE, _MODEL = (
    tuple(dict.fromkeys(key for dialect in DIALECTS for key in dialect.fields.get(field, ())))
    for field in ("route", "request_model")
)


def strictest(modes: Iterable[LogMode]) -> LogMode:
    """The one that keeps least."""
    return min(modes, key=STRICTEST.index)


class Modes:
    """The modes of the table that is held now. Not for more than one thread."""

    def __init__(self, table: Callable[[], Table | None]) -> None:
        self._read = table
        self._table: Table | None = None
        self._of: dict[tuple[str, str], LogMode] = {}  # (route, environment) → mode; environment empty: of them all
        self._rest: LogMode = "redacted"
        self._plain = True
        self._traces: OrderedDict[str, LogMode] = OrderedDict()

    def learn(self, spans: Iterable[OtlpSpan | OtlpEvent], env: str) -> None:
        """Look at a batch before any of it is kept, so that what its traces name holds for all of them."""
        self._take()
        if self._plain:
            return
        for one in spans:
            if named := self._named(one, env):
                self._note(one.trace_id, named[1])

    def of(self, one: OtlpSpan | OtlpEvent, env: str) -> tuple[LogMode, str]:
        """Its mode, and the route that it names, empty where it names none. `env`: its key's, empty where it has none:
        the strictest of the route's environments then holds, since the app's own word for it decides nothing here.
        """
        if self._plain:
            return "redacted", ""
        if named := self._named(one, env):
            return named[1], named[0]
        seen = self._traces.get(one.trace_id)
        if seen is None or self._rest == "off":
            return self._rest, ""
        # Nothing else of the trace is the route's own: it is kept, without text.
        return strictest((self._rest, "metadata" if seen == "off" else seen)), ""

    def _named(self, one: OtlpSpan | OtlpEvent, env: str) -> tuple[str, LogMode] | None:
        for keys in (_ROUTE, _MODEL):
            if name := _first(one.attributes, keys) or _first(one.resource, keys):
                mode = self._of.get((name, env)) or self._of.get((name, ""))
                if mode is not None:
                    return name, mode
        return None

    def _note(self, trace_id: str, mode: LogMode) -> None:
        traces = self._traces
        traces[trace_id] = strictest((mode, traces.get(trace_id, "full")))
        traces.move_to_end(trace_id)
        if len(traces) > TRACES:
            traces.popitem(last=False)

    def _take(self) -> None:
        table = self._read()
        if table is None or table is self._table:
            return
        self._table, self._rest, self._of = table, table.spans_log, {}
        for entry in table.entries.values():
            mode = _mode(entry)
            self._of[entry.route, entry.env] = mode
            self._of[entry.route, ""] = strictest((mode, self._of.get((entry.route, ""), "full")))
        self._plain = {self._rest, *self._of.values()} == {"redacted"}


def _mode(entry: Entry) -> LogMode:
    """While a canary runs, nobody outside knows which release a span is of: the stricter one holds."""
    lives = [entry.stable, entry.canary] if entry.canary is not None else [entry.stable]
    return strictest(live.manifest.policy.log for live in lives)


def _first(told: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        if (value := told.get(key)) and type(value) is str:
            return value
    return ""
