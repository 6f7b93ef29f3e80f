"""Admission: which limits a request falls under, what it is told, what it is charged, and how it waits its turn."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.gateway.conftest import live

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import BudgetExceeded, LimitExceeded
from pilothouse.domain.limit import Limit, Rate, Spend
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Policy, Queue
from pilothouse.domain.record import Attempt, LimitHit, Record, Tokens
from pilothouse.domain.table import Table
from pilothouse.gateway.admit import Admission, Estimate, Ticket
from pilothouse.gateway.apis.chat import ChatApi
from pilothouse.gateway.resolve import inline
from pilothouse.gateway.types import Draft, Incoming, Parsed, Resolved
from pilothouse.store.counters.bounds import Notice
from pilothouse.store.counters.local import LocalCounters

SMALL = Estimate(10, 20, 0.01)


class Door:
    """An admission, the table before it, and requests to let in."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.notices: list[Notice] = []
        self.admission = Admission(LocalCounters(self.clock), self.notices.append)
        self.table = self.made()

    @staticmethod
    def made(*limits: Limit) -> Table:
        return Table(revision=1, issued_us=1, entries={}, keys={}, providers={}, limits=limits)

    def draft(
        self, policy: Policy | None = None, header: Callable[[str], str | None] | None = None, **record: Any
    ) -> Draft:
        route = record.pop("route", "answer")
        parsed = Parsed(b"", {}, route, [])
        made = live(policy=policy or Policy())
        resolved = Resolved(parsed, made, made.manifest.model, route, app="shop", tier=record.get("tier", "standard"))
        if "/" in route:
            ref = ModelRef.parse(route)
            resolved = Resolved(parsed, inline(ref), ref, route, inline=True)
        given = {"id": "r", "ts_us": 1, "trace_id": "t", "span_id": "s", "env": "prod", "key_id": "k1"}
        draft = Draft(Incoming(b""), Record(route=route, **(given | record)), 0.0, ChatApi())
        if header is not None:
            draft.incoming.header = header
        draft.resolved = resolved
        return draft

    async def enter(self, draft: Draft, estimate: Estimate = SMALL, deadline: float | None = None) -> Ticket:
        return await self.admission.enter(draft, self.table, estimate, deadline)

    async def admits(self, estimate: Estimate = SMALL, **record: Any) -> bool:
        """Whether a request is let in; it then stays in."""
        try:
            await self.enter(self.draft(**record), estimate)
        except LimitExceeded:
            return False
        return True

    def gauge(self, name: str) -> float:
        return self.admission.gauges()[f"pilothouse_{name}"][1]


@pytest.fixture
def door() -> Door:
    return Door()


def attempt(tokens: int | None, usd: float | None, error: str = "", status: int = 200) -> Attempt:
    used = None if tokens is None else Tokens(input_uncached=tokens)
    return Attempt(1, "primary", "p", "m", 0.0, status=status, error_type=error, tokens=used, cost_usd=usd)


# --- which limits


async def test_every_combination_of_values_has_a_counter_of_its_own(door: Door) -> None:
    door.table = door.made(Limit(name="l", by=("key", "segment"), requests=Rate(1, 60.0)))
    assert await door.admits(segment="a")
    assert not await door.admits(segment="a")
    assert await door.admits(segment="b")
    assert await door.admits(segment="a", key_id="k2")
    assert not await door.admits(segment="b", route="other")


