"""Of the spans and requests of one call to a model, who counts: decided from what is known of how they belong together.

A request of the gateway counts before any span. Else the innermost span that tells usage does; what stands around it
or beside it keeps its own figures to be looked at, and is left out of sums. A span that is counted elsewhere stays so.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec


class Call(msgspec.Struct):
    """A span that asks a model. `key`: `trace_id/span_id`. `request_id` and `counted_by` as stored so far."""

    key: str
    start_us: int = 0
    used: bool = False
    priced: bool = False
    response_id: str = ""
    request_id: str = ""
    counted_by: str = ""


class Match(msgspec.Struct, frozen=True):
    """A request and a span that are two sides of one call. `answer`: they tell the same response id."""

    request: str
    request_us: int
    key: str
    answer: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a span says from now on. `stops`: it counted until now."""

    key: str
    request_id: str
    counted_by: str
    stops: bool


class Joining:
    """The calls that a load touches; `decide` says what changes."""

    def __init__(
        self,
        calls: Iterable[Call],
        nested: Iterable[tuple[str, str]] = (),
        twins: Iterable[tuple[str, str]] = (),
        matches: Iterable[Match] = (),
    ) -> None:
        """`nested`: (inner, outer) keys of what is directly inside the other."""
        self._calls = {call.key: call for call in calls}
        self._outer = {inner: outer for inner, outer in nested if self._both(inner, outer)}
        self._inner: defaultdict[str, list[str]] = defaultdict(list)
        for inner, outer in self._outer.items():
            self._inner[outer].append(inner)
        self._twins: defaultdict[str, list[str]] = defaultdict(list)
        for one, other in twins:
            if self._both(one, other):
                self._twins[one].append(other)
                self._twins[other].append(one)
        self._matches = sorted((m for m in matches if m.key in self._calls), key=lambda m: (m.request_us, m.request))
        self._by = {call.key: call.counted_by for call in self._calls.values() if call.counted_by}
        self._request = {call.key: call.request_id for call in self._calls.values() if call.request_id}

    def _both(self, one: str, other: str) -> bool:
        return one != other and one in self._calls and other in self._calls

    def decide(self) -> list[Change]:
        """Every span that says something else than before, each sum of what counts being of distinct calls."""
        self._by_requests()
        for key in self._calls:
            if inside := self._used_inside(key):
                self._inside_counts(key, inside)
        for key, call in self._calls.items():
            if key not in self._by and not call.used and (around := self._used_around(key)):
                self._count(key, around)
        self._beside()
        return [change for call in self._calls.values() if (change := self._change(call)) is not None]

    def _change(self, call: Call) -> Change | None:
        request, by = self._request.get(call.key, ""), self._by.get(call.key, "")
        if (request, by) == (call.request_id, call.counted_by):
            return None
        return Change(key=call.key, request_id=request, counted_by=by, stops=not call.counted_by)

    def _inside_counts(self, key: str, inside: str) -> None:
        """What is inside a span counts, also where a twin of it has counted the call so far."""
        if key not in self._by:
            self._count(key, inside)
        elif inside not in self._by and (end := self._end(key)) in self._group(key):
            self._count(end, inside)
            self._count(key, inside)

    def _count(self, key: str, by: str) -> None:
        """`key` is counted by `by`, unless that is, in the end, counted by `key`."""
        if self._end(by) != key:
            self._by[key] = by

    def _end(self, key: str) -> str:
        seen = set()
        while (by := self._by.get(key)) is not None and key not in seen:
            seen.add(key)
            key = by
        return key

    def _by_requests(self) -> None:
        """What a request counts: its client's span, what is around that or beside it, and what is inside it unknown."""
        told = self._request.keys() - {match.key for match in self._matches}
        for match in self._matches:  # of several tries of one span the last is shown with it
            self._request[match.key] = self._by[match.key] = match.request
            if match.answer:
                told.add(match.key)
        waiting = list(self._request)
        while waiting:
            key = waiting.pop()
            near = [*self._twins.get(key, ())]
            near += [self._outer[key]] if key in self._outer else []
            near += [one for one in self._inner[key] if self._same_answer(key, one)] if key in told else []
            for one in near:
                if self._by.get(one, one) in self._calls:  # it counts itself, or is counted by a span
                    self._by[one] = self._by[key]
                    waiting.append(one)
                    if key in told and one in self._twins.get(key, ()):
                        told.add(one)

    def _same_answer(self, outer: str, inner: str) -> bool:
        return self._calls[inner].response_id in ("", self._calls[outer].response_id)

    def _used_inside(self, key: str) -> str:
        """The last span inside this one that tells usage."""
        found, waiting, seen = [], list(self._inner[key]), {key}
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            if self._calls[one].used:
                found.append(one)
            waiting += self._inner[one]
        return max(found, key=lambda one: (self._calls[one].start_us, one), default="")

    def _used_around(self, key: str) -> str:
        """The nearest span around this one that tells usage, if that counts."""
        seen = {key}
        while (outer := self._outer.get(key)) is not None and outer not in seen:
            if self._calls[outer].used:
                return "" if outer in self._by else outer
            seen.add(outer)
            key = outer
        return ""

    def _beside(self) -> None:
        """Of twins one counts: what another of them is counted by, else the one that knows most."""
        seen: set[str] = set()
        for start in list(self._twins):
            group = [] if start in seen else self._group(start)
            seen.update(group)
            counting = [one for one in group if one not in self._by]
            if not counting:
                continue
            counted = [one for one in group if one in self._by]
            by = self._end(min(counted)) if counted else max(counting, key=self._knows)
            for one in counting:
                if one != by:
                    self._count(one, by)

    def _group(self, key: str) -> list[str]:
        """A span and its twins, and theirs."""
        group, waiting, seen = [], [key], set()
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                group.append(one)
                waiting += self._twins.get(one, ())
        return group

    def _knows(self, key: str) -> tuple[bool, bool, int, str]:
        call = self._calls[key]
        return call.priced, call.used, call.start_us, key
