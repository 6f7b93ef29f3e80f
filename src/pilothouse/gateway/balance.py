"""Where calls go: the targets of a worker with their recent latency and load, and the choice between deployments."""

import random
from collections import deque
from collections.abc import Sequence

import msgspec

from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Balance, Deployment
from pilothouse.gateway.breaker import Circuit

WEIGHT = 0.3  # of the newest latency in the average
RECENT = 128  # latencies that quantiles are taken from
LEAST = 20  # fewer say nothing about a quantile
ANEW = 16  # a quantile is computed again after so many


class Recent:
    """The newest latencies of one kind, and a quantile of them."""

    __slots__ = ("_age", "_at", "_seen", "_value")

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=RECENT)
        self._at = -1.0
        self._value: float | None = None
        self._age = 0

    def add(self, value: float) -> None:
        """One more."""
        self._seen.append(value)
        self._age += 1

    def quantile(self, at: float) -> float | None:
        """The value that the share `at` (0 … 1) of them does not exceed; None below LEAST of them."""
        if len(self._seen) < LEAST:
            return None
        if self._value is None or self._at != at or self._age >= ANEW:
            ordered = sorted(self._seen)
            self._value = ordered[min(int(at * len(ordered)), len(ordered) - 1)]
            self._at, self._age = at, 0
        return self._value


class Target(msgspec.Struct):
    """A (provider, model, key) as this worker knows it."""

    model: ModelRef
    circuit: Circuit
    pending: int = 0  # calls under way
    latency: float | None = None  # moving average in seconds: to a stream's first token, or to a whole answer
    streams: Recent = msgspec.field(default_factory=Recent)
    wholes: Recent = msgspec.field(default_factory=Recent)

    def answered(self, seconds: float, *, stream: bool) -> None:
        """A usable answer took so long."""
        (self.streams if stream else self.wholes).add(seconds)
        average = self.latency
        self.latency = seconds if average is None else average + WEIGHT * (seconds - average)

    def failed(self, seconds: float) -> None:
        """A target that fails fast must not look fast: it counts as twice as slow as it was."""
        average = self.latency
        self.latency = seconds if average is None else average + WEIGHT * (max(seconds, 2 * average) - average)

    @property
    def load(self) -> float:
        """Recent latency times calls pending, one more included: less is better. An unknown target is tried first."""
        return (self.latency or 0.0) * (self.pending + 1)


def choose(balance: Balance, open_to: Sequence[tuple[Deployment, Target]], rng: random.Random) -> Target:
    """One of the deployments: by weight, or the less loaded of two drawn by weight (Mitzenmacher 2001)."""
    if len(open_to) == 1:
        return open_to[0][1]
    weights = [one.weight for one, _ in open_to]
    if not any(weights):
        weights = [1.0] * len(open_to)
    first = rng.choices(range(len(open_to)), weights)[0]
    if balance.by == "weight":
        return open_to[first][1]
    weights[first] = 0.0
    rest = weights if any(weights) else [float(i != first) for i in range(len(open_to))]
    second = rng.choices(range(len(open_to)), rest)[0]
    a, b = open_to[first][1], open_to[second][1]
    return b if b.load < a.load else a