@pytest.mark.parametrize(
    ("dimension", "one", "other"),
    [
        ("key", {"key_id": "a"}, {"key_id": "b"}),
        ("route", {"route": "a"}, {"route": "b"}),
        ("segment", {"segment": "a"}, {"segment": "b"}),
        ("env", {"env": "dev"}, {"env": "prod"}),
        ("session", {"session": "a"}, {"session": "b"}),
        ("user", {"user": "a"}, {"user": "b"}),
        ("model", {"route": "p/a"}, {"route": "p/b"}),
        ("app", {"route": "a"}, {"route": "p/b"}),
    ],
)
async def test_each_dimension_counts_and_selects(door: Door, dimension: Any, one: Any, other: Any) -> None:
    door.table = door.made(Limit(name="l", by=(dimension,), requests=Rate(1, 60.0)))
    assert [await door.admits(**one), await door.admits(**other), await door.admits(**one)] == [True, True, False]
    value = one.get("key_id") or one.get(dimension) or one.get("route")
    value = "shop" if dimension == "app" else value
    door.table = door.made(Limit(name="w", by=(), where={dimension: value}, requests=Rate(1, 60.0)))
    assert [await door.admits(**one), await door.admits(**other), await door.admits(**one)] == [True, True, False]


async def test_nobody_is_exempt(door: Door) -> None:
    """No key, no route of ours, no session: each is counted somewhere."""
    for by in (("key",), ("session",), ("user",), ("segment",), ("model",), ()):
        door.table = door.made(Limit(name=f"by {by}", by=by, requests=Rate(1, 60.0)))
        assert await door.admits(route="openai/gpt-5-mini", key_id="")
        draft = door.draft(route="openai/gpt-5-mini", key_id="")
        with pytest.raises(LimitExceeded):
            await door.enter(draft)
        assert len(draft.record.limits) == 1
    assert draft.record.limits[0].by == ""
    door.table = door.made(Limit(name="l", by=("key",), where={"key": "anonymous"}, requests=Rate(1, 60.0)))
    assert [await door.admits(key_id=""), await door.admits(key_id=""), await door.admits()] == [True, False, True]


async def test_a_routes_own_limit_counts_for_its_route_and_environment(door: Door) -> None:
    policy = Policy(limits=(Limit(name="limits", by=("key",), requests=Rate(1, 60.0)),))
    for values in ({}, {"env": "dev"}, {"route": "other"}, {"key_id": "k2"}):
        assert await door.admits(policy=policy, **values)
        assert not await door.admits(policy=policy, **values)


async def test_a_new_table_keeps_the_counts(door: Door) -> None:
    door.table = door.made(Limit(name="l", requests=Rate(2, 60.0)))
    assert await door.admits()
    door.table = door.made(Limit(name="l", requests=Rate(2, 60.0)), Limit(name="more", requests=Rate(100, 60.0)))
    assert [await door.admits(), await door.admits()] == [True, False]


# --- what is said


async def test_a_refusal_names_limit_counter_and_time(door: Door) -> None:
    door.table = door.made(Limit(name="free", by=("key", "segment"), requests=Rate(2, 60.0)))
    for _ in range(2):
        await door.admits(segment="free")
    draft = door.draft(segment="free")
    with pytest.raises(LimitExceeded) as caught:
        await door.enter(draft)
    error = caught.value
    assert str(error) == (
        "the limit “free” of key=k1,segment=free is reached: 2 requests per 60 s — limits.free — try again in 30 s"
    )
    assert (error.kind, error.status) == ("limit_exceeded", 429)
    assert error.retry_after_s == pytest.approx(30.0, abs=0.1)
    assert draft.record.limits == [LimitHit("free", "requests", "key=k1,segment=free")]
    door.clock.advance(error.retry_after_s)
    assert await door.admits(segment="free")


async def test_a_budget_says_when_its_period_ends(door: Door) -> None:
    door.table = door.made(Limit(name="money", by=("key",), spend=(Spend(0.05, "day"),)))
    draft = door.draft()
    ticket = await door.enter(draft)
    draft.record.attempts = [attempt(30, 0.045)]
    ticket.settle(draft.record)
    refused = door.draft()
    with pytest.raises(BudgetExceeded, match=r"0\.05 USD per day, of which 0\.005 USD are left") as caught:
        await door.enter(refused)
    assert caught.value.kind == "budget_exceeded" and not caught.value.retryable
    assert caught.value.retry_after_s is not None and 0 < caught.value.retry_after_s <= 86_400
    assert refused.record.limits == [LimitHit("money", "spend", "key=k1")]


