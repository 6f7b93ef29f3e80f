"""The supervisor: starts every process, waits until all of them answer, keeps them alive, and drains them in order."""

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from pilothouse.config.app import AppConfig, load
from pilothouse.domain.clock import Clock, SystemClock
from pilothouse.domain.errors import PilothouseError, StateError
from pilothouse.domain.tasks import Tasks
from pilothouse.security.files import ensure
from pilothouse.server import auth, preflight, probe
from pilothouse.server.child import Child, Spec
from pilothouse.server.datadir import DataDir, SupervisorState, control_address, write_private
from pilothouse.server.opening import require_telemetry

PASSWORD_VARIABLE = "PILOTHOUSE_ADMIN_PASSWORD"  # noqa: S105  # the variable's name
START_S = 60.0  # until everything must answer
DRAIN_S = 10.0  # from SIGTERM to the end of the last process
_HOSTED = {"local": "pilothouse.providers.local", "scripted": "pilothouse.providers.scripted"}


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `pilothouse up` was asked. A port of 0 takes a free one."""

    app: Path
    data: Path
    host: str = "127.0.0.1"
    port: int = 4000
    control_port: int = 4001
    otlp_port: int = 4318
    otlp_grpc_port: int | None = None  # None: not over gRPC
    workers: int = 1
    admin_password_file: Path | None = None
    allow_hosts: tuple[str, ...] = ()
    host_name: str = ""  # among other hosts; empty: the machine's


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything answers. `control` holds a one-time token; `pages` is the same address without it."""

    gateway: str
    control: str
    otlp: str
    otlp_grpc: str  # host:port, empty where it is off
    pages: str
    data: str
    pid: int
    workers: int
    took_s: float


async def supervise(options: UpOptions, announce: Callable[[Ready], None], clock: Clock | None = None) -> bool:
    """Run everything until SIGTERM or SIGINT; whether all drained in time.

    Raises PilothouseError where something forbids the start or a process never comes up.
    """
    data = DataDir(options.data.absolute())
    data.make()
    config = load(options.app)
    with preflight.only_one(data):
        options = _with_free_ports(options)
        clock = clock or SystemClock()
        _guard(options, data, clock)
        require_telemetry(config.store, options.app)
        return await _Supervisor(options, config, data, clock).run(announce)


def _with_free_ports(options: UpOptions) -> UpOptions:
    chosen = {
        name: getattr(options, name) or preflight.free_port(options.host)
        for name in ("port", "control_port", "otlp_port", "otlp_grpc_port")
        if getattr(options, name) is not None
    }
    return msgspec.structs.replace(options, **chosen)


def _guard(options: UpOptions, data: DataDir, clock: Clock) -> None:
    """Everything that forbids a start."""
    if options.workers < 1:
        raise StateError("at least one worker is needed", where="--workers")
    ensure(data.secret)
    if (password := _password(options.admin_password_file)) is not None:
        auth.set_password(data.secret, password)
    preflight.refuse_open_door(options.host, data, clock, password=(data.secret / "admin_password").exists())
    ports = {"--port": options.port, "--control-port": options.control_port, "--otlp-port": options.otlp_port}
    if options.otlp_grpc_port is not None:
        preflight.require_grpc()
        ports["--otlp-grpc-port"] = options.otlp_grpc_port
    preflight.refuse_used_ports(options.host, ports)


def _password(file: Path | None) -> str | None:
    """The admin password from its file or the environment, from which it is then removed."""
    from_environment = os.environ.pop(PASSWORD_VARIABLE, None)
    if file is None:
        return from_environment
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot read the admin password: {error}", where="--admin-password-file") from error


