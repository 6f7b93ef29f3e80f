"""The link between control and its workers, over real sockets."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from pilothouse.domain.clock import SystemClock
from pilothouse.domain.table import ProviderEntry, Table
from pilothouse.domain.tasks import Tasks
from pilothouse.server import link


def table(revision: int, providers: int = 1) -> Table:
    return Table(
        revision=revision,
        issued_us=revision * 1_000,
        entries={},
        keys={},
        providers={
            f"p{i}": ProviderEntry(name=f"p{i}", kind="openai", base_url="http://127.0.0.1:1/v1" + "x" * 100)
            for i in range(providers)
        },
    )


class Held:
    """What a worker holds, with an event per arrival."""

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.news = asyncio.Condition()
        self._tasks = Tasks()

    def __call__(self, new: Table) -> None:
        self.tables.append(new)
        self._tasks.spawn(self._tell())

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()

    async def revision(self, wanted: int) -> None:
        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(lambda: bool(self.tables) and self.tables[-1].revision == wanted)


@asynccontextmanager
async def following(data: Path, worker: str) -> AsyncIterator[Held]:
    tasks, held = Tasks(), Held()
    task = tasks.spawn(link.follow(data, worker, held))
    try:
        yield held
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def serving(data: Path) -> AsyncIterator[link.LinkServer]:
    server = link.LinkServer(link.socket_path(data), Tasks(), SystemClock())
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def test_a_push_returns_when_every_worker_holds_the_table(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, following(tmp_path, "edge-0") as a, following(tmp_path, "edge-1") as b:
        assert await server.wait_for_workers({"edge-0", "edge-1"}, 5) == set()
        report = await server.push(table(1))
        assert (report.workers, report.of, report.late) == (2, 2, ())
        assert a.tables[-1].revision == b.tables[-1].revision == 1
        assert [(w.worker, w.revision) for w in server.workers()] == [("edge-0", 1), ("edge-1", 1)]


async def test_ingest_holds_the_table_too_and_is_no_gateway(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, following(tmp_path, "edge-0"), following(tmp_path, "ingest-0") as held:
        await server.wait_for_workers({"edge-0", "ingest-0"}, 5)
        report = await server.push(table(1))
        assert (report.workers, report.of, report.late) == (1, 1, ())
        assert held.tables[-1].revision == 1


async def test_only_the_owner_can_open_the_socket(tmp_path: Path) -> None:
    async with serving(tmp_path):
        mode = link.socket_path(tmp_path).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600


async def test_a_worker_that_connects_later_gets_the_current_table_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        assert (await server.push(table(4))).of == 0
        async with following(tmp_path, "edge-0") as held:
            await held.revision(4)


async def test_a_table_of_megabytes_is_one_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, following(tmp_path, "edge-0") as held:
        await server.wait_for_workers({"edge-0"}, 5)
        report = await server.push(table(1, providers=20_000))
        assert report.workers == 1
        assert len(held.tables[-1].providers) == 20_000


async def test_a_worker_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ACK_TIMEOUT_S", 0.05)
    async with serving(tmp_path) as server, following(tmp_path, "edge-0"):
        _, deaf = await asyncio.open_unix_connection(str(link.socket_path(tmp_path)))
        deaf.write(b'{"type":"hello","worker":"edge-9","revision":-1}\n')
        await server.wait_for_workers({"edge-0", "edge-9"}, 5)
        report = await server.push(table(1))
        assert (report.workers, report.of, report.late) == (1, 2, ("edge-9",))
        deaf.close()


async def test_workers_go_on_without_control_and_come_back(tmp_path: Path) -> None:
    async with following(tmp_path, "edge-0") as held:
        async with serving(tmp_path) as first:
            await first.push(table(1))
            await held.revision(1)
        assert held.tables[-1].revision == 1  # control is gone; the worker serves what it holds
        async with serving(tmp_path) as second:
            await second.push(table(2))
            await held.revision(2)


async def test_a_worker_starts_from_the_saved_table_alone(tmp_path: Path) -> None:
    link.save_table(tmp_path, table(7))
    assert stat.S_IMODE(link.table_path(tmp_path).stat().st_mode) == 0o600
    async with following(tmp_path, "edge-0") as held:
        await held.revision(7)


async def test_a_spoilt_saved_table_is_reported_not_served(tmp_path: Path) -> None:
    link.table_path(tmp_path).write_bytes(b'{"revision": 3, ')
    assert link.saved_table(tmp_path) is None


async def test_garbage_on_the_socket_ends_that_connection_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, following(tmp_path, "edge-0"):
        await server.wait_for_workers({"edge-0"}, 5)
        reader, writer = await asyncio.open_unix_connection(str(link.socket_path(tmp_path)))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        assert (await server.push(table(1))).workers == 1


async def test_a_directory_too_deep_for_a_socket_address_still_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with serving(deep) as server, following(deep, "edge-0"):
        assert await server.wait_for_workers({"edge-0"}, 5) == set()
        assert (await server.push(table(1))).workers == 1
