"""Which limits a request falls under: compiled once for a release and a table; a request only looks up what is asked of
those with its values.

A route's own limits count for that route in that environment; the app's count across all that they match. No request is
exempt: one without a key counts as `key=anonymous`, one without a session, user or segment as `none`.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from pilothouse.domain.limit import Limit
from pilothouse.domain.record import Record
from pilothouse.domain.table import Table
from pilothouse.gateway.types import Resolved
from pilothouse.store.counters.bounds import Counter, Pair, bounds_of

_OF_REQUEST = {"key": "key_id", "segment": "segment", "session": "session", "user": "user"}  # dimension → of the record
_HANDLES = 4096  # counters whose handles a rule keeps, and as many of what is kept beside them


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
        self._scope = scope
        self._known = known
        self._where = [(_OF_REQUEST[d], v) for d, v in limit.where.items() if d in _OF_REQUEST]
        self._by = [_OF_REQUEST[d] for d in limit.by if d in _OF_REQUEST]
        self._values = _getter(self._by)
        self._pairs: dict[Any, Pair] = {}

    @property
    def reads(self) -> list[str]:
        """The request's values that the rule looks at, as the record names them."""
        return [*self._by, *(attribute for attribute, _ in self._where)]

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


class Asked(msgspec.Struct, frozen=True):
    """What is asked of every request with the same values."""

    pairs: tuple[Pair, ...] = ()  # its counters, those of its trace among them
    traces: tuple[Pair, ...] = ()  # these, as far as they refuse
    money: tuple[Rule, ...] = ()  # rules that need a price
    caps: tuple[tuple[Rule, float], ...] = ()  # USD that one request may cost
    least: float = math.inf  # of `caps`
    spendable: float | None = None  # the least of those that refuse


class Ruling:
    """The rules for requests of one release in one environment."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self._traced = any(rule.trace.purses for rule in self._rules)
        self._values = _getter(sorted({name for rule in self._rules for name in rule.reads}))
        self._kept: dict[Any, Asked] = {}

    def of(self, record: Record) -> Asked:
        """What they ask of this request."""
        if self._traced and record.parent_span_id:  # its trace has a counter of its own
            return self._asked(record)
        values = self._values(record)
        found = self._kept.get(values)
        if found is None:
            if len(self._kept) >= _HANDLES:
                self._kept.clear()
            found = self._kept[values] = self._asked(record)
        return found

    def _asked(self, record: Record) -> Asked:
        pairs: list[Pair] = []
        traces: list[Pair] = []
        money: list[Rule] = []
        caps: list[tuple[Rule, float]] = []
        for rule in self._applying(record):
            if rule.counted:
                pairs.append(rule.pair(record))
            if rule.money:
                money.append(rule)
            trace = rule.trace_pair(record)
            if trace is not None:
                pairs.append(trace)
                traces += () if rule.limit.shadow else (trace,)
            cap = rule.cap_of(trace)
            if cap is not None:
                caps.append((rule, cap))
        least = min((cap for _, cap in caps), default=math.inf)
        spendable = min((cap for rule, cap in caps if not rule.limit.shadow), default=None)
        return Asked(tuple(pairs), tuple(traces), tuple(money), tuple(caps), least, spendable)

    def _applying(self, record: Record) -> Iterator[Rule]:
        return (rule for rule in self._rules if rule.applies(record))


class Rules:
    """The rules of every release that a worker serves, from one table."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], Ruling] = {}
        self._table: Table | None = None

    def of(self, resolved: Resolved, record: Record, table: Table) -> Asked:
        """What is asked of a request of this release."""
        if table is not self._table:
            self._kept, self._table = {}, table
        key = (resolved.route, record.env, resolved.live.hash)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= _HANDLES:
                self._kept.clear()
            found = self._kept[key] = Ruling(_compiled(resolved, record.env, table))
        return found.of(record)


def _compiled(resolved: Resolved, env: str, table: Table) -> Iterable[Rule]:
    known = {"route": resolved.route, "env": env, "app": resolved.app, "model": str(resolved.model)}
    scoped = [(limit, f"{resolved.route}@{env}") for limit in resolved.live.manifest.policy.limits]
    for limit, scope in [*scoped, *((limit, "") for limit in table.limits)]:
        if all(known[d] == value for d, value in limit.where.items() if d in known):
            yield Rule(limit, scope, known)


def _absent(attribute: str | None) -> str:
    return "anonymous" if attribute == "key_id" else "none"


def _getter(names: Sequence[str]) -> Callable[[Record], Any]:
    """Reads these values of a record, as one that can be a key."""
    return operator.attrgetter(*names) if names else _none


def _none(_record: Record) -> None:
    return None