async def test_a_request_larger_than_its_limit_gets_no_retry_after(door: Door) -> None:
    door.table = door.made(Limit(name="l", tokens=Rate(25, 60.0)))
    with pytest.raises(LimitExceeded, match="the request alone is larger than the limit") as caught:
        await door.enter(door.draft())
    assert caught.value.retry_after_s is None


async def test_shadow_only_notes(door: Door) -> None:
    door.table = door.made(
        Limit(name="s", requests=Rate(1, 60.0), shadow=True),
        Limit(name="r", spend=(Spend(0.001, "request"),), shadow=True),
    )
    await door.admits()
    draft = door.draft()
    ticket = await door.enter(draft)
    assert [(hit.name, hit.what, hit.shadow) for hit in draft.record.limits] == [
        ("r", "spend", True), ("s", "requests", True),
    ]  # fmt: skip
    assert ticket.spendable() is None
    assert door.gauge("limit_refusals") == 0.0


async def test_a_refused_request_uses_nothing_up(door: Door) -> None:
    door.table = door.made(Limit(name="a", requests=Rate(3, 60.0)), Limit(name="b", by=("segment",), concurrency=1))
    assert await door.admits(segment="x")
    for _ in range(5):
        assert not await door.admits(segment="x")
    assert [await door.admits(segment=s) for s in "yzw"] == [True, True, False]


# --- what is charged


@pytest.mark.parametrize(
    ("attempts", "usd", "tokens"),
    [
        ([attempt(100, 0.02)], 0.02, 100),
        ([attempt(None, None, "server_error", 500), attempt(100, 0.02)], 0.02, 100),  # an error costs nothing
        ([attempt(60, 0.01, "invalid_output"), attempt(100, 0.02)], 0.03, 160),  # each attempt is charged
        ([attempt(None, None, "timeout_first_token", 0), attempt(100, 0.02)], 0.03, 130),  # may have worked
        ([attempt(None, None, "cancelled", 200)], 0.01, 30),
        ([attempt(None, None, "connect_failed", 0)], 0.0, 0),
        ([attempt(None, None, "circuit_open", 0)], 0.0, 0),
        ([attempt(100, None)], 0.01, 100),  # no price: what was reserved
        ([], 0.0, 0),
    ],
)
async def test_what_a_request_used_is_charged(door: Door, attempts: list[Attempt], usd: float, tokens: int) -> None:
    limit = Limit(name="l", by=(), tokens=Rate(1000, 1e9), spend=(Spend(1.0, "day"),))
    door.table = door.made(limit)
    draft = door.draft()
    ticket = await door.enter(draft)
    draft.record.attempts = attempts
    ticket.settle(draft.record)
    ticket.settle(draft.record)  # nothing
    assert not await door.admits(Estimate(0, 0, 1.0 - usd + 1e-4))
    assert not await door.admits(Estimate(1000 - tokens + 1, 0, 0.0))
    assert await door.admits(Estimate(1000 - tokens, 0, 1.0 - usd - 1e-4))


async def test_what_is_reserved_counts_until_it_is_settled(door: Door) -> None:
    door.table = door.made(Limit(name="l", by=(), spend=(Spend(0.025, "day"),), concurrency=10))
    tickets = [(draft := door.draft(), await door.enter(draft)) for _ in range(2)]
    assert not await door.admits()
    for draft, ticket in tickets:
        draft.record.attempts = [attempt(30, 0.001)]
        ticket.settle(draft.record)
    assert await door.admits()


async def test_a_model_without_a_price_is_let_in_and_said(door: Door) -> None:
    door.table = door.made(Limit(name="l", by=("route",), spend=(Spend(1.0, "day"),)))
    draft = door.draft()
    await door.enter(draft, Estimate(10, 10, None))
    assert draft.record.limits == [LimitHit("l", "unpriced", "route=answer", shadow=True)]
    assert door.gauge("budget_unpriced") == 1.0


