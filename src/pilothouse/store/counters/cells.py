"""The arithmetic of counters over a table of numbers, whether it lies in this process or in a file.

A table of fixed slots, open addressing by a hash of the counter's name. A slot is 16 words of 8 bytes:

    0 tag, 1 more of it · 2 requests, 3 tokens, 4 live, 5 held, 6 seconds per token · 7 hour, 10 day, 13 month,
    each of these three: end of the period, USD spent in it, thresholds announced

A slot in which nothing is held and every time is past counts nothing, and is taken for another counter when one is
needed. Times are seconds since EPOCH_S.
"""

import mmap
import struct
from collections.abc import Sequence

from pilothouse.domain.clock import Clock
from pilothouse.store.counters.bounds import (
    EPOCH_S,
    FREED,
    SLACK,
    TRACE_S,
    Bounds,
    Counter,
    Notice,
    Pair,
    Purse,
    Refusal,
    Use,
    Verdict,
    period_end,
)

SLOTS = 1 << 17
PROBE = 32  # slots that are looked at for one counter
SLOT = 128  # bytes
HEAD = 4096  # bytes before the first slot; their first word is no counter's tag
BYTES = HEAD + SLOTS * SLOT
FAR_S = 100 * 365 * 86400.0  # no sound time lies so far ahead
PURSES = 56  # bytes from a slot's begin to its purses, 24 each
_read = struct.Struct("<Q8x4d8x9d").unpack_from  # tag, requests, tokens, live, held, 3 × (end, spent, announced)
_read_rates = struct.Struct("<Q8x4d").unpack_from  # the same without the purses
_read_purse = struct.Struct("<3d").unpack_from
_tags = struct.Struct("<2Q").unpack_from
_put_tag = struct.Struct("<Q").pack_into
_put5 = struct.Struct("<5d").pack_into  # requests, tokens, live, held, seconds per token: 16 bytes into a slot
_put4 = struct.Struct("<4d").pack_into  # the same without the last
_put3 = struct.Struct("<3d").pack_into  # tokens, live, held: 24 bytes into a slot
_put = struct.Struct("<d").pack_into
_put_purse = struct.Struct("<3d").pack_into
_put_slot = struct.Struct("<Q14d").pack_into  # all but the first tag: 8 bytes into a slot


Row = tuple[float, ...]


