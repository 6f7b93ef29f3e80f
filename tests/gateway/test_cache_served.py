"""The cache through the edge: hits of every API, whole and streamed; who shares them; what is never given again."""

import asyncio
from typing import Any

import pytest
from tests.gateway.conftest import KEY, live, quick
from tests.gateway.doors import ApiStack, apis
from tests.gateway.ways import EVERY, ask, model

from pilothouse.domain.errors import Unauthorized
from pilothouse.domain.policy import Breaker, Cache, Fallback, Guard, Retry
from pilothouse.domain.principal import Principal
from pilothouse.domain.table import Live, Price, Table

__all__ = ["apis"]
NUMBERED = "rules: [{times: 1, reply: the first, usage: {prompt: 20, completion: 5}}, {reply: another}]"
MINUTE = Cache(ttl=60.0)
ways = pytest.mark.parametrize(("api", "at", "stream"), EVERY)


def cached(apis: ApiStack, at: str = "fake", cache: Cache | None = MINUTE, **policy: Any) -> Live:
    apis.more = {"prices": {f"{at}/small": Price(input=1000.0, output=1000.0)}}
    return apis.route(stable=live(model=model(at), policy=quick(cache=cache, **policy)))


def uses(apis: ApiStack) -> list[str]:
    return [record.cache for record in apis.records]


@ways
async def test_an_equal_request_gets_the_same_bytes_for_nothing(
    apis: ApiStack, api: str, at: str, stream: bool
) -> None:
    apis.script(NUMBERED)
    cached(apis, at)
    first = await ask(apis, api, "hello", stream=stream)
    again = await ask(apis, api, "hello", stream=stream)
    again.says("the first")
    assert first.data == again.data and first.words == again.words
    assert first.headers["x-pilothouse-cache"] == ""
    assert (again.headers["x-pilothouse-cache"], again.headers["age"]) == ("hit", "0")
    assert len(apis.provider.received) == 1
    made, given = apis.records
    assert (made.cache, made.cost_usd, made.saved_usd) == ("miss", pytest.approx(0.025), None)
    assert (given.cache, given.cost_usd, given.saved_usd) == ("hit", 0.0, pytest.approx(0.025))
    assert (given.outcome, given.attempts, given.tokens, given.cost_source) == ("success", [], None, "cache")
    assert (given.provider, given.served_model) == (made.provider, made.served_model)
    assert given.preview_out == "the first" and given.upstream_hash == made.upstream_hash


@pytest.mark.parametrize("api", ["chat", "messages", "responses"])
async def test_a_stream_and_a_whole_answer_are_not_the_same(apis: ApiStack, api: str) -> None:
    cached(apis)
    assert (await ask(apis, api, "hello")).words == "200 answer"
    assert (await ask(apis, api, "hello", stream=True)).words == "200 stream: complete"
    assert uses(apis) == ["miss", "miss"]


async def test_one_apis_answer_is_not_given_to_another(apis: ApiStack) -> None:
    cached(apis)
    for api in ("chat", "messages", "responses"):
        (await ask(apis, api, "hello")).says("You said: hello")
    assert uses(apis) == ["miss"] * 3


async def test_embeddings_are_given_again(apis: ApiStack) -> None:
    cached(apis, "openai")
    bodies = [await (await apis.post({"model": "answer", "input": "x"}, "/v1/embeddings")).text() for _ in range(2)]
    assert bodies[0] == bodies[1] and uses(apis) == ["miss", "hit"]


async def test_what_an_unpriced_answer_saved_is_unknown(apis: ApiStack) -> None:
    cached(apis)
    apis.more = {}
    for _ in range(2):
        await ask(apis, "chat", "hello")
    assert [(r.cost_usd, r.saved_usd) for r in apis.records] == [(None, None), (0.0, None)]


def two_keys(header: str | None, _table: Table) -> Principal:
    if header not in (f"Bearer {KEY}", "Bearer other"):
        raise Unauthorized("the API key is unknown")
    return Principal(key_id="k1" if header == f"Bearer {KEY}" else "k2", env="dev")


