"""Phoenix and MLflow as OTLP receivers, each in an environment of its own, with its default store."""

import contextlib
import os
import sqlite3
import subprocess
import tempfile
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.load import free_port, wait_for

PHOENIX, MLFLOW = "20.26.1", "3.17.0"


@dataclass(frozen=True)
class Observer:
    """A running receiver: where spans go, how many its store has, whose CPU counts, what lies on its disk."""

    name: str
    url: str
    stored: Callable[[], int]
    pids: Callable[[], tuple[int, ...]]
    disk: Callable[[], int]
    headers: dict[str, str] = field(default_factory=dict)


def installed(package: str, version: str) -> Path:
    """The environment's `bin`, installing the package the first time."""
    home = Path.home() / ".cache" / "pilothouse-bench" / f"{package.removeprefix('arize-')}-{version}"
    if not list((home / "lib").glob(f"*/site-packages/{package.replace('-', '_')}-*")):
        print(f"installing {package} {version} for comparison …", flush=True)
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "pip", "install", "-qqq", f"{package}=={version}"], check=True)
    return home / "bin"


def _count(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as read:
        return int(read.execute("SELECT count(*) FROM spans").fetchone()[0])


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextlib.contextmanager
def _server(command: list[str], port: int, folder: Path, environment: dict[str, str]) -> Iterator[psutil.Process]:
    process = subprocess.Popen(
        command, cwd=folder, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, 120)
        yield psutil.Process(process.pid)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait(timeout=30)


def _tree(root: psutil.Process) -> tuple[int, ...]:
    return (root.pid, *(child.pid for child in root.children(recursive=True)))


@contextlib.contextmanager
def phoenix() -> Iterator[Observer]:
    """Phoenix on its SQLite."""
    command, port = installed("arize-phoenix", PHOENIX) / "phoenix", free_port()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        environment = {
            "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_WORKING_DIR": made, "PHOENIX_TELEMETRY_ENABLED": "false",
        }  # fmt: skip
        with _server([str(command), "serve"], port, folder, environment) as root:
            yield Observer(
                f"Phoenix {PHOENIX}", f"http://127.0.0.1:{port}/v1/traces",
                lambda: _count(folder / "phoenix.db"), lambda: _tree(root), lambda: _size(folder),
            )  # fmt: skip


@contextlib.contextmanager
def mlflow() -> Iterator[Observer]:
    """MLflow's tracking server with one worker, on SQLite."""
    command, port = installed("mlflow", MLFLOW) / "mlflow", free_port()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        line = [
            str(command), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        ]  # fmt: skip
        with _server(line, port, folder, {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}) as root:
            yield Observer(
                f"MLflow {MLFLOW}", f"http://127.0.0.1:{port}/v1/traces",
                lambda: _count(folder / "mlflow.db"), lambda: _tree(root), lambda: _size(folder),
                {"x-mlflow-experiment-id": "0"},
            )  # fmt: skip
