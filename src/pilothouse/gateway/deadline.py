"""Time: when a request must be answered, and an alarm that ends a wait.

    total       policy.timeout.total, or less where the client says how long it waits: its own time less MARGIN_S
    begun by    the total, or for a stream the time after which the client gives up waiting for its first byte

A client says it in `x-pilothouse-timeout`, `request-timeout` or `grpc-timeout`, which bound the whole answer, or as the
OpenAI and Anthropic SDKs do in `x-stainless-read-timeout` (Python) or `x-stainless-timeout` (others), which bound the
wait for the first byte: of a whole answer that is all of it.
"""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from types import TracebackType

from pilothouse.domain.policy import Timeouts

MARGIN_S = 0.05  # of the client's time is left for the way back
LONGEST_S = 86_400.0
_KEPT = 256  # alarms that are over and not yet forgotten, at least
_WHOLE = ("x-pilothouse-timeout", "request-timeout", "grpc-timeout")
_FIRST = ("x-stainless-read-timeout", "x-stainless-timeout")
_UNITS = {"ms": 1e-3, "us": 1e-6, "s": 1.0, "m": 60.0, "h": 3600.0}
_GRPC = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}  # gRPC over HTTP/2, “Timeout”

Header = Callable[[str], str | None]


class Alarm:
    """Ends what its `with` block awaits at a time of the event loop's clock: TimeoutError.

    What asyncio.timeout does, without its two coroutines and its timer: this is on the path of every request. So is
    `loop` given: until Python 3.12 each question for the running one costs a system call.
    """

    __slots__ = ("_before", "_bell", "_rang", "_task")

    def __init__(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        if task is None:
            raise AssertionError("an alarm wakes a task")
        self._task: asyncio.Task[object] | None = task
        self._before = task.cancelling()
        self._rang = False
        self._bell = _bells.get(loop) or _bell(loop)
        self._bell.add(when, self)

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._task is None

    def ring(self) -> None:
        """End the wait now."""
        if self._task is not None and not self._rang:
            self._rang = True
            self._task.cancel()

    def __enter__(self) -> "Alarm":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._rang and task is not None and task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error


class _Bell:
    """Rings the alarms of one event loop, with one timer for all. Nearly every alarm is over long before its time: a
    timer of its own would cost each three times as much as its place in this heap."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._alarms: list[tuple[float, int, Alarm]] = []  # a heap, those that are over among them
        self._most = _KEPT  # from which length on these are taken out
        self._numbers = itertools.count()  # alarms cannot be compared
        self._next = math.inf  # when the timer rings
        self._timer: asyncio.TimerHandle | None = None

    def add(self, when: float, alarm: Alarm) -> None:
        """Ring `alarm` then, if it is not over."""
        alarms = self._alarms
        if len(alarms) >= self._most:
            alarms[:] = [one for one in alarms if not one[2].over]
            heapq.heapify(alarms)
            self._most = 2 * len(alarms) + _KEPT
        heapq.heappush(alarms, (when, next(self._numbers), alarm))
        if when < self._next:
            self._wait(when)

    def _wait(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        alarms, now = self._alarms, self._next
        while alarms and (alarms[0][0] <= now or alarms[0][2].over):
            heapq.heappop(alarms)[2].ring()
        self._next, self._timer = math.inf, None
        if alarms:
            self._wait(alarms[0][0])


def _bell(loop: asyncio.AbstractEventLoop) -> _Bell:
    """The loop's bell, a new one."""
    for closed in [old for old in _bells if old.is_closed()]:
        del _bells[closed]
    bell = _bells[loop] = _Bell(loop)
    return bell


_bells: dict[asyncio.AbstractEventLoop, _Bell] = {}


def within(timeouts: Timeouts, header: Header, now: float, *, stream: bool) -> tuple[float, float]:
    """When a request that has come at `now` must be answered, and by when it must have begun."""
    total = timeouts.total
    whole = _said(header, _WHOLE)
    if whole is not None:
        total = min(total, _less(whole))
    first = _said(header, _FIRST)
    if first is None:
        return now + total, now + total
    begun = min(total, _less(first))
    return (now + total, now + begun) if stream else (now + begun, now + begun)


def _less(seconds: float) -> float:
    return max(seconds - MARGIN_S, seconds / 2)


def _said(header: Header, names: tuple[str, ...]) -> float | None:
    """What the first of these headers that holds a time says, in seconds."""
    for name in names:
        text = header(name)
        if text is not None:
            said = grpc_seconds(text) if name == "grpc-timeout" else seconds(text)
            if said is not None:
                return said
    return None


def seconds(text: str) -> float | None:
    """`30`, `30s`, `1500ms`, `2m` → seconds; None where it is no time that can be kept."""
    number = text.strip().lower()
    unit = next((u for u in _UNITS if number.endswith(u)), "")
    return _sound(number.removesuffix(unit), _UNITS.get(unit, 1.0))


def grpc_seconds(text: str) -> float | None:
    """gRPC's own form: at most 8 digits and a unit, `250m` for 250 ms."""
    value = text.strip()
    if not 2 <= len(value) <= 9 or not value[:-1].isdigit():
        return None
    return _sound(value[:-1], _GRPC.get(value[-1], math.nan))


def _sound(number: str, unit: float) -> float | None:
    try:
        value = float(number) * unit
    except ValueError:
        return None
    return min(value, LONGEST_S) if value > 0.0 else None
