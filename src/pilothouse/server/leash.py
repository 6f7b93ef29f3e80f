"""`python -m pilothouse.server.leash PARENT MODULE ARGS…`: run MODULE, and end it when its supervisor ends.

The kernel sends SIGTERM to this process when its parent dies, however it dies (prctl PR_SET_PDEATHSIG), so that a
killed supervisor leaves no worker behind on the port.
"""

import ctypes
import os
import runpy
import signal
import sys

from pilothouse.server import logs

_PR_SET_PDEATHSIG = 1


def hold(parent: int) -> None:
    """Ask for SIGTERM at the parent's death; ends at once where it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit(143)


def main() -> None:
    """Hold on to the parent, log as all our processes do, then become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    hold(parent)
    logs.configure()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
