"""An answer of many lines: what a piece of work tells while it goes on, and how it ended as the last of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.tasks import Tasks
from pilothouse.server.replies import failure_body

Line = dict[str, Any]
Tell = Callable[[Line], None]  # from any thread


async def streamed(tasks: Tasks, name: str, work: Callable[[Tell], Awaitable[Line]]) -> AsyncIterator[Line]:
    """What `work` tells, then its value as type `result`, or its error as `error`: one of the two always comes.

    Work whose listener has left goes on to its end.
    """
    news: asyncio.Queue[Line | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(line: Line | None) -> None:
        loop.call_soon_threadsafe(news.put_nowait, line)

    async def run() -> None:
        unforeseen = PilothouseError(f"{name}: Pilothouse itself failed", hint="see logs/control.log")
        last = {"type": "error", **failure_body(unforeseen)}
        try:
            last = {"type": "result", **await work(tell)}
        except PilothouseError as error:
            last = {"type": "error", **failure_body(error)}
        finally:  # of an error that nobody foresaw the owner of the tasks tells the rest
            tell(last)
            tell(None)

    tasks.spawn(run(), name)
    while (line := await news.get()) is not None:
        yield line


def threaded(work: Callable[[Tell], Line]) -> Callable[[Tell], Awaitable[Line]]:
    """`work`, which blocks, as `streamed` takes it: in a thread of its own."""
    return lambda tell: asyncio.to_thread(work, tell)
