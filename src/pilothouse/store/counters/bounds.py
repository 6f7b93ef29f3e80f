"""What a counter admits and what it answers; the interface that the three kinds of counters share.

A counter belongs to one limit and one combination of its dimensions' values. It knows

    requests, tokens   theoretical arrival times of a GCRA (ATM Forum TM 4.0, §4.4.2.1), in seconds
    live               requests that are being served
    held               USD reserved by them
    hour, day, month   USD spent since the period began, and how many of its thresholds were announced

A request is admitted by all its counters or by none, and a refused one uses nothing up.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

from pilothouse.domain.limit import Limit

EPOCH_S = 1_735_689_600.0  # 2025-01-01T00:00Z; nearer to now than 1970, so that a float tells nanoseconds apart
TRACE_S = 900.0  # a trace's money is forgotten so long after its last request
SLACK = 1e-9  # USD: sums of floats are not exact
EVEN = 1e-3  # of one request or token, for the same reason
FREED = (1 << 64) - 1  # a tag that no counter has, as 0 is none
What = Literal["requests", "tokens", "concurrency", "spend"]
PLACES: dict[str, int] = {"hour": 0, "day": 1, "month": 2, "trace": 2}  # which of a counter's three purses


class Purse(msgspec.Struct, frozen=True):
    """At most `usd` in a period. `marks`: USD at which it is announced, ascending, then infinity."""

    period: str  # hour, day, month, trace
    place: int  # which of the counter's three purses
    rolling: bool  # its end moves with every use
    usd: float
    marks: tuple[float, ...]
    shares: tuple[float, ...]


class Bounds(msgspec.Struct, frozen=True):
    """A limit as a counter needs it. A burst or number that is infinite means: no such limit."""

    name: str
    request_s: float = 0.0  # seconds of the rate that one request uses
    request_burst_s: float = math.inf
    token_s: float = 0.0
    token_burst_s: float = math.inf
    concurrency: float = math.inf
    purses: tuple[Purse, ...] = ()
    shadow: bool = False


def bounds_of(limit: Limit, periods: tuple[str, ...] = ("hour", "day", "month")) -> Bounds:
    """The limit's bounds, with the purses of these periods; those of a trace are a counter of their own."""
    rates = periods != ("trace",)
    requests, tokens = (limit.requests, limit.tokens) if rates else (None, None)
    return Bounds(
        name=limit.name,
        request_s=requests.per_s / requests.amount if requests else 0.0,
        request_burst_s=requests.per_s * (1.0 + EVEN / requests.amount) if requests else math.inf,
        token_s=tokens.per_s / tokens.amount if tokens else 0.0,
        token_burst_s=tokens.per_s * (1.0 + EVEN / tokens.amount) if tokens else math.inf,
        concurrency=limit.concurrency if rates and limit.concurrency is not None else math.inf,
        purses=tuple(_purse(s.per, s.usd, limit.soft) for s in limit.spend if s.per in periods),
        shadow=limit.shadow,
    )


def _purse(period: str, usd: float, soft: Sequence[float]) -> Purse:
    shares = tuple(sorted({*soft, 1.0}))  # that it is used up is announced too
    return Purse(period, PLACES[period], period == "trace", usd, (*(s * usd - SLACK for s in shares), math.inf), shares)


class Counter:
    """A handle on one counter: of what, and for people. It holds no count: it can be dropped and made again."""

    __slots__ = ("base", "key", "name", "tag", "tag2")

    def __init__(self, identity: str, name: str | None = None) -> None:
        self.name = identity if name is None else name
        self.key = hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self.tag = int.from_bytes(self.key[:8], "little") % (FREED - 1) + 1
        self.tag2 = int.from_bytes(self.key[8:], "little")
        self.base = 0  # where the counter's slot begins, in bytes; 0: not looked up yet


Pair = tuple[Counter, Bounds]


class Refusal(msgspec.Struct, frozen=True):
    """Which counter does not admit a request. `wait_s`: until it would, None: nobody can say, or never.

    `never`: the request alone is larger than the limit. `left_usd`: what a budget still had.
    """

    pair: Pair
    what: What
    wait_s: float | None
    never: bool = False
    period: str = ""
    left_usd: float = 0.0


class Notice(msgspec.Struct, frozen=True):
    """A budget has reached `share` of `usd` in this period. `counter`: whose, such as `key=a1b2`."""

    counter: str
    limit: str
    period: str
    share: float
    usd: float
    spent: float


class Verdict(msgspec.Struct):
    """What is to be said of a request. `taken`: the counters that counted it; none when it is refused."""

    refused: Refusal | None = None
    taken: Sequence[Pair] = ()
    shadow: list[Refusal] = []
    notices: list[Notice] = []
    ticket: int = 0
    backup: bool = False  # counted by the counters that stand in for those that cannot be reached


class Use(msgspec.Struct, frozen=True, gc=False):
    """What a request reserved and what it then used."""

    held_tokens: float
    held_usd: float
    tokens: float
    usd: float


class Counters(Protocol):
    """Counters of one worker."""

    async def take(self, asked: Sequence[Pair], tokens: float, usd: float) -> int | Verdict:
        """Count a request that is expected to use so much. A number: all of `asked` admit it; it goes to `settle`."""
        ...

    def settle(self, ticket: int, taken: Sequence[Pair], use: Use, backup: bool = False, /) -> list[Notice]:
        """A request has ended: give back what it held, and charge what it used. Once for each `take`.

        The thresholds that were reached by it, as far as they are known at once.
        """
        ...

    def spent(self, pair: Pair) -> float:
        """USD spent and held in the pair's first purse, as far as this worker knows."""
        ...

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Name → (help, value), for /metrics."""
        ...

    async def close(self) -> None:
        """Give back what this worker holds, and let go."""
        ...


Announce = Callable[[Notice], None]


def period_end(period: str, now: float) -> float:
    """When the UTC hour, day or month of `now` ends; both in seconds since EPOCH_S."""
    if period == "hour":
        return (now // 3600.0 + 1.0) * 3600.0
    if period == "day":
        return (now // 86400.0 + 1.0) * 86400.0
    if period == "trace":
        return now + TRACE_S
    day = datetime.fromtimestamp(now + EPOCH_S, UTC)
    year, month = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp() - EPOCH_S