async def test_thresholds_are_announced_once_and_stand_in_the_record_that_reached_them(door: Door) -> None:
    door.table = door.made(Limit(name="l", by=("route",), spend=(Spend(0.1, "day"),), soft=(0.5,)))
    hits = []
    for _ in range(9):
        draft = door.draft()
        ticket = await door.enter(draft, Estimate(1, 1, 0.01))
        draft.record.attempts = [attempt(2, 0.011)]
        ticket.settle(draft.record)
        hits += [(hit.name, hit.what, hit.by) for hit in draft.record.limits]
    assert hits == [("l", "soft:day:50%", "route=answer")]
    assert [(n.limit, n.share, n.counter) for n in door.notices] == [("l", 0.5, "route=answer")]


async def test_a_request_knows_what_it_may_still_spend(door: Door) -> None:
    door.table = door.made(Limit(name="l", by=("key",), spend=(Spend(0.04, "request"), Spend(0.1, "trace"))))
    parent = {"parent_span_id": "p", "trace_id": "t1"}
    draft = door.draft(**parent)
    ticket = await door.enter(draft)
    assert ticket.spendable() == pytest.approx(0.04)
    draft.record.attempts = [attempt(30, 0.03)]
    assert ticket.spendable() == pytest.approx(0.01)
    ticket.settle(draft.record)
    other = await door.enter(door.draft(**parent), Estimate(1, 1, 0.04))
    assert other.spendable() == pytest.approx(0.04)
    third = await door.enter(door.draft(**parent))
    assert third.spendable() == pytest.approx(0.03)  # 0.1 less 0.03 spent and 0.04 held
    with pytest.raises(BudgetExceeded):
        await door.enter(door.draft(**parent), Estimate(1, 1, 0.035))
    with pytest.raises(BudgetExceeded, match=r"allows one 0\.04 USD") as caught:
        await door.enter(door.draft(), Estimate(1, 1, 0.05))
    assert caught.value.retry_after_s is None
    assert (await door.enter(door.draft(trace_id="t2", parent_span_id="p"))).spendable() == pytest.approx(0.04)


# --- the queue


QUEUED = Policy(limits=(Limit(name="l", concurrency=1),), queue=Queue(max_wait=30.0, size=3))