class Cells:
    """Counts in `memory`. Not for several threads or processes at once: that is shared.py's to see to."""

    def __init__(self, memory: mmap.mmap, clock: Clock) -> None:
        self.memory = memory
        self.full = 0  # times that a counter found no slot, and was not counted
        self.damaged = 0  # slots whose numbers made no sense
        self._now_s = clock.now_s

    # --- the two operations

    def take(self, asked: Sequence[Pair], tokens: float, usd: float) -> Verdict | None:
        """Count a request with all its counters, or with none; None: with all."""
        now = self._now_s() - EPOCH_S
        memory = self.memory
        for pair in asked:
            counter, bounds = pair
            at = counter.base
            tag, requests, arrival, live, held = _read_rates(memory, at)
            if tag != counter.tag:
                at = self.find(counter, now)
                tag, requests, arrival, live, held = _read_rates(memory, at)
            token_s = bounds.token_s
            requests = (requests if requests > now else now) + bounds.request_s  # noqa: FURB136 - `max` is slower
            arrival = (arrival if arrival > now else now) + tokens * token_s  # noqa: FURB136
            if (
                requests > now + bounds.request_burst_s
                or arrival > now + bounds.token_burst_s
                or live >= bounds.concurrency
                or (bounds.purses and _over(memory, at, held, bounds.purses, now, usd))
                or not at
            ):
                return self._take_rest(asked, asked.index(pair), now, tokens, usd)
            _put5(memory, at + 16, requests, arrival, live + 1.0, held + usd, token_s)
        return None

    def settle(self, taken: Sequence[Pair], use: Use) -> list[Notice]:
        """Give back what was held and charge what was used; the thresholds that were reached by it."""
        now = self._now_s() - EPOCH_S
        memory = self.memory
        held_usd, more, usd = use.held_usd, use.tokens - use.held_tokens, use.usd
        notices: list[Notice] = []
        for pair in taken:
            counter, bounds = pair
            at = counter.base
            tag, _, arrival, live, held = _read_rates(memory, at)
            if tag != counter.tag:
                at = self.find(counter, now)
                if not at:
                    continue
                tag, _, arrival, live, held = _read_rates(memory, at)
            for purse in bounds.purses:  # first of all: a worker killed here has charged too much, never too little
                place = at + PURSES + 24 * purse.place
                end, spent, done = _read_purse(memory, place)
                spent += usd
                if now >= end or spent >= purse.marks[int(done)] or purse.rolling:
                    notices += self._turn(place, purse, now, pair, usd)
                else:
                    _put(memory, place + 8, spent)
            if more > 0.0 and arrival < now:
                arrival = now
            if live > 1.0:
                _put3(memory, at + 24, arrival + more * bounds.token_s, live - 1.0, held - held_usd)
            else:  # where nothing is held any more, nothing remains of rounding either
                _put3(memory, at + 24, arrival + more * bounds.token_s, 0.0, 0.0)
        return notices

    def _turn(self, place: int, purse: Purse, now: float, pair: Pair, usd: float) -> list[Notice]:
        """Charge where a period begins, or a threshold is reached: only the highest is announced, and only once."""
        end, spent, done = _read_purse(self.memory, place)
        if now >= end:
            end, spent, done = period_end(purse.period, now), 0.0, 0.0
        if purse.rolling:
            end = now + TRACE_S
        spent += usd
        level = int(done)
        while spent >= purse.marks[level]:
            level += 1
        _put_purse(self.memory, place, end, spent, float(level))
        if level == done:
            return []
        return [Notice(pair[0].name, pair[1].name, purse.period, purse.shares[level - 1], purse.usd, spent)]

    # --- refusals

    def _take_rest(self, asked: Sequence[Pair], n: int, now: float, tokens: float, usd: float) -> Verdict:
        """Go on after the first `n` counters where one refuses, in shadow perhaps, or has no slot."""
        verdict = Verdict()
        taken = list(asked[:n])
        for pair in asked[n:]:
            counter, bounds = pair
            at = self.find(counter, now)
            if not at:
                self.full += 1
                continue
            refusal = _refusal(self.memory, at, pair, now, tokens, usd)
            if refusal is None:
                self._count(at, bounds, now, tokens, usd)
                taken.append(pair)
            elif bounds.shadow:
                verdict.shadow.append(refusal)
            else:
                self._undo(taken, tokens, usd)
                return Verdict(refused=refusal, shadow=verdict.shadow)
        verdict.taken = taken
        return verdict

    def _count(self, at: int, bounds: Bounds, now: float, tokens: float, usd: float) -> None:
        _, requests, arrival, live, held, *_ = _read(self.memory, at)
        requests = max(requests, now) + bounds.request_s
        arrival = max(arrival, now) + tokens * bounds.token_s
        _put5(self.memory, at + 16, requests, arrival, live + 1.0, held + usd, bounds.token_s)

    def _undo(self, taken: Sequence[Pair], tokens: float, usd: float) -> None:
        for counter, bounds in taken:
            _, requests, arrival, live, held, *_ = _read(self.memory, counter.base)
            held = held - usd if live > 1.0 else 0.0
            arrival -= tokens * bounds.token_s
            _put4(self.memory, counter.base + 16, requests - bounds.request_s, arrival, live - 1.0, held)

    def spent(self, pair: Pair) -> float:
        """USD spent and held in the pair's first purse."""
        now = self._now_s() - EPOCH_S
        at = self.find(pair[0], now)
        if not at or not pair[1].purses:
            return 0.0
        row = _read(self.memory, at)
        return float(row[4] + _spent(row, pair[1].purses[0], now))

    # --- slots

    def find(self, counter: Counter, now: float) -> int:
        """Where the counter's slot begins; a new one where it has none, 0 where none is to be had."""
        free = 0
        for step in range(PROBE):
            at = HEAD + (counter.tag + step) % SLOTS * SLOT
            tag, tag2 = _tags(self.memory, at)
            if tag == counter.tag and tag2 == counter.tag2:
                counter.base = at
                self._check(at, now)
                return at
            if not free and (tag in (0, FREED) or self._stale(at, now)):
                free = at
            if not tag:
                break
        if not free or not self.allocate(free):
            return 0
        # In this order: killed at any point, a worker leaves a sound table.
        _put_tag(self.memory, free, FREED)
        _put_slot(self.memory, free + 8, counter.tag2, *_EMPTY)
        _put_tag(self.memory, free, counter.tag)
        counter.base = free
        return free

    def allocate(self, _at: int) -> bool:
        """Make sure that a slot can be written; whether it can."""
        return True

    def _stale(self, at: int, now: float) -> bool:
        """Whether a slot counts nothing any more."""
        _, requests, arrival, live, held, hour, _, _, day, _, _, month, _, _ = _read(self.memory, at)
        return bool(live == 0.0 and held == 0.0 and max(requests, arrival, hour, day, month) <= now)

    def _check(self, at: int, now: float) -> None:
        """Empty a slot whose numbers cannot be: a damaged file must not shut a key out for good."""
        _, requests, arrival, live, held, hour, a, _, day, b, _, month, c, _ = row = _read(self.memory, at)
        sound = all(-1.0 <= x < 1e12 for x in (live, held, a, b, c)) and all(0.0 <= x <= 99.0 for x in row[7::3])
        if not sound or not all(x < now + FAR_S for x in (requests, arrival, hour, day, month)):
            self.damaged += 1
            _put_slot(self.memory, at + 8, _tags(self.memory, at)[1], *_EMPTY)


