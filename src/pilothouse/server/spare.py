"""`python -m pilothouse.server.spare ARGS…`: a control that stands by, and is there again at once when it is killed.

Here everything is imported and nothing begun: no thread, no loop, no connection. The control is a fork of this process,
so the one after it needs none of the seconds of CPU that its imports take. One that ends by itself, or is killed as
soon as it runs, ends this process too, and the supervisor decides.
"""

import os
import signal
import sys
import time
from types import FrameType

import structlog

from pilothouse.domain.errors import PilothouseError
from pilothouse.server import control
from pilothouse.server.leash import hold
from pilothouse.store.state import postgres
from pilothouse.store.state.postgres import Server

log = structlog.get_logger("pilothouse.control")

LIVED_S = 0.5  # of a fork that is killed sooner, the reason is not outside
_TERM = (signal.SIGTERM,)


def main() -> None:
    """Fork, wait, fork again. SIGTERM is passed on, and then this ends as the control did."""
    _import_drivers()
    spare = _Spare()
    signal.signal(signal.SIGTERM, spare.stop)
    while True:
        began = time.monotonic()
        status = spare.live()
        killed = os.WIFSIGNALED(status)
        if spare.stopping or not killed or time.monotonic() - began < LIVED_S:
            raise SystemExit(128 + os.WTERMSIG(status) if killed else os.WEXITSTATUS(status))
        log.warning("a control that stood by was killed; the next is there", signal=os.WTERMSIG(status))


class _Spare:
    """The fork that runs now."""

    def __init__(self) -> None:
        self.stopping = False
        self._pid = 0

    def live(self) -> int:
        """One life of a control; how it ended."""
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, _TERM)  # one that comes between waits until somebody can take it
        self._pid = os.fork()
        if not self._pid:
            _begin(parent)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERM)
        if self.stopping:
            os.kill(self._pid, signal.SIGTERM)
        status = os.waitpid(self._pid, 0)[1]
        self._pid = 0  # the number may be another's soon
        return status

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Pass it on."""
        del number, frame
        self.stopping = True
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)


def _begin(parent: int) -> None:
    """The fork: it ends when its parent does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _TERM)
    try:
        hold(parent)
        control.main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)


def _import_drivers() -> None:
    """What is else imported when a store is opened; nothing is connected to."""
    try:
        postgres.engine(Server(url="postgresql://127.0.0.1/none")).dispose()
    except PilothouseError:
        log.warning("the extra `postgres` is missing")


if __name__ == "__main__":
    main()
