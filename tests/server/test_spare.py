"""The process that stands by for control, at the moment of its fork."""

import subprocess
import sys

FORKED = """
import os, signal
from pilothouse.server import control, spare

real = os.fork

def fork():
    pid = real()
    if not pid:
        os.kill(os.getpid(), signal.SIGTERM)  # the fork is asked to end before its first line
    return pid

os.fork = fork
control.main = lambda: os._exit(7)  # it was not heard
stood = spare._Spare()
signal.signal(signal.SIGTERM, stood.stop)
status = stood.live()
raise SystemExit(0 if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM else 1)
"""


def test_a_fork_that_is_asked_to_end_at_once_ends() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
