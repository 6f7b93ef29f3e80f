"""Circuit breakers: a (provider, model, key) that fails is left alone for a while, by all workers of this host.

    closed     calls are made. It opens after `failures` in a row, or when `share` of at least 10 calls within `window`
               failed
    open       no calls, for `cooldown` seconds and never less than the provider's Retry-After
    half-open  one call at a time is let through as a probe: its success closes, its failure opens again

The state lies in a file that the workers map into memory, so that what one learns all know at once. A target that has
not failed has no slot in it, and costs one look. Writes are made under the file's lock. A lock that cannot be had at
once is done without: a breaker that miscounts by one is worth less than a request that waits.
"""

import contextlib
import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from pilothouse.domain.clock import Clock
from pilothouse.domain.policy import Breaker

log = structlog.get_logger("pilothouse.gateway")

CLOSED, PROBE = -1.0, 0.0  # what `enter` answers beside a wait
LEAST_CALLS = 10.0
SLOTS = 4096
REACH = 64  # slots that are looked at for one target
WORDS = 12
BYTES = SLOTS * WORDS * 8
UNTIL, PROBED, ROW, BEGAN, CALLS, FAILED, CALLS_BEFORE, FAILED_BEFORE, OPENED, TOUCHED = range(1, 11)
FORGOTTEN_S = 3600.0  # a slot untouched for so long is another target's
FAR_S = 86_400.0  # no breaker is open for longer; more is a damaged file, or a clock that was set
RETRY_SOON_S = 1.0  # when to ask again while somebody else's probe is under way


class Circuit(msgspec.Struct):
    """One target as this worker knows it. `calls`, `before`: made in this half window and the one before, not told."""

    name: str
    tag: int
    home: int  # where its slot would be, in words, were no other there
    began: float = 0.0
    calls: float = 0.0
    before: float = 0.0


