"""Which limits a request falls under: compiled once for a release and a table; a request only looks up its counters.

A route's own limits count for that route in that environment; the app's count across all that they match. No request is
exempt: one without a key counts as `key=anonymous`, one without a session, user or segment as `none`.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from pilothouse.domain.limit import Limit
from pilothouse.domain.record import Record
from pilothouse.domain.table import Table
from pilothouse.gateway.types import Resolved
from pilothouse.store.counters.bounds import Counter, Pair, bounds_of

_OF_REQUEST = {"key": "key_id", "segment": "segment", "session": "session", "user": "user"}  # dimension → of the record
_HANDLES = 4096  # counters whose handles a rule keeps


class Rule:
    """One limit, as far as it is settled before the request is seen."""

    def __init__(self, limit: Limit, scope: str, known: dict[str, str]) -> None:
        self.limit = limit
        self.bounds = bounds_of(limit)
        self.trace = bounds_of(limit, ("trace",))
        self.cap = min((s.usd for s in limit.spend if s.per == "request"), default=None)
        self.money = bool(limit.spend)
        # A rule that names the money of a request or a trace alone keeps no counter of its own.
        self.counted = bool(limit.requests or limit.tokens or limit.concurrency is not None or self.bounds.purses)
        self.asks_more = self.cap is not None or bool(self.trace.purses) or not self.counted
        self._scope = scope
        self._known = known
        self._where = [(_OF_REQUEST[d], v) for d, v in limit.where.items() if d in _OF_REQUEST]
        open_ = [_OF_REQUEST[d] for d in limit.by if d in _OF_REQUEST]
        self._values: Callable[[Record], Any] = operator.attrgetter(*open_) if open_ else _none
        self._pairs: dict[Any, Pair] = {}

    def applies(self, record: Record) -> bool:
        """Whether the request has the values that the limit is for."""
        return not self._where or all((getattr(record, a) or _absent(a)) == value for a, value in self._where)

    def pair(self, record: Record) -> Pair:
        """The request's counter under this rule."""
        values = self._values(record)
        found = self._pairs.get(values)
        if found is None:
            if len(self._pairs) >= _HANDLES:
                self._pairs.clear()
            found = self._pairs[values] = (self._counter(record), self.bounds)
        return found

    def trace_pair(self, record: Record) -> Pair | None:
        """The counter of the trace's money. A trace that begins here has no other requests yet, and needs none."""
        if not self.trace.purses or not record.parent_span_id:
            return None
        return self._counter(record, record.trace_id), self.trace

    def cap_of(self, trace: Pair | None) -> float | None:
        """USD that one request may cost; where no counter keeps its trace, the trace's budget is the request's."""
        caps = [self.cap] if self.cap is not None else []
        if trace is None and self.trace.purses:
            caps.append(self.trace.purses[0].usd)
        return min(caps, default=None)

    def shown(self, record: Record) -> str:
        """The request's values, for people: `key=a1b2,segment=free`."""
        return ",".join(f"{d}={v[:64]}" for d, v in self._dimensions(record))

    def _dimensions(self, record: Record) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for dimension in self.limit.by:
            attribute = _OF_REQUEST.get(dimension)
            value = self._known.get(dimension, "") if attribute is None else getattr(record, attribute)
            found.append((dimension, value or _absent(attribute)))
        return found

    def _counter(self, record: Record, trace: str = "") -> Counter:
        whole = [self._scope, self.limit.name, self._dimensions(record), trace]
        return Counter(msgspec.json.encode(whole).decode(), self.shown(record))


class Rules:
    """The rules of every release that a worker serves, from one table."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], tuple[Rule, ...]] = {}
        self._table: Table | None = None

    def of(self, resolved: Resolved, env: str, table: Table) -> tuple[Rule, ...]:
        """The rules for requests of this release in this environment."""
        if table is not self._table:
            self._kept, self._table = {}, table
        key = (resolved.route, env, resolved.live.hash)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _HANDLES:
                self._kept.clear()
            found = self._kept[key] = tuple(_compiled(resolved, env, table))
        return found


def _compiled(resolved: Resolved, env: str, table: Table) -> Iterable[Rule]:
    known = {"route": resolved.route, "env": env, "app": resolved.app, "model": str(resolved.model)}
    scoped = [(limit, f"{resolved.route}@{env}") for limit in resolved.live.manifest.policy.limits]
    for limit, scope in [*scoped, *((limit, "") for limit in table.limits)]:
        if all(known[d] == value for d, value in limit.where.items() if d in known):
            yield Rule(limit, scope, known)


def _absent(attribute: str | None) -> str:
    return "anonymous" if attribute == "key_id" else "none"


def _none(_record: Record) -> None:
    return None
