"""Control, composed: the stores, the app's config, the link and the secrets, opened once and handed to everything."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pilothouse.config.app import FILE, AppConfig, RouteConfig, load
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import ConfigError, NotFound, PilothouseError, StoreError
from pilothouse.domain.finding import Review
from pilothouse.domain.security_facts import ReconstructSample
from pilothouse.domain.table import Table
from pilothouse.domain.tasks import Tasks
from pilothouse.domain.wires import Metrics
from pilothouse.releases import table as tables
from pilothouse.security.files import Secrets, ensure
from pilothouse.security.redact import Redactor
from pilothouse.server.auth import Gate
from pilothouse.server.datadir import DataDir
from pilothouse.server.forwarding import Told
from pilothouse.server.link import LinkServer, PushReport, save_table
from pilothouse.server.loops import Loops
from pilothouse.server.opening import open_telemetry
from pilothouse.store.state.engine import StateStore
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import Loader
from pilothouse.telemetry.metrics import make_metrics
from pilothouse.telemetry.retention import Keeper

WORKER = "control-0"  # whose journal holds what evals and replays produce


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where this control answers. Port 0: nowhere, a verb runs it in its own process."""

    host: str = "127.0.0.1"
    port: int = 0
    gateway: str = "http://127.0.0.1:4000/v1"
    allow_hosts: tuple[str, ...] = ()
    allow_anonymous: bool = False  # requests without a key, in development on loopback, until a first key is made


@dataclass(kw_only=True)
class Control:
    """Everything that the verbs, loops and pages work on. `config` is replaced when the app's files change."""

    data: DataDir
    app_dir: Path
    clock: Clock
    tasks: Tasks
    config: AppConfig
    config_error: str = ""  # why the files on disk are not in use: the last good config is
    secret: Secrets
    state: StateStore
    telemetry: TelemetryStore
    loader: Loader
    metrics: Metrics
    gate: Gate
    listening: Listening
    loops: Loops
    redact: Redactor
    keeper: Keeper = field(init=False)
    link: LinkServer | None = None
    table: Table | None = None
    review: Review | None = None  # the newest over all routes, for the overview
    started_us: int = 0
    forwarded: Told | None = None  # how the re-export to another backend fares
    heartbeat_us: int | None = None  # when the rules' evaluator last ran to its end
    reconstructed: dict[tuple[str, str], ReconstructSample] = field(default_factory=dict)  # by route and environment
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def publish(self) -> PushReport:
        """Build the table of now, keep it on disk, and push it to every worker; raises StoreError."""
        async with self.publishing:
            table = await asyncio.to_thread(self._build)
            self.table = table
            if self.link is None:
                return PushReport(workers=0, of=0, ms=0.0)
            return await self.link.push(table)

    def typed(self, text: str) -> str:
        """Words that a person typed, as they may be kept: notes, reasons, names. PilothouseError: they may not."""
        return self.redact(text).text

    def current_table(self) -> Table:
        """The table that the workers have; built now where none was published yet. Blocking."""
        return self.table or self._build()

    def _build(self) -> Table:
        table = tables.build(
            self.state,
            self.config,
            self.provider_urls(),
            self.clock,
            allow_anonymous=self.listening.allow_anonymous,
        )
        save_table(self.data.path, table)
        return table

    def route(self, name: str) -> RouteConfig:
        """The route of that name; NotFound names those there are."""
        try:
            return self.config.routes[name]
        except KeyError:
            known = ", ".join(sorted(self.config.routes)) or "none"
            raise NotFound(f"no route {name!r}", hint=f"routes: {known}", code="unknown_route") from None

    async def reread(self) -> None:
        """Take the app's files as they are now; ConfigError, and then the last good config stays in use."""
        try:
            self.config = await asyncio.to_thread(load, self.app_dir)
            self.config_error = ""
        except ConfigError as error:
            self.config_error = str(error)
            raise

    def app_files(self) -> tuple[tuple[str, int], ...]:
        """The files that the config is made of, with their times of change: equal while nothing changed."""
        named = [name for route in self.config.routes.values() for name in route.files.values()]
        found = []
        for name in sorted({FILE, *named}):
            try:
                found.append((name, (self.app_dir / name).stat().st_mtime_ns))
            except OSError:
                found.append((name, 0))
        return tuple(found)

    def provider_urls(self) -> dict[str, str]:
        """Base URLs of the providers that the supervisor runs; empty where it runs none."""
        try:
            return msgspec.json.decode(self.data.providers.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(
                f"cannot read the addresses of the hosted providers: {error}", where=str(self.data.providers)
            ) from error

    async def load(self) -> None:
        """Take everything complete out of the journals, as far as one call goes."""
        async with self.loading:
            await asyncio.to_thread(self.loader.load_once)

    async def close(self) -> None:
        """Close the stores, the journals' last lines loaded."""
        await self.load()
        await asyncio.to_thread(self.telemetry.close)
        self.state.close()


async def open_control(
    app_dir: Path, data: DataDir, clock: Clock, tasks: Tasks, listening: Listening | None = None
) -> Control:
    """Open everything. Raises ConfigError, or StoreError where another process holds the stores."""
    listening = listening or Listening()
    data.make()
    secret = await asyncio.to_thread(ensure, data.secret)
    config = await asyncio.to_thread(load, app_dir)
    state = await asyncio.to_thread(StateStore, data.state)
    try:
        telemetry = await asyncio.to_thread(open_telemetry, config.store, data, app_dir)
    except PilothouseError:
        state.close()
        raise
    control = Control(
        data=data,
        app_dir=app_dir,
        clock=clock,
        tasks=tasks,
        config=config,
        secret=secret,
        state=state,
        telemetry=telemetry,
        loader=Loader(data.journal, telemetry, clock),
        metrics=make_metrics(telemetry, clock),
        gate=Gate(data.secret, secret, clock, listening.port),
        listening=listening,
        loops=Loops(clock),
        redact=Redactor(secret.salt),
        started_us=clock.now_us(),
    )
    control.keeper = Keeper(telemetry, data.journal, clock, lambda: control.config.retention)
    await control.load()
    return control


SYSTEM = Actor(type="policy", id="control")