class Breakers:
    """The breakers of a worker. `path`: the file that the host's workers share; None: this worker's alone."""

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        self.now = clock.now_s  # of the clock that the host's workers share
        self._file = -1
        if path is not None:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                if os.fstat(self._file).st_size < BYTES:
                    os.ftruncate(self._file, BYTES)
            except OSError as error:  # a gateway that cannot share what it learns still serves
                log.warning("breakers are not shared with other workers", path=str(path), error=str(error))
                self._file = -1
        self._memory = mmap.mmap(self._file, BYTES)
        self._view = memoryview(self._memory)
        self._v = self._view.cast("d")
        self._q = self._view.cast("Q")
        self._circuits: dict[str, Circuit] = {}

    def close(self) -> None:
        """Let the file go."""
        for view in (self._v, self._q, self._view):
            view.release()
        self._memory.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def circuit(self, name: str) -> Circuit:
        """The target of that name."""
        found = self._circuits.get(name)
        if found is None:
            tag = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") or 1
            found = self._circuits[name] = Circuit(name, tag, tag % SLOTS * WORDS)
        return found

    def forget(self) -> None:
        """Forget what this worker counted for itself; what is open stays open."""
        self._circuits.clear()

    # --- before a call

    def enter(self, circuit: Circuit, rule: Breaker, lease_s: float) -> float:
        """CLOSED: call it. PROBE: call it, as the one that probes, for `lease_s` at most. More: seconds to wait."""
        wait = self.wait_s(circuit, rule)
        if wait != PROBE:
            return wait
        at, now = self._find(circuit.tag), self.now()
        with self._locked():
            if at < 0 or self._v[at + UNTIL] == 0.0:
                return CLOSED
            if self._v[at + PROBED] > now:
                return RETRY_SOON_S
            self._v[at + PROBED] = now + lease_s
        return PROBE

    def wait_s(self, circuit: Circuit, rule: Breaker) -> float:
        """What `enter` would answer, without entering."""
        if not rule.failures or not self._q[circuit.home]:  # nearly every target, which has not failed
            return CLOSED
        at = self._find(circuit.tag)
        if at < 0 or (until := self._v[at + UNTIL]) == 0.0:
            return CLOSED
        now = self.now()
        if now < until < now + FAR_S:
            return until - now
        probed = self._v[at + PROBED]
        return RETRY_SOON_S if now < probed < now + FAR_S else PROBE

    # --- after it

    def succeeded(self, circuit: Circuit, rule: Breaker, *, probe: bool = False) -> None:
        """The provider answered, whatever the answer was worth."""
        now, half = self.now(), rule.window / 2
        if not 0.0 <= now - circuit.began < half:
            _roll_own(circuit, now, half)
        circuit.calls += 1.0
        if not rule.failures or not self._q[circuit.home]:
            return
        at, v = self._find(circuit.tag), self._v
        if at < 0:
            return
        if v[at + UNTIL] == 0.0 and v[at + ROW] == 0.0 and v[at + FAILED] == 0.0 == v[at + FAILED_BEFORE]:
            return
        with self._locked():
            self._tell(at, circuit, now, rule)
            if v[at + UNTIL] == 0.0:
                v[at + ROW] = 0.0
            elif probe or now >= v[at + UNTIL]:
                self._clear(at, now)

    def begun(self, circuit: Circuit, rule: Breaker) -> None:
        """A probe's stream has begun: others may call, but the next failure, its own perhaps, opens again."""
        at = self._find(circuit.tag)
        if at >= 0:
            with self._locked():
                self._clear(at, self.now())
                self._v[at + ROW] = rule.failures - 1.0

    def failed(self, circuit: Circuit, rule: Breaker, retry_after_s: float | None = None, *, probe: bool) -> None:
        """The provider gave no usable answer, and that was its own doing."""
        if not rule.failures:
            return
        now, v = self.now(), self._v
        _roll_own(circuit, now, rule.window / 2)
        circuit.calls += 1.0
        with self._locked():
            at = self._find(circuit.tag, claim=True)
            if at < 0:
                return
            self._tell(at, circuit, now, rule)
            v[at + FAILED] += 1.0
            v[at + ROW] += 1.0
            v[at + TOUCHED] = now
            until = v[at + UNTIL]
            pause = now + min(max(rule.cooldown, retry_after_s or 0.0), FAR_S - 1.0)
            if until and not probe and now < until:
                v[at + UNTIL] = max(until, now + min(retry_after_s or 0.0, FAR_S - 1.0))
            elif until or self._too_many(at, rule):
                v[at + UNTIL], v[at + PROBED] = pause, 0.0
                v[at + OPENED] += 1.0

    def neither(self, circuit: Circuit, *, probe: bool) -> None:
        """A call that says nothing about the provider: it was given up here. The next one may probe."""
        at = self._find(circuit.tag) if probe else -1
        if at >= 0:
            with self._locked():
                self._v[at + PROBED] = 0.0

    # --- to look at

    def state(self, circuit: Circuit) -> str:
        """closed, open or half_open."""
        at = self._find(circuit.tag)
        until = self._v[at + UNTIL] if at >= 0 else 0.0
        return "closed" if until == 0.0 else ("open" if self.now() < until else "half_open")

    def lines(self) -> list[str]:
        """Prometheus' text: each target of this worker, and how often it was opened on this host."""
        out = ["# HELP pilothouse_breaker_state 0 closed, 1 half-open, 2 open", "# TYPE pilothouse_breaker_state gauge"]
        opened = [
            "# HELP pilothouse_breaker_opened_total Times that a breaker opened on this host",
            "# TYPE pilothouse_breaker_opened_total counter",
        ]
        for name, circuit in sorted(self._circuits.items()):
            label = name.rpartition(" ")[0].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            at = self._find(circuit.tag)
            if at >= 0:
                number = ("closed", "half_open", "open").index(self.state(circuit))
                out.append(f'pilothouse_breaker_state{{target="{label}"}} {number}')
                opened.append(f'pilothouse_breaker_opened_total{{target="{label}"}} {self._v[at + OPENED]:g}')
        return out + opened

    # --- slots

    def _find(self, tag: int, *, claim: bool = False) -> int:
        """Where the target's slot begins, in words; -1 where it has none."""
        q = self._q
        start, stale = tag % SLOTS, -1
        for step in range(REACH):
            at = (start + step) % SLOTS * WORDS
            found = q[at]
            if found == tag:
                return at
            if not found:
                return self._claim(at if stale < 0 else stale, tag) if claim else -1
            if claim and stale < 0 and self._v[at + TOUCHED] < self.now() - FORGOTTEN_S:
                stale = at
        return self._claim(stale, tag) if stale >= 0 else -1

    def _claim(self, at: int, tag: int) -> int:
        self._v[at + 1 : at + WORDS] = _ZEROS
        self._q[at] = tag
        return at

    def _clear(self, at: int, now: float) -> None:
        """Closed, and nothing is remembered but how often it was opened."""
        opened = self._v[at + OPENED]
        self._v[at + 1 : at + WORDS] = _ZEROS
        self._v[at + OPENED], self._v[at + TOUCHED], self._v[at + BEGAN] = opened, now, now

    def _tell(self, at: int, circuit: Circuit, now: float, rule: Breaker) -> None:
        """Put what this worker counted for itself beside what the others did."""
        v, half = self._v, rule.window / 2
        passed = now - v[at + BEGAN]
        if not 0.0 <= passed < 2 * half:
            v[at + CALLS] = v[at + FAILED] = v[at + CALLS_BEFORE] = v[at + FAILED_BEFORE] = 0.0
            v[at + BEGAN] = now
        elif passed >= half:
            v[at + CALLS_BEFORE], v[at + FAILED_BEFORE] = v[at + CALLS], v[at + FAILED]
            v[at + CALLS] = v[at + FAILED] = 0.0
            v[at + BEGAN] += half
        v[at + CALLS] += circuit.calls
        v[at + CALLS_BEFORE] += circuit.before
        circuit.calls = circuit.before = 0.0

    def _too_many(self, at: int, rule: Breaker) -> bool:
        v = self._v
        calls, failed = v[at + CALLS] + v[at + CALLS_BEFORE], v[at + FAILED] + v[at + FAILED_BEFORE]
        return v[at + ROW] >= rule.failures or (calls >= LEAST_CALLS and failed >= rule.share * calls)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        held = False
        if self._file >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
        try:
            yield
        finally:
            if held:
                fcntl.flock(self._file, fcntl.LOCK_UN)


def _roll_own(circuit: Circuit, now: float, half: float) -> None:
    passed = now - circuit.began
    if 0.0 <= passed < half:
        return
    circuit.before = circuit.calls if 0.0 <= passed < 2 * half else 0.0
    circuit.calls, circuit.began = 0.0, now


_ZEROS = memoryview(bytes(8 * (WORDS - 1))).cast("d")
