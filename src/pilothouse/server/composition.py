"""Control, composed: the stores, the app's config, the link and the secrets, opened once and handed to everything."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pilothouse.config.app import FILE, AppConfig, RouteConfig, load
from pilothouse.domain.callers import Callers
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import ConfigError, NotFound, PilothouseError, StateError
from pilothouse.domain.finding import Review
from pilothouse.domain.hashing import bytes_hash, canonical
from pilothouse.domain.security_facts import ReconstructSample
from pilothouse.domain.table import Table
from pilothouse.domain.tasks import Tasks
from pilothouse.domain.wires import Metrics
from pilothouse.releases import declared, flags, integrity
from pilothouse.security.files import Secrets, ensure
from pilothouse.security.redact import Redactor
from pilothouse.security.secrets import fingerprint, read_secret
from pilothouse.server.auth import Gate
from pilothouse.server.datadir import DataDir
from pilothouse.server.forwarding import Told
from pilothouse.server.hosts import Hosts
from pilothouse.server.link import LinkServer, PushReport
from pilothouse.server.loops import Loops
from pilothouse.server.opening import open_telemetry
from pilothouse.server.publishing import Publisher
from pilothouse.store.state import hosts
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.postgres import Server
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import KEEP_S, Loader
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
    host_name: str = ""  # of this host among others; empty: a verb's own process


@dataclass(kw_only=True)
class Carried:
    """A plan that is carried on here: by whom, how far its gate is (`total` 0: no gate runs), how it ended."""

    release: int
    actor: str
    since_us: int
    done: int = 0
    total: int = 0
    stopped: bool = False  # by a person: no step follows the one that is under way
    ended: bool = False
    error: str = ""


@dataclass(kw_only=True)
class Control:
    """Everything that the verbs, loops and pages work on. `config` is replaced when the app's files change."""

    data: DataDir
    app_dir: Path
    clock: Clock
    tasks: Tasks
    config: AppConfig
    files: str = ""  # hash of the app's files
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
    publisher: Publisher = field(init=False)
    review: Review | None = None  # the newest over all routes, for the overview
    started_us: int = 0
    forwarded: Told | None = None  # how the re-export to another backend fares
    heartbeat_us: int | None = None  # when the rules' evaluator last ran to its end
    reconstructed: dict[tuple[str, str], ReconstructSample] = field(default_factory=dict)  # by route and environment
    callers: dict[tuple[str, str], tuple[int, Callers]] = field(default_factory=dict)  # route, env → when, who
    fed_out: dict[int, str] = field(default_factory=dict)  # canary run → why it is fed no more; empty: it is fed
    carried: dict[tuple[str, str], Carried] = field(default_factory=dict)  # by route and environment
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def link(self) -> LinkServer | None:
        """The link to this host's workers, None in a verb's own process."""
        return self.publisher.link

    @property
    def hosts(self) -> Hosts | None:
        """The hosts that share the store, None where it is this host's own file."""
        return self.publisher.hosts

    @property
    def table(self) -> Table | None:
        """The table that was published last."""
        return self.publisher.table

    @property
    def watched_us(self) -> int | None:
        """When the rules were last evaluated, here or at the host that leads; µs since 1970."""
        if self.hosts is None or self.hosts.leads:
            return self.heartbeat_us
        age_s = self.hosts.watched_s
        return None if age_s is None else self.clock.now_us() - int(age_s * 1e6)

    async def publish(self) -> PushReport:
        """Build the table of now, keep it on disk, and push it to every worker of every host; raises StoreError."""
        return await self.publisher.publish()

    def typed(self, text: str) -> str:
        """Words that a person typed, as they may be kept: notes, reasons, names. PilothouseError: they may not."""
        return self.redact(text).text

    def current_table(self) -> Table:
        """The table that the workers have; built now where none was published yet. Blocking."""
        return self.publisher.current()

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
            self.files = await asyncio.to_thread(files_hash, self.app_dir, self.config)
            self.config_error = ""
        except ConfigError as error:
            self.config_error = str(error)
            raise

    def app_files(self) -> tuple[tuple[str, int], ...]:
        """The files that the config is made of, with their times of change: equal while nothing changed."""
        found = []
        for name in app_file_names(self.config):
            try:
                found.append((name, (self.app_dir / name).stat().st_mtime_ns))
            except OSError:
                found.append((name, 0))
        return tuple(found)

    async def load(self) -> None:
        """Take everything complete out of the journals, as far as one call goes."""
        async with self.loading:
            await asyncio.to_thread(self.loader.load_once)

    async def close(self) -> None:
        """Close the stores, the journals' last lines loaded."""
        await self.load()
        await asyncio.to_thread(self.telemetry.close)
        self.state.close()


