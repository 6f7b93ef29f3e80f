"""The public fake, as tests and drills use it: over its own HTTP interface."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError

from pilothouse.domain.errors import ConfigError
from pilothouse.providers.script import FAULTS, Player, Script, load
from pilothouse.providers.scripted import ScriptedProvider


class Fake:
    def __init__(self, url: str, client: Client) -> None:
        self.url = url
        self.client = client

    async def script(self, text: str) -> int:
        return (await self.client.post(f"{self.url}/_script").body_text(text).build().send()).status

    async def chat(self, text: str = "hello", **more: Any) -> tuple[int, Any]:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]} | more
        reply = await self.client.post(f"{self.url}/v1/chat/completions").body_json(body).build().send()
        return reply.status, await (reply.text() if body.get("stream") else reply.json())


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    provider = ScriptedProvider()
    await provider.start()
    client = ClientBuilder().build()
    yield Fake(f"http://127.0.0.1:{provider.port}", client)
    await client.close()
    await provider.close()


async def test_without_a_script_it_says_what_it_heard(fake: Fake) -> None:
    status, body = await fake.chat("tea")
    assert status == 200 and body["choices"][0]["message"]["content"] == "You said: tea"
    assert body["model"] == "m" and body["usage"]["prompt_tokens"] > 0


async def test_rules_by_message_regex_model_and_attempt(fake: Fake) -> None:
    await fake.script(
        """
        model: served-1
        rules:
        - {match: {regex: 'order \\d+'}, json: {ok: true}}
        - {match: {contains: twice, attempt: 2}, reply: again}
        - {match: {model: special}, tool_calls: [{name: f, arguments: {a: 1}}]}
        - {times: 1, status: 429, retry_after: 3}
        - {reply: 'heard {input}', usage: none}
        """
    )
    assert (await fake.chat("order 12"))[1]["choices"][0]["message"]["content"] == '{"ok":true}'
    assert (await fake.chat("twice"))[0] == 429
    body = (await fake.chat("twice"))[1]
    assert body["choices"][0]["message"]["content"] == "again" and body["model"] == "served-1"
    call = (await fake.chat(model="special"))[1]["choices"][0]
    assert call["finish_reason"] == "tool_calls"
    assert call["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    body = (await fake.chat("x"))[1]
    assert body["choices"][0]["message"]["content"] == "heard x" and "usage" not in body


async def test_what_came_in_is_kept_byte_for_byte(fake: Fake) -> None:
    raw = b'{ "model":"m" ,"messages":[]  }'
    await fake.client.post(f"{fake.url}/v1/chat/completions").header("x-a", "b").body_bytes(raw).build().send()
    got = await (await fake.client.get(f"{fake.url}/_received").build().send()).json()
    assert base64.b64decode(got[0]["body_b64"]) == raw and got[0]["headers"]["x-a"] == "b"
    await fake.client.delete(f"{fake.url}/_received").build().send()
    assert await (await fake.client.get(f"{fake.url}/_received").build().send()).json() == []


async def test_a_stream_has_role_text_finish_usage_and_end(fake: Fake) -> None:
    await fake.script("rules: [{reply: abcdef, chunk_size: 2}]")
    status, text = await fake.chat(stream=True, stream_options={"include_usage": True})
    events = [e.removeprefix("data: ") for e in text.split("\n\n") if e]
    assert status == 200 and events[-1] == "[DONE]"
    chunks = [msgspec.json.decode(e) for e in events[:-1]]
    assert [c["choices"][0]["delta"].get("content") for c in chunks[:-1]] == ["", "ab", "cd", "ef", None]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("fault", ["drop", "cut", "cut_before", "reset"])
async def test_a_broken_connection_is_broken_for_real(fake: Fake, fault: str) -> None:
    await fake.script(f"rules: [{{fault: {fault}, reply: some words}}]")
    with pytest.raises(PyreqwestError):
        await fake.chat()


@pytest.mark.parametrize("fault", ["stall", "stall_head", "stall_mid"])
async def test_a_stall_lasts(fake: Fake, fault: str) -> None:
    await fake.script(f"rules: [{{fault: {fault}}}]")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await fake.chat()


async def test_unknown_paths_and_broken_bodies(fake: Fake) -> None:
    assert (await fake.client.get(f"{fake.url}/nothing").build().send()).status == 404
    assert (await fake.client.get(f"{fake.url}/health").build().send()).status == 200
    assert (await fake.client.get(f"{fake.url}/v1/models").build().send()).status == 200
    post = fake.client.post(f"{fake.url}/v1/chat/completions").body_text("nope")
    assert (await post.build().send()).status == 400
    assert await fake.script("rules: [{what: 1}]") == 400


def test_a_script_is_read_strictly() -> None:
    for text in (
        "rules: [{what: 1}]",
        "rules: [{rate: 2}]",
        "rules: [{match: {regex: '('}}]",
        "rules: [{fault: x}]",
        "{",
    ):
        with pytest.raises(ConfigError):
            load(text.encode(), "script.yaml:1")
    assert load(b"", "x") == Script()


def test_the_same_seed_meets_the_same_fate() -> None:
    script = load(b"seed: 3\nrules: [{rate: 0.3, reply: a}, {reply: b, latency: [0.1, 0.2]}]", "x")
    body = {"messages": [{"role": "user", "content": "x"}]}

    def play() -> list[str]:
        player = Player(script)
        return [f"{player.choose(body).reply}{player.seconds((0.1, 0.2))}" for _ in range(50)]

    assert play() == play()
    assert 5 < sum(x.startswith("a") for x in play()) < 25


def test_every_fault_is_described() -> None:
    for fault in FAULTS:
        assert load(f"rules: [{{fault: {fault}}}]".encode(), "x").rules[0].fault == fault


@pytest.mark.process
async def test_it_runs_as_a_process(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("rules: [{reply: from a file}]")
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = ["-m", "pilothouse.providers.scripted", "--port", str(port), "--script", str(script)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert b"ready" in await process.stdout.readline()
    client = ClientBuilder().build()
    _, body = await Fake(f"http://127.0.0.1:{port}", client).chat()
    assert body["choices"][0]["message"]["content"] == "from a file"
    await client.close()
    process.terminate()
    assert await process.wait() == 0
    await process.stdout.read()
