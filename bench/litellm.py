"""LiteLLM's proxy, tuned as its documentation says, in an environment of its own: bare, and with the nearest that it
offers without a database to what Pilothouse does for each request (limits and a budget that are enforced, a record in
a file, redacted by its own content filter)."""

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
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{upstream}/v1", api_key: sk-fake{limits}}}
litellm_settings: {{num_retries: 0, request_timeout: 30, telemetry: false, drop_params: true{callbacks}}}
general_settings: {{master_key: {key}}}
"""
LIMITS = ", rpm: 60000000, tpm: 60000000000"
CALLBACKS = ", callbacks: record.writer"
ROUTER = """\
router_settings:
  optional_pre_call_checks: ["enforce_model_rate_limits"]
  provider_budget_config: {openai: {budget_limit: 1000000000, time_period: 1d}}
"""
PATTERNS = ("email", "us_phone", "us_ssn", "credit_card", "iban", "ipv4", "aws_access_key", "aws_secret_key",
            "github_token", "slack_token", "generic_api_key")  # fmt: skip
REDACTION = """\
guardrails:
  - guardrail_name: redaction
    litellm_params:
      guardrail: litellm_content_filter
      mode: [pre_call, post_call]
      default_on: true
      patterns:
""" + "".join(f"        - {{pattern_type: prebuilt, pattern_name: {name}, action: MASK}}\n" for name in PATTERNS)
RECORD = """\
import json
from litellm.integrations.custom_logger import CustomLogger

class Writer(CustomLogger):
    def __init__(self):
        super().__init__()
        self.file = open(__file__ + ".jsonl", "ab", buffering=0)

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.file.write(json.dumps(kwargs["standard_logging_object"], default=str).encode() + b"\\n")

writer = Writer()
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
def proxy(upstream: str, *, same_work: bool = False) -> Iterator[Target]:
    """One worker of LiteLLM's proxy in front of `upstream`. `same_work`: limits, a budget, redaction, a record."""
    command, port = installed(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        limits, callbacks, more = (LIMITS, CALLBACKS, ROUTER + REDACTION) if same_work else ("", "", "")
        config.write_text(CONFIG.format(upstream=upstream, key=KEY, limits=limits, callbacks=callbacks) + more)
        (config.parent / "record.py").write_text(RECORD)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
        process = subprocess.Popen(
            [command, "--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(port, 120)
            name = f"LiteLLM {VERSION}" + ", same work" * same_work
            yield Target(name, f"http://127.0.0.1:{port}", KEY, "bench", (process.pid,))
        finally:
            process.terminate()
            process.wait(timeout=20)
