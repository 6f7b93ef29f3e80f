"""Embeddings and moderations: native or refused, priced by their input, recorded without their numbers."""

import base64

import msgspec
import openai
import pytest
from tests.gateway.conftest import KEY, SECRET, live, quick
from tests.gateway.doors import ApiStack, apis

from pilothouse.domain.errors import ServerError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.policy import Fallback
from pilothouse.domain.table import Price
from pilothouse.gateway.replay import rebuild_record
from pilothouse.providers.embeddings import EMBEDDINGS, MODERATIONS

__all__ = ["apis"]


def client(stack: ApiStack) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=stack.url + "/v1", api_key=KEY, max_retries=0)


async def test_the_sdk_gets_embeddings(apis: ApiStack) -> None:
    apis.script("rules: [{usage: {prompt: 8}}]")
    apis.more = {"prices": {"openai/embed": Price(input=2.0, output=9.0)}}
    async with client(apis) as sdk:
        reply = await sdk.embeddings.create(model="openai/embed", input=["one", "two"], user="u-1")
    assert [e.index for e in reply.data] == [0, 1]
    assert len(reply.data[0].embedding) > 1
    record = apis.record
    assert (record.api, record.outcome, record.preview_in) == ("embeddings", "success", "one two")
    assert record.tokens is not None
    assert (record.tokens.input, record.tokens.output, record.tokens.estimated) == (8, 0, False)
    assert record.cost_usd == pytest.approx(8 * 2.0 / 1e6)
    assert record.user
    assert bytes_hash(rebuild_record(record, None)) == record.upstream_hash


async def test_a_record_keeps_no_vectors(apis: ApiStack) -> None:
    reply = await apis.post({"model": "openai/e", "input": ["one"], "encoding_format": "float"}, "/v1/embeddings")
    vector = (await reply.json())["data"][0]["embedding"]
    assert apis.record.payload is not None
    kept = msgspec.json.decode(apis.record.payload.response)["data"][0]
    assert kept == {"object": "embedding", "index": 0, "embedding": f"({len(vector)} numbers)"}


async def test_what_is_sensitive_in_the_input_is_redacted(apis: ApiStack) -> None:
    await apis.post({"model": "openai/e", "input": ["one", f"write to {SECRET}"]}, "/v1/embeddings")
    assert apis.record.payload is not None
    assert SECRET not in msgspec.json.encode(apis.record).decode()
    assert "[EMAIL]" in apis.record.payload.request
    assert apis.record.preview_in == "one write to [EMAIL]"
    assert bytes_hash(rebuild_record(apis.record, None)) == apis.record.upstream_redacted_hash


async def test_tokens_are_estimated_where_the_provider_counts_none(apis: ApiStack) -> None:
    apis.script("rules: [{usage: none}]")
    await apis.post({"model": "openai/e", "input": ["one two", "three"]}, "/v1/embeddings")
    tokens = apis.record.tokens
    assert tokens is not None
    assert 3 <= tokens.input <= 12  # 3 of text, and some around it
    assert (tokens.output, tokens.estimated) == (0, True)


async def test_a_routes_parameters_are_put_into_the_request(apis: ApiStack) -> None:
    apis.route("embed", live(params={"dimensions": 4}, policy=quick()))
    await apis.post({"model": "embed", "input": "one"}, "/v1/embeddings")
    got = msgspec.json.decode(base64.b64decode(apis.provider.received[0].body_b64))
    assert got == {"model": "small", "input": "one", "dimensions": 4}


async def test_a_provider_without_embeddings_refuses_them(apis: ApiStack) -> None:
    reply = await apis.post({"model": "plain/small", "input": "one"}, "/v1/embeddings")
    assert (reply.status, (await reply.json())["error"]["code"]) == (400, "unsupported_api")
    empty = await apis.post({"model": "openai/e", "input": []}, "/v1/embeddings")
    assert (empty.status, (await empty.json())["error"]["param"]) == (400, "input")


async def test_a_static_text_is_no_embedding(apis: ApiStack) -> None:
    apis.script("rules: [{status: 500}]")
    policy = quick(fallback=(Fallback(on=("error",), static="Later."),))
    apis.route("embed", live(policy=policy))
    reply = await apis.post({"model": "embed", "input": "one"}, "/v1/embeddings")
    assert (reply.status, (await reply.json())["error"]["code"]) == (422, "unsupported_fallback")


async def test_the_sdk_gets_moderations(apis: ApiStack) -> None:
    async with client(apis) as sdk:
        reply = await sdk.moderations.create(model="openai/omni", input="one")
    assert reply.results[0].flagged is False
    assert (apis.record.api, apis.record.preview_in) == ("moderations", "one")
    assert bytes_hash(rebuild_record(apis.record, None)) == apis.record.upstream_hash


def test_an_answer_that_is_none_is_an_error() -> None:
    for form, body in ((EMBEDDINGS, b'{"results":[]}'), (EMBEDDINGS, b"<html>"), (MODERATIONS, b'{"data":[]}')):
        with pytest.raises(ServerError, match="none of the API"):
            form.read(body)