class _Supervisor:
    """The processes of one data directory. `children` by stage, in the order in which they drain."""

    def __init__(self, options: UpOptions, config: AppConfig, data: DataDir, clock: Clock) -> None:
        self._options = options
        self._config = config
        self._data = data
        self._app = options.app.absolute()  # `file://` references and scripts are relative to it
        self._clock = clock
        self._tasks = Tasks()
        self._stop = asyncio.Event()
        self._edges: list[Child] = []
        self._ingest: list[Child] = []
        self._control: list[Child] = []
        self._providers: list[Child] = []

    async def run(self, announce: Callable[[Ready], None]) -> bool:
        """Start, announce, wait for a signal, drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        began = self._clock.monotonic()
        try:
            if await self._unless_stopped(self._start()):
                ready = await self._ready(began)
                announce(ready)
                await self._stop.wait()  # a process that dies is started again by its own Child
        finally:
            drained = await self._drain()
            with contextlib.suppress(FileNotFoundError):
                self._data.supervisor.unlink()
        return drained

    # --- starting

    async def _start(self) -> None:
        """Providers first, since the table names their addresses; then the rest together."""
        urls = await self._start_providers()
        write_private(self._data.providers, urls)
        with contextlib.suppress(FileNotFoundError):
            self._data.control.unlink()
        o, at = self._options, ("--data", str(self._data.path), "--host", self._options.host)
        allowed = tuple(part for name in o.allow_hosts for part in ("--allow-host", name))
        control = ("--dir", str(self._app), "--port", str(o.control_port), *allowed, "--host-name", o.host_name)
        gateway = ("--gateway", self._gateway)
        # With other hosts about, a second control waits for its turn: what they move reaches this host's workers at
        # once even when the first one has just died. When both die, the second is there again before the first.
        modules = {"control": "pilothouse.server.control", "control-standby": "pilothouse.server.spare"}
        names = tuple(modules) if self._config.store.state else ("control",)
        self._control = [self._child(name, modules[name], (*at, *control, *gateway)) for name in names]
        otlp = ("--port", str(o.otlp_port), "--grpc-port", str(o.otlp_grpc_port or 0))
        self._ingest = [self._child("ingest-0", "pilothouse.server.ingest", (*at, *otlp))]
        edge = (*at, "--port", str(o.port), "--app", str(self._app), *(("--sole",) if o.workers == 1 else ()))
        self._edges = [
            self._child(name, "pilothouse.server.edge", (*edge, "--worker", name)) for name in self._edge_names()
        ]
        self._spawn([*self._control, *self._ingest, *self._edges])
        await self._answering()

    def _edge_names(self) -> list[str]:
        return [f"edge-{number}" for number in range(self._options.workers)]

    @property
    def _gateway(self) -> str:
        return f"http://{probe.shown(self._options.host)}:{self._options.port}/v1"

    async def _start_providers(self) -> dict[str, str]:
        """Start the providers that Pilothouse runs itself; name → base URL."""
        urls: dict[str, str] = {}
        waits: list[str] = []
        for provider in self._config.providers.values():
            if provider.kind not in _HOSTED:
                continue
            port = preflight.free_port("127.0.0.1")
            args = ["--port", str(port)]
            if provider.kind == "scripted":
                args += ["--script", str(provider.script.absolute() if provider.script else "")]
            else:
                args += ["--threads", str(provider.threads)]
            urls[provider.name] = f"http://127.0.0.1:{port}/v1"
            waits.append(urls[provider.name])
            self._providers.append(self._child(f"provider-{provider.name}", _HOSTED[provider.kind], tuple(args)))
        self._spawn(self._providers)
        for url in waits:
            await self._until(f"the provider at {url}", functools.partial(probe.answers, f"{url}/models"))
        for child in self._providers:
            child.ready = True
        return urls

    def _child(self, name: str, module: str, args: tuple[str, ...]) -> Child:
        spec = Spec(name=name, module=module, args=args, log=self._data.logs / f"{name}.log", folder=self._app)
        return Child(spec, dict(os.environ), self._clock, self._account)

    def _spawn(self, children: list[Child]) -> None:
        for child in children:
            self._tasks.spawn(child.run(), child.spec.name)

    async def _answering(self) -> None:
        """Wait until control, every edge and ingest answer, and every worker holds the table."""
        o = self._options
        wanted = {*self._edge_names(), "ingest-0"}
        await self._until("control", lambda: probe.workers_ready(self._data, wanted))
        host = probe.shown(o.host)
        await self._until("the gateway", lambda: probe.answers(f"http://{host}:{o.port}/readyz"))
        await self._until("the OTLP receiver", lambda: probe.listens(host, o.otlp_port))
        for child in self._all():
            child.ready = True

    async def _until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait for `holds`, asked in a thread; StateError after START_S or where a process has given up."""
        deadline = self._clock.monotonic() + START_S
        while not await asyncio.to_thread(holds):
            self._raise_failure()
            if self._clock.monotonic() > deadline:
                raise StateError(
                    f"{what} did not answer within {START_S:.0f} s",
                    where=str(self._data.logs),
                    hint=self._last_words(),
                    code="start_failed",
                )
            await asyncio.sleep(0.05)

    def _last_words(self) -> str:
        words = [f"{c.spec.name}: {said}" for c in self._all() if not c.ready and (said := c.last_words())]
        return "; ".join(words) or "the logs are empty"

    async def _ready(self, began: float) -> Ready:
        o = self._options
        host = probe.shown(o.host)
        pages = f"http://{host}:{o.control_port}/"
        address = control_address(self._data)
        if address is None:
            raise StateError("control left before it was ready", where=str(self._data.logs / "control.log"))
        token = await asyncio.to_thread(probe.sign_in_token, address)
        return Ready(
            gateway=self._gateway,
            control=f"{pages}?token={token}",
            otlp=f"http://{host}:{o.otlp_port}",
            otlp_grpc=f"{host}:{o.otlp_grpc_port}" if o.otlp_grpc_port else "",
            pages=pages,
            data=str(self._data.path),
            pid=os.getpid(),
            workers=o.workers,
            took_s=round(self._clock.monotonic() - began, 2),
        )

    # --- running

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work` unless a signal comes first; whether it was done."""
        task = self._tasks.spawn(work, "start")
        stop = self._tasks.spawn(self._stop.wait(), "stop")
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            return False
        await task
        return True

    def _raise_failure(self) -> None:
        for failure in self._tasks.failures:
            if isinstance(failure, PilothouseError):
                raise failure
        if self._tasks.failures:
            raise self._tasks.failures[0]

    def _all(self) -> list[Child]:
        return [*self._edges, *self._ingest, *self._control, *self._providers]

    def _account(self) -> None:
        """Tell `run/supervisor.json` what runs and how often it had to be started again."""
        state = SupervisorState(
            pid=os.getpid(),
            workers=self._edge_names(),
            gateway=self._gateway,
            otlp=f"http://{probe.shown(self._options.host)}:{self._options.otlp_port}",
            children=[child.state for child in self._all()],
        )
        write_private(self._data.supervisor, state)

    # --- ending

    async def _drain(self) -> bool:
        """Edges, ingest, control (which loads what they left), providers; whether each ended by itself."""
        began = self._clock.monotonic()
        clean = True
        for stage, until_s in (
            (self._edges, 8.8),
            (self._ingest, 9.2),
            (self._control, 9.9),
            (self._providers, DRAIN_S),
        ):
            left = max(0.3, began + until_s - self._clock.monotonic())
            ended = await asyncio.gather(*(child.stop(left) for child in stage))
            clean = clean and all(ended)
        await self._tasks.drain(1.0)
        return clean
