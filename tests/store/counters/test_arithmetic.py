"""The counters against a plain model of them: rates, reservations, periods, all or nothing; in memory and in a file."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.limit import Limit, Rate, Spend
from pilothouse.store.counters.bounds import (
    EPOCH_S,
    TRACE_S,
    Counter,
    Counters,
    Pair,
    Use,
    Verdict,
    bounds_of,
    period_end,
)
from pilothouse.store.counters.local import LocalCounters
from pilothouse.store.counters.shared import SharedCounters


@dataclass
class Bucket:
    """A token bucket as one would draw it: it fills at a steady rate, and may go under zero."""

    rate: Rate
    at: float
    level: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.rate.amount

    def fill(self, now: float) -> None:
        self.level = min(self.rate.amount, self.level + (now - self.at) * self.rate.amount / self.rate.per_s)
        self.at = now


@dataclass
class Model:
    """One counter of a limit."""

    limit: Limit
    now: float
    live: int = 0
    held: float = 0.0
    spent: dict[str, tuple[float, float]] = field(default_factory=dict)  # period → its end, USD

    def __post_init__(self) -> None:
        assert self.limit.requests is not None and self.limit.tokens is not None
        self.requests = Bucket(self.limit.requests, self.now)
        self.tokens = Bucket(self.limit.tokens, self.now)

    def go(self, now: float) -> None:
        self.requests.fill(now)
        self.tokens.fill(now)
        for spend in self.limit.spend:
            if now >= self.spent.get(spend.per, (0.0, 0.0))[0]:
                self.spent[spend.per] = (period_end(spend.per, now), 0.0)

    def doubtful(self, tokens: float, usd: float) -> bool:
        """Whether the answer hangs on the last digits."""
        near = [abs(self.requests.level - 1.0) < 0.01, abs(self.tokens.level - tokens) < 0.01]
        near += [abs(self.spent[s.per][1] + self.held + usd - s.usd) < 1e-6 for s in self.limit.spend]
        near += [abs(self.spent[s.per][1] + self.held - s.usd) < 1e-6 for s in self.limit.spend]
        return any(near)

    def admits(self, tokens: float, usd: float) -> bool:
        money = all(
            self.spent[s.per][1] + self.held + usd <= s.usd and self.spent[s.per][1] + self.held < s.usd
            for s in self.limit.spend
        )
        return self.requests.level >= 1.0 and self.tokens.level >= tokens and money and self.live < 3

    def take(self, tokens: float, usd: float) -> None:
        self.requests.level -= 1.0
        self.tokens.level -= tokens
        self.live += 1
        self.held += usd

    def settle(self, use: Use) -> None:
        self.tokens.level += use.held_tokens - use.tokens
        self.live -= 1
        self.held -= use.held_usd
        self.spent = {per: (end, usd + use.usd) for per, (end, usd) in self.spent.items()}


KEY = Limit(name="key", requests=Rate(5, 2.0), tokens=Rate(1000, 10.0), concurrency=3, spend=(Spend(1.0, "hour"),))
ROUTE = Limit(
    name="route",
    requests=Rate(9, 5.0),
    tokens=Rate(700, 3.0),
    concurrency=3,
    spend=(Spend(2.0, "hour"), Spend(3.0, "day"), Spend(5.0, "month")),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 900), st.integers(0, 130)),
        st.tuples(st.just("settle"), st.integers(0, 1300), st.integers(0, 150)),
        st.tuples(st.just("wait"), st.integers(1, 4000), st.sampled_from((1, 1, 1, 600, 30_000))),
    ),
    max_size=40,
)


class Game:
    """The same steps for the counters and for their models."""

    def __init__(self, counters: Counters, clock: FrozenClock) -> None:
        self.counters, self.clock = counters, clock
        self.models = [Model(KEY, self.now()), Model(ROUTE, self.now())]
        self.pairs: list[Pair] = [(Counter("k"), bounds_of(KEY)), (Counter("r"), bounds_of(ROUTE))]
        self.open: list[tuple[int, float, float]] = []

    def now(self) -> float:
        return self.clock.now_us() * 1e-6 - EPOCH_S

    async def take(self, tokens: float, usd: float) -> None:
        verdict = await self.counters.take(self.pairs, tokens, usd)
        if not any(model.doubtful(tokens, usd) for model in self.models):
            admitted = all(model.admits(tokens, usd) for model in self.models)
            assert isinstance(verdict, int) == admitted, (verdict, self.models)
        if isinstance(verdict, int):
            self.open.append((verdict, tokens, usd))
            for model in self.models:
                model.take(tokens, usd)

    def settle(self, used_tokens: float, used_usd: float) -> None:
        if self.open:
            ticket, tokens, usd = self.open.pop(0)
            use = Use(tokens, usd, used_tokens, used_usd)
            self.counters.settle(ticket, self.pairs, use)
            for model in self.models:
                model.settle(use)

    async def play(self, steps: Any) -> None:
        for what, a, b in steps:
            for model in self.models:
                model.go(self.now())
            if what == "wait":
                self.clock.advance(a * b / 1000)
            elif what == "settle":
                self.settle(float(a), b / 100)
            else:
                await self.take(float(a), b / 100)
            for pair, model in zip(self.pairs, self.models, strict=True):
                model.go(self.now())
                assert self.counters.spent(pair) == pytest.approx(model.held + model.spent["hour"][1], abs=1e-6)


@given(steps=STEPS)
def test_counters_in_memory_do_as_the_model_does(steps: Any) -> None:
    clock = FrozenClock()
    asyncio.run(Game(LocalCounters(clock), clock).play(steps))


@given(steps=STEPS, sole=st.booleans())
def test_counters_in_a_file_do_as_the_model_does(steps: Any, sole: bool) -> None:
    clock = FrozenClock()

    async def whole(folder: str) -> None:
        counters = SharedCounters(Path(folder), clock, sole=sole)
        await Game(counters, clock).play(steps)
        await counters.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(whole(folder))


@given(us=st.integers(1_735_689_600_000_000, 4_000_000_000_000_000))
def test_periods_end_where_the_calendar_says(us: int) -> None:
    now = us * 1e-6 - EPOCH_S
    for period in ("hour", "day", "month"):
        end = datetime.fromtimestamp(period_end(period, now) + EPOCH_S, UTC)
        assert end.timestamp() - EPOCH_S > now
        before = datetime.fromtimestamp(end.timestamp() - 1e-3, UTC)
        at = datetime.fromtimestamp(us * 1e-6, UTC)
        fields = {"hour": ("year", "month", "day", "hour"), "day": ("year", "month", "day"), "month": ("year", "month")}
        assert all(getattr(before, name) == getattr(at, name) for name in fields[period])
        assert (end.minute, end.second, end.microsecond) == (0, 0, 0)


def one(limit: Limit, name: str = "c", periods: tuple[str, ...] = ("hour", "day", "month")) -> list[Pair]:
    return [(Counter(name), bounds_of(limit, periods))]


async def taken(counters: Counters, pairs: list[Pair], tokens: float = 0.0, usd: float = 0.0) -> int:
    verdict = await counters.take(pairs, tokens, usd)
    assert isinstance(verdict, int), verdict
    return verdict


async def refused(counters: Counters, pairs: list[Pair], tokens: float = 0.0, usd: float = 0.0) -> Any:
    verdict = await counters.take(pairs, tokens, usd)
    assert isinstance(verdict, Verdict) and verdict.refused is not None
    return verdict.refused


async def test_the_wait_that_is_said_is_the_wait_there_is(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    pairs = one(Limit(name="l", requests=Rate(4, 2.0), tokens=Rate(100, 10.0)))
    for _ in range(4):
        await taken(counters, pairs, 25.0)
    no = await refused(counters, pairs, 25.0)
    assert no.what == "requests" and no.wait_s == pytest.approx(0.5, abs=1e-2)
    clock.advance(no.wait_s + 1e-5)
    no = await refused(counters, pairs, 25.0)
    assert no.what == "tokens" and no.wait_s == pytest.approx(2.0, abs=1e-2)
    clock.advance(no.wait_s + 1e-5)
    await taken(counters, pairs, 25.0)


async def test_a_request_larger_than_its_limit_is_told_that_waiting_does_not_help(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    limit = Limit(name="l", tokens=Rate(100, 10.0), spend=(Spend(1.0, "day"),))
    tokens, usd = await refused(counters, one(limit), 101.0), await refused(counters, one(limit), 1.0, 1.5)
    assert (tokens.never, tokens.wait_s, usd.never, usd.wait_s) == (True, None, True, None)


async def test_tokens_beyond_the_estimate_become_a_debt(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    pairs = one(Limit(name="l", tokens=Rate(100, 10.0)))
    ticket = await taken(counters, pairs, 10.0)
    counters.settle(ticket, pairs, Use(10.0, 0.0, 250.0, 0.0))
    no = await refused(counters, pairs, 1.0)
    assert no.wait_s == pytest.approx(15.1, abs=1e-2)  # 150 of debt and 1, at 10 a second


async def test_a_budget_ends_with_its_period_and_says_when(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    pairs = one(Limit(name="l", spend=(Spend(1.0, "day"),)))
    counters.settle(await taken(counters, pairs, usd=0.9), pairs, Use(0.0, 0.9, 0.0, 0.95))
    no = await refused(counters, pairs, usd=0.1)
    assert (no.what, no.period, no.left_usd) == ("spend", "day", pytest.approx(0.05))
    clock.advance(no.wait_s)
    await taken(counters, pairs, usd=0.1)


async def test_a_budget_filled_by_what_is_under_way_may_be_free_at_any_time(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    pairs = one(Limit(name="l", spend=(Spend(1.0, "day"),)))
    ticket = await taken(counters, pairs, usd=0.9)
    no = await refused(counters, pairs, usd=0.2)
    assert no.wait_s is None and not no.never
    counters.settle(ticket, pairs, Use(0.0, 0.9, 0.0, 0.1))
    await taken(counters, pairs, usd=0.2)


async def test_each_threshold_is_told_once_a_period(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    pairs = one(Limit(name="l", spend=(Spend(1.0, "day"),), soft=(0.5, 0.8)))
    shares = []
    for _ in range(12):
        ticket = await counters.take(pairs, 0.0, 0.05)
        if isinstance(ticket, int):
            shares += [n.share for n in counters.settle(ticket, pairs, Use(0.0, 0.05, 0.0, 0.15))]
    assert shares == [0.5, 0.8, 1.0]
    clock.advance(86_400.0)
    (notice,) = counters.settle(await taken(counters, pairs, usd=0.9), pairs, Use(0.0, 0.9, 0.0, 0.9))
    assert (notice.share, notice.spent, notice.usd, notice.period) == (0.8, pytest.approx(0.9), 1.0, "day")


async def test_shadow_refuses_nothing_and_counts_as_if_it_held(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    pairs = one(Limit(name="s", concurrency=1, shadow=True)) + one(Limit(name="l", concurrency=3), "d")
    first = await taken(counters, pairs)
    verdict = await counters.take(pairs, 0.0, 0.0)
    assert isinstance(verdict, Verdict) and verdict.refused is None and list(verdict.taken) == pairs[1:]
    assert [no.what for no in verdict.shadow] == ["concurrency"]
    counters.settle(first, pairs, Use(0.0, 0.0, 0.0, 0.0))
    await taken(counters, pairs)


async def test_a_trace_is_forgotten_when_nothing_comes_of_it_any_more(clock: FrozenClock) -> None:
    counters = LocalCounters(clock)
    pairs = one(Limit(name="t", spend=(Spend(1.0, "trace"),)), periods=("trace",))
    for _ in range(2):
        counters.settle(await taken(counters, pairs, usd=0.4), pairs, Use(0.0, 0.4, 0.0, 0.4))
        clock.advance(TRACE_S - 1.0)
    assert (await refused(counters, pairs, usd=0.4)).never
    clock.advance(2.0)
    await taken(counters, pairs, usd=0.4)


async def test_slots_that_count_nothing_are_taken_again_and_a_full_table_lets_in(
    clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilothouse.store.counters.cells.SLOTS", 8)
    counters = LocalCounters(clock)
    limit = Limit(name="l", requests=Rate(1, 60.0))
    for number in range(8):
        pairs = one(limit, f"n{number}")
        counters.settle(await taken(counters, pairs), pairs, Use(0.0, 0.0, 0.0, 0.0))
    verdict = await counters.take(one(limit, "late"), 0.0, 0.0)
    assert isinstance(verdict, Verdict) and verdict.refused is None and not verdict.taken
    assert counters.gauges()["pilothouse_counters_full"][1] == 1.0
    assert (await refused(counters, one(limit, "n3"))).what == "requests"
    clock.advance(61.0)
    await taken(counters, one(limit, "late"))
    assert (await refused(counters, one(limit, "late"))).what == "requests"
