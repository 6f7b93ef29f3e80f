"""Resolved → admitted: limits, budgets and the queue before them.

A request is let in by all its counters or by none. What it will use is reserved from an estimate and settled from what
it did use, once, however it ends. Money that nobody can price is not taken for nothing: see `_used`.
"""

import asyncio
import math
from collections.abc import Sequence

import msgspec
import structlog

from pilothouse.domain.errors import BudgetExceeded, LimitExceeded
from pilothouse.domain.policy import Queue
from pilothouse.domain.record import Attempt, LimitHit, Record
from pilothouse.domain.table import Table
from pilothouse.gateway.lanes import CLASSES, Lanes, Waiter, priority
from pilothouse.gateway.rules import Asked, Rules
from pilothouse.gateway.types import Draft
from pilothouse.store.counters.bounds import EVEN, Announce, Counters, Notice, Pair, Refusal, Use, Verdict

log = structlog.get_logger("pilothouse.limits")

POLL_S = 0.05  # a request whose turn it is looks so often whether another worker has made room
_NEVER_CALLED = frozenset(
    ("connect_failed", "circuit_open", "cost_cap", "unknown_provider", "unsupported_api", "unsupported_parameter",
     "bad_request", "config_error")
)  # fmt: skip


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """What one upstream call of this request is expected to use. `usd` None: the model has no price."""

    tokens_in: int
    tokens_out: int
    usd: float | None


class Ticket(msgspec.Struct, gc=False):
    """A request that was let in. Settle it once, when its record is priced. `estimate`: of one call of its model."""

    admission: "Admission | None"  # None: it is settled
    record: Record
    estimate: Estimate
    most: float | None  # USD that the request may use under budgets per request and per trace; None: there is none
    pairs: Sequence[Pair] = ()  # the counters that counted it
    number: int = 0
    backup: bool = False

    def settle(self, record: Record) -> None:
        """Give back what was reserved and charge what was used. A second call does nothing."""
        admission, self.admission = self.admission, None
        if admission is not None and (self.pairs or self.number):
            admission.settle(self, record)

    def spendable(self) -> float | None:
        """USD that this request may still use under budgets per request and per trace; None: there is none."""
        if self.most is None:
            return None
        spent = 0.0
        for attempt in self.record.attempts:
            spent += attempt.cost_usd or 0.0
        return max(0.0, self.most - spent)


