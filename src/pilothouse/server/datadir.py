"""The data directory: where every process finds what the others keep there."""

import os
from pathlib import Path

import msgspec

from pilothouse.domain.errors import StoreError


class DataDir(msgspec.Struct, frozen=True):
    """Under `path`: `state.db`, `telemetry.duckdb`, `payloads/`, `spool/`, `journal/<worker>/`, `table.json`,
    `secret/`, `run/`, `logs/`.
    """

    path: Path

    @property
    def state(self) -> Path:
        """Releases, pointers, keys, change log."""
        return self.path / "state.db"

    @property
    def telemetry(self) -> Path:
        """Requests, spans, scores, rollups."""
        return self.path / "telemetry.duckdb"

    @property
    def spool(self) -> Path:
        """Writes to a ClickHouse server that it has not taken yet."""
        return self.path / "spool"

    @property
    def journal(self) -> Path:
        """One directory per worker."""
        return self.path / "journal"

    @property
    def secret(self) -> Path:
        """Pepper, salt, tokens; readable by the owner alone."""
        return self.path / "secret"

    @property
    def run(self) -> Path:
        """Sockets and addresses of the running processes."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.path / "logs"

    @property
    def providers(self) -> Path:
        """Name → base URL of the providers that Pilothouse itself runs."""
        return self.run / "providers.json"

    @property
    def control(self) -> Path:
        """Where control answers, and the token that its callers show."""
        return self.run / "control.json"

    @property
    def supervisor(self) -> Path:
        """The supervisor's own account of its processes."""
        return self.run / "supervisor.json"

    def make(self) -> None:
        """Make the directories; those with secrets or sockets are the owner's alone."""
        try:
            for folder in (self.path, self.journal, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            for folder in (self.secret, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise StoreError(
                f"cannot make the data directory: {error.strerror}",
                where=str(self.path),
                hint="give another with --data, or PILOTHOUSE_DATA",
            ) from error


class ControlAddress(msgspec.Struct, frozen=True):
    """What `run/control.json` holds: callers on this machine reach control with it."""

    url: str
    token: str
    pid: int


class ChildState(msgspec.Struct):
    """One supervised process as `run/supervisor.json` tells it."""

    name: str
    pid: int | None = None
    restarts: int = 0
    last_exit: str = ""
    started_us: int = 0


class SupervisorState(msgspec.Struct):
    """What `run/supervisor.json` holds."""

    pid: int
    workers: list[str]
    gateway: str
    otlp: str
    children: list[ChildState] = []


def write_private(path: Path, content: object) -> None:
    """Replace `path` by `content` as JSON, whole and with mode 0600."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(msgspec.json.encode(content))
    fresh.replace(path)


def control_address(data: DataDir) -> ControlAddress | None:
    """Where control answers, or None where none runs: a file left by a killed one does not count."""
    try:
        address = msgspec.json.decode(data.control.read_bytes(), type=ControlAddress)
    except (OSError, msgspec.DecodeError):
        return None
    return address if _alive(address.pid) else None


def supervisor_state(data: DataDir) -> SupervisorState | None:
    """The supervisor's account, or None where none runs."""
    try:
        state = msgspec.json.decode(data.supervisor.read_bytes(), type=SupervisorState)
    except (OSError, msgspec.DecodeError):
        return None
    return state if _alive(state.pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