async def test_another_key_gets_an_answer_of_its_own(apis: ApiStack) -> None:
    apis.script(NUMBERED)
    apis.gateway.authenticate = two_keys
    cached(apis)
    (await ask(apis, "chat", "hello")).says("the first")
    (await ask(apis, "chat", "hello", key="other")).says("another")
    (await ask(apis, "chat", "hello", key="other")).says("another")
    (await ask(apis, "chat", "hello")).says("the first")
    assert uses(apis) == ["miss", "miss", "hit", "hit"]


async def test_a_route_may_share_its_answers_between_keys(apis: ApiStack) -> None:
    apis.gateway.authenticate = two_keys
    cached(apis, cache=Cache(ttl=60.0, scope="route"))
    await ask(apis, "chat", "hello")
    await ask(apis, "chat", "hello", key="other")
    assert uses(apis) == ["miss", "hit"]


async def test_strangers_share_nothing(apis: ApiStack) -> None:
    cached(apis, cache=Cache(ttl=60.0, scope="user"))
    for user in ("u1", "u1", "u2", None, None):
        await ask(apis, "chat", "hello", **({"user": user} if user else {}))
    assert uses(apis) == ["miss", "hit", "miss", "bypass", "bypass"]


async def test_a_new_release_begins_with_nothing(apis: ApiStack) -> None:
    cached(apis)
    await ask(apis, "chat", "hello")
    apis.route(stable=live(2, model=model("fake"), params={"seed": 1}, policy=quick(cache=Cache(ttl=60.0))))
    await ask(apis, "chat", "hello")
    assert uses(apis) == ["miss", "miss"]


async def test_an_answer_grows_old(apis: ApiStack) -> None:
    cached(apis, cache=Cache(ttl=0.1))
    await ask(apis, "chat", "hello")
    await asyncio.sleep(0.15)
    await ask(apis, "chat", "hello")
    assert uses(apis) == ["miss", "miss"]


@pytest.mark.parametrize(
    ("headers", "then"),
    [
        ({"x-pilothouse-cache": "bypass"}, ["miss", "bypass", "hit"]),
        ({"cache-control": "no-store"}, ["miss", "bypass", "hit"]),
        ({"cache-control": "no-cache"}, ["miss", "bypass", "hit"]),
    ],
)
async def test_a_client_may_ask_for_a_fresh_answer(apis: ApiStack, headers: dict[str, str], then: list[str]) -> None:
    apis.script(NUMBERED)
    cached(apis)
    await ask(apis, "chat", "hello")
    (await ask(apis, "chat", "hello", headers=headers)).says("another")
    kept = "another" if headers.get("cache-control") == "no-cache" else "the first"
    (await ask(apis, "chat", "hello")).says(kept)
    assert uses(apis) == then


@pytest.mark.parametrize(
    ("rule", "stream"),
    [
        ("{status: 400}", False),
        ("{reply: one two, finish_reason: length}", False),
        ("{reply: '', finish_reason: content_filter}", False),
        ("{tool_calls: [{name: look}]}", False),
        ("{reply: one two three four, chunk_size: 2, fault: cut}", True),
        ("{reply: one two three four, chunk_size: 2, fault: no_done}", True),
        ("{reply: one two three four, chunk_size: 2, fault: error_event}", True),
    ],
)
async def test_what_is_not_a_whole_good_answer_is_not_given_again(apis: ApiStack, rule: str, stream: bool) -> None:
    apis.script(f"rules: [{rule[:-1]}, times: 1}}, {{reply: good}}]")
    cached(apis)
    await ask(apis, "chat", "hello", stream=stream)
    (await ask(apis, "chat", "hello", stream=stream)).says("good")
    assert uses(apis) == ["miss", "miss"]


