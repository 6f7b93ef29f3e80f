"""Counters on a real server: the same answers as in memory, outages, leases, settlements that arrive once."""

import asyncio
import random
import re
from typing import Any

import pytest
from tests.store.counters.test_arithmetic import one, refused, taken

from pilothouse.domain.clock import FrozenClock, SystemClock
from pilothouse.domain.errors import LimitExceeded, StoreError
from pilothouse.domain.limit import Limit, Rate, Spend
from pilothouse.domain.table import CounterSettings
from pilothouse.store.counters import valkey as module
from pilothouse.store.counters.bounds import EPOCH_S, Counter, Pair, Use, Verdict, bounds_of, period_end
from pilothouse.store.counters.local import LocalCounters
from pilothouse.store.counters.opened import open_counters
from pilothouse.store.counters.valkey import ValkeyCounters

LIMIT = Limit(name="l", concurrency=2, spend=(Spend(1.0, "day"),))
NOTHING = Use(0.0, 0.0, 0.0, 0.0)


@pytest.fixture
async def counters(valkey: Any) -> Any:
    found = ValkeyCounters(valkey.url, SystemClock())
    yield found
    await found.close()


async def sent(counters: ValkeyCounters) -> None:
    """Wait until every settlement is with the server."""
    while counters._queue:  # noqa: ASYNC110 - what it waits for is another process
        await asyncio.sleep(0.001)


async def test_the_server_decides_as_memory_does(counters: ValkeyCounters) -> None:
    """Rates so slow that the time between two steps means nothing; everything else moves."""
    chance = random.Random(5)
    limits = [
        Limit(name="a", requests=Rate(70, 1e7), tokens=Rate(9000, 1e7), concurrency=3, spend=(Spend(0.7, "day"),)),
        Limit(name="b", tokens=Rate(8000, 1e7), spend=(Spend(1.5, "month"), Spend(3.0, "hour")), soft=(0.2, 0.6)),
        Limit(name="s", concurrency=1, shadow=True),
        Limit(name="t", spend=(Spend(1.2, "trace"),)),
    ]
    pairs: list[Pair] = [(Counter(lim.name), bounds_of(lim)) for lim in limits[:3]]
    pairs.append((Counter("t"), bounds_of(limits[3], ("trace",))))
    local = LocalCounters(SystemClock())
    open_: list[tuple[Any, Any, float, float]] = []
    told: list[Any] = []
    seen = set()
    for _ in range(300):
        if open_ and chance.random() < 0.5:
            theirs, ours, tokens, usd = open_.pop(chance.randrange(len(open_)))
            use = Use(tokens, usd, tokens * chance.random() * 1.5, usd * chance.random())
            for where, verdict in ((counters, theirs), (local, ours)):
                ticket = verdict if isinstance(verdict, int) else verdict.ticket
                told += [
                    (where, n) for n in where.settle(ticket, pairs if isinstance(verdict, int) else verdict.taken, use)
                ]
            await sent(counters)
            continue
        tokens, usd = float(chance.randint(0, 300)), chance.randint(0, 8) / 100
        theirs, ours = await counters.take(pairs, tokens, usd), await local.take(pairs, tokens, usd)
        assert says(theirs) == says(ours)
        seen.add(says(ours)[0])
        if isinstance(ours, int) or ours.refused is None:
            open_.append((theirs, ours, tokens, usd))
    told += [(counters, notice) for notice in counters._notices]
    shared = [(n.limit, n.period, n.share, pytest.approx(n.spent)) for where, n in told if where is counters]
    assert [(n.limit, n.period, n.share, n.spent) for where, n in told if where is local] == shared
    assert len(shared) >= 2 and {"", "concurrency", "spend"} <= seen


def says(verdict: int | Verdict) -> tuple[Any, ...]:
    if isinstance(verdict, int):
        return ("", ())
    shadow = tuple(no.what for no in verdict.shadow)
    no = verdict.refused
    if no is None:
        return ("", shadow)
    wait = None if no.wait_s is None else pytest.approx(no.wait_s, rel=1e-3, abs=60.0)
    return (no.what, no.pair[1].name, no.never, no.period, wait, pytest.approx(no.left_usd, abs=1e-9), shadow)


async def test_months_end_on_the_server_where_they_end_here(counters: ValkeyCounters) -> None:
    functions = re.search(
        r"local function days.*?\nend\n\nlocal function month_end.*?\nend\n", module._SCRIPT, re.DOTALL
    )
    assert functions is not None
    script = f"local ask = {{epoch = {EPOCH_S}}}\n{functions[0]}\nreturn tostring(month_end(tonumber(ARGV[1])))"
    for day in range(0, 9000, 13):
        at = day * 86400.0 + 7.0
        assert float(await counters._client.eval(script, 0, at)) == period_end("month", at)


async def test_two_workers_share_one_limit(valkey: Any, counters: ValkeyCounters) -> None:
    other = ValkeyCounters(valkey.url, SystemClock())
    pairs = one(LIMIT)
    first, _ = await taken(counters, pairs), await taken(other, pairs)
    assert (await refused(other, pairs)).what == "concurrency"
    counters.settle(first, pairs, NOTHING)
    await sent(counters)
    await taken(other, pairs)
    await other.close()
    await taken(counters, pairs)  # what a worker that closed held is free