def app_file_names(config: AppConfig) -> list[str]:
    """The files that a config is made of, relative to the app's directory."""
    return sorted({FILE, *(name for route in config.routes.values() for name in route.files.values())})


def files_hash(app_dir: Path, config: AppConfig) -> str:
    """12 characters that are another where a host's files of the app are; a file that is missing counts as empty."""
    found = {}
    for name in app_file_names(config):
        try:
            found[name] = bytes_hash((app_dir / name).read_bytes())
        except OSError:
            found[name] = ""
    return bytes_hash(canonical(found))[:12]


Begin = Callable[[Publisher], Awaitable[None]]


async def open_control(
    app_dir: Path,
    data: DataDir,
    clock: Clock,
    tasks: Tasks,
    listening: Listening | None = None,
    begin: Begin | None = None,
) -> Control:
    """Open everything. Raises ConfigError, or StoreError where another process holds the stores.

    `begin` is called as soon as there is a table to give out: what the telemetry store still has to do when it is
    opened keeps no worker waiting. It may wait for long, so the files are read again afterwards.
    """
    listening = listening or Listening()
    data.make()
    secret = await asyncio.to_thread(ensure, data.secret)
    config = await asyncio.to_thread(load, app_dir)
    state = await asyncio.to_thread(StateStore, state_place(config, data))
    publisher = Publisher(state, data, clock, lambda: load(app_dir), allow_anonymous=listening.allow_anonymous)

    def prepare() -> None:
        integrity.mend(state, clock)  # a pointer that was edited beside the verbs reaches no worker
        if publisher.hosts is None or publisher.hosts.leads:  # hosts whose files differ would undo one another
            _declare(state, publisher.config(), clock)

    publisher.prepare = prepare
    try:
        if state.server is not None:
            await asyncio.to_thread(_same_secrets, state, secret, data)
            publisher.hosts = Hosts(state, listening.host_name, data, clock)
        if begin is not None:
            await begin(publisher)
            config = await asyncio.to_thread(load, app_dir)
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
        files=await asyncio.to_thread(files_hash, app_dir, config),
        secret=secret,
        state=state,
        telemetry=telemetry,
        loader=Loader(data.journal, telemetry, clock, lambda: 0.0 if control.config.forward is None else KEEP_S),
        metrics=make_metrics(telemetry, clock),
        gate=Gate(data.secret, secret, clock, listening.port),
        listening=listening,
        loops=Loops(clock),
        redact=Redactor(secret.salt),
        started_us=clock.now_us(),
    )
    control.publisher = publisher
    publisher.config = lambda: control.config
    control.keeper = Keeper(telemetry, data.journal, clock, lambda: control.config.retention)
    await control.load()
    return control


def state_place(config: AppConfig, data: DataDir) -> Path | Server:
    """Where the app's files say that state is kept."""
    store = config.store
    if not store.state:
        return data.state
    return Server(
        url=store.state, password=read_secret(store.state_password, config.dir) if store.state_password else ""
    )


def _declare(state: StateStore, config: AppConfig, clock: Clock) -> None:
    """What the files say now stands in the change log."""
    flags.sync(state, config, clock)
    declared.sync(state, config, clock)


def secrets_fingerprint(secret: Secrets) -> str:
    """What tells an installation's secrets from others, and shows none of them."""
    return fingerprint(secret.salt, secret.pepper.hex())


def _same_secrets(state: StateStore, secret: Secrets, data: DataDir) -> None:
    """Keys and pseudonyms are made with the secrets: a host with others would refuse every key of the first one."""
    with state.write() as conn:
        same = hosts.same_secrets(conn, secrets_fingerprint(secret))
    if not same:
        raise StateError(
            "this host has other secrets than the installation",
            where=str(data.secret),
            hint="copy the folder `secret` of the first host here: keys are checked with it",
            code="other_secrets",
        )


SYSTEM = Actor(type="policy", id="control")