class Admission:
    """The door of one worker. `announce` is told of each threshold of a budget, once per period."""

    def __init__(self, counters: Counters, announce: Announce | None = None) -> None:
        self.counters = counters
        self.refused = 0
        self.unpriced = 0  # requests under a budget whose model has no price
        self._announce = announce or _log_notice
        self._rules = Rules()
        self._lanes = Lanes()

    async def enter(self, draft: Draft, table: Table, estimate: Estimate, deadline: float | None = None) -> Ticket:
        """Let a resolved request in, perhaps after a wait; raises LimitExceeded, BudgetExceeded.

        `deadline`: until when the client itself waits, on the event loop's clock.
        """
        record, resolved = draft.record, draft.resolved
        if resolved is None:
            raise AssertionError("only a resolved request is admitted")
        asked = self._rules.of(resolved, record, table)
        pairs, most, usd = asked.pairs, asked.spendable, estimate.usd
        if usd is None:
            usd = 0.0
            self._unpriced(asked, record)
        elif usd > asked.least:
            self._too_dear(asked, record, usd)
        if not pairs:
            return Ticket(self, record, estimate, most)
        tokens = float(estimate.tokens_in + estimate.tokens_out)
        verdict: int | Verdict
        if self._lanes.by_counter and (pair := self._lanes.occupied(pairs)) is not None:
            verdict = await self._wait(_Ask(draft, pairs, tokens, usd, deadline), pair, None)
        else:
            verdict = await self.counters.take(pairs, tokens, usd)
            if not isinstance(verdict, int) and (refusal := verdict.refused) is not None:
                verdict = await self._wait(_Ask(draft, pairs, tokens, usd, deadline), refusal.pair, refusal)
        for trace in asked.traces:  # what its budget leaves this request, its own reservation included
            left = max(0.0, trace[1].purses[0].usd - self.counters.spent(trace) + usd)
            most = left if most is None else min(most, left)
        if isinstance(verdict, int):
            return Ticket(self, record, estimate, most, pairs, verdict)
        for refusal in verdict.shadow:
            _note(record, refusal, shadow=True)
        self._tell(record, verdict.notices)
        return Ticket(self, record, estimate, most, verdict.taken, verdict.ticket, verdict.backup)

    def settle(self, ticket: Ticket, record: Record) -> None:
        """The end of an admitted request: see Ticket.settle."""
        pairs = ticket.pairs
        notices = self.counters.settle(ticket.number, pairs, _used(record, ticket.estimate), ticket.backup)
        if notices:
            self._tell(record, notices)
        if self._lanes.by_counter:
            self._lanes.released(pairs)

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Name → (help, value), for /metrics."""
        return {
            **self._lanes.gauges(asyncio.get_running_loop().time()),
            "pilothouse_limit_refusals": ("Requests refused by a limit since the start", float(self.refused)),
            "pilothouse_budget_unpriced": ("Requests under a budget whose model has no price", float(self.unpriced)),
            **self.counters.gauges(),
        }

    async def close(self) -> None:
        """Let the counters go; what is in flight has been settled."""
        await self.counters.close()

    # --- what is not a counter's to say

    def _unpriced(self, asked: Asked, record: Record) -> None:
        """No budget holds for a model without a price: that is counted, and the record says it."""
        for rule in asked.money:
            self.unpriced += 1
            record.limits.append(LimitHit(rule.limit.name, "unpriced", rule.shown(record), shadow=True))

    def _too_dear(self, asked: Asked, record: Record, usd: float) -> None:
        """One request may cost less than this one: raises BudgetExceeded, where that is no shadow."""
        for rule, most in asked.caps:
            shadow, name = rule.limit.shadow, rule.limit.name
            if usd <= most:
                continue
            record.limits.append(LimitHit(name, "spend", rule.shown(record), shadow=shadow))
            if not shadow:
                self.refused += 1
                raise BudgetExceeded(
                    f"the request may cost {usd:.6g} USD, and the budget “{name}” allows one {most:.6g} USD",
                    where=f"limits.{name}",
                    hint="send less, ask for fewer output tokens, or have the budget raised",
                )

    def _tell(self, record: Record, notices: Sequence[Notice]) -> None:
        for notice in notices:
            what = f"soft:{notice.period}:{notice.share:.0%}"
            record.limits.append(LimitHit(notice.limit, what, notice.counter, shadow=True))
            self._announce(notice)

    # --- the queue

    async def _wait(self, ask: "_Ask", pair: Pair, refusal: Refusal | None) -> int | Verdict:
        """Wait for a turn at the counter of `pair`, as far as the route's policy and the client's patience go."""
        loop = asyncio.get_running_loop()
        record, lanes, began = ask.record, self._lanes, loop.time()
        until = min(began + ask.queue.max_wait, math.inf if ask.deadline is None else ask.deadline)
        self._may_wait(ask, pair, refusal, until - began)
        rank = priority(record.tier, ask.draft.incoming.header("x-pilothouse-priority"))
        record.priority = CLASSES[rank]
        waiter = Waiter(began, rank)
        lane = lanes.join(pair, waiter)
        lanes.waiting[record.route] = lanes.waiting.get(record.route, 0) + 1
        try:
            while True:
                pause = left = until - loop.time()
                if lane.first is waiter:
                    verdict = await self.counters.take(ask.asked, ask.tokens, ask.usd)
                    if isinstance(verdict, int) or verdict.refused is None:
                        lane.admitted(loop.time())
                        return verdict
                    refusal = verdict.refused
                    if refusal.pair[0].key != pair[0].key:
                        lanes.leave(pair, waiter)
                        pair = refusal.pair
                        lane = lanes.join(pair, waiter)
                    pause = POLL_S if refusal.wait_s is None else refusal.wait_s
                if left <= 0.0 or (refusal is not None and refusal.never):
                    raise self._refuse(ask, pair, refusal, "queue_timeout")
                await waiter.pause(min(pause, left))
        finally:
            lanes.leave(pair, waiter)
            lanes.waiting[record.route] -= 1
            record.queued_ms = (loop.time() - began) * 1e3

    def _may_wait(self, ask: "_Ask", pair: Pair, refusal: Refusal | None, most_s: float) -> None:
        """Refuse at once what need not wait: there is no queue or no room in it, or the wait would be too long."""
        hopeless = refusal is not None and (refusal.never or (refusal.wait_s or 0.0) > most_s)
        if most_s <= 0.0 or hopeless:
            raise self._refuse(ask, pair, refusal, "")
        if self._lanes.waiting.get(ask.record.route, 0) >= ask.queue.size:
            raise self._refuse(ask, pair, refusal, "queue_full")

    def _refuse(self, ask: "_Ask", pair: Pair, refusal: Refusal | None, code: str) -> LimitExceeded:
        """The error that the client gets, and the record's note of it."""
        self.refused += 1
        if refusal is None:
            refusal = Refusal(pair, "concurrency" if math.isfinite(pair[1].concurrency) else "requests", None)
        _note(ask.record, refusal, shadow=False)
        if refusal.never:
            return _error(refusal, None, "")
        return _error(refusal, self._lanes.of(pair).expected_s(refusal.wait_s), code)


