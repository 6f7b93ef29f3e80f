"""A loader whose disk takes no more in the middle of a load, and then does again."""

import subprocess
import sys
from pathlib import Path

_LOADS = """
import resource, signal, sys
from pathlib import Path
from pilothouse.domain.clock import SystemClock
from pilothouse.domain.errors import StoreError
from pilothouse.store.telemetry import TelemetryStore
from pilothouse.telemetry.loader import Loader
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = TelemetryStore(Path(sys.argv[2]))
loader = Loader(Path(sys.argv[1]), store, SystemClock())
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
for size in (*map(int, sys.argv[3:]), most):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        loader.load_once()
        print("loaded")
    except StoreError:
        print("failed", len(list((Path(sys.argv[2]).parent / "payloads").glob("*"))))
store.close()
"""


def loads(journal: Path, store: Path, *sizes: int) -> list[str]:
    """One load for each size (bytes) that a file may have, and one without a bound: `loaded`, or `failed` and how many
    payload files there are."""
    command = [sys.executable, "-c", _LOADS, str(journal), str(store), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
