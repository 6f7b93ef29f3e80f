"""Flags over OFREP: the shapes of the protocol's answers, ETags, refusals, and the stream of news."""

import asyncio
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from tests.gateway.conftest import KEY, Stack

from pilothouse.domain.flag import Compare, FlagEntry, FlagRule, Share
from pilothouse.domain.limit import Rate
from pilothouse.domain.record import MetricRecord
from pilothouse.domain.table import KeyEntry

ALL, EVENTS = "/ofrep/v1/evaluate/flags", "/ofrep/v1/events"
USER = {"context": {"targetingKey": "u1", "plan": "free"}}

# What the protocol (0.3.0) says of answers.
PLAIN = {"type": "object", "additionalProperties": {"type": ["boolean", "string", "number"]}}
SUCCESS = {
    "type": "object",
    "required": ["key", "reason"],
    "properties": {
        "key": {"type": "string"},
        "reason": {"enum": ["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"]},
        "variant": {"type": "string"},
        "value": {"type": ["boolean", "string", "number", "object"]},
        "metadata": PLAIN,
    },
    "not": {"required": ["errorCode"]},
}
FAILURE = {
    "type": "object",
    "required": ["key", "errorCode"],
    "properties": {
        "key": {"type": "string"},
        "errorCode": {"enum": ["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL"]},
        "errorDetails": {"type": "string"},
    },
}
UNKNOWN = {**FAILURE, "properties": {**FAILURE["properties"], "errorCode": {"enum": ["FLAG_NOT_FOUND"]}}}  # type: ignore[dict-item]
BULK_FAILURE = {**FAILURE, "required": ["errorCode"]}
BULK = {
    "type": "object",
    "required": ["flags"],
    "properties": {
        "flags": {"type": "array", "items": {"oneOf": [SUCCESS, FAILURE]}},
        "metadata": PLAIN,
        "eventStreams": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "endpoint"],
                "properties": {
                    "type": {"const": "sse"},
                    "endpoint": {"required": ["requestUri"], "properties": {"requestUri": {"pattern": "^/"}}},
                    "inactivityDelaySec": {"type": "integer", "minimum": 1},
                },
            },
        },
    },
}


def flag(key: str, **more: Any) -> FlagEntry:
    given = {"type": "boolean", "variants": {"on": True, "off": False}, "default": "off", "salt": key}
    return FlagEntry(**{"key": key} | given | more)


FLAGS = {
    one.key: one
    for one in (
        flag("plain"),
        flag("ruled", rules=(FlagRule(when=Compare("plan", "==", "pro"), serve=(Share("on"),)),)),
        flag("half", rollout=(Share("on", 0.5),)),
        flag("gone", enabled=False),
        flag("text", type="string", variants={"a": "x", "b": "y"}, default="a"),
        flag("whole", type="float", variants={"a": 1.0}, default="a"),
        flag("thing", type="object", variants={"a": {"b": [1]}}, default="a"),
    )
}


@pytest.fixture
def flagged(stack: Stack) -> Stack:
    stack.more["flags"] = {"dev": FLAGS}
    return stack


def told(reply: Any) -> Any:
    return msgspec.json.decode(reply)


