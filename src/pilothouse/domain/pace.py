"""Whether a worker has its hands full, and with that when its small writes leave."""

import time
from collections.abc import Callable
from pathlib import Path

BUSY = 0.6  # of the time
_SCHEDULED = Path("/proc/thread-self/schedstat")  # ns on a processor, ns that it waited for one, and how often


def occupied_s() -> float:
    """Seconds that this thread had work: ran or, where that is told, waited for a processor that others had."""
    try:
        ran, waited, _ = _SCHEDULED.read_bytes().split()
        return (int(ran) + int(waited)) / 1e9
    except (OSError, ValueError):
        return time.thread_time()


class Pace:
    """While `busy`, what a worker writes in one turn of its event loop leaves together, at the turn's end.

    Each write to a peer that sleeps has the kernel wake it, which costs more than the write; written to in a row, most
    are awake. A worker that has time writes at once: nobody waits there for the work of others.
    """

    def __init__(self, occupied: Callable[[], float] = occupied_s) -> None:
        self.busy = False
        self._occupied = occupied
        self._at = self._had = 0.0  # when it was looked last, and the seconds with work until then

    def look(self, now: float) -> None:
        """See how busy it was since the last look; from the loop's own thread, every second or so."""
        passed, self._at = now - self._at, now
        before, self._had = self._had, self._occupied()
        self.busy = self._had - before >= BUSY * passed
