"""This control among those of the other hosts that share its store: heartbeats, news, the leader, who holds what.

Everything that must be once for all hosts (the canary watch, the rules, the drills) is the leader's. It is not
fenced by more than the store: whoever is cut off from it can move nothing, and so does no harm for as long as it
still believes that it leads.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StateError, StoreError
from pilothouse.domain.ids import uuid7
from pilothouse.server.datadir import DataDir
from pilothouse.store.state import hosts as rows
from pilothouse.store.state import postgres
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.hosts import HostState
from pilothouse.store.state.postgres import Lead

log = structlog.get_logger("pilothouse.hosts")

BEAT_S = 1.0
POLL_S = 1.0  # behind the notifications: what was said while nobody listened is found so late
LEAD_S = 1.0
LOOK_S = 0.2  # how often who waits for other hosts looks by itself
AGAIN_S = 0.2  # until it is listened again after the connection broke

Told = Callable[[], HostState]  # what this host has to say of itself


def ident(data: DataDir) -> str:
    """What tells this data directory from every other; made once."""
    path = data.path / "host"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        path.write_text(uuid7() + "\n", encoding="ascii")
        return path.read_text(encoding="ascii").strip()


class Hosts:
    """`name`: of this host; empty for a verb in a process of its own, which only waits for the others."""

    def __init__(self, store: StateStore, name: str, data: DataDir, clock: Clock) -> None:
        if store.server is None:
            raise StateError("several hosts need a state store in PostgreSQL", hint="store: {state: postgresql://…}")
        self.name = name
        self.ident = ident(data) if name else ""
        self.leads = False
        self.known: list[HostState] = []  # all hosts as last read
        self.listening = False
        self._store = store
        self._server = store.server
        self._clock = clock
        self._lead = Lead(store.server)
        self._moved = asyncio.Event()  # another control may have moved something
        self._heard = asyncio.Event()  # another host has said what it holds
        self._own_news = asyncio.Event()  # a worker of ours holds another table
        self._said: dict[str, int] = {}
        self._left = False
        self._saying = asyncio.Lock()
        self._listener: asyncio.Task[None] | None = None

    @property
    def others(self) -> list[HostState]:
        """The other hosts, as last read."""
        return [one for one in self.known if one.host != self.name]

    @property
    def watched_s(self) -> float | None:
        """Seconds since the leader's rules were evaluated; None where nobody leads, or it never did."""
        return next((one.watched_s for one in self.known if one.leads and not one.cut_off), None)

    def news(self) -> None:
        """A worker of this host came, went, or holds another table: say so at once."""
        self._own_news.set()

    # --- saying

    async def beat(self, told: Told) -> None:
        """Say what this host holds, and read what the others do."""
        async with self._saying:
            if self._left:
                return
            state = told()
            self._own_news.clear()
            changed = state.workers | {"": state.revision} != self._said
            self.known = await asyncio.to_thread(self._beat, state, changed)
            self._said = state.workers | {"": state.revision}

    def _beat(self, state: HostState, changed: bool) -> list[HostState]:
        with self._store.beat() as conn:
            rows.beat(conn, state, news=changed)
            return rows.every(conn)

    async def next_beat(self) -> None:
        """Until it is time to say something again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._own_news.wait(), BEAT_S)

    async def leave(self) -> None:
        """Take this host off the list, and let another lead."""
        async with self._saying:
            self._left = True
            self.leads = False
            if self._listener is not None:
                self._listener.cancel()
            self._own_news.set()
            self._moved.set()
            await asyncio.to_thread(self._lead.close)
            with contextlib.suppress(StoreError):
                await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        if any(one.host == self.name for one in self.known):
            with self._store.beat() as conn:
                rows.forget(conn, self.name)
                postgres.notify(conn, postgres.HOSTS_CHANNEL, self.name)

    # --- hearing

    async def listen(self) -> None:
        """Hear what the others say until this host leaves; what was missed in between is looked for."""
        self._listener = asyncio.current_task()
        while True:
            try:
                await postgres.listen(self._server, self._hear)
            except StoreError as error:
                if self.listening:
                    log.warning("news of other hosts are polled until they are heard again", error=str(error))
            self.listening = False
            await asyncio.sleep(AGAIN_S)

    def _hear(self, channel: str) -> None:
        self.listening = True
        if channel != postgres.HOSTS_CHANNEL:
            self._moved.set()
        self._heard.set()

    async def next_move(self) -> None:
        """Until another control may have moved something: it was heard, or POLL_S are over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._moved.wait(), POLL_S)
        self._moved.clear()

    async def reached(self, revision: int, until: float) -> list[HostState]:
        """Wait, until `until` on the monotonic clock, for every host that is heard to hold the table `revision`.

        The hosts as they then are, all but this one.
        """
        while True:
            self._heard.clear()
            with contextlib.suppress(StoreError):  # the store is away: nobody is known to hold it
                self.known = await asyncio.to_thread(self._read)
            behind = [one for one in self.others if not one.cut_off and not one.holds(revision)]
            left = until - self._clock.monotonic()
            if not behind or left <= 0:
                return self.others
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), min(LOOK_S, left))

    def _read(self) -> list[HostState]:
        with self._store.read() as conn:
            return rows.every(conn)

    # --- leading

    async def lead(self) -> None:
        """Take the lead where it is free; know whether it is still ours."""
        if self._left:
            return
        before, self.leads = self.leads, await asyncio.to_thread(self._lead.hold)
        if before != self.leads:
            log.info("this host leads" if self.leads else "this host leads no more", host=self.name)
            self.news()

    def only(self, work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        """The same work, done where this host leads and nowhere else."""

        async def led() -> None:
            if self.leads:
                await work()

        return led
