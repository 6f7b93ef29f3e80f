"""Answers kept in a real server; and what happens without one."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.domain.clock import FrozenClock, SystemClock
from pilothouse.domain.errors import StoreError
from pilothouse.store.cache import valkey
from pilothouse.store.cache.valkey import ValkeyAnswers

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")
pytest.importorskip("valkey")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server's URL, on a socket of its own."""
    if SERVER is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    path = tmp_path_factory.mktemp("valkey") / "s"
    command = [
        SERVER,
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=path.parent)
    assert process.stdout is not None
    for line in process.stdout:
        if "ready to accept connections" in line.lower():
            break
    yield f"unix://{path}"
    process.terminate()
    process.wait()
    process.stdout.close()


async def test_two_workers_share_what_is_kept(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "TIMEOUT_S", 30.0)  # a busy machine is no cache that is away
    one, other = ValkeyAnswers(server, SystemClock()), ValkeyAnswers(server, SystemClock())
    try:
        await one.put("a", b"\x00answer\xff", 60)
        assert await other.get("a") == b"\x00answer\xff"
        assert await other.get("b") is None
        await one.put("a", b"newer", 60)
        assert await asyncio.gather(*(other.get("a") for _ in range(100))) == [b"newer"] * 100
        assert (one.failures, other.failures) == (0, 0)
    finally:
        await one.close()
        await other.close()


async def test_it_is_kept_for_its_time(server: str) -> None:
    one = ValkeyAnswers(server, SystemClock())
    await one.put("short", b"x", 0.001)
    async with asyncio.timeout(10):
        while await one.get("short") is not None:
            pass
    await one.close()


async def test_without_a_server_there_is_nothing_and_nobody_waits(tmp_path: Path) -> None:
    clock = FrozenClock()
    one = ValkeyAnswers(f"unix://{tmp_path}/none", clock)
    await one.put("a", b"x", 60)
    assert await one.get("a") is None
    assert one.failures == 1  # the second did not even ask
    clock.advance(2)
    assert await one.get("a") is None
    assert one.failures == 2
    await one.close()


def test_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(StoreError):
        ValkeyAnswers("http://example.com", FrozenClock())
