"""LiteLLM's proxy, tuned as its documentation says, in an environment of its own."""

import contextlib
import os
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from bench.load import Target, free_port, wait_for

VERSION = "1.106.2"
KEY = "sk-bench-9f8e7d6c5b4a39281706f5e4d3c2b1a0"
CONFIG = """\
model_list:
  - model_name: bench
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{upstream}/v1", api_key: sk-fake}}
litellm_settings: {{num_retries: 0, request_timeout: 30, telemetry: false, drop_params: true}}
general_settings: {{master_key: {key}}}
"""


def installed() -> Path:
    """The environment's `litellm` command, installing it the first time."""
    home = Path.home() / ".cache" / "pilothouse-bench" / f"litellm-{VERSION}"
    command = home / "bin" / "litellm"
    if not command.exists():
        print(f"installing LiteLLM {VERSION} for comparison …", flush=True)
        venv.create(home, with_pip=True)
        packages = [f"litellm[proxy]=={VERSION}", "opentelemetry-sdk", "httptools"]
        subprocess.run([home / "bin" / "pip", "install", "-qqq", *packages], check=True)
        subprocess.run([home / "bin" / "python", "-m", "compileall", "-q", home / "lib"], check=False)
    return command


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Target]:
    """One worker of LiteLLM's proxy in front of `upstream`."""
    command, port = installed(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.format(upstream=upstream, key=KEY))
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
        process = subprocess.Popen(
            [command, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(port, 120)
            yield Target("LiteLLM " + VERSION, f"http://127.0.0.1:{port}", KEY, "bench", (process.pid,))
        finally:
            process.terminate()
            process.wait(timeout=20)
