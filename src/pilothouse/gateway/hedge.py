"""A second call where the first is late: when it is due, and how the two run against each other."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pilothouse.domain.policy import Hedge
from pilothouse.domain.tasks import Tasks
from pilothouse.gateway.balance import Target
from pilothouse.gateway.types import Answer

Calling = Coroutine[Any, Any, Answer]
Let = Callable[[Answer], Awaitable[None]]


def due_s(hedge: Hedge, target: Target, *, stream: bool) -> float | None:
    """Seconds after which the target is late; None where nobody can say yet."""
    if hedge.after is not None:
        return hedge.after
    return (target.streams if stream else target.wholes).quantile(hedge.quantile)


async def race(tasks: Tasks, first: Calling, after_s: float, second: Callable[[], Calling | None], let: Let) -> Answer:
    """The first usable answer of two calls; the second begins after `after_s` seconds, where it may.

    The other call is cancelled at once; `let` goes of an answer that came too late. Raises the first call's error
    where neither has an answer.
    """
    calls = [tasks.spawn(first)]
    won: asyncio.Task[Answer] | None = None
    try:
        done, _ = await asyncio.wait(calls, timeout=after_s)
        if not done and (other := second()) is not None:
            calls.append(tasks.spawn(other))
        while won is None:
            done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            won = next((c for c in calls if c in done and not c.cancelled() and c.exception() is None), None)
            if won is None and not pending:
                break
            if won is None:
                await asyncio.wait(pending)
        answer: Answer = (won or calls[0]).result()
        return answer
    finally:
        await _end(calls, won, let)
        tasks.failures.clear()  # they were raised to whoever asked, or belong to a call that lost


async def _end(calls: list[asyncio.Task[Answer]], won: asyncio.Task[Answer] | None, let: Let) -> None:
    """Cancel what still runs, and let go of the answers that nobody takes."""
    running = [c for c in calls if not c.done()]
    for call in running:
        call.cancel()
    if running:
        await asyncio.wait(running)
    for call in calls:
        if call is not won and not call.cancelled() and call.exception() is None:
            await let(call.result())
