"""Whether a worker has its hands full, and with that when its small writes leave."""

import time
from collections.abc import Callable

BUSY = 0.6  # of a core


class Pace:
    """While `busy`, what a worker writes in one turn of its event loop leaves together, at the turn's end.

    Each write to a peer that sleeps has the kernel wake it, which costs more than the write; written to in a row, most
    are awake. A worker that has time writes at once: nobody waits there for the work of others.
    """

    def __init__(self, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self.busy = False
        self._cpu_s = cpu_s
        self._at = self._used = 0.0  # when it was looked last, and the CPU time until then

    def look(self, now: float) -> None:
        """See how busy it was since the last look; from the loop's own thread, every second or so."""
        passed, self._at = now - self._at, now
        before, self._used = self._used, self._cpu_s()
        self.busy = self._used - before >= BUSY * passed
