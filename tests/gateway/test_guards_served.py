"""Guardrails through the edge: every API, native and translated, whole and streamed; and what of it can be replayed."""

import base64
from typing import Any

import msgspec
import pytest
from tests.gateway.conftest import SECRET, live, quick
from tests.gateway.doors import ApiStack, apis
from tests.gateway.ways import EVERY, ask, model

from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import Template
from pilothouse.domain.policy import Fallback, Guard, LogMode
from pilothouse.domain.record import GuardHit
from pilothouse.domain.table import Live
from pilothouse.gateway.replay import rebuild_record

__all__ = ["apis"]
ORDER = Guard("regex", at=("input",), action="mask", options={"named": {"order": "ORD-[0-9]{6}"}})
TOPIC = Guard("topics", at=("output",), options={"deny": ["project falcon"]})
TELLS = "rules: [{reply: 'It is known to some here as Project Falcon, and to nobody else.', chunk_size: 3}]"
NATIVE = (("chat", "fake"), ("messages", "claude"), ("responses", "openai"))
ways = pytest.mark.parametrize(("api", "at", "stream"), EVERY)


def guarded(apis: ApiStack, at: str, *guards: Guard, **policy: Any) -> Live:
    return apis.route(stable=live(model=model(at), policy=quick(guards=guards, **policy)))


def sent(apis: ApiStack) -> bytes:
    return base64.b64decode(apis.provider.received[0].body_b64)


@ways
async def test_the_provider_gets_the_mask_and_the_record_can_be_replayed(
    apis: ApiStack, api: str, at: str, stream: bool
) -> None:
    release = guarded(apis, at, ORDER)
    got = await ask(apis, api, "Where is ORD-123456?", stream=stream)
    got.says("You said: Where is [ORDER]?")
    assert b"123456" not in sent(apis) and b"[ORDER]" in sent(apis)
    record = apis.record
    assert record.guards == [GuardHit("regex", "input", "mask", "order")]
    payload = record.payload
    assert payload is not None and "ORD-123456" in payload.request  # what the client said: redaction does not mind it
    again = rebuild_record(record, release)
    assert bytes_hash(again) == record.upstream_hash and record.upstream_redacted_hash == ""
    assert again == payload.upstream.encode()
    if (api, at) in NATIVE:
        assert again == sent(apis)


@ways
async def test_what_is_kept_of_a_masked_request_is_redacted(apis: ApiStack, api: str, at: str, stream: bool) -> None:
    release = guarded(apis, at, ORDER)
    await ask(apis, api, f"Tell {SECRET} of ORD-123456.", stream=stream)
    record = apis.record
    assert record.payload is not None and SECRET not in record.payload.upstream + record.payload.request
    assert "Tell [EMAIL] of [ORDER]." in record.payload.upstream
    assert SECRET.encode() in sent(apis)  # the guardrail was for orders alone
    assert bytes_hash(rebuild_record(record, release)) == record.upstream_redacted_hash
    assert record.upstream_redacted_hash != record.upstream_hash
    assert SECRET not in str(apis.lines)


async def test_a_request_that_nobody_masked_is_rendered_again_from_what_the_client_said(apis: ApiStack) -> None:
    release = guarded(apis, "fake", ORDER)
    await ask(apis, "chat", "Where is my order?")
    assert apis.record.payload is not None and apis.record.payload.upstream == ""
    assert rebuild_record(apis.record, release) == sent(apis)


async def test_a_masked_request_is_replayed_as_it_was_first_sent(apis: ApiStack) -> None:
    apis.script("rules: [{match: {model: small}, status: 500}]")
    policy = quick(guards=(ORDER,), fallback=(Fallback(model=model("openai")), Fallback(static="no")))
    release = apis.route(stable=live(system=Template("Be kind."), model=model("fake"), policy=policy))
    await ask(apis, "chat", "Where is ORD-123456?")
    assert apis.record.outcome == "fallback" and len(apis.record.attempts) > 1
    assert rebuild_record(apis.record, release) == sent(apis)
    assert b"Be kind." in sent(apis)


@pytest.mark.parametrize("mode", ["metadata", "off", "full"])
async def test_a_masked_request_is_kept_as_far_as_its_log_mode_says(apis: ApiStack, mode: LogMode) -> None:
    release = guarded(apis, "fake", ORDER, log=mode)
    await ask(apis, "chat", f"Tell {SECRET} of ORD-123456.")
    if mode == "full":
        assert rebuild_record(apis.record, release) == sent(apis)
    else:
        assert apis.record.payload is None and SECRET not in str(apis.lines)


async def test_a_masked_request_whose_redaction_fails_leaves_no_text(apis: ApiStack) -> None:
    guarded(apis, "fake", ORDER)
    (await ask(apis, "chat", "redaction must fail ORD-123456")).says("You said: redaction must fail [ORDER]")
    assert apis.record.payload is None and "123456" not in str(apis.lines)


