"""Answers in the worker's own memory: the least recently used go first when there is no more room."""

from collections import OrderedDict

from pilothouse.domain.clock import Clock

LIMIT = 64 << 20  # bytes per worker
_OVERHEAD = 250  # bytes of Python around each entry, measured with tracemalloc
_SHARE = 8  # one entry takes at most an eighth of the room


class Memory:
    """At most `limit` bytes, keys and overhead included."""

    def __init__(self, clock: Clock, limit: int = LIMIT) -> None:
        self._clock = clock
        self._limit = limit
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()  # key → until (Clock.monotonic), data
        self.size = 0  # bytes

    async def get(self, key: str) -> bytes | None:
        """What is kept under `key`, unless its time is up."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[0] <= self._clock.monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found[1]

    async def put(self, key: str, data: bytes, keep_s: float) -> None:
        """Keep `data` for `keep_s` seconds; data that would push out too much else is not kept."""
        if key in self._kept:
            self._drop(key)
        size = _size(key, data)
        if size > self._limit // _SHARE:
            return
        self._kept[key] = (self._clock.monotonic() + keep_s, data)
        self.size += size
        while self.size > self._limit:
            self._drop(next(iter(self._kept)))

    async def close(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.size = 0

    def _drop(self, key: str) -> None:
        self.size -= _size(key, self._kept.pop(key)[1])


def _size(key: str, data: bytes) -> int:
    return len(key) + len(data) + _OVERHEAD
