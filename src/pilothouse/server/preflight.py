"""What must hold before anything is started: one supervisor per data directory, free ports, no open door."""

import contextlib
import fcntl
import ipaddress
import os
import random
import socket
from collections.abc import Iterator
from importlib.util import find_spec

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Refused, StateError
from pilothouse.server.datadir import DataDir
from pilothouse.server.link import saved_table

_candidates = iter(random.sample(range(16_384, 32_768), 16_384))  # none twice in one process


@contextlib.contextmanager
def only_one(data: DataDir) -> Iterator[None]:
    """Hold the directory's lock; StateError where another supervisor has it. The kernel frees it at death."""
    path = data.run / "supervisor.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise StateError(
            "another pilothouse is running on this data directory" + (f" (pid {holder})" if holder else ""),
            where=str(data.path),
            hint="stop it, or give another directory with --data",
            code="already_running",
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    try:
        yield
    finally:
        os.close(descriptor)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def free_port(host: str) -> int:
    """A port that is free at this moment.

    Below the ports that systems give to outgoing connections and to port 0 (from 32768 on): what opens in between
    does not take it away.
    """
    for port in _candidates:
        with contextlib.suppress(OSError), _bound(host, port):
            return port
    raise StateError("no free port is left", where=host, hint="give one with --port", code="port_in_use")


def refuse_used_ports(host: str, ports: dict[str, int]) -> None:
    """StateError where one of `ports` (option → port) is taken. Binds without SO_REUSEPORT, unlike the workers."""
    seen: dict[int, str] = {}
    for option, port in ports.items():
        if port in seen:
            raise StateError(f"{seen[port]} and {option} are both {port}", hint="give each its own port")
        seen[port] = option
        try:
            with _bound(host, port):
                pass
        except OSError as error:
            raise StateError(
                f"port {port} cannot be opened: {error.strerror}",
                where=f"{host}:{port}",
                hint=f"stop what uses it, or give another with {option}",
                code="port_in_use",
            ) from error


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        yield listener


def refuse_open_door(host: str, data: DataDir, clock: Clock, *, password: bool) -> None:
    """Refused where others could reach `host` while no key or no admin password guards it."""
    if is_loopback(host):
        return
    table = saved_table(data.path)  # what the workers start from: a key that is not in it opens nothing
    now = clock.now_us()
    keys = table.keys.values() if table is not None else ()
    guarded = any(not key.expires_us or key.expires_us > now for key in keys)
    missing = [what for what, there in (("an API key", guarded), ("an admin password", password)) if not there]
    if missing:
        raise Refused(
            f"will not listen on {host} without {' and '.join(missing)}",
            where="--host",
            hint="pilothouse keys create --name NAME --env prod; --admin-password-file FILE; or stay on 127.0.0.1",
            code="open_door",
        )


def require_grpc() -> None:
    """Raises StateError where the extra is not installed."""
    if find_spec("grpc") is None:
        raise StateError("OTLP over gRPC needs an extra", hint="pip install 'pilothouse[grpc]'", code="missing_extra")