class _Ask(msgspec.Struct):
    """A request that asks to be let in."""

    draft: Draft
    asked: Sequence[Pair]
    tokens: float
    usd: float
    deadline: float | None

    @property
    def record(self) -> Record:
        """Its record."""
        return self.draft.record

    @property
    def queue(self) -> Queue:
        """Its route's queue."""
        resolved = self.draft.resolved
        return resolved.live.manifest.policy.queue if resolved is not None else Queue()


def _note(record: Record, refusal: Refusal, *, shadow: bool) -> None:
    counter, bounds = refusal.pair
    record.limits.append(LimitHit(bounds.name, refusal.what, counter.name, shadow=shadow))


def _error(refusal: Refusal, wait_s: float | None, code: str) -> LimitExceeded:
    """What is reached, whose counter it is, and when to come back."""
    counter, bounds = refusal.pair
    of = f" of {counter.name}" if counter.name else ""
    kind = BudgetExceeded if refusal.what == "spend" else LimitExceeded
    reached = f"the limit “{bounds.name}”{of} is reached: {_size(refusal)}"
    if refusal.never:
        reached = f"the request alone is larger than the limit “{bounds.name}”{of}: {_size(refusal)}"
        if refusal.period == "trace" and refusal.left_usd <= 0.0:
            reached = f"the budget “{bounds.name}” of this trace is used up: {_size(refusal)}"
    if code == "queue_full":
        reached += ", and its queue is full"
    elif code == "queue_timeout":
        reached += ", and the time to wait for it is over"
    hint = "send less or ask for fewer output tokens, or have the limit raised"
    if wait_s is not None:
        hint = f"try again in {max(1, math.ceil(wait_s))} s"
    return kind(reached, where=f"limits.{bounds.name}", hint=hint, code=code, retry_after_s=wait_s)


def _size(refusal: Refusal) -> str:
    bounds = refusal.pair[1]
    if refusal.what == "spend":
        most = next(purse.usd for purse in bounds.purses if purse.period == refusal.period)
        return f"{most:.6g} USD per {refusal.period}, of which {refusal.left_usd:.6g} USD are left"
    if refusal.what == "concurrency":
        return f"{bounds.concurrency:g} at a time" if math.isfinite(bounds.concurrency) else "others are waiting for it"
    token = refusal.what == "tokens"
    each, burst = (bounds.token_s, bounds.token_burst_s) if token else (bounds.request_s, bounds.request_burst_s)
    amount = round(burst / each - EVEN, 3) if each else 0.0
    return f"{amount:g} {refusal.what} per {amount * each:.4g} s" if each else "others are waiting for it"


def _used(record: Record, estimate: Estimate) -> Use:
    """What the request used: what its attempts say, and the estimate for each that says nothing but may have worked.

    A call that was cut off or given up may be charged by its provider all the same, and a model without a price costs
    something: for both the estimate is charged, where there is one. Unknown is not 0.
    """
    reserved, reserved_usd = float(estimate.tokens_in + estimate.tokens_out), estimate.usd or 0.0
    tokens, usd = 0.0, 0.0
    for attempt in record.attempts:
        used = attempt.tokens
        if used is not None:
            tokens += used.input_uncached + used.cache_read + used.cache_write + used.output_text + used.reasoning
            usd += reserved_usd if attempt.cost_usd is None else attempt.cost_usd
        elif _may_have_worked(attempt):
            tokens += reserved
            usd += reserved_usd
    return Use(reserved, reserved_usd, tokens, usd)


def _may_have_worked(attempt: Attempt) -> bool:
    return attempt.status < 400 and attempt.error_type not in _NEVER_CALLED


def _log_notice(notice: Notice) -> None:
    said = msgspec.structs.asdict(notice)
    log.warning("a budget is nearly used up" if notice.share < 1.0 else "a budget is used up", **said)