async def test_one_flag_is_answered_in_the_protocols_shapes(flagged: Stack) -> None:
    for key in FLAGS:
        reply = await flagged.post(USER, f"{ALL}/{key}")
        said = told(await reply.bytes())
        assert (reply.status, said["key"]) == (200, key)
        assert (reply.get_header("content-type") or "").startswith("application/json")
        jsonschema_rs.validate(SUCCESS, said)
    ruled = told(await (await flagged.post({"context": {"plan": "pro"}}, f"{ALL}/ruled")).bytes())
    assert ruled == {
        "key": "ruled", "value": True, "variant": "on", "reason": "TARGETING_MATCH", "metadata": {"rule": "rule 1"},
    }  # fmt: skip
    rest = told(await (await flagged.post(USER, f"{ALL}/ruled")).bytes())
    assert (rest["reason"], rest["metadata"]) == ("UNKNOWN", {"reason": "DEFAULT"})
    gone = told(await (await flagged.post(USER, f"{ALL}/gone")).bytes())
    assert gone == {"key": "gone", "reason": "DISABLED", "variant": ""}
    assert b'"value":1.0' in await (await flagged.post(USER, f"{ALL}/whole")).bytes()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "PARSE_ERROR"), (b"[]", "PARSE_ERROR"), (b"\xff", "PARSE_ERROR"), (b"[" * 50_000, "PARSE_ERROR"),
        (b'{"context": 1}', "INVALID_CONTEXT"), (b'{"context": {"targetingKey": 1}}', "INVALID_CONTEXT"),
        (b'{"context": {}}', "TARGETING_KEY_MISSING"), (b"", "TARGETING_KEY_MISSING"),
    ],
)  # fmt: skip
async def test_a_context_that_will_not_do_is_said_so(flagged: Stack, body: bytes, code: str) -> None:
    reply = await flagged.post(body, f"{ALL}/half")
    said = told(await reply.bytes())
    assert (reply.status, said["key"], said["errorCode"]) == (400, "half", code)
    jsonschema_rs.validate(FAILURE, said)
    reply = await flagged.post(body, ALL)
    said = told(await reply.bytes())
    if code == "TARGETING_KEY_MISSING":  # one flag fails, the others are answered
        assert reply.status == 200
        jsonschema_rs.validate(BULK, said)
        assert [one["key"] for one in said["flags"] if "errorCode" in one] == ["half"]
    else:
        assert (reply.status, said["errorCode"]) == (400, code)
        jsonschema_rs.validate(BULK_FAILURE, said)


async def test_an_unknown_flag_and_a_wrong_key_and_a_wrong_method(flagged: Stack) -> None:
    reply = await flagged.post(USER, f"{ALL}/nobody")
    assert reply.status == 404
    jsonschema_rs.validate(UNKNOWN, told(await reply.bytes()))
    for path in (ALL, f"{ALL}/plain"):
        reply = await flagged.post(USER, path, key="wrong")
        assert (reply.status, told(await reply.bytes())["errorCode"]) == (401, "GENERAL")
        reply = await flagged.client.get(flagged.url + path).build().send()
        assert reply.status == 405
    builder = flagged.client.post(flagged.url + ALL).body_bytes(b"{}").header("x-api-key", KEY)
    assert (await builder.build().send()).status == 200


async def test_all_flags_have_an_etag_of_their_values_for_the_context(flagged: Stack) -> None:
    first = await flagged.post(USER, ALL)
    said, etag = told(await first.bytes()), first.get_header("etag") or ""
    jsonschema_rs.validate(BULK, said)
    assert [one["key"] for one in said["flags"]] == list(FLAGS)
    assert said["metadata"] == {"environment": "dev", "revision": 1}
    for given in (etag, f"W/{etag}", f'"other", {etag}', etag.strip('"')):
        again = await flagged.post(USER, ALL, if_none_match=given)
        assert (again.status, await again.bytes(), again.get_header("etag")) == (304, b"", etag)
    other = await flagged.post({"context": {"plan": "pro"}}, ALL, if_none_match=etag)
    assert other.status == 200
    flagged.revision = 2  # another table with the same flags
    assert (await flagged.post(USER, ALL, if_none_match=etag)).status == 304
    flagged.more["flags"] = {"dev": FLAGS | {"plain": flag("plain", default="on")}}
    assert (await flagged.post(USER, ALL, if_none_match=etag)).status == 200
    flagged.more["flags"] = {"prod": FLAGS}  # another environment's are not this key's
    assert told(await (await flagged.post(USER, ALL)).bytes())["flags"] == []


async def test_a_key_that_reads_too_often_is_told_when_to_come_back(flagged: Stack) -> None:
    flagged.more["flag_rate"] = Rate(5, 3600.0)
    seen = [(await flagged.post(USER, f"{ALL}/plain")).status for _ in range(5)]
    assert seen == [200] * 5
    reply = await flagged.post(USER, ALL)
    assert reply.status == 429
    assert 700 <= int(reply.get_header("retry-after") or "0") <= 720
    assert told(await reply.bytes())["errorCode"] == "GENERAL"


