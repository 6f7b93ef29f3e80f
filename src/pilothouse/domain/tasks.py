"""Background tasks that shutdown waits for."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Holds every background task of a process; `drain` waits for them, so that no record is lost.

    A task that fails is kept in `failures`: the owner's loop reads and reports it.
    """

    def __init__(self) -> None:
        self._live: set[asyncio.Task[Any]] = set()
        self.failures: list[BaseException] = []

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> asyncio.Task[Any]:
        """Start `work` and hold it until it ends."""
        task = asyncio.get_running_loop().create_task(work, name=name or None)
        self._live.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._live.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failures.append(failure)

    def __len__(self) -> int:
        return len(self._live)

    async def drain(self, within_s: float) -> int:
        """Wait up to `within_s` seconds, cancel the rest; the number cancelled."""
        if not self._live:
            return 0
        _, late = await asyncio.wait(set(self._live), timeout=within_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=1.0)
        return len(late)