_EMPTY = (0.0,) * 14


def _spent(row: Row, purse: Purse, now: float) -> float:
    """USD spent in the present period."""
    first = 5 + 3 * purse.place
    return row[first + 1] if now < row[first] else 0.0


def _over(memory: mmap.mmap, at: int, held: float, purses: tuple[Purse, ...], now: float, usd: float) -> bool:
    """Whether a purse of the slot has too little left for `usd`, beside the `held` that others have reserved."""
    for purse in purses:
        end, spent, _ = _read_purse(memory, at + PURSES + 24 * purse.place)
        most, spent = purse.usd, (held + spent if now < end else held)
        if spent + usd > most + SLACK or spent >= most:
            return True
    return False


def _refusal(memory: mmap.mmap, at: int, pair: Pair, now: float, tokens: float, usd: float) -> Refusal | None:
    """Why the counter does not admit the request, with the time until it would were nothing else to come."""
    row, bounds = _read(memory, at), pair[1]
    late = max(row[1], now) + bounds.request_s - now - bounds.request_burst_s
    if late > 0.0:
        return Refusal(pair, "requests", late)
    seconds = tokens * bounds.token_s
    late = max(row[2], now) + seconds - now - bounds.token_burst_s
    if late > 0.0:
        never = seconds > bounds.token_burst_s
        return Refusal(pair, "tokens", None if never else late, never=never)
    if row[3] >= bounds.concurrency:
        return Refusal(pair, "concurrency", None)
    for purse in bounds.purses:
        if not _over(memory, at, row[4], (purse,), now, usd):
            continue
        spent = _spent(row, purse, now)
        never = usd > purse.usd + SLACK or purse.usd <= 0.0
        wait: float | None = None
        if spent + usd > purse.usd + SLACK or spent >= purse.usd:  # even when all that is under way costs nothing
            never = never or purse.rolling
            wait = None if never else row[5 + 3 * purse.place] - now
        left = max(0.0, purse.usd - row[4] - spent)
        return Refusal(pair, "spend", wait, never=never, period=purse.period, left_usd=left)
    return None
