"""Counters in Valkey (or Redis 7): exact among the workers of any number of hosts. Extra `valkey`.

Each decision is one run of `valkey.lua`, on the server's clock. A worker holds a lease that it renews; what it held is
given back to the counters when the lease is over. Settlements go through a queue in the order they were made, each with
a number, so that one that had to be sent twice counts once.

When the server does not answer, `on_error` decides: `open` lets local counters take over until it does (what is spent
meanwhile is charged to Valkey afterwards), `closed` refuses.
"""

import asyncio
import collections
import contextlib
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog
from msgspec.structs import asdict

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import LimitExceeded, StoreError
from pilothouse.domain.tasks import Tasks
from pilothouse.store.counters.bounds import EPOCH_S, SLACK, TRACE_S, Bounds, Notice, Pair, Refusal, Use, Verdict
from pilothouse.store.counters.local import LocalCounters

log = structlog.get_logger("pilothouse.counters")

PREFIX = "pilothouse:{counters}:"  # one hash slot of a cluster
TIMEOUT_S = 0.25  # a decision that takes longer is made without the server
AGAIN_S = 1.0  # after a failure, how long nobody asks
LEASE_S = 15  # a worker that is silent for so long is gone
RENEW_S = 5.0
KEEP_S = 7200  # a counter outlives its last use by so long, for requests that are still under way
QUEUE = 100_000  # settlements that wait for the server
BATCH = 100
CONNECTIONS = 64
_HUGE = 1e300  # JSON has no infinity
_SCRIPT = Path(__file__).with_name("valkey.lua").read_text(encoding="utf-8")
_encode = msgspec.json.encode


class _Life:
    """One identity of this worker. A new one begins when nobody knows whether the server heard the last request."""

    def __init__(self) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.seq = 0
        self.open = 0  # requests admitted under it and not settled at the server

    @property
    def lease(self) -> str:
        """The key of its lease."""
        return f"{PREFIX}worker:{self.id}"


class _Settlement(msgspec.Struct, gc=False):
    life: _Life
    seq: int
    pairs: Sequence[Pair]
    ask: bytes


