"""Every other path under /v1/ goes through: method, path, query, bytes, content types, streams."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest
from tests.gateway.conftest import KEY, SECRET, live, quick
from tests.gateway.doors import ApiStack, apis

from pilothouse.domain.errors import BadRequest, CutStream, ServerError
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.policy import Guard
from pilothouse.domain.table import Price, ProviderEntry, Table
from pilothouse.gateway.apis.passing import ANY_API
from pilothouse.gateway.replay import rebuild_record
from pilothouse.gateway.types import Incoming
from pilothouse.providers.passing import ANY

__all__ = ["apis"]
SOUND = bytes(range(256)) * 40


class Player:
    """A provider of sound: what it got, and bytes that are no text, in chunks."""

    def __init__(self) -> None:
        self.got = b""
        self.cut = False
        self.go = asyncio.Event()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.got = head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        self.got += await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n")
        half = len(SOUND) // 2
        writer.write(b"%x\r\n%b\r\n" % (half, SOUND[:half]))
        await writer.drain()
        await self.go.wait()
        if not self.cut:
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (half, SOUND[half:]))
        writer.close()
        await writer.wait_closed()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def player(apis: ApiStack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Player]:
    player = Player()
    port = await player.start()
    table = apis.table

    def with_player() -> Table:
        now = table()
        entry = ProviderEntry("sound", "openai", f"http://127.0.0.1:{port}/v1")
        return Table(now.revision, 1, now.entries, {}, dict(now.providers) | {"sound": entry}, **apis.more)

    apis.gateway.table = with_player
    yield player
    player.go.set()
    await player.close()


async def call(stack: ApiStack, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    builder = stack.client.request(method, stack.url + path).header("authorization", f"Bearer {KEY}")
    for name, value in headers.items():
        builder = builder.header(name.replace("_", "-"), value)
    return await (builder.body_bytes(body) if body else builder).build().send()


async def test_method_path_query_and_bytes_go_through(apis: ApiStack) -> None:
    apis.script("rules: [{reply: hi, usage: {prompt: 3, completion: 2}}]")
    apis.more = {"prices": {"openai/rank": Price(input=1.0, output=1.0)}}
    body = b'{ "model" : "openai/rank", "query":"q",  "documents":["a"] }'
    reply = await call(apis, "POST", "/v1/rerank?top=3&x=%20y", body)
    assert (await reply.json())["object"] == "scripted.echo"
    got = apis.provider.received[0]
    assert (got.method, got.path) == ("POST", "/v1/rerank?top=3&x=%20y")
    assert base64.b64decode(got.body_b64) == body.replace(b"openai/rank", b"rank")
    assert got.headers["authorization"] == "Bearer value of env://KEY"
    record = apis.record
    assert (record.api, record.route, record.outcome, record.provider) == (
        "/v1/rerank",
        "openai/rank",
        "success",
        "openai",
    )
    assert (record.preview_in, record.preview_out) == ("q", "hi")
    assert record.cost_usd == pytest.approx(5 / 1e6)
    assert bytes_hash(rebuild_record(record, None)) == record.upstream_hash


async def test_which_provider_is_said_by_header_route_or_there_is_only_one(apis: ApiStack) -> None:
    apis.route("files", live(policy=quick()))
    ok = await call(apis, "GET", "/v1/files", x_pilothouse_route="files")
    assert ok.status == 200
    assert apis.record.route == "files"
    unclear = await call(apis, "GET", "/v1/files")
    error = (await unclear.json())["error"]
    assert (unclear.status, error["code"], error["param"]) == (400, "no_route", "x-pilothouse-route")
    only = {"openai": apis.table().providers["openai"]}
    apis.gateway.table = lambda: Table(1, 1, {}, {}, only)
    alone = await call(apis, "DELETE", "/v1/files/f1")
    assert alone.status == 200
    assert [(r.method, r.path) for r in apis.provider.received] == [("GET", "/v1/files"), ("DELETE", "/v1/files/f1")]
    last = apis.records[-1]
    assert (last.api, last.route) == ("/v1/files/f1", "openai")


async def test_what_used_tokens_nobody_counted_has_no_cost(apis: ApiStack) -> None:
    apis.script("rules: [{usage: none}]")
    apis.more = {"prices": {"openai/draw": Price(input=1.0, output=1.0)}}
    await apis.post({"model": "openai/draw", "prompt": "a cat"}, "/v1/images/generations")
    assert apis.record.tokens is None
    assert apis.record.cost_usd is None


async def test_a_header_names_the_route_and_the_bodys_model_is_replaced(apis: ApiStack) -> None:
    stable = live(4, params={"seed": 1}, policy=quick())
    apis.route("draw", stable)
    await call(apis, "POST", "/v1/images/generations", b'{"model":"x","prompt":"a cat"}', x_pilothouse_route="draw")
    got = msgspec.json.decode(base64.b64decode(apis.provider.received[0].body_b64))
    assert got == {"model": "small", "prompt": "a cat", "seed": 1}
    assert (apis.record.release, apis.record.preview_in) == (4, "a cat")
    assert bytes_hash(rebuild_record(apis.record, stable)) == apis.record.upstream_hash


async def test_a_form_body_keeps_its_bytes_but_the_models_name(apis: ApiStack) -> None:
    apis.script("rules: [{reply: heard}]")
    async with openai.AsyncOpenAI(base_url=apis.url + "/v1", api_key=KEY, max_retries=0) as sdk:
        said = await sdk.audio.transcriptions.create(model="openai/whisper", file=("a.wav", SOUND))
    assert said.text == "heard"
    got = apis.provider.received[0]
    raw = base64.b64decode(got.body_b64)
    assert got.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="model"\r\n\r\nwhisper\r\n' in raw
    assert SOUND in raw
    record = apis.record
    assert record.payload is not None
    assert record.payload.request.endswith("bytes that are no text)")
    assert record.preview_out == "heard"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (f"write to {SECRET}", "write to [EMAIL]"),
        (rf"C:\x\{SECRET}", r"C:\x\[EMAIL]"),
        (f'{{"a":"\\u00e9"}}\n{{"a":"{SECRET}"}}', '{"a":"\\u00e9"}\n{"a":"[EMAIL]"}'),
        (rf'["\\ {SECRET}"]', r'["\\ [EMAIL]"]'),
        (f'{{"a":"{SECRET}","a":"x"}}', '{"a":"x"}'),
        (f'{{"a":"\\u000b{SECRET}","a":"x"}}', '{"a":"x"}'),
    ],
)
async def test_a_body_of_any_shape_is_redacted_too(apis: ApiStack, body: str, kept: str) -> None:
    await call(apis, "POST", "/v1/notes", body.encode(), x_pilothouse_route="openai/x", content_type="text/plain")
    assert apis.provider.received[0].headers["content-type"] == "text/plain"
    assert apis.record.payload is not None
    assert apis.record.payload.request == kept


async def test_guardrails_look_at_bodies_that_are_no_json(apis: ApiStack) -> None:
    card = b"4111 1111 1111 1111"
    apis.route("notes", live(policy=quick(guards=(Guard("pii", action="mask"),))))
    await call(apis, "POST", "/v1/notes", b"card " + card, x_pilothouse_route="notes")
    assert card not in base64.b64decode(apis.provider.received[0].body_b64)
    blocked = await call(apis, "POST", "/v1/notes", b"card " + card + b" \xff", x_pilothouse_route="notes")
    assert (blocked.status, (await blocked.json())["error"]["code"]) == (400, "guardrail_blocked")
    assert len(apis.provider.received) == 1
    plain = await call(apis, "POST", "/v1/notes", SOUND, x_pilothouse_route="notes")
    assert plain.status == 200
    assert base64.b64decode(apis.provider.received[1].body_b64) == SOUND


async def test_sound_streams_through_from_its_first_byte(apis: ApiStack, player: Player) -> None:
    body = msgspec.json.encode({"model": "sound/tts", "input": "hello", "voice": "x"})
    reader, writer = await asyncio.open_connection("127.0.0.1", apis.port)
    head = f"POST /v1/audio/speech HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    assert b"content-type: audio/mpeg\r\n" in await reader.readuntil(b"\r\n\r\n")
    first = await reader.readexactly(int(await reader.readline(), 16))
    assert SOUND.startswith(first)  # while the provider still holds the rest back
    player.go.set()
    rest = await reader.read()
    assert SOUND[-256:] in rest
    assert rest.endswith(b"\r\n0\r\n\r\n")
    writer.close()
    assert player.got.endswith(b'{"model":"tts","input":"hello","voice":"x"}')
    assert apis.record.outcome == "success"
    assert apis.record.preview_in == "hello"
    assert apis.record.ttft_ms is not None


async def test_sound_that_breaks_off_never_looks_complete(apis: ApiStack, player: Player) -> None:
    player.cut = True
    player.go.set()
    reply = await apis.post({"model": "sound/tts", "input": "hello", "voice": "x"}, "/v1/audio/speech")
    data = bytes(await reply.bytes())
    assert b'"code":"cut_stream"' in data
    assert (apis.record.outcome, apis.record.error_type) == ("failed", "cut_stream")


async def test_old_completions_stream_through(apis: ApiStack) -> None:
    apis.script("rules: [{reply: one two, chunk_size: 3, usage: {prompt: 3, completion: 2}}]")
    async with openai.AsyncOpenAI(base_url=apis.url + "/v1", api_key=KEY, max_retries=0) as sdk:
        stream = await sdk.completions.create(model="openai/old", prompt="say", stream=True)
        texts = [chunk.choices[0].text async for chunk in stream if chunk.choices]
    assert "".join(texts) == "one two"
    assert (apis.record.preview_in, apis.record.preview_out) == ("say", "one two")


async def test_old_completions_without_their_end_marker_never_look_complete(apis: ApiStack) -> None:
    apis.script("rules: [{reply: one two, fault: no_done}]")
    reply = await apis.post({"model": "openai/old", "prompt": "say", "stream": True}, "/v1/completions")
    assert b'"code":"cut_stream"' in bytes(await reply.bytes())
    assert apis.record.outcome == "failed"


async def test_a_providers_refusal_is_passed_on(apis: ApiStack) -> None:
    apis.script("rules: [{status: 404, error: no such file}]")
    reply = await call(apis, "GET", "/v1/files/f1", x_pilothouse_route="openai/x")
    assert reply.status == 404
    assert "no such file" in (await reply.json())["error"]["message"]
    assert (apis.record.status, apis.record.outcome) == (404, "failed")


async def test_models_are_listed_and_named(apis: ApiStack) -> None:
    apis.route("answer", live(policy=quick()))
    async with openai.AsyncOpenAI(base_url=apis.url + "/v1", api_key=KEY, max_retries=0) as sdk:
        assert (await sdk.models.retrieve("answer")).owned_by == "pilothouse"
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("nobody")


@pytest.mark.parametrize("path", ["/v1/../admin", "/v1/files/%2e%2e/x", "/v1/./x", "/v1"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        ANY_API.parse(Incoming(body=b"", path=path))


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 5, "total_tokens": 5}, (5, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}, (5, 2)),
        ({"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3}, (8, 2)),
        ({"input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"text_tokens": 5}}, (5, 2)),
        ({"seconds": 5, "type": "duration"}, None),
        ("none", None),
    ],
)
def test_usage_is_read_where_it_is_known(usage: Any, tokens: tuple[int, int] | None) -> None:
    found = ANY.read(msgspec.json.encode({"usage": usage})).tokens()
    assert (None if found is None else (found.input, found.output)) == tokens


def test_any_body_and_any_stream_are_answers() -> None:
    assert ANY.read(SOUND).choices == []
    assembly = ANY.assembly()
    assembly.add(SOUND)
    assert assembly.finished().choices == []
    events = ANY.assembly()
    events.add(b'data: {"object":"thread.run"}\n\n')
    assert events.finished().tokens() is None
    response = ANY.assembly()
    response.add(b'event: response.created\ndata: {"type":"response.created"}\n\n')
    with pytest.raises(CutStream):
        response.finished()
    with pytest.raises(ServerError):
        ANY.first(b'data: {"error":{}}\n\n')
