"""Which spans and requests are of one call to a model, of all that a load looks at.

nested    a span that asks a model, inside another that does, with nothing between but plain spans (HTTP, say)
parent    the request's parent (`traceparent`) is such a span, or a plain span below one
response  a request and a span tell the same response id, at the same time; a long id that only they tell, near in time
twins     spans of two instrumentations that tell the same response id, at the same time
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import TypeVar

import msgspec

from pilothouse.telemetry.one_call import Call, Joining, Match

SLACK_US = 250_000  # by which the clocks of a client and the gateway may differ before "at the same time" is doubted
LONG_ID = 20  # characters; a shorter id may be a local server's constant
SAME_ID_MAX = 100  # what more spans than these tell is no id
HOPS_MAX = 8  # plain spans between two of one call


_Side = TypeVar("_Side", bound="Seen | Asked")


class Seen(msgspec.Struct, gc=False):
    """A span that asks a model, or a plain one that may lie between two. `fresh`: of the batch, not stored yet."""

    ts_us: int
    end_us: int
    trace_id: str
    span_id: str
    parent: str
    family: str  # chat, embeddings, rerank; empty: a plain span
    response_id: str
    kind: str  # client, internal …
    scope: str  # whose instrumentation
    model: str
    used: bool
    priced: bool
    request_id: str
    counted_by: str
    fresh: bool = False

    @property
    def key(self) -> str:
        """What tells it in `counted_by`."""
        return f"{self.trace_id}/{self.span_id}"


class Asked(msgspec.Struct, gc=False):
    """A request. `answers`: the response ids that its client got."""

    ts_us: int
    end_us: int
    id: str
    trace_id: str
    parent: str
    family: str
    own_trace_id: str
    fresh: bool = False
    answers: set[str] = msgspec.field(default_factory=set)

    @property
    def movable(self) -> bool:
        """It came without a trace."""
        return not self.parent or bool(self.own_trace_id)


class Kin:
    """All that a load looks at, by its ids."""

    def __init__(self, spans: Iterable[Seen], requests: Iterable[Asked]) -> None:
        self.spans = {(span.trace_id, span.span_id): span for span in spans}
        self.requests = list(requests)
        self._asking = [span for span in self.spans.values() if span.family]
        self._telling: defaultdict[str, list[Seen]] = defaultdict(list)
        for span in self._asking:
            if span.response_id:
                self._telling[span.response_id].append(span)
        for same in [ident for ident, spans in self._telling.items() if len(spans) > SAME_ID_MAX]:
            del self._telling[same]
        self.matched: list[tuple[Asked, Seen, bool]] = [*self._by_parent()]
        self.matched += self._by_response()

    def joining(self) -> Joining:
        """What is of one call, to be decided on."""
        nested = [(span, outer) for span in self._asking if (outer := self._nearest(span, span.family)) is not None]
        twins = list(self._twins())
        pairs = [(a.key, b.key) for a, b in nested], [(a.key, b.key) for a, b in twins]
        every = [span for pair in (*nested, *twins) for span in pair] + [span for _, span, _ in self.matched]
        involved = {span.key: span for span in every}
        return Joining(
            [
                Call(key, s.ts_us, s.used, s.priced, s.response_id, s.request_id, s.counted_by)
                for key, s in involved.items()
            ],
            *pairs,
            [Match(asked.id, asked.ts_us, span.key, answer) for asked, span, answer in self.matched],
        )

    def moves(self) -> Iterator[tuple[Asked, Seen, list[Seen]]]:
        """Requests whose trace is theirs alone, each with its client's span; of several, one that is part of more.

        Third: the plain spans that are left behind, which have no meaning of their own.
        """
        places: defaultdict[str, list[Seen]] = defaultdict(list)
        for asked, span, _ in self.matched:
            places[asked.id].append(span)
        for span in self._asking:
            if span.request_id:
                places[span.request_id].append(span)
        for asked in self.requests:
            if not (found := places.get(asked.id)):
                continue
            best = min(found, key=lambda s: (not s.parent, s.ts_us, s.span_id))
            around = [] if asked.movable else self._lonely(asked)
            stays = any(s.trace_id == asked.trace_id and bool(s.parent) == bool(best.parent) for s in found)
            if not stays and best.trace_id != asked.trace_id and (asked.movable or (around and best.parent)):
                yield asked, best, [one for one in around if not one.family]

    def _lonely(self, asked: Asked) -> list[Seen]:
        """What is around a request, up to its trace's root, where all of that is this one call: spans that ask a model,
        and clients' HTTP; nothing where there is more, or the root is not known yet.
        """
        chain: list[Seen] = []
        above = asked.parent
        while len(chain) <= HOPS_MAX:
            span = self.spans.get((asked.trace_id, above))
            if span is None or not (span.family or span.kind == "client"):
                return []
            chain.append(span)
            if not span.parent:
                return chain
            above = span.parent
        return []

    def _nearest(self, below: Seen | Asked, family: str) -> Seen | None:
        """The nearest span above that asks a model, with only plain ones between."""
        above = below.parent
        for _ in range(HOPS_MAX + 1):
            span = self.spans.get((below.trace_id, above)) if above else None
            if span is None or span is below:
                return None
            if span.family:
                return span if span.family == family else None
            above = span.parent
        return None

    def _by_parent(self) -> Iterator[tuple[Asked, Seen, bool]]:
        for asked in self.requests:
            if (span := self._nearest(asked, asked.family)) is not None:
                yield asked, span, bool(asked.own_trace_id)

    def _by_response(self) -> Iterator[tuple[Asked, Seen, bool]]:
        """Of each instrumentation one span of a request, the nearest, and that no other request is nearer to."""
        taken = {span.key for _, span, _ in self.matched}
        have = {(asked.id, span.scope) for asked, span, _ in self.matched}
        have |= {(span.request_id, span.scope) for span in self._asking if span.request_id}
        sharing: defaultdict[tuple[str, str], list[tuple[Asked, Seen]]] = defaultdict(list)
        for asked, answer, span in self._sharing():
            if not span.request_id and span.key not in taken and (asked.id, span.scope) not in have:
                sharing[answer, span.scope].append((asked, span))
        for (answer, _), pairs in sharing.items():
            sole = len(pairs) == 1 and len(answer) >= LONG_ID
            for asked, span in _nearest_pairs([p for p in pairs if sole or together(*p, SLACK_US)]):
                yield asked, span, True

    def _sharing(self) -> Iterator[tuple[Asked, str, Seen]]:
        """Requests and spans that tell the same response id."""
        for asked in self.requests:
            for answer in asked.answers:
                for span in self._telling.get(answer, ()):
                    if span.family == asked.family:
                        yield asked, answer, span

    def _twins(self) -> Iterator[tuple[Seen, Seen]]:
        for spans in self._telling.values():
            pairs: defaultdict[tuple[str, str], list[tuple[Seen, Seen]]] = defaultdict(list)
            for a, b in combinations(spans, 2):
                if a.scope != b.scope and a.family == b.family and _alike(a.model, b.model) and together(a, b):
                    one, other = (a, b) if a.scope < b.scope else (b, a)
                    pairs[one.scope, other.scope].append((one, other))
            for same in pairs.values():
                yield from _nearest_pairs(same)


def together(a: Seen | Asked, b: Seen | Asked, slack_us: int = 0) -> bool:
    """They overlap in time."""
    return a.ts_us < b.end_us + slack_us and b.ts_us < a.end_us + slack_us


def _alike(a: str, b: str) -> bool:
    """Of two names of a model one may be longer, by a date say; where one is unknown nothing speaks against it."""
    return a.startswith(b) or b.startswith(a)


def _nearest_pairs(pairs: list[tuple[_Side, Seen]]) -> Iterator[tuple[_Side, Seen]]:
    """Each with its nearest by their starts, nobody twice."""
    seen: set[int] = set()
    for a, b in sorted(pairs, key=lambda p: (abs(p[0].ts_us - p[1].ts_us), p[1].key)):
        if id(a) not in seen and id(b) not in seen:
            seen |= {id(a), id(b)}
            yield a, b