class ValkeyCounters:
    """One worker's connection. `url`: `valkey://`, `valkeys://`, `redis://`, `rediss://` or `unix://`."""

    def __init__(self, url: str, clock: Clock, on_error: Literal["open", "closed"] = "open") -> None:
        """Raises StoreError where the extra is not installed or the URL cannot be read; connects later."""
        try:
            import valkey.asyncio as client  # noqa: PLC0415  # optional extra
        except ImportError as error:
            raise StoreError(
                "Valkey needs an extra", where="counters", hint="pip install 'pilothouse[valkey]'"
            ) from error
        self._errors = (client.ValkeyError, OSError, TimeoutError)
        self._refused = client.ResponseError
        try:
            pool = client.BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
            )
        except ValueError as error:
            raise StoreError("the URL of the counters cannot be read", where="counters.url",
                             hint="write valkey://HOST:PORT/DB") from error  # fmt: skip
        self._client: Any = client.Valkey(connection_pool=pool)
        self._script: Any = self._client.register_script(_SCRIPT)
        self._clock = clock
        self._open = on_error == "open"
        self._local = LocalCounters(clock)
        self._life = _Life()
        self._lives = [self._life]
        self._queue: collections.deque[_Settlement] = collections.deque()
        self._wake = asyncio.Event()
        self._tasks = Tasks()
        self._tickets: dict[int, _Life] = {}
        self._number = 0
        self._notices: list[Notice] = []
        self._spent: dict[bytes, float] = {}
        self._down_until = 0.0
        self._down = False
        self._closed = False
        self.failures = 0
        self.lost = 0

    # --- Counters

    async def take(self, asked: Sequence[Pair], tokens: float, usd: float) -> int | Verdict:
        """See Counters; raises LimitExceeded where the server is away and `on_error` is `closed`."""
        if not len(self._tasks):
            self._tasks.spawn(self._send(), "counters")
        if self._clock.monotonic() < self._down_until:
            return await self._without(asked, tokens, usd)
        life = self._life
        asking = self._tasks.spawn(self._run(life, "take", 0, asked, _take(asked, tokens, usd)))
        try:
            reply = await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(lambda _: self._turn_over(life))  # nobody is left to settle it
            raise
        except self._errors as error:
            self._turn_over(life)
            self._failed(error)
            return await self._without(asked, tokens, usd)
        self._answered()
        return self._verdict(life, asked, reply)

    def settle(self, ticket: int, taken: Sequence[Pair], use: Use, backup: bool = False, /) -> list[Notice]:
        """See Counters. The charge is sent after it; thresholds it reaches are told with a later settlement."""
        notices, self._notices = self._notices, []
        if backup:
            notices += self._local.settle(0, taken, use)
            if use.usd > 0.0 and any(bounds.purses for _, bounds in taken):
                self._life.open += 1
                self._put(self._life, taken, _settle(taken, use, held=False))
            return notices
        life = self._tickets.pop(ticket, None)
        if life is not None:
            self._put(life, taken, _settle(taken, use, held=True))
        return notices

    def spent(self, pair: Pair) -> float:
        """See Counters: as the newest decision found it."""
        return self._spent.get(pair[0].key, 0.0)

    def gauges(self) -> dict[str, tuple[str, float]]:
        """See Counters."""
        return {
            "pilothouse_counters_down": ("1 while the counters' server does not answer", float(self._down)),
            "pilothouse_counters_failures": ("Times that it did not", float(self.failures)),
            "pilothouse_counters_owed": ("Settlements that wait for it", float(len(self._queue))),
            "pilothouse_counters_lost": ("Settlements that were dropped", float(self.lost)),
            **self._local.gauges(),
        }

    async def close(self) -> None:
        """See Counters."""
        self._closed = True
        self._wake.set()
        await self._tasks.drain(2.0)
        with contextlib.suppress(*self._errors):
            await self._client.delete(*(life.lease for life in self._lives))
        with contextlib.suppress(*self._errors):
            await self._client.connection_pool.disconnect()

    # --- decisions

    async def _run(self, life: _Life, op: str, seq: int, pairs: Sequence[Pair], ask: bytes) -> Any:
        async with asyncio.timeout(2 * TIMEOUT_S):
            return await self._script(keys=_keys(life, pairs), args=[op, life.id, seq, ask])

    async def _without(self, asked: Sequence[Pair], tokens: float, usd: float) -> Verdict:
        """Decide here, since the server is away."""
        if not self._open:
            raise LimitExceeded(
                "the counters of limits and budgets cannot be reached, and counters.on_error is “closed”",
                where="counters",
                hint="try again in 1 s",
                code="counters_unavailable",
                retry_after_s=AGAIN_S,
            )
        verdict = await self._local.take(asked, tokens, usd)
        if isinstance(verdict, int):
            return Verdict(taken=asked, backup=True)
        verdict.backup = True
        return verdict

    def _verdict(self, life: _Life, asked: Sequence[Pair], reply: Any) -> int | Verdict:
        refused, shadow, used = reply
        for place, usd in used:
            self._spent[asked[int(place)][0].key] = float(usd)
        while len(self._spent) > QUEUE:
            del self._spent[next(iter(self._spent))]
        notes = [_refusal(asked, one) for one in shadow]
        if refused:
            return Verdict(refused=_refusal(asked, refused), shadow=notes)
        life.open += 1
        self._number += 1
        self._tickets[self._number] = life
        if not notes:
            return self._number
        left_out = {one.pair[0].key for one in notes}
        return Verdict(taken=[p for p in asked if p[0].key not in left_out], shadow=notes, ticket=self._number)

    def _turn_over(self, life: _Life) -> None:
        """Go on under a new identity: the old one's lease ends with its requests, and what was lost with it."""
        if life is self._life:
            self._life = _Life()
            self._lives.append(self._life)
            self._wake.set()

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        self._down_until = self._clock.monotonic() + AGAIN_S
        if not self._down:
            self._down = True
            then = "local counters take over" if self._open else "requests under a limit are refused"
            log.error("the counters' server does not answer", error=f"{type(error).__name__}: {error}", then=then)

    def _answered(self) -> None:
        if self._down:
            self._down = False
            log.warning("the counters' server answers again", owed=len(self._queue))

    # --- settlements

    def _put(self, life: _Life, pairs: Sequence[Pair], ask: bytes) -> None:
        if len(self._queue) >= QUEUE:
            self._queue.popleft().life.open -= 1
            self.lost += 1
        life.seq += 1
        self._queue.append(_Settlement(life, life.seq, pairs, ask))
        self._wake.set()

    async def _send(self) -> None:
        """Send what is owed, and renew the leases; ends when closed and nothing is owed, or the server is away."""
        while not (self._closed and not self._queue):
            with contextlib.suppress(TimeoutError):
                if not self._queue:
                    await asyncio.wait_for(self._wake.wait(), RENEW_S)
            self._wake.clear()
            try:
                await self._renew()
                while self._queue:
                    await self._send_some()
                self._answered()
            except self._errors as error:
                self._failed(error)
                if self._closed:
                    self.lost += len(self._queue)
                    return
                await asyncio.sleep(AGAIN_S)

    async def _send_some(self) -> None:
        """One round trip of settlements, in their order; they leave the queue when the server has answered."""
        some = [self._queue[n] for n in range(min(BATCH, len(self._queue)))]
        async with asyncio.timeout(4 * TIMEOUT_S):
            pipe = self._client.pipeline(transaction=False)
            for one in some:
                await self._script(_keys(one.life, one.pairs), ["settle", one.life.id, one.seq, one.ask], pipe)
            replies = await pipe.execute(raise_on_error=False)
        again: BaseException | None = None
        for one, reply in zip(some, replies, strict=True):
            if self._queue and self._queue[0] is one:
                self._queue.popleft()
            one.life.open -= 1
            if not isinstance(reply, BaseException):
                self._notices += [_notice(one.pairs, found) for found in reply]
            elif type(reply) is self._refused:
                self.lost += 1
                log.error("the counters' server refuses a settlement", error=str(reply))
            else:  # out of memory, loading, read-only: it passes. Nothing was done, so that it needs a new number.
                again = reply
                one.life.open += 1
                self._put(one.life, one.pairs, one.ask)
        if again is not None:
            raise again

    async def _renew(self) -> None:
        """Leases of this worker live on while it has requests under them; the others end."""
        owed = {one.life for one in self._queue}
        ended = [life for life in self._lives if life is not self._life and life.open <= 0 and life not in owed]
        self._lives = [life for life in self._lives if life not in ended]
        async with asyncio.timeout(4 * TIMEOUT_S):
            pipe = self._client.pipeline(transaction=False)
            for life in self._lives:
                pipe.hsetnx(life.lease, "seq", 0)
                pipe.expire(life.lease, LEASE_S)
            for life in ended:
                pipe.delete(life.lease)
            await pipe.execute()