async def test_a_worker_that_is_silent_gives_back_what_it_held(
    valkey: Any, counters: ValkeyCounters, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ValkeyCounters(valkey.url, SystemClock())
    pairs = one(Limit(name="l", concurrency=1, tokens=Rate(100, 1e6), spend=(Spend(1.0, "day"),)))
    ticket = await taken(gone, pairs, 80.0, 0.7)
    assert (await refused(counters, pairs, 10.0, 0.1)).what == "concurrency"
    await counters._client.delete(gone._life.lease)  # as it expires when nobody renews it
    second = await taken(counters, pairs, 80.0, 0.7)
    counters.settle(second, pairs, Use(80.0, 0.7, 10.0, 0.2))
    await sent(counters)
    gone.settle(ticket, pairs, Use(80.0, 0.7, 20.0, 0.3))  # it was only slow: what it used is charged all the same
    await sent(gone)
    assert (await refused(counters, pairs, 71.0)).what == "tokens"
    assert (await refused(counters, pairs, 0.0, 0.51)).left_usd == pytest.approx(0.5)
    await taken(counters, pairs, 70.0, 0.5)
    await gone.close()


async def test_a_settlement_sent_twice_counts_once(counters: ValkeyCounters) -> None:
    pairs = one(LIMIT)
    ticket = await taken(counters, pairs, 0.0, 0.5)
    counters.settle(ticket, pairs, Use(0.0, 0.5, 0.0, 0.4))
    settlement = counters._queue[0]
    await sent(counters)
    for _ in range(3):
        await counters._run(settlement.life, "settle", settlement.seq, settlement.pairs, settlement.ask)
    assert (await refused(counters, pairs, 0.0, 0.61)).left_usd == pytest.approx(0.6)


async def test_while_the_server_is_away_local_counters_hold_and_what_was_spent_is_charged_later(valkey: Any) -> None:
    clock = FrozenClock()
    counters = ValkeyCounters(valkey.url, clock)
    pairs = one(LIMIT)
    before = await taken(counters, pairs, 0.0, 0.2)
    valkey.stop()
    verdicts = [await counters.take(pairs, 0.0, 0.3) for _ in range(3)]
    assert all(isinstance(verdict, Verdict) and verdict.backup for verdict in verdicts)
    assert verdicts[2].refused.what == "concurrency"
    assert counters.gauges()["pilothouse_counters_down"][1] == 1.0
    counters.settle(before, pairs, Use(0.0, 0.2, 0.0, 0.1))
    counters.settle(0, verdicts[0].taken, Use(0.0, 0.3, 0.0, 0.25), True)
    valkey.start()
    clock.advance(2.0)
    await sent(counters)
    assert (await refused(counters, pairs, 0.0, 0.7)).left_usd == pytest.approx(0.65)
    assert counters.gauges()["pilothouse_counters_down"][1] == 0.0
    assert counters.lost == 0
    await counters.close()


async def test_closed_refuses_while_the_server_is_away(valkey: Any) -> None:
    valkey.stop()
    counters = ValkeyCounters(valkey.url, SystemClock(), "closed")
    for _ in range(2):
        with pytest.raises(LimitExceeded, match="cannot be reached") as caught:
            await counters.take(one(LIMIT), 0.0, 0.0)
        assert caught.value.kind == "counters_unavailable" and caught.value.retry_after_s == 1.0
    await counters.close()
    valkey.start()


async def test_a_client_that_leaves_while_it_is_decided_holds_nothing(counters: ValkeyCounters) -> None:
    pairs = one(Limit(name="l", concurrency=1))
    counters.settle(await taken(counters, []), [], NOTHING)
    asking = asyncio.get_running_loop().create_task(counters.take(pairs, 0.0, 0.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for _ in range(200):
        if isinstance(await counters.take(pairs, 0.0, 0.0), int):
            return
        await asyncio.sleep(0.005)
    raise AssertionError("its place was not given back")


async def test_a_settlement_that_the_server_will_not_have_does_not_hold_up_the_others(counters: ValkeyCounters) -> None:
    bad, good = one(LIMIT, "bad"), one(LIMIT, "good")
    tickets = [await taken(counters, bad, 0.0, 0.1), await taken(counters, good, 0.0, 0.1)]
    await counters._client.set(module.PREFIX + bad[0][0].key.hex(), "no hash")
    counters.settle(tickets[0], bad, Use(0.0, 0.1, 0.0, 0.1))
    counters.settle(tickets[1], good, Use(0.0, 0.1, 0.0, 0.1))
    await sent(counters)
    assert counters.lost == 1
    assert (await refused(counters, good, 0.0, 0.95)).left_usd == pytest.approx(0.9)


async def test_settings_choose_and_a_wrong_url_is_said(valkey: Any) -> None:
    settings = CounterSettings(kind="valkey", url="env://VALKEY")
    found = open_counters(settings, module.Path("/"), SystemClock(), lambda _: valkey.url)
    assert isinstance(found, ValkeyCounters)
    await found.close()
    with pytest.raises(StoreError, match="cannot be read"):
        ValkeyCounters("nonsense", SystemClock())
    assert isinstance(open_counters(settings, module.Path("/"), SystemClock(), lambda _: "nonsense"), LocalCounters)
    closed = CounterSettings(kind="valkey", url="env://VALKEY", on_error="closed")
    with pytest.raises(StoreError):
        open_counters(closed, module.Path("/"), SystemClock(), lambda _: "nonsense")
    assert isinstance(open_counters(CounterSettings(kind="local"), module.Path("/"), SystemClock(), str), LocalCounters)
