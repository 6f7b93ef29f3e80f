"""Live tail: new rows of the list as they come, over server-sent events.

One poll a second asks the store once for the filters of all readers together. A reader that does not keep up is let go:
its browser connects again by itself, and nobody else waits for it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from pilothouse.domain.errors import LimitExceeded, PilothouseError
from pilothouse.server.pages.context import PageContext
from pilothouse.server.pages.render import HEADERS, Page, fragment
from pilothouse.server.pages.traces import lines, wanted
from pilothouse.telemetry.filter import Query
from pilothouse.telemetry.listing import Row

EVERY_S = 1.0
BEHIND_MAX = 32  # events that a reader may be behind before it is let go
READERS_MAX = 50
LOOK_BACK_US = 300_000_000  # a request is stored when it ends, under the time when it began


class Reader:
    """One open page. `queue` holds lists of rows not yet sent; None at its end: let go."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.queue: asyncio.Queue[list[Row] | None] = asyncio.Queue(BEHIND_MAX + 1)
        self.seen: set[str] | None = None  # None: what there is at the first look is not news
        self.gone = False

    def offer(self, rows: list[Row]) -> None:
        """Put what is new into the queue; a full one lets the reader go."""
        idents = {row.id for row in rows}
        news = [row for row in rows if self.seen is not None and row.id not in self.seen]
        self.seen = idents
        if not news or self.gone:
            return
        if self.queue.qsize() >= BEHIND_MAX:
            self.gone = True
            self.queue.put_nowait(None)
        else:
            self.queue.put_nowait(news)


class Tails:
    """All open tails of a process, and the one task that asks for them while there are any."""

    def __init__(self, ctx: PageContext) -> None:
        self._ctx = ctx
        self._readers: set[Reader] = set()
        self._task: asyncio.Task[None] | None = None
        self.failed = ""

    async def show(self, _: PageContext, page: Page) -> Response:
        """`GET /traces/live` with the list's filter: `rows` events with the rows' HTML."""
        if len(self._readers) >= READERS_MAX:
            raise LimitExceeded(f"{READERS_MAX} live tails are open", where="/traces/live", hint="close one")
        reader = Reader(wanted(page.request.query_params, page.now_us).query)
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(reader), media_type="text/event-stream", headers=headers)

    async def _events(self, reader: Reader) -> AsyncIterator[str]:
        self._readers.add(reader)
        if self._task is None or self._task.done():
            self._task = self._ctx.tasks.spawn(self._ask(), "live tail")
        try:
            yield "retry: 3000\n: open\n\n"
            while (rows := await self._next(reader)) is not None:
                yield _event(self._ctx, rows) if rows else ": still here\n\n"
        finally:
            self._readers.discard(reader)

    async def _next(self, reader: Reader) -> list[Row] | None:
        """The next rows; an empty list after a while without any, so that a closed connection is noticed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(15.0):
                return await reader.queue.get()
        return []

    async def _ask(self) -> None:
        while self._readers:
            await self._look()
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        readers = list(self._readers)
        queries = list(dict.fromkeys(reader.query for reader in readers))
        try:
            since = self._ctx.clock.now_us() - LOOK_BACK_US
            found = await run_in_threadpool(self._ctx.fresh, queries, since)
        except PilothouseError as error:  # the next look may find the store well again
            self.failed = str(error)
            return
        by_query = dict(zip(queries, found, strict=True))
        for reader in readers:
            reader.offer(by_query[reader.query])


def _event(ctx: PageContext, rows: list[Row]) -> str:
    html = str(fragment("live_rows.html", rows=lines(rows[::-1]), now_us=ctx.clock.now_us()))
    return f"event: rows\ndata: {msgspec.json.encode({'n': len(rows), 'html': html}).decode()}\n\n"
