"""Publishing: the table is built, kept on disk, given to this host's workers, and waited for on the other hosts."""

import asyncio
from collections.abc import Callable

import msgspec

from pilothouse.config.app import AppConfig
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.table import Table
from pilothouse.releases import table as tables
from pilothouse.server.datadir import DataDir
from pilothouse.server.hosts import Hosts
from pilothouse.server.link import ACK_TIMEOUT_S, GATEWAY, LinkServer, PushReport, save_table
from pilothouse.store.state import pointers
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.hosts import HostState

BUILD_TRIES = 3  # a store's server that is restarted amid the reading has come back by then


class Publisher:
    """Gives out the table of a store and a config. `link` and `hosts` are None where nobody is to be told."""

    def __init__(
        self, store: StateStore, data: DataDir, clock: Clock, config: Callable[[], AppConfig], *, allow_anonymous: bool
    ) -> None:
        self.table: Table | None = None
        self.link: LinkServer | None = None
        self.hosts: Hosts | None = None
        self.config = config
        self.prepare: Callable[[], object] = lambda: None  # what must be so in the store before a table is built
        self._store = store
        self._data = data
        self._clock = clock
        self._allow_anonymous = allow_anonymous
        self._one = asyncio.Lock()

    async def publish(self) -> PushReport:
        """Build the table of now, keep it on disk, and give it to every worker of every host; StoreError."""
        began = self._clock.monotonic()
        async with self._one:
            here = await self._give()
        if self.hosts is None or self.table is None:
            return here
        others = await self.hosts.reached(self.table.revision, began + ACK_TIMEOUT_S)
        ms = round((self._clock.monotonic() - began) * 1_000, 3)
        return together(here, others, self.table.revision, ms, own=bool(self.hosts.name))

    async def follow(self) -> None:
        """Give out what another control has moved; the workers of this host alone are waited for."""
        async with self._one:
            revision = await asyncio.to_thread(self._revision)
            if self.table is None or revision != self.table.revision:
                await self._give()

    def current(self) -> Table:
        """The table that the workers have; built now where none was published yet. Blocking."""
        return self.table or self._build()

    async def _give(self) -> PushReport:
        self.table = await asyncio.to_thread(self._build)
        if self.hosts is not None:
            self.hosts.news()
        return PushReport(workers=0, of=0, ms=0.0) if self.link is None else await self.link.push(self.table)

    def _revision(self) -> int:
        with self._store.read() as conn:
            return pointers.revision(conn)

    def _build(self) -> Table:
        for tries_left in reversed(range(BUILD_TRIES)):
            try:
                self.prepare()
                table = tables.build(
                    self._store, self.config(), self._provider_urls(), self._clock,
                    allow_anonymous=self._allow_anonymous,
                )  # fmt: skip
            except StoreError as error:
                if error.kind != "store_away" or not tries_left:
                    raise
            else:
                break
        save_table(self._data.path, table)
        return table

    def _provider_urls(self) -> dict[str, str]:
        """Base URLs of the providers that the supervisor runs; empty where it runs none."""
        try:
            return msgspec.json.decode(self._data.providers.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(
                f"cannot read the addresses of the hosted providers: {error}", where=str(self._data.providers)
            ) from error


def together(here: PushReport, others: list[HostState], revision: int, ms: float, *, own: bool) -> PushReport:
    """The push as it went on all hosts. Workers of a host that is not heard count as late until it says otherwise."""
    late, held = list(here.late), here.workers
    for host in others:
        behind = [worker for worker, has in host.workers.items() if has < revision]
        late += [f"{host.host}/{worker}" for worker in sorted(behind)]
        held += sum(worker.startswith(GATEWAY) and has >= revision for worker, has in host.workers.items())
    missing = [host for host in others if not host.holds(revision)]
    return PushReport(
        workers=held,
        of=here.of + sum(name.startswith(GATEWAY) for host in others for name in host.workers),
        ms=ms,
        late=tuple(late),
        hosts=int(own and not here.late) + len(others) - len(missing),
        of_hosts=int(own) + len(others),
        away=tuple(host.host for host in missing if host.cut_off),
    )