class Line:
    """Requests that wait, in the order in which they are let in."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.order: list[str] = []
        self.tasks: dict[str, asyncio.Task[Ticket]] = {}
        self.drafts: dict[str, Draft] = {}

    async def join(self, name: str, policy: Policy = QUEUED, deadline: float | None = None, **record: Any) -> None:
        draft = self.drafts[name] = self.door.draft(policy, **record)

        async def wait() -> Ticket:
            ticket = await self.door.enter(draft, SMALL, deadline)
            self.order.append(name)
            return ticket

        self.tasks[name] = asyncio.get_running_loop().create_task(wait())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def through(self, name: str) -> None:
        """Wait until it is let in, and end it."""
        (await self.tasks[name]).settle(self.drafts[name].record)


@pytest.fixture
async def line(door: Door) -> Line:
    found = Line(door)
    await found.join("first")
    await found.tasks["first"]
    return found


async def test_who_waits_goes_by_class_and_then_by_arrival(line: Line) -> None:
    policy = QUEUED.__class__(limits=QUEUED.limits, queue=Queue(30.0, 10))
    low = {"header": {"x-pilothouse-priority": "low"}.get}
    up = {"header": {"x-pilothouse-priority": "high"}.get}
    await line.join("lite", policy, tier="lite")
    await line.join("lowered", policy, tier="high", **low)
    await line.join("standard", policy)
    await line.join("raised", policy, **up)
    await line.join("high", policy, tier="high")
    assert line.door.gauge("queue_depth") == 5.0
    for name in ("first", "high", "standard", "raised", "lite", "lowered"):
        await line.through(name)
    assert line.order == ["first", "high", "standard", "raised", "lite", "lowered"]
    assert [line.drafts[n].record.priority for n in ("first", "high", "raised", "lowered")] == [
        "", "high", "standard", "lite",
    ]  # fmt: skip
    assert line.drafts["lite"].record.queued_ms > 0.0 and line.drafts["first"].record.queued_ms == 0.0
    assert line.door.gauge("queue_depth") == line.door.gauge("queue_oldest_seconds") == 0.0


async def test_age_goes_before_class_in_the_end(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilothouse.gateway.lanes.AGEING_S", 0.0)
    await line.join("lite", tier="lite")
    await line.join("high", tier="high")
    for name in ("first", "lite", "high"):
        await line.through(name)
    assert line.order == ["first", "lite", "high"]


async def test_a_full_queue_and_a_wait_that_is_over_say_so(line: Line) -> None:
    loop = asyncio.get_running_loop()
    for number in range(3):
        await line.join(f"n{number}", deadline=loop.time() + 0.02)
    with pytest.raises(LimitExceeded, match="its queue is full") as caught:
        await line.door.enter(line.door.draft(QUEUED))
    assert caught.value.kind == "queue_full" and caught.value.retry_after_s
    for number in range(3):
        with pytest.raises(LimitExceeded, match="the time to wait for it is over") as caught:
            await line.tasks[f"n{number}"]
        assert caught.value.kind == "queue_timeout" and caught.value.status == 429
    assert line.door.gauge("queue_depth") == 0.0
    assert line.drafts["n0"].record.limits == [LimitHit("l", "concurrency", "route=answer")]


async def test_a_client_that_leaves_gives_up_its_place(line: Line) -> None:
    await line.join("gone")
    await line.join("next")
    line.tasks["gone"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await line.tasks["gone"]
    assert line.door.gauge("queue_depth") == 1.0
    await line.through("first")
    await line.through("next")
    assert await line.door.admits(policy=QUEUED)


async def test_nobody_overtakes_who_waits_and_nobody_waits_for_anothers_limit(line: Line) -> None:
    await line.join("waits")
    unqueued = Policy(limits=QUEUED.limits)
    line.tasks["first"].result().settle(line.drafts["first"].record)
    with pytest.raises(LimitExceeded):
        await line.door.enter(line.door.draft(unqueued))  # the room is for who waits
    assert await line.door.admits(policy=QUEUED, route="other")
    await line.through("waits")
    assert await line.door.admits(policy=unqueued)


async def test_a_request_waits_until_the_rate_admits_it(door: Door) -> None:
    policy = Policy(limits=(Limit(name="l", requests=Rate(2, 0.02)),), queue=Queue(5.0, 10))
    line = Line(door)
    for number in range(3):
        await line.join(f"n{number}", policy)
    assert line.order == ["n0", "n1"]
    door.clock.advance(0.02)
    await line.through("n2")
    assert line.drafts["n2"].record.limits == []


async def test_what_cannot_come_in_time_is_refused_at_once(door: Door) -> None:
    policy = Policy(limits=(Limit(name="l", requests=Rate(1, 60.0)),), queue=Queue(5.0, 10))
    assert await door.admits(policy=policy)
    draft = door.draft(policy)
    with pytest.raises(LimitExceeded) as caught:
        await door.enter(draft)
    assert caught.value.kind == "limit_exceeded" and draft.record.queued_ms == 0.0


async def test_a_request_that_two_limits_stop_waits_for_each_in_turn(door: Door) -> None:
    one, two = Limit(name="one", by=("key",), concurrency=1), Limit(name="two", by=("route",), concurrency=1)
    policy = Policy(limits=(one, two), queue=Queue(30.0, 10))
    line = Line(door)
    await line.join("a", policy)
    door.table = door.made(Limit(name="other", by=(), concurrency=2))
    await line.join("b", Policy(), key_id="k2")
    await line.join("c", Policy(queue=Queue(30.0, 10)), key_id="k2", route="x")
    await line.join("both", policy)
    assert line.order == ["a", "b", "c"]
    await line.through("a")
    await asyncio.sleep(0)
    await line.through("b")
    await line.through("both")
    assert line.order[-1] == "both"
