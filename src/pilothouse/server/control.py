"""`python -m pilothouse.server.control`: the control plane's process."""

import argparse
import asyncio
import fcntl
import functools
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from pilothouse import __version__
from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.tasks import Tasks
from pilothouse.security.secrets import read_secret
from pilothouse.server import alternates, asking, canaries, drifting, guarding, heap, logs, probe, revisiting, watching
from pilothouse.server.composition import Control, Listening, open_control
from pilothouse.server.control_app import make_app
from pilothouse.server.datadir import ControlAddress, DataDir, write_private
from pilothouse.server.forwarding import Forwarder
from pilothouse.server.hosts import LEAD_S, Hosts
from pilothouse.server.link import LinkServer, socket_path
from pilothouse.server.preflight import is_loopback
from pilothouse.server.publishing import Publisher
from pilothouse.server.sharing import Telling
from pilothouse.server.verbs import drills, retention, reviews, transfers
from pilothouse.store.state.hosts import HostState

log = structlog.get_logger("pilothouse.control")

LOAD_S = 0.5
CONFIG_S = 2.0
CANARY_S = 1.0
ASK_S = 1.0  # how often recorded inputs are asked again for a canary
RULES_S = 5.0
FORWARD_S = 1.0
EXPORT_S = 300.0  # how often it is looked whether a day is over
RETENTION_S = 60.0  # how often payloads are moved into files, and what is over its time or the cap is removed
DRILLS_S = 300.0  # how often it is looked whether a drill is due
INTEGRITY_S = 2.0  # an edit of a pointer in the database stands no longer than this
ALTERNATES_S = 60.0  # how often it is looked whether an alternate model is to be probed
DRIFT_S = 30.0
REVIEW_S = 60.0  # the overview's readiness, and which reviews are open, is so old or, with long reviews, 4 times that
DRAIN_S = 3.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pilothouse.server.control", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4001)
    parser.add_argument("--gateway", default="http://127.0.0.1:4000/v1")
    parser.add_argument("--allow-host", action="append", default=[])
    parser.add_argument("--host-name", default="")
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Open, push the first table, answer until SIGTERM, then load what the workers left."""
    clock, tasks = SystemClock(), Tasks()
    data = DataDir(options.data.absolute())
    listening = Listening(
        host=options.host,
        port=options.port,
        gateway=options.gateway,
        allow_hosts=tuple(options.allow_host),
        allow_anonymous=is_loopback(options.host),
        host_name=options.host_name or socket.gethostname(),
    )

    async def begin(publisher: Publisher) -> None:
        await asyncio.to_thread(_take_turn, data)
        news = publisher.hosts.news if publisher.hosts is not None else lambda: None
        publisher.link = LinkServer(socket_path(data.path), tasks, clock, news)
        await publisher.link.start()
        await publisher.follow()

    control = await open_control(options.dir, data, clock, tasks, listening, begin)
    if control.hosts is not None:
        await control.hosts.beat(functools.partial(_told, control, control.hosts))
        _spawn_hosts(control, control.hosts)
    _spawn_loops(control)
    server = Server(
        make_app(control), address=options.host, port=options.port, interface=Interfaces.ASGINL, websockets=False,
        log_enabled=False,
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    tasks.spawn(_announce(control, options), "announce")
    try:
        await server.serve()
    finally:
        await _close(control)


async def _announce(control: Control, options: argparse.Namespace) -> None:
    """Write where control answers, once it does."""
    url = f"http://{probe.shown(options.host)}:{options.port}"
    while not await asyncio.to_thread(probe.answers, f"{url}/healthz"):  # noqa: ASYNC110  # the server gives no event
        await asyncio.sleep(0.02)
    address = ControlAddress(url=url, token=control.secret.admin_token, pid=os.getpid())
    write_private(control.data.control, address)


def _take_turn(data: DataDir) -> None:
    """Wait until no other control serves this data directory; the kernel gives the turn on when that one dies.

    Kept until this process ends. A second control that waits here has everything imported and its store open, and
    takes over within a moment.
    """
    descriptor = os.open(data.run / "control.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _told(control: Control, hosts: Hosts) -> HostState:
    """What this host says of itself."""
    workers = control.link.workers() if control.link is not None else []
    return HostState(
        host=hosts.name,
        ident=hosts.ident,
        revision=control.table.revision if control.table is not None else -1,
        workers={worker.worker: worker.revision for worker in workers},
        leads=hosts.leads,
        watched_s=(control.clock.now_us() - control.heartbeat_us) / 1e6 if control.heartbeat_us is not None else None,
        telemetry=control.config.store.telemetry,
        version=__version__,
        files=control.files,
    )


def _spawn_hosts(control: Control, hosts: Hosts) -> None:
    """What keeps this host and the others in step. Each loop waits for its own events."""
    loops, spawn = control.loops, control.tasks.spawn

    async def beat() -> None:
        await hosts.next_beat()
        await hosts.beat(functools.partial(_told, control, hosts))

    async def follow() -> None:
        await hosts.next_move()
        await control.publisher.follow()

    spawn(hosts.listen(), "news of other hosts")
    spawn(loops.repeat("heartbeat", 0.0, beat), "heartbeat")
    spawn(loops.repeat("moves of other hosts", 0.0, follow), "moves of other hosts")
    spawn(loops.repeat("lead", LEAD_S, hosts.lead), "lead")


def _spawn_loops(control: Control) -> None:
    loops, spawn = control.loops, control.tasks.spawn
    once = control.hosts.only if control.hosts is not None else lambda work: work  # for all hosts together
    spawn(loops.repeat("load", LOAD_S, control.load), "load")
    watch = functools.partial(canaries.watch, control, Telling())
    spawn(loops.repeat("canary watch", CANARY_S, watch), "canary watch")
    spawn(loops.repeat("canary inputs", ASK_S, once(functools.partial(asking.ask_again, control))), "canary inputs")
    spawn(loops.repeat("rules", RULES_S, functools.partial(watching.evaluate, control)), "rules")
    spawn(loops.repeat("export", EXPORT_S, functools.partial(transfers.nightly, control)), "export")
    spawn(loops.repeat("retention", RETENTION_S, functools.partial(retention.tidy, control)), "retention")
    spawn(loops.repeat("drills", DRILLS_S, once(functools.partial(drills.scheduled, control))), "drills")
    spawn(loops.repeat("integrity", INTEGRITY_S, once(functools.partial(guarding.mend, control))), "integrity")
    spawn(loops.repeat("alternates", ALTERNATES_S, once(functools.partial(alternates.hourly, control))), "alternates")
    spawn(loops.repeat("drift", DRIFT_S, once(functools.partial(drifting.watch, control))), "drift")
    spawn(loops.repeat("review", REVIEW_S, functools.partial(_review, control)), "review")
    forwarder = Forwarder(
        control.data.journal, control.data.path, control.clock, read_secret, lambda: control.config.forward
    )
    control.forwarded = forwarder.told
    spawn(loops.repeat("forward", FORWARD_S, functools.partial(asyncio.to_thread, forwarder.send)), "forward")
    spawn(loops.repeat("app files", CONFIG_S, _follow_files(control)), "app files")


async def _review(control: Control) -> None:
    """Keep the overview's readiness fresh; where this host leads, what was opened again is kept and its owner told."""
    made = await reviews.review(control)
    if control.hosts is None or control.hosts.leads:
        await asyncio.to_thread(revisiting.keep, control, made)


def _follow_files(control: Control) -> Callable[[], Awaitable[None]]:
    """Take the app's files again when they change: a new table where workers see a difference."""
    seen = control.app_files()

    async def look() -> None:
        nonlocal seen
        found = await asyncio.to_thread(control.app_files)
        if found != seen:
            seen = found
            await control.reread()
            await control.publish()

    return look


async def _close(control: Control) -> None:
    control.loops.stop()
    control.data.control.unlink(missing_ok=True)
    if control.hosts is not None:
        await control.hosts.leave()
    await control.tasks.drain(DRAIN_S)
    if control.link is not None:
        await control.link.close()
    await control.close()


def main() -> None:
    """Run; exit code 2 with one line where the start is forbidden."""
    heap.share()
    logs.configure()
    try:
        uvloop.run(serve(_arguments()))
    except PilothouseError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
