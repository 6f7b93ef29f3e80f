"""An edge and a scripted provider on real sockets, in the test's own event loop."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.response import Response

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import Unauthorized
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Policy, Retry, Timeouts
from pilothouse.domain.principal import Principal
from pilothouse.domain.record import Record
from pilothouse.domain.table import CounterSettings, Entry, Live, ProviderEntry, Table
from pilothouse.domain.tasks import Tasks
from pilothouse.domain.wires import JournalLine, Redacted
from pilothouse.gateway.meters import Meters
from pilothouse.gateway.pipeline import Gateway
from pilothouse.providers.script import load
from pilothouse.providers.scripted import ScriptedProvider
from pilothouse.security.redact import credentials
from pilothouse.server import equipment
from pilothouse.server.edge import Edge
from pilothouse.telemetry.journal import Journal

KEY = "ph_dev_test"
SECRET = "alice@example.org"
MODEL = ModelRef("fake", "small")


def live(release: int = 1, **parts: Any) -> Live:
    manifest = Manifest(**({"model": MODEL} | parts))
    return Live(release=release, manifest=manifest, parts=manifest.hashes(), hash=manifest.hash())


def entry(route: str, stable: Live, **more: Any) -> Entry:
    return Entry(route=route, env="dev", app="tests", tier="standard", stable=stable, **more)


PATIENT = Timeouts(connect=5.0, first_token=5.0, idle=5.0, total=15.0)
IDLE_SOON = msgspec.structs.replace(PATIENT, idle=0.4)


def quick(**policy: Any) -> Policy:
    """A policy whose waits no stall of a busy machine uses up; a test that awaits an end shortens that one."""
    given = {"timeout": PATIENT, "retry": Retry(2, backoff=0.01)}
    return Policy(**(given | policy))


def redact(text: str) -> Redacted:
    if "redaction must fail" in text:
        raise RuntimeError("no verdict")
    count = text.count(SECRET)
    return Redacted(text.replace(SECRET, "[EMAIL]"), {"email": count} if count else {})


class Stack:
    """What a test drives: `routes` and `script` before, `post` to ask, `records` after."""

    def __init__(self, tmp: Path) -> None:
        self.provider = ScriptedProvider()
        self.records: list[Record] = []
        self.lines: list[JournalLine] = []
        self.entries: dict[str, Entry] = {}
        self.more: dict[str, Any] = {}
        self.revision = 1
        self.tasks = Tasks()
        self.url = ""
        self.client: Client = ClientBuilder().build()
        self._tmp = tmp

    def script(self, text: str) -> None:
        self.provider.play(load(text.encode(), "test"))

    def route(self, name: str = "answer", stable: Live | None = None, **more: Any) -> Live:
        stable = stable or live(policy=quick())
        self.entries[f"{name}@dev"] = entry(name, stable, **more)
        return stable

    def table(self) -> Table:
        providers = {
            "fake": ProviderEntry("fake", "scripted", f"http://127.0.0.1:{self.provider.port}"),
            "gone": ProviderEntry("gone", "openai", "http://127.0.0.1:9/v1"),
            "openai": ProviderEntry("openai", "openai", f"http://127.0.0.1:{self.provider.port}/v1", "env://KEY"),
        }
        return Table(self.revision, 1, self.entries, {}, providers, **self.more)

    def sink(self, line: JournalLine) -> None:
        # What is written is what msgspec makes of it: tests look at the decoded line.
        data = msgspec.json.encode(line)
        self.lines.append(line)
        if isinstance(line, Record):
            self.records.append(msgspec.json.decode(data, type=Record))

    def authenticate(self, header: str | None, _table: Table) -> Principal:
        if header != f"Bearer {KEY}":
            raise Unauthorized("the API key is unknown", hint="create one")
        return Principal(key_id="k1", env="dev")

    async def start(self) -> None:
        await self.provider.start()
        self.gateway = Gateway(
            table=self.table,
            sink=self.sink,
            redact=redact,
            credentials=credentials(b"a salt of these tests"),
            authenticate=self.authenticate,
            secret=lambda ref: f"value of {ref}",
            clock=SystemClock(),
            pseudonym=lambda text: bytes_hash(text.encode())[:12],
            worker="edge-t",
            guards=equipment.guards(self._tmp),
            answers=equipment.answers(CounterSettings(), SystemClock(), str),
            shared=self._tmp,
        )
        self.meters = Meters()
        self.journal = Journal(self._tmp, "edge-t", SystemClock(), fsync="never", reserve_bytes=0)
        self.edge = Edge(self.gateway, self.meters, self.tasks, lambda: self.revision > 0, self.journal)
        await self.edge.http.start("127.0.0.1", 0)
        self.port = self.edge.http.port
        self.url = f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        await self.client.close()
        await self.edge.drain(1.0)
        await self.edge.http.close(0.5)
        await self.provider.close()
        await self.gateway.close()
        await self.tasks.drain(2.0)
        self.journal.close()

    async def post(self, body: Any, path: str = "/v1/chat/completions", key: str = KEY, **headers: str) -> Response:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        builder = self.client.post(self.url + path).body_bytes(data).header("authorization", f"Bearer {key}")
        for name, value in headers.items():
            builder = builder.header(name.replace("_", "-"), value)
        return await builder.build().send()

    async def ask(self, text: str = "hello", model: str = "answer", **more: Any) -> Response:
        return await self.post({"model": model, "messages": [{"role": "user", "content": text}]} | more)

    @property
    def record(self) -> Record:
        """The one record that was written."""
        assert len(self.records) == 1, [r.outcome for r in self.records]
        return self.records[0]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    await stack.start()
    yield stack
    await stack.close()


@pytest.fixture
def make_live() -> Callable[..., Live]:
    return live
