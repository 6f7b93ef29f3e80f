"""Answers that are given again: to whom, for how long, and what is never kept."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Cache, Fallback, Policy, Timeouts
from pilothouse.domain.record import Record, Validation
from pilothouse.gateway.cache import Answers, Asked, Kept, asked, hit_headers, note_hit, worth
from pilothouse.providers.openai import Choice, Completion, Message
from pilothouse.store.cache.memory import Memory

TTL = 60.0
POLICY = Policy(cache=Cache(ttl=TTL), timeout=Timeouts(first_token=0.2, total=1.0))
MODEL = ModelRef("fake", "small")


def record(**more: Any) -> Record:
    given_fields = {
        "id": "r", "ts_us": 0, "trace_id": "t", "span_id": "s", "env": "prod", "route": "answer", "key_id": "k1",
        "manifest": "m1", "outcome": "success", "status": 200,
    }  # fmt: skip
    return Record(**(given_fields | more))


def ask(
    policy: Policy = POLICY,
    of: Record | None = None,
    form: str = "chat",
    model: ModelRef = MODEL,
    upstream: bytes = b'{"model":"small"}',
    **headers: str,
) -> Asked | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asked(policy, of or record(), form=form, model=model, upstream=upstream, body={}, header=named.get)


def needed(one: Asked | None) -> Asked:
    assert one is not None
    return one


class Desk:
    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.memory = Memory(self.clock)
        self.answers = Answers(self.memory, self.clock)

    def kept(self, body: bytes = b"{}", **more: Any) -> Kept:
        return Kept(body=body, content_type="application/json", made_us=self.clock.now_us(), **more)

    async def keep(self, one: Asked | None, body: bytes = b"{}", **more: Any) -> None:
        await self.answers.lookup(needed(one))
        await self.answers.store(needed(one), self.kept(body, **more))
        self.answers.done(needed(one))


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_an_equal_request_gets_the_kept_answer_and_costs_nothing(desk: Desk) -> None:
    first = needed(ask())
    assert await desk.answers.lookup(first) is None
    assert first.use == "miss"
    await desk.answers.store(first, desk.kept(b"an answer", cost_usd=0.02, served_model="small-1", provider="fake"))
    desk.answers.done(first)
    desk.clock.advance(5)
    again = needed(ask())
    hit = await desk.answers.lookup(again)
    assert hit is not None
    assert (hit.kept.body, again.use, hit.age_s) == (b"an answer", "hit", 5.0)
    written = record(outcome="failed")
    note_hit(written, hit)
    assert (written.cache, written.saved_usd, written.cost_usd, written.tokens) == ("hit", 0.02, 0.0, None)
    assert (written.outcome, written.served_model) == ("success", "small-1")
    assert dict(hit_headers(hit)) == {"x-pilothouse-cache": "hit", "age": "5"}


async def test_what_an_unpriced_answer_saved_is_unknown(desk: Desk) -> None:
    await desk.keep(ask())
    hit = await desk.answers.lookup(needed(ask()))
    written = record()
    assert hit is not None
    note_hit(written, hit)
    assert written.saved_usd is None


@pytest.mark.parametrize(
    "other",
    [
        {"of": record(env="dev")},
        {"of": record(route="other")},
        {"of": record(key_id="k2")},
        {"of": record(manifest="m2")},
        {"form": "chat+stream"},
        {"form": "responses"},
        {"model": ModelRef("elsewhere", "small")},
        {"upstream": b'{"model":"small","temperature":1}'},
        {"policy": Policy(cache=Cache(ttl=TTL, scope="route"))},
    ],
    ids=str,
)
async def test_nobody_else_gets_it(desk: Desk, other: dict[str, Any]) -> None:
    await desk.keep(ask())
    assert await desk.answers.lookup(needed(ask(**other))) is None


identity = st.fixed_dictionaries(
    {name: st.sampled_from(["a", "b", "ab", ""]) for name in ("env", "route", "key_id", "manifest")}
)


@given(identity, identity, st.sampled_from([b"", b"a", b"b"]), st.sampled_from([b"", b"a", b"b"]))
def test_keys_are_equal_only_where_everything_is(one: Any, two: Any, up: bytes, down: bytes) -> None:
    same = needed(ask(of=record(**one), upstream=up)).key == needed(ask(of=record(**two), upstream=down)).key
    assert same == (one == two and up == down)


@pytest.mark.parametrize("scope", ["session", "user", "segment"])
async def test_strangers_share_nothing(desk: Desk, scope: Any) -> None:
    policy = Policy(cache=Cache(ttl=TTL, scope=scope))
    nobody = needed(ask(policy))
    assert (nobody.may_look, nobody.may_keep, nobody.use) == (False, False, "bypass")
    await desk.keep(nobody)
    assert desk.memory.size == 0
    await desk.keep(ask(policy, record(**{scope: "x"})))
    assert await desk.answers.lookup(needed(ask(policy, record(**{scope: "x"})))) is not None
    assert await desk.answers.lookup(needed(ask(policy, record(**{scope: "y"})))) is None


async def test_an_answer_is_kept_for_its_time(desk: Desk) -> None:
    await desk.keep(ask())
    desk.clock.advance(TTL - 1)
    assert await desk.answers.lookup(needed(ask())) is not None
    desk.clock.advance(2)
    assert await desk.answers.lookup(needed(ask())) is None


async def test_a_fallback_may_take_an_older_one(desk: Desk) -> None:
    policy = Policy(cache=Cache(ttl=10), fallback=(Fallback(cached=300),))
    await desk.keep(ask(policy), b"old")
    desk.clock.advance(200)
    late = needed(ask(policy))
    assert await desk.answers.lookup(late) is None
    hit = await desk.answers.stale(late, 300)
    assert hit is not None
    assert (hit.kept.body, late.use) == (b"old", "stale")
    assert await desk.answers.stale(needed(ask(policy)), 100) is None
    written = record()
    note_hit(written, hit)
    assert (written.cache, written.outcome) == ("stale", "fallback")


async def test_a_fallback_alone_keeps_answers_but_never_looks_first(desk: Desk) -> None:
    policy = Policy(fallback=(Fallback(cached=300),))
    await desk.keep(ask(policy))
    one = needed(ask(policy))
    assert await desk.answers.lookup(one) is None
    assert one.use == ""
    assert await desk.answers.stale(one, 300) is not None
    assert ask(Policy()) is None  # no cache: nothing is asked of it


@pytest.mark.parametrize(
    ("headers", "looks", "keeps"),
    [
        ({"x_pilothouse_cache": "bypass"}, False, False),
        ({"x_pilothouse_cache": "Bypass"}, False, False),
        ({"cache_control": "no-store"}, False, False),
        ({"cache_control": "max-age=0, no-cache"}, False, True),
        ({"cache_control": "max-age=0"}, True, True),
    ],
)
async def test_the_client_may_ask_for_a_fresh_answer(headers: dict[str, str], looks: bool, keeps: bool) -> None:
    one = needed(ask(**headers))
    assert (one.may_look, one.may_keep) == (looks, keeps)
    assert one.use == ("miss" if looks else "bypass")


def completion(finish: str | None = "stop", **message: Any) -> Completion:
    return Completion([Choice(message=Message(**({"content": "hi"} | message)), finish_reason=finish)])


@pytest.mark.parametrize(
    ("of", "answer", "kept"),
    [
        ({}, completion(), True),
        ({}, completion("end_turn"), True),
        ({}, None, True),  # embeddings
        ({"outcome": "failed"}, completion(), False),
        ({"outcome": "fallback"}, completion(), False),
        ({"outcome": "degraded"}, completion(), False),
        ({"outcome": "refused"}, completion(), False),
        ({"status": 202}, completion(), False),
        ({}, completion("length"), False),
        ({}, completion("content_filter"), False),
        ({}, completion(refusal="no"), False),
        ({}, completion("tool_calls", tool_calls=[{"id": "c"}]), False),
        ({}, completion(None, tool_calls=[{"id": "c"}]), False),
        ({"validation": Validation(first_ok=False, ok=True)}, completion(), True),
        ({"validation": Validation(first_ok=False, ok=False)}, completion(), False),
        ({"validation": Validation(first_ok=True, ok=True, delivered_invalid=True)}, completion(), False),
        ({"stream_end": "complete"}, completion(), True),
        ({"stream_end": "error"}, completion(), False),
        ({"stream_end": "continued"}, completion(), False),
    ],
    ids=str,
)
def test_what_is_kept(of: dict[str, Any], answer: Completion | None, kept: bool) -> None:
    assert worth(record(**of), answer) is kept


async def test_equal_requests_at_once_make_one_call(desk: Desk) -> None:
    leader = needed(ask())
    assert await desk.answers.lookup(leader) is None
    followers = [needed(ask()) for _ in range(5)]
    waiting = [asyncio.get_running_loop().create_task(desk.answers.lookup(f)) for f in followers]
    await asyncio.sleep(0)
    await desk.answers.store(leader, desk.kept(b"once"))
    desk.answers.done(leader)
    hits = await asyncio.gather(*waiting)
    assert [h.kept.body for h in hits if h] == [b"once"] * 5
    assert {f.use for f in followers} == {"hit"}
    assert not any(f.leading for f in followers)


async def test_a_leader_that_fails_lets_the_others_go(desk: Desk) -> None:
    leader, follower = needed(ask()), needed(ask())
    await desk.answers.lookup(leader)
    waiting = asyncio.get_running_loop().create_task(desk.answers.lookup(follower))
    await asyncio.sleep(0)
    desk.answers.done(leader)
    assert await waiting is None
    assert follower.use == "miss"
    desk.answers.done(follower)
    desk.answers.done(follower)  # harmless
    assert await desk.answers.lookup(needed(ask())) is None


async def test_a_leader_is_waited_for_only_so_long(desk: Desk) -> None:
    quick = msgspec.structs.replace(POLICY, timeout=Timeouts(first_token=0.01, total=1.0))
    leader = needed(ask(quick))
    await desk.answers.lookup(leader)
    assert await desk.answers.lookup(needed(ask(quick))) is None
    await desk.answers.store(leader, desk.kept())  # the others' going is no harm to it
    desk.answers.done(leader)
    assert await desk.answers.lookup(needed(ask(quick))) is not None


async def test_a_follower_that_leaves_does_not_take_the_leader_along(desk: Desk) -> None:
    leader = needed(ask())
    await desk.answers.lookup(leader)
    waiting = asyncio.get_running_loop().create_task(desk.answers.lookup(needed(ask())))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await desk.answers.store(leader, desk.kept(b"x"))
    desk.answers.done(leader)
    assert await desk.answers.lookup(needed(ask())) is not None


async def test_a_backend_that_fails_is_one_that_has_nothing() -> None:
    class Broken:
        async def get(self, _key: str) -> bytes | None:
            raise OSError("gone")

        async def put(self, _key: str, _data: bytes, _keep_s: float) -> None:
            raise OSError("gone")

        async def close(self) -> None: ...

    clock = FrozenClock()
    answers = Answers(Broken(), clock)
    one = needed(ask())
    assert await answers.lookup(one) is None
    await answers.store(one, Kept(body=b"", content_type="", made_us=0))
    answers.done(one)
    assert answers.failures == 2


async def test_garbage_under_a_key_is_nothing(desk: Desk) -> None:
    one = needed(ask())
    await desk.memory.put(one.key, b"\xff not ours", 60)
    assert await desk.answers.lookup(one) is None


async def test_memory_forgets_the_least_recently_used_first() -> None:
    memory = Memory(FrozenClock(), limit=10_000)  # eight of them
    for name in "abcdefghi":
        await memory.put(name, b"x" * 900, 60)
        await memory.get("a")
    assert await memory.get("a") is not None
    assert await memory.get("b") is None
    await memory.put("big", b"x" * 5000, 60)
    assert await memory.get("big") is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 900), st.floats(0.1, 5)), max_size=60))
@settings(max_examples=60)
def test_memory_never_holds_more_than_its_room(puts: list[tuple[str, int, float]]) -> None:
    async def play() -> None:
        clock = FrozenClock()
        memory = Memory(clock, limit=8000)
        kept: dict[str, tuple[bytes, float]] = {}
        for key, size, keep_s in puts:
            data = bytes(size)
            await memory.put(key, data, keep_s)
            kept[key] = (data, clock.monotonic() + keep_s)
            clock.advance(0.5)
            assert 0 <= memory.size <= 8000
            for name, (value, until) in kept.items():
                found = await memory.get(name)
                assert found is None or (found == value and until > clock.monotonic())
        await memory.close()
        assert memory.size == 0

    asyncio.run(play())
