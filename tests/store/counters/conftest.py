"""A Valkey or Redis server of the machine, on a socket of its own."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.domain.clock import FrozenClock


class Server:
    """`url`; `stop` and `start` take it away and bring it back, empty or not."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        assert found, "no valkey-server and no redis-server: `make valkey` installs one"
        self._command = [found, "--port", "0", "--unixsocket", str(folder / "s"), "--save", "", "--dir", str(folder)]
        self._socket = folder / "s"
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._socket.exists():
            assert time.monotonic() < deadline and self._process.poll() is None, "the server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.unlink(missing_ok=True)


@pytest.fixture
def valkey(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("pilothouse.store.counters.valkey.TIMEOUT_S", 10.0)  # a busy machine is not an outage
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        server = Server(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()
