"""ClickHouse's engine as a process that answers over HTTP."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[3] / ".venv-chdb" / "bin" / "python"
SERVER = Path(__file__).parent / "chdb" / "server.py"


@contextmanager
def engine(folder: Path, port: int = 0, password: str = "") -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """Its port and its process, with what an earlier one left in the folder; ended at the end."""
    if not PYTHON.exists():
        pytest.skip("ClickHouse's engine is not installed here: make chdb")
    command = [PYTHON, SERVER, folder, str(port), password]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            if process.poll() is None:
                process.communicate()
