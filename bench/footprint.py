"""Import time, install size, memory at rest."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.load import mock, rss_mb
from bench.product import running

ROOT = Path(__file__).resolve().parent.parent


def table() -> str:
    """Markdown of the three."""
    core, local = _install_mb(""), _install_mb("[local]")
    with mock() as upstream, running(upstream) as product:
        time.sleep(5)  # what start-up allocated has been given back, and no request came
        rest = {name: rss_mb(list(product.pids(name))) for name in ("edge", "ingest", "control")}
        rest["supervisor"] = rss_mb([product.pid]) - sum(rest.values())
    rows = [
        "| what | figure |",
        "|---|---:|",
        f"| `import pilothouse`, median of 9 | {_import_ms('pilothouse'):.0f} ms |",
        f"| `pilothouse --help`, median of 5 | {_help_ms():.0f} ms |",
        f"| core install | {core:.0f} MB |",
        f"| with the extra `local` | {local:.0f} MB |",
        *(f"| memory at rest, {name} | {value:.0f} MB |" for name, value in rest.items()),
        f"| memory at rest, all | {sum(rest.values()):.0f} MB |",
    ]
    return "\n".join(rows)


def _import_ms(module: str) -> float:
    times = []
    for _ in range(9):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        with_import = time.perf_counter() - start
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        times.append(with_import - (time.perf_counter() - start))
    return max(0.0, statistics.median(times) * 1e3)


def _help_ms() -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([Path(sys.executable).parent / "pilothouse", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def _install_mb(extra: str) -> float:
    """The size of a fresh environment with the package, less an empty one, byte code apart."""
    with tempfile.TemporaryDirectory() as folder:
        uv = Path(sys.executable).parent / "uv"
        command = str(uv) if uv.exists() else "uv"
        subprocess.run([command, "venv", "-q", "-p", sys.executable, f"{folder}/v"], check=True)
        before = _size(Path(folder))
        subprocess.run([command, "pip", "install", "-q", "--python", f"{folder}/v", f"{ROOT}{extra}"], check=True)
        return _size(Path(folder)) - before


def _size(folder: Path) -> float:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and file.suffix != ".pyc")
    return sum(file.stat().st_size for file in files) / 1e6
