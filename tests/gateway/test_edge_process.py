"""The edge worker as it is run: from its data directory alone, drained by SIGTERM, nothing lost by SIGKILL."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.response import Response
from tests.gateway.conftest import entry, live, quick

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.record import Record
from pilothouse.domain.table import ProviderEntry, Table
from pilothouse.providers.script import load
from pilothouse.providers.scripted import ScriptedProvider
from pilothouse.security import files, keys
from pilothouse.server.datadir import DataDir
from pilothouse.server.link import save_table

pytestmark = pytest.mark.process


class EdgeProcess:
    def __init__(self, data: DataDir, key: str, provider: ScriptedProvider) -> None:
        self.data = data
        self.provider = provider
        self.client: Client = ClientBuilder().build()
        self._key = key
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]

    async def start(self) -> None:
        command = ["-m", "pilothouse.server.edge", "--data", str(self.data.path), "--port", str(self.port)]
        self.process = await asyncio.create_subprocess_exec(sys.executable, *command)
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)

    async def ask(self, text: str, **more: object) -> Response:
        body = {"model": "answer", "messages": [{"role": "user", "content": text}]} | more
        post = self.client.post(f"http://127.0.0.1:{self.port}/v1/chat/completions").body_json(body)
        return await post.header("authorization", f"Bearer {self._key}").build().send()

    def records(self) -> Iterator[Record]:
        for segment in sorted((self.data.journal / "edge-0").glob("*.ndjson")):
            for line in segment.read_bytes().splitlines():
                yield msgspec.json.decode(line, type=Record)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[EdgeProcess]:
    data = DataDir(tmp_path / "data")
    data.make()
    secrets = files.ensure(data.secret)
    minted = keys.mint("dev", "test", secrets.pepper, SystemClock())
    provider = ScriptedProvider()
    await provider.start()
    table = Table(
        revision=5,
        issued_us=1,
        entries={"answer@dev": entry("answer", live(policy=quick()))},
        keys={minted.entry.id: minted.entry},
        providers={"fake": ProviderEntry("fake", "scripted", f"http://127.0.0.1:{provider.port}")},
    )
    save_table(data.path, table)
    edge = EdgeProcess(data, minted.plain, provider)
    await edge.start()
    yield edge
    if edge.process.returncode is None:
        edge.process.kill()
        await edge.process.wait()
    await edge.client.close()
    await provider.close()


async def test_it_serves_from_disk_alone_and_drains_on_sigterm(edge: EdgeProcess) -> None:
    edge.provider.play(load(b"rules: [{match: {contains: slow}, latency: 0.7, reply: late}]", "x"))
    assert (await edge.ask("write to a@example.org")).status == 200
    assert (await edge.ask("with a stream", stream=True)).status == 200
    slow = asyncio.ensure_future(edge.ask("slow"))
    async with asyncio.timeout(5):
        while len(edge.provider.received) < 3:  # noqa: ASYNC110  # another process's request sets no event of ours
            await asyncio.sleep(0.01)
    edge.process.send_signal(signal.SIGTERM)
    reply = await slow
    assert reply.status == 200 and "late" in await reply.text()
    assert await edge.process.wait() == 0
    records = list(edge.records())
    assert [r.status for r in records] == [200, 200, 200]
    assert {r.table_revision for r in records} == {5}
    assert b"a@example.org" not in b"".join(p.read_bytes() for p in (edge.data.journal / "edge-0").glob("*.ndjson"))


async def test_no_answered_request_is_without_its_record_after_sigkill(edge: EdgeProcess) -> None:
    answered: list[str] = []

    async def lane() -> None:
        for i in range(1_000):
            try:
                reply = await edge.ask(f"q{i}")
            except PyreqwestError:  # the worker is dead
                return
            answered.append(reply.get_header("x-pilothouse-request-id") or "")
            if len(answered) == 150:
                edge.process.kill()

    await asyncio.gather(*(lane() for _ in range(8)))
    await edge.process.wait()
    written = [r.id for r in edge.records()]
    assert len(answered) >= 150
    assert len(set(written)) == len(written)
    assert set(answered) <= set(written)