@ways
async def test_an_input_is_blocked_before_anything_is_sent(apis: ApiStack, api: str, at: str, stream: bool) -> None:
    guarded(apis, at, Guard("secrets"))
    got = await ask(apis, api, "My key is AKIAIOSFODNN7EXAMPLE.", stream=stream)
    assert got.words == "400 guardrail_blocked"
    assert not apis.provider.received
    record = apis.record
    assert (record.outcome, record.error_type, record.attempts) == ("failed", "guardrail_blocked", [])
    assert record.guards == [GuardHit("secrets", "input", "block", "api_key")]
    assert "AKIA" not in got.data.decode() + record.error_message


@ways
async def test_an_answer_is_blocked_and_nothing_of_it_leaves(apis: ApiStack, api: str, at: str, stream: bool) -> None:
    apis.script(TELLS)
    guarded(apis, at, TOPIC)
    got = await ask(apis, api, "What is it?", stream=stream)
    assert got.words == ("200 stream: error guardrail_output" if stream else "422 guardrail_output")
    assert b"alcon" not in got.data and b"roject" not in got.data
    record = apis.record
    assert (record.outcome, record.error_type) == ("failed", "guardrail_output")
    assert record.guards == [GuardHit("topics", "output", "block", "topic_1")]
    assert record.tokens is not None and record.tokens.output > 0  # what was blocked was made, and is charged


@ways
async def test_an_answer_is_masked_wherever_its_chunks_are_cut(apis: ApiStack, api: str, at: str, stream: bool) -> None:
    apis.script(f"rules: [{{reply: 'Write to {SECRET}, today.', chunk_size: 4}}]")
    guarded(apis, at, Guard("pii", at=("output",), action="mask"))
    got = await ask(apis, api, "To whom?", stream=stream)
    got.says("Write to [EMAIL], today.")
    assert got.words == ("200 stream: complete" if stream else "200 answer")
    assert apis.record.outcome == "success" and apis.record.preview_out == "Write to [EMAIL], today."
    assert apis.record.guards == [GuardHit("pii", "output", "mask", "email")]


@ways
async def test_a_flag_changes_nothing(apis: ApiStack, api: str, at: str, stream: bool) -> None:
    apis.script(TELLS)
    guarded(apis, at, Guard("topics", action="flag", options={"deny": ["project falcon"]}))
    (await ask(apis, api, "Project Falcon?", stream=stream)).says(
        "It is known to some here as Project Falcon, and to nobody else."
    )
    assert {(hit.at, hit.action) for hit in apis.record.guards} == {("input", "flag"), ("output", "flag")}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_of_a_denied_tool_never_reaches_the_client(apis: ApiStack, stream: bool) -> None:
    apis.script("rules: [{reply: I look., tool_calls: [{name: wipe, arguments: {all: true}}], chunk_size: 3}]")
    guarded(apis, "plain", Guard("tools", at=("output",), options={"deny": ["wipe"]}))
    tools = [{"name": "wipe", "input_schema": {"type": "object"}}]
    got = await ask(apis, "messages", "Clean up.", stream=stream, tools=tools)
    assert got.words == ("200 stream: error guardrail_output" if stream else "422 guardrail_output")
    assert b"wipe" not in got.data.replace(b"\xe2\x80\x9cwipe\xe2\x80\x9d", b"")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["of ORD-123456", "of ORD-654321"]}),
        ("/v1/moderations", {"input": "of ORD-123456 and ORD-654321"}),
        ("/v1/rerank", {"query": "ORD-123456", "documents": ["ORD-654321"]}),
    ],
)
async def test_other_apis_are_masked_too(apis: ApiStack, path: str, body: dict[str, Any]) -> None:
    release = guarded(apis, "openai", ORDER)
    reply = await apis.post({"model": "answer"} | body, path)
    assert reply.status == 200, await reply.text()
    await reply.bytes()
    assert sent(apis).count(b"[ORDER]") == 2 and b"ORD-" not in sent(apis)
    assert rebuild_record(apis.record, release) == sent(apis)


async def test_a_blocked_answer_makes_room_for_the_fallback_in_the_clients_form(apis: ApiStack) -> None:
    apis.script("rules: [{match: {model: small}, reply: Project Falcon}, {reply: no comment}]")
    other = Fallback(model=msgspec.structs.replace(model("plain"), name="other"), on=("guardrail",))
    guarded(apis, "claude", TOPIC, fallback=(other,))
    (await ask(apis, "messages", "What is it?")).says("no comment")
    record = apis.record
    assert [a.error_type for a in record.attempts] == ["guardrail_output", ""]
    assert (record.outcome, record.attempts[1].delivered) == ("fallback", True)
