"""A PostgreSQL server of the machine's own programs, on a free port, as a user who is not root."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from pilothouse.server.preflight import free_port
from pilothouse.store.state.engine import StateStore
from pilothouse.store.state.postgres import Server

PASSWORD = "a password of the tests"
# Nothing of a test outlives its server, so that nothing waits for a disk; a crash of the process alone loses nothing.
SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "100", "log_min_messages": "fatal"}


class Postgres:
    """`url` of a superuser's database `postgres`; `fresh` makes an empty database. `crash` and `start` it anew."""

    def __init__(self, addresses: Sequence[str] = ("127.0.0.1",)) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ph-pg-"))
        self.port = free_port(addresses[0])
        self._addresses = tuple(addresses)
        self._made = 0
        self._template: Server | None = None
        self._as_other = ["setpriv", "--pdeathsig=INT"]  # it ends with these tests, however they end
        if os.geteuid() == 0:  # its programs refuse to run as root
            other = pwd.getpwnam("postgres")
            os.chown(self.folder, other.pw_uid, other.pw_gid)
            self._as_other += ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        how = ["-U", "pilothouse", "--auth=scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync", "-N"]
        self._run("initdb", "-D", str(self.folder / "data"), *how)
        with (self.folder / "data" / "pg_hba.conf").open("a") as doors:
            doors.write("host all all all scram-sha-256\n")

    def _program(self, name: str) -> str:
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) or [Path(shutil.which(name) or "")]
        assert found[-1].name == name, f"there is no {name}: `make postgres` installs PostgreSQL"
        return str(found[-1])

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run(
            [*self._as_other, self._program(name), *words], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {**SETTINGS, "listen_addresses": ",".join(self._addresses), "port": self.port}
        settings["unix_socket_directories"] = str(self.folder)
        words = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*self._as_other, self._program("postgres"), "-D", str(self.folder / "data"), *words]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.address("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                said = (self.folder / "log").read_text()[-1000:]
                assert self.process.poll() is None and time.monotonic() < deadline, f"{error}\n{said}"
                time.sleep(0.01)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts every session off; SIGQUIT is as a crash, with recovery at the next start."""
        self.process.send_signal(how)
        self.process.wait(timeout=30)

    def remove(self) -> None:
        """End it for good."""
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def address(self, database: str) -> str:
        """What a client of the tests connects to."""
        password = PASSWORD.replace(" ", "%20")
        return f"postgresql://pilothouse:{password}@{self._addresses[0]}:{self.port}/{database}"

    def fresh(self, *, migrated: bool = False) -> Server:
        """A new database, as the product is told of it: empty, or at the newest schema."""
        if migrated and self._template is None:
            self._template = self._database("template0")
            StateStore(self._template).close()
        return self._database(self._template.url.rpartition("/")[2] if migrated and self._template else "template0")

    def _database(self, template: str) -> Server:
        self._made += 1
        name = f"test_{self._made}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return Server(url=f"postgresql://pilothouse@{self._addresses[0]}:{self.port}/{name}", password=PASSWORD)