async def test_a_fallbacks_answer_is_not_the_routes(apis: ApiStack) -> None:
    apis.script("rules: [{times: 1, status: 500}, {reply: well again}]")
    cached(apis, retry=Retry(1), fallback=(Fallback(static="sorry"),))
    (await ask(apis, "chat", "hello")).says("sorry")
    (await ask(apis, "chat", "hello")).says("well again")


@pytest.mark.parametrize("stream", [False, True])
async def test_equal_requests_at_once_make_one_call(apis: ApiStack, stream: bool) -> None:
    apis.script("rules: [{latency: 0.1, reply: once, chunk_delay: 0.01, chunk_size: 1}]")
    cached(apis)
    answers = await asyncio.gather(*(ask(apis, "chat", "hello", stream=stream) for _ in range(8)))
    for answer in answers:
        answer.says("once")
    assert len(apis.provider.received) == 1 and len({a.data for a in answers}) == 1
    assert sorted(uses(apis)) == ["hit"] * 7 + ["miss"]
    assert sum(r.cost_usd or 0.0 for r in apis.records) == pytest.approx(apis.records[0].cost_usd or 0.0)


async def test_those_who_waited_in_vain_ask_themselves(apis: ApiStack) -> None:
    apis.script("rules: [{times: 1, latency: 0.1, status: 400}, {reply: well}]")
    cached(apis)
    answers = await asyncio.gather(*(ask(apis, "chat", "hello") for _ in range(4)))
    assert sorted(a.status for a in answers) == [200, 200, 200, 400]


@ways
async def test_an_older_answer_is_better_than_none(apis: ApiStack, api: str, at: str, stream: bool) -> None:
    apis.script("rules: [{times: 1, reply: As I said., usage: {prompt: 20, completion: 5}}, {status: 500}]")
    cached(apis, at, None, fallback=(Fallback(cached=3600.0),), breaker=Breaker(failures=0))
    first = await ask(apis, api, "hello", stream=stream)
    again = await ask(apis, api, "hello", stream=stream)
    again.says("As I said.")
    assert again.data == first.data
    assert (again.headers["x-pilothouse-cache"], again.headers["age"]) == ("stale", "0")
    record = apis.records[1]
    assert (record.outcome, record.cache, record.way) == ("fallback", "stale", "cached")
    assert [a.error_type for a in record.attempts] == ["server_error"] * 2
    assert record.saved_usd == pytest.approx(0.025)
    other = await ask(apis, api, "another thing", stream=stream)
    assert other.words.startswith("502 server_error")


async def test_a_masked_answer_is_kept_with_its_mask(apis: ApiStack) -> None:
    apis.script("rules: [{reply: 'Write to alice@example.org.'}]")
    cached(apis, guards=(Guard("pii", at=("output",), action="mask"),))
    for stream in (False, False, True, True):
        (await ask(apis, "chat", "hello", stream=stream)).says("Write to [EMAIL].")
    assert uses(apis) == ["miss", "hit", "miss", "hit"]


async def test_a_blocked_answer_is_not_kept(apis: ApiStack) -> None:
    apis.script("rules: [{times: 1, reply: Project Falcon}, {reply: no comment}]")
    cached(apis, guards=(Guard("topics", at=("output",), options={"deny": ["project falcon"]}),))
    assert (await ask(apis, "chat", "hello")).words == "422 guardrail_output"
    (await ask(apis, "chat", "hello")).says("no comment")


async def test_a_hit_passes_the_guardrails_of_its_own_input(apis: ApiStack) -> None:
    """Two requests that differ only in what is masked are equal to the provider: one answer serves both."""
    order = Guard("regex", at=("input",), action="mask", options={"named": {"order": "ORD-[0-9]{6}"}})
    cached(apis, guards=(order,))
    (await ask(apis, "chat", "Where is ORD-111111?")).says("You said: Where is [ORDER]?")
    (await ask(apis, "chat", "Where is ORD-222222?")).says("You said: Where is [ORDER]?")
    assert uses(apis) == ["miss", "hit"]
    assert [len(r.guards) for r in apis.records] == [1, 1]
