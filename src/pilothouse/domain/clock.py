"""The only place that reads the machine's clock, so that tests can freeze it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is recorded, monotonic time for what is measured."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00Z."""
        ...

    def now_s(self) -> float:
        """The same in seconds, for arithmetic."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clock."""

    now_s = staticmethod(time.time)  # the machine's own functions: a method around them takes twice their time
    monotonic = staticmethod(time.monotonic)

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00Z."""
        return time.time_ns() // 1_000


class FrozenClock:
    """A clock that moves only when told to; for tests and simulations."""

    def __init__(self, now_us: int = 1_750_000_000_000_000) -> None:
        self._now_us = now_us
        self._start_us = now_us

    def now_us(self) -> int:
        """Microseconds since 1970-01-01T00:00Z, as last set."""
        return self._now_us

    def now_s(self) -> float:
        """The same in seconds."""
        return self._now_us * 1e-6

    def monotonic(self) -> float:
        """Seconds that this clock was advanced by since it was made."""
        return (self._now_us - self._start_us) / 1_000_000

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now_us += int(seconds * 1_000_000)
