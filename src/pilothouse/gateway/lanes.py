"""Where requests wait for a limit: one lane for each counter that refused, so that nobody waits for another's limit.

In a lane, the one that came first goes first, where a request of a lower class counts as having come later: by
AGEING_S for each class. So high goes before standard and standard before lite, and nothing starves: after that time a
waiting request goes before every newcomer of the next higher class.
"""

import asyncio
import heapq
import itertools
from collections.abc import Sequence

from pilothouse.store.counters.bounds import Pair

AGEING_S = 2.0
CLASSES = ("high", "standard", "lite")
_WORDS = {"high": 0, "standard": 1, "normal": 1, "lite": 2, "low": 2}
_PACE_SHARE = 0.2  # weight of the newest interval in a lane's pace


def priority(tier: str, asked: str | None) -> int:
    """The class of a request, 0 the highest: its route's, or a lower one that the client asks for."""
    return max(_WORDS.get(tier, 1), _WORDS.get((asked or "").strip().lower(), 0))


class Waiter:
    """A request that waits. `since` on the event loop's clock."""

    __slots__ = ("_wake", "score", "since")

    def __init__(self, since: float, rank: int) -> None:
        self.since = since
        self.score = since + AGEING_S * rank
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """It may be its turn, or its counter may have room."""
        self._wake.set()

    async def pause(self, seconds: float) -> None:
        """Until woken, or for so long."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()


class Lane:
    """Who waits for one counter."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiter]] = []
        self._order = itertools.count()
        self._last: float | None = None
        self._pace: float | None = None

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> Waiter | None:
        """Whose turn it is."""
        return self._heap[0][2] if self._heap else None

    def join(self, waiter: Waiter) -> None:
        """Wait here."""
        heapq.heappush(self._heap, (waiter.score, next(self._order), waiter))

    def leave(self, waiter: Waiter) -> None:
        """Wait here no more; whose turn it is now is woken."""
        self._heap = [entry for entry in self._heap if entry[2] is not waiter]
        heapq.heapify(self._heap)
        self.wake()

    def wake(self) -> None:
        """There may be room."""
        if self._heap:
            self._heap[0][2].wake()

    def admitted(self, now: float) -> None:
        """One more went through: how quickly they do is what those that are refused are told."""
        if self._last is not None:
            step = now - self._last
            self._pace = step if self._pace is None else self._pace + _PACE_SHARE * (step - self._pace)
        self._last = now

    def expected_s(self, wait_s: float | None) -> float:
        """Seconds until one that came now would have its turn; `wait_s`: until the counter has room at all."""
        if self._pace is None:
            return wait_s if wait_s is not None else 1.0
        return max(wait_s or 0.0, (len(self._heap) + 1) * self._pace)

    def oldest(self) -> float | None:
        """When the one that waits longest began to."""
        return min((entry[2].since for entry in self._heap), default=None)


class Lanes:
    """The lanes of a worker."""

    def __init__(self) -> None:
        self.by_counter: dict[bytes, Lane] = {}  # only those in which somebody waits
        self._idle = Lane()
        self.waiting: dict[str, int] = {}  # route → requests

    def occupied(self, pairs: Sequence[Pair]) -> Pair | None:
        """The first of these counters that somebody waits for."""
        return next((pair for pair in pairs if pair[0].key in self.by_counter), None)

    def join(self, pair: Pair, waiter: Waiter) -> Lane:
        """Wait for this counter."""
        lane = self.by_counter.setdefault(pair[0].key, Lane())
        lane.join(waiter)
        return lane

    def leave(self, pair: Pair, waiter: Waiter) -> None:
        """Wait for it no more."""
        lane = self.by_counter[pair[0].key]
        lane.leave(waiter)
        if not lane:
            del self.by_counter[pair[0].key]

    def of(self, pair: Pair) -> Lane:
        """The counter's lane; an empty one where nobody waits."""
        return self.by_counter.get(pair[0].key, self._idle)

    def released(self, pairs: Sequence[Pair]) -> None:
        """These counters may have room."""
        for pair in pairs:
            lane = self.by_counter.get(pair[0].key)
            if lane is not None:
                lane.wake()

    def gauges(self, now: float) -> dict[str, tuple[str, float]]:
        """Depth, and age of the oldest."""
        ages = [now - since for lane in self.by_counter.values() if (since := lane.oldest()) is not None]
        return {
            "pilothouse_queue_depth": (
                "Requests that wait for a limit",
                float(sum(map(len, self.by_counter.values()))),
            ),
            "pilothouse_queue_oldest_seconds": ("How long the oldest of them has waited", max(ages, default=0.0)),
        }
