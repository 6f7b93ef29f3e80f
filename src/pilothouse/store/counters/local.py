"""Counters in this process alone: for tests, evals, and where a shared file cannot be had. Lost when it ends."""

import mmap
from collections.abc import Sequence

from pilothouse.domain.clock import Clock
from pilothouse.store.counters.bounds import Notice, Pair, Use, Verdict
from pilothouse.store.counters.cells import BYTES, Cells


class LocalCounters:
    """Exact within one process. The table is sparse: memory is used for the counters that there are."""

    def __init__(self, clock: Clock) -> None:
        self._cells = Cells(mmap.mmap(-1, BYTES), clock)

    async def take(self, asked: Sequence[Pair], tokens: float, usd: float) -> int | Verdict:
        """See Counters."""
        return self._cells.take(asked, tokens, usd) or 0

    def settle(self, _ticket: int, taken: Sequence[Pair], use: Use, _backup: bool = False) -> list[Notice]:
        """See Counters."""
        return self._cells.settle(taken, use)

    def spent(self, pair: Pair) -> float:
        """See Counters."""
        return self._cells.spent(pair)

    def gauges(self) -> dict[str, tuple[str, float]]:
        """See Counters."""
        return {"pilothouse_counters_full": (FULL, float(self._cells.full))}

    async def close(self) -> None:
        """Nothing outlives the process."""


FULL = "Times that a counter found no room in the table, and was not counted"
