"""One supervised process: started, watched, started again with back-off when it dies, and drained at the end."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StateError
from pilothouse.server.datadir import ChildState

log = structlog.get_logger("pilothouse.supervisor")

BACKOFF_S = (0.1, 5.0)  # first and longest wait before a new start
STEADY_S = 20.0  # a process that lived this long starts its back-off from the beginning
START_TRIES = 3  # deaths before it ever answered, after which the whole start is given up
EXIT_SPAWN = 126  # what a shell says of a command that it found and could not run
TAIL_BYTES = 2_000  # of its log that an error shows


class Spec(msgspec.Struct, frozen=True):
    """What to run: `python -m module args` in the app's directory, its output in `log`."""

    name: str
    module: str
    args: tuple[str, ...]
    log: Path
    folder: Path


class Child:
    """A process kept alive until `stop`. `restarts` counts every new start after the first."""

    def __init__(self, spec: Spec, env: dict[str, str], clock: Clock, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.state = ChildState(name=spec.name)
        self.ready = False
        self._env = env
        self._clock = clock
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Start, and start again with back-off, until `stop`; StateError where it never came up."""
        wait, deaths = BACKOFF_S[0], 0
        while not self._stopping.is_set():
            began = self._clock.monotonic()
            code = await self._once()
            if self._stopping.is_set():
                return
            lived = self._clock.monotonic() - began
            deaths += 1
            self.state.last_exit = _how(code)
            log.warning("a process died", process=self.spec.name, exit=_how(code), lived_s=round(lived, 1))
            if not self.ready and deaths >= START_TRIES:
                raise StateError(
                    f"{self.spec.name} ended {deaths} times before it answered ({_how(code)})",
                    where=str(self.spec.log),
                    hint=self.last_words() or "its log is empty",
                    code="start_failed",
                )
            wait = BACKOFF_S[0] if lived > STEADY_S else wait
            try:
                await asyncio.wait_for(self._stopping.wait(), wait)
            except TimeoutError:
                wait = min(wait * 2, BACKOFF_S[1])
                self.state.restarts += 1

    async def _once(self) -> int:
        """One life of the process; its exit code."""
        try:
            with self.spec.log.open("ab") as out:
                self._process = await _spawn(self.spec, self._env, out)
        except OSError as error:  # no memory, no process, no disk: as good as a process that died at once
            log.error("a process could not be started", process=self.spec.name, error=str(error))
            return EXIT_SPAWN
        self.state.pid = self._process.pid
        self.state.started_us = self._clock.now_us()
        self._changed()
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        code = await self._process.wait()
        self.state.pid = None
        self._changed()
        return code

    async def stop(self, within_s: float) -> bool:
        """SIGTERM, then SIGKILL after `within_s` seconds; whether it ended by itself."""
        self._stopping.set()
        if self._process is None or self._process.returncode is not None:
            return True
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            log.error("a process did not drain in time and was killed", process=self.spec.name, within_s=within_s)
            self._signal(signal.SIGKILL)
            await self._process.wait()
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def last_words(self) -> str:
        """The last line of its log."""
        try:
            tail = self.spec.log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""
        return tail.splitlines()[-1] if tail else ""


async def _spawn(spec: Spec, env: dict[str, str], out: IO[bytes]) -> asyncio.subprocess.Process:
    leash = ("-m", "pilothouse.server.leash", str(os.getpid()), spec.module)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *leash,
        *spec.args,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        env=env,
        cwd=spec.folder,
        start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then drains in order
    )


def _how(code: int) -> str:
    """An exit code as people read it."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
