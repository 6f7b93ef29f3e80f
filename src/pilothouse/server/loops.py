"""Control's background loops. A failure is recorded where people look, and the loop goes on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from pilothouse.domain.clock import Clock

log = structlog.get_logger("pilothouse.control")

SHARE = 0.1  # of the time is what a loop's work may take …
LONGEST = 4  # … as far as waiting so many times longer than usual gives it that


class LoopState(msgspec.Struct):
    """How a loop fares; shown in `/overview.json` under `control`. Times in µs since 1970."""

    name: str
    every_s: float
    runs: int = 0
    failures: int = 0
    last_run_us: int = 0
    last_ms: float = 0.0
    last_error: str = ""  # of the newest failure, kept after it has passed
    last_error_us: int = 0
    failing: bool = False  # the newest run failed


class Loops:
    """Every loop of this process with its state."""

    def __init__(self, clock: Clock) -> None:
        self.states: dict[str, LoopState] = {}
        self._clock = clock
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Let every loop end after its present run."""
        self._stop.set()

    async def rest(self, seconds: float) -> bool:
        """Wait so long; False where `stop` came meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
        return not self._stop.is_set()

    async def repeat(self, name: str, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do `work` every `every_s` seconds until `stop`, whatever becomes of a single run.

        Work that takes long is done less often, so that it leaves the machine to the requests.
        """
        state = self.states.setdefault(name, LoopState(name=name, every_s=every_s))
        while not self._stop.is_set():
            await self.once(state, work)
            await self.rest(_pause(every_s, state.last_ms / 1e3))

    async def once(self, state: LoopState, work: Callable[[], Awaitable[object]]) -> None:
        """One run, its time and its failure noted in `state`."""
        began = self._clock.monotonic()
        state.last_run_us = self._clock.now_us()
        try:
            await work()
            state.failing = False
        except Exception as error:  # background loop: recorded, shown, and the loop goes on
            state.failures += 1
            state.failing = True
            state.last_error = f"{type(error).__name__}: {error}"
            state.last_error_us = self._clock.now_us()
            log.exception("a background loop failed", loop=state.name, error=state.last_error)
        state.runs += 1
        state.last_ms = round((self._clock.monotonic() - began) * 1_000, 3)


def _pause(every_s: float, took_s: float) -> float:
    return max(every_s, min(took_s / SHARE - took_s, LONGEST * every_s))