def _keys(life: _Life, pairs: Sequence[Pair]) -> list[str]:
    return [life.lease, *(PREFIX + counter.key.hex() for counter, _ in pairs)]


def _take(pairs: Sequence[Pair], tokens: float, usd: float) -> bytes:
    return _encode({**_COMMON, "bounds": [_plain(b) for _, b in pairs], "tokens": tokens, "usd": usd})


def _settle(pairs: Sequence[Pair], use: Use, *, held: bool) -> bytes:
    return _encode(
        {
            **_COMMON,
            "bounds": [_plain(b) for _, b in pairs],
            "held": held,
            "tokens": use.held_tokens,
            "usd": use.held_usd,
            "used_tokens": use.tokens,
            "used_usd": use.usd,
        }
    )


_COMMON = {"epoch": EPOCH_S, "slack": SLACK, "trace_s": TRACE_S, "lease_s": LEASE_S, "keep_s": KEEP_S, "prefix": PREFIX}
_plain_bounds: dict[Bounds, msgspec.Raw] = {}


def _plain(bounds: Bounds) -> msgspec.Raw:
    """The bounds as JSON, made once."""
    found = _plain_bounds.get(bounds)
    if found is None:
        if len(_plain_bounds) > 10_000:
            _plain_bounds.clear()
        said = asdict(bounds) | {
            "request_burst_s": min(bounds.request_burst_s, _HUGE),
            "token_burst_s": min(bounds.token_burst_s, _HUGE),
            "concurrency": min(bounds.concurrency, _HUGE),
            "purses": [asdict(p) | {"marks": p.marks[:-1]} for p in bounds.purses],
        }
        found = _plain_bounds[bounds] = msgspec.Raw(_encode(said))
    return found


def _refusal(asked: Sequence[Pair], said: Sequence[Any]) -> Refusal:
    place, what, wait, never, period, left = said
    wait_s = float(wait)
    return Refusal(
        asked[int(place)],
        what.decode(),
        None if wait_s < 0.0 else wait_s,
        never=bool(never),
        period=period.decode(),
        left_usd=float(left),
    )


def _notice(pairs: Sequence[Pair], said: Sequence[Any]) -> Notice:
    place, purse_at, level, spent = said
    counter, bounds = pairs[int(place)]
    purse = next(p for p in bounds.purses if p.place == int(purse_at))
    return Notice(counter.name, bounds.name, purse.period, purse.shares[int(level) - 1], purse.usd, float(spent))