async def test_evaluations_are_counted_by_variant_and_nothing_of_the_context_is_kept(flagged: Stack) -> None:
    for i in range(40):
        await flagged.post({"context": {"targetingKey": f"secret-{i}"}}, f"{ALL}/half")
    reply = await flagged.post(USER, ALL)
    await flagged.post(USER, ALL, if_none_match=reply.get_header("etag") or "")  # 304: nothing was given
    await flagged.post(USER, f"{ALL}/nobody")
    flagged.edge.flags.write()
    points = [line for line in flagged.lines if isinstance(line, MetricRecord)]
    counts = {(p.attributes["flag"], p.attributes["variant"]): p.value for p in points}
    assert sum(n or 0 for (key, _), n in counts.items() if key == "half") == 41
    assert counts["plain", "off"] == 1 and counts["gone", ""] == 1
    assert {p.name for p in points} == {"pilothouse.flag.evaluations"} and {p.env for p in points} == {"dev"}
    assert b"secret" not in msgspec.json.encode(points)
    flagged.edge.flags.write()
    assert len([line for line in flagged.lines if isinstance(line, MetricRecord)]) == len(points)


async def _event(reader: asyncio.StreamReader) -> dict[str, Any]:
    while not (line := await reader.readline()).startswith(b"data: "):
        assert line, "the stream has ended"
    return dict(msgspec.json.decode(line.removeprefix(b"data: ")))


async def test_news_comes_at_once_and_at_each_change_of_the_environments_flags(flagged: Stack) -> None:
    flagged.more["flags"] = {"dev": FLAGS, "prod": {}}
    table = flagged.table()
    keys = {"k1": KeyEntry("k1", "", "dev", "test")}
    flagged.table = lambda: msgspec.structs.replace(Stack.table(flagged), keys=keys)  # type: ignore[method-assign]
    flagged.gateway.table = flagged.table
    flagged.edge.flags.ofrep._table = flagged.table
    flagged.edge.flags.ofrep.changed(table)
    said = told(await (await flagged.post(USER, ALL)).bytes())
    uri = said["eventStreams"][0]["endpoint"]["requestUri"]
    reader, writer = await asyncio.open_connection("127.0.0.1", flagged.port)
    writer.write(f"GET {uri} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"200 OK" in head and b"text/event-stream" in head
    assert (await _event(reader))["type"] == "refetchEvaluation"
    assert flagged.edge.flags.ofrep.listening == 1

    flagged.revision, flagged.more["flags"] = 2, {"dev": FLAGS, "prod": {"x": flag("x")}}
    flagged.edge.flags.ofrep.changed(flagged.table())  # not this environment's
    flagged.revision, flagged.more["flags"] = 3, {"dev": FLAGS | {"x": flag("x")}, "prod": {"x": flag("x")}}
    flagged.edge.flags.ofrep.changed(flagged.table())
    assert (await _event(reader))["etag"] == "3-1"
    writer.close()
    await writer.wait_closed()

    for wrong in ("", "k1", "k1.0", "k2." + uri.rpartition(".")[2]):
        reply = await flagged.client.get(f"{flagged.url}{EVENTS}?token={wrong}").build().send()
        assert reply.status == 401
    keys.clear()  # the key was revoked
    reply = await flagged.client.get(flagged.url + uri).build().send()
    assert reply.status == 401


async def test_an_edge_that_stops_ends_its_streams(flagged: Stack) -> None:
    flagged.more["anonymous"] = True
    ofrep = flagged.edge.flags.ofrep
    reader, writer = await asyncio.open_connection("127.0.0.1", flagged.port)
    writer.write(f"GET {EVENTS}?token={ofrep._token('')} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await _event(reader)
    assert await flagged.edge.drain(5.0) == 0
    assert (await reader.read()).endswith(b"0\r\n\r\n")
    writer.close()
