"""TensorZero's gateway (Rust), as its Python wheel serves it, in an environment of its own."""

import contextlib
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from bench.load import Target

VERSION = "2026.6.0"
CONFIG = """\
[gateway]
observability.enabled = false

[models."bench"]
routing = ["openai"]
[models."bench".providers.openai]
type = "openai"
model_name = "gpt-4o-mini"
api_base = "{upstream}/v1/"
api_key_location = "none"
"""
# The wheel holds the whole gateway; this is the door its own tests use.
SERVE = """\
import sys, time
from tensorzero import tensorzero as rust
gateway = rust._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
open(sys.argv[2] + ".new", "w").write(gateway.base_url)
import os
os.replace(sys.argv[2] + ".new", sys.argv[2])
time.sleep(36000)
"""


def installed() -> Path:
    """The environment's Python, installing the wheel the first time."""
    home = Path.home() / ".cache" / "pilothouse-bench" / f"tensorzero-{VERSION}"
    python = home / "bin" / "python"
    if not (home / "done").exists():
        print(f"installing TensorZero {VERSION} for comparison …", flush=True)
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin" / "pip", "install", "-qqq", f"tensorzero=={VERSION}"], check=True)
        (home / "done").touch()
    return python


@contextlib.contextmanager
def gateway(upstream: str) -> Iterator[Target]:
    """The gateway in front of `upstream`: no keys, no limits, no record."""
    with tempfile.TemporaryDirectory() as folder:
        config, address = Path(folder) / "tensorzero.toml", Path(folder) / "address"
        config.write_text(CONFIG.format(upstream=upstream))
        process = subprocess.Popen(
            [installed(), "-c", SERVE, config, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 60
            while not address.exists():
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("TensorZero did not start")
                time.sleep(0.05)
            base = address.read_text().rstrip("/").removesuffix("/v1")
            yield Target(f"TensorZero {VERSION}", base, "none", "tensorzero::model_name::bench", (process.pid,))
        finally:
            process.terminate()
            process.wait(timeout=20)
