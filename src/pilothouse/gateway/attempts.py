"""Rendered → Answer: upstream calls with timeouts, retries, hedges and ordered fallbacks, all before the first byte.

Timeouts. `connect`, `first_token` and `idle` bound each attempt, `total` all of a request. A whole (not streamed)
answer has no first token to wait for: it gets an equal share of the time that is left among the attempts that may
still follow a timeout, and `first_token` at least, so that a stalled provider leaves time for the fallback.

A call is made only where the breaker of its target lets it through, and where the request's caps leave room for it.
The order: retries of a model, then the fallbacks in theirs; a stream that breaks off goes on where they had come to.
"""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import (
    CircuitOpen,
    CostCap,
    InvalidOutput,
    NotFound,
    PilothouseError,
    Rejected,
)
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback
from pilothouse.domain.record import Attempt, AttemptKind
from pilothouse.domain.tasks import Tasks
from pilothouse.domain.wires import SecretReader
from pilothouse.gateway import hedge
from pilothouse.gateway.balance import Target
from pilothouse.gateway.calls import Calls, own_answer, read_from
from pilothouse.gateway.lasting import Streams
from pilothouse.gateway.retry import Budgets, backoff_s
from pilothouse.gateway.run import Run, Turn, Way
from pilothouse.gateway.steps import FAILURES, again, in_chat, later_calls, matching, trimmed, with_messages
from pilothouse.gateway.targets import Targets, open_error
from pilothouse.gateway.types import Answer, Rendered
from pilothouse.providers.openai import Completion
from pilothouse.providers.upstream import Upstream
from pilothouse.providers.wire import Flow

__all__ = ["Attempts", "Run", "read_from"]

PATIENCE_S = 1.0  # first pause of a request that nobody waits for; doubled each time
PATIENCE_MAX_S = 60.0
_GIVEN_UP = asyncio.CancelledError()  # never raised


class Attempts:
    """Makes the upstream calls of every request of a worker. `shared`: the host's file of breakers."""

    def __init__(
        self,
        upstream: Upstream,
        secret: SecretReader,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        shared: Path | None = None,
    ):
        self.calls = Calls(upstream, secret, clock)
        self.targets = Targets(clock, random.Random(jitter()), shared)
        self.retries = Budgets()
        self.hedges = Budgets(hand=1.0)
        self._clock = clock
        self._jitter = jitter
        self._tasks = Tasks()
        self._streams = Streams(self.targets, clock, self._ask)

    def close(self) -> None:
        """Let the file of breakers go, when nothing is in flight."""
        self.targets.breakers.close()

    def metrics(self) -> list[str]:
        """Lines of Prometheus' text: breakers, and the extra calls that a budget did not allow."""
        out = self.targets.breakers.lines()
        for name, what, budgets in (
            ("retries", "Retries that the retry budget did not allow", self.retries),
            ("hedges", "Hedges that the hedge budget did not allow", self.hedges),
        ):
            metric = f"pilothouse_{name}_refused_total"
            out += [f"# HELP {metric} {what}", f"# TYPE {metric} counter", f"{metric} {budgets.refused}"]
        return out

    # --- the order of things

    async def run(self, run: Run) -> Answer:
        """The first usable answer; raises the last attempt's error where there is none."""
        if run.rendered.resolved.parsed.own is not None and (own := own_answer(run)) is not None:
            return own
        policy = run.policy
        self.retries.of(run.record.route).request(policy.retry.budget)
        if policy.hedge is not None:
            self.hedges.of(run.record.route).request(policy.hedge.share)
        if policy.fallback:
            run.steps = iter(policy.fallback)
        way = Way(run.rendered.resolved.model, "primary", tries=policy.retry.attempts)
        try:
            return await self._ask(run, way)
        except FAILURES as error:
            return await self._fall_back(run, error)

    async def instead(self, run: Run, answer: Answer, error: PilothouseError) -> Answer:
        """What is given instead of an answer that may not be delivered; raises `error` where policy has nothing."""
        if answer.attempt is not None:
            answer.attempt.delivered, answer.attempt.error_type = False, error.kind
        return await self._fall_back(run, error)

    async def _fall_back(self, run: Run, error: PilothouseError) -> Answer:
        """What the steps bring that are for this error, and for those that follow it."""
        pause = PATIENCE_S
        while True:
            found = await self._next(run, error)
            if isinstance(found, Answer):
                return found
            if found is None:
                found = await self._last_chance(run, error, pause)
                pause = min(2 * pause, PATIENCE_MAX_S)
            try:
                return await self._ask(run, found)
            except FAILURES as next_error:
                error = next_error

    async def _next(self, run: Run, error: PilothouseError) -> Answer | Way | None:
        """What the next step offers that has something to offer."""
        for step in matching(run.steps, error, run.policy, set()):
            if step.model is not None or step.trim is not None:
                found: Answer | Way | None = self._way(run, step)
            elif run.patient:  # its client has been told to wait for an answer
                continue
            else:
                found = await self._answer(run, step, error)
            if found is not None:
                return found
        return None

    def _way(self, run: Run, step: Fallback) -> Way | None:
        """The model that a step asks; None where the time is up, or there is nothing to leave out."""
        own, tries = run.rendered.resolved.model, run.policy.retry.attempts
        if run.left() <= 0:
            return None
        if step.trim is None:
            return Way(step.model or own, "fallback", step, tries=tries)
        shorter = trimmed(run.rendered, step.trim)
        return Way(own, "fallback", step, shorter[0], shorter[1], tries) if shorter is not None else None

    async def _answer(self, run: Run, step: Fallback, error: PilothouseError) -> Answer | None:
        """The answer that a step has without asking a model. It is given even where the time is up."""
        answer: Answer | None = None
        if step.static is not None:
            answer = Answer(step.outcome, None, static=step.static)
        elif step.cached is not None:
            answer = await run.stale(step.cached) if run.stale is not None else None
        elif run.later is not None:
            answer = await run.later(step, error, _static_after(run, step))
        if answer is not None:
            answer.outcome, run.record.way = step.outcome, step.way
        return answer

    async def _last_chance(self, run: Run, error: PilothouseError, pause: float) -> Way:
        """Wait for what may still come in time, else raise `error`.

        Where every target's breaker is open, the one that will be probed first is waited for, for half of the time
        that is left. A request that nobody waits for begins anew after a pause.
        """
        tries = run.policy.retry.attempts
        if run.opens is not None and run.opens_s is not None and not run.called:
            wait, model = run.opens_s, run.opens.model
            if wait > run.left() / 2:
                raise open_error(run.opens, wait, every=True) from error
            run.called = True  # once
            await asyncio.sleep(wait + 0.001)
            return Way(model, "primary", tries=tries)
        if not run.patient or isinstance(error, Rejected | CostCap):
            raise error
        wait = max(pause * (0.5 + self._jitter()), getattr(error, "retry_after_s", None) or 0.0)
        if wait >= run.left():
            raise error
        await asyncio.sleep(wait)
        run.steps = iter(run.policy.fallback)
        return Way(run.rendered.resolved.model, "retry", tries=tries)

    # --- one model

    async def _ask(self, run: Run, way: Way) -> Answer:
        """One model, with its retries."""
        policy, wait, kind = run.policy, 0.0, way.kind
        rendered = way.rendered or run.rendered
        failed: set[int] = set()
        error: PilothouseError | None = None
        for tried in range(1, way.tries + 3):
            try:
                target = self.targets.pick(run, way, failed)
            except CircuitOpen as closed:
                raise (error or closed) from None
            turn = self._turn(run, target, kind, rendered)
            if wait or way.trimmed:
                turn.attempt.backoff_ms, turn.attempt.trimmed = wait * 1e3, way.trimmed
            turn.later = later_calls(policy, way.step, way.tries - tried)
            try:
                answer = await (self._call(run, turn) if policy.hedge is None else self._hedged(run, turn))
            except FAILURES as failure:
                error = failure
                asked = self._asked_again(run, rendered, failure)
                if asked is not None:
                    kind, rendered, wait = "reask", asked, 0.0
                    continue
                failed.add(id(target))
                wait = self._pause(run, way, failed, failure, tried)
                await asyncio.sleep(wait)
                kind = "continue" if way.kind == "continue" else "retry"
                continue
            if way.step is not None:
                answer.outcome, run.record.way = way.step.outcome, way.step.way
            return answer
        raise AssertionError("unreachable: the last try returns or raises")

    def _pause(self, run: Run, way: Way, failed: set[int], error: PilothouseError, tried: int) -> float:
        """Seconds until the model is tried again; raises `error` where it is not."""
        asked = None if self.targets.another(run, way, failed) else getattr(error, "retry_after_s", None)
        wait = backoff_s(run.policy.retry, tried, asked, self._jitter())
        if not again(run.policy, error, tried) or wait >= run.left() or not self.retries.take(run.record.route):
            raise error
        return wait

    def _asked_again(self, run: Run, rendered: Rendered, error: PilothouseError) -> Rendered | None:
        """The request with the output's errors explained, once, where policy asks again."""
        if run.reasked or not isinstance(error, InvalidOutput) or "reask" not in run.policy.invalid:
            return None
        more = error.reask
        if not more:
            return None
        run.reasked = True
        asked = in_chat(rendered)  # the errors are explained in chat's words
        return None if asked is None else with_messages(asked, lambda messages: [*messages, *more])

    def _turn(self, run: Run, target: Target, kind: AttemptKind, rendered: Rendered) -> Turn:
        """A call about to be made; raises CostCap."""
        self._afford(run, target.model)
        now, attempts = self._clock.monotonic(), run.record.attempts
        attempt = Attempt(
            n=len(attempts) + 1,
            kind=kind,
            provider=target.model.provider,
            model=target.model.name,
            offset_ms=(now - run.began) * 1e3,
        )
        return Turn(attempt, target, rendered, now)

    def _afford(self, run: Run, model: ModelRef) -> None:
        """Whether the request may make one more call; raises CostCap."""
        caps, made = run.policy.caps, len(run.record.attempts)
        if made >= caps.attempts:
            raise CostCap(
                f"the request has made its {made} calls",
                where="policy.caps.attempts",
                hint="raise the cap, or name a fallback `on: [cost_cap]`",
                code="attempts_cap",
            )
        price = run.quote(model) or 0.0
        most = caps.cost
        if made and (spendable := run.spendable()) is not None:  # the first call was admitted by its limits
            most = spendable if most is None else min(most, spendable)
        if most is not None and run.quoted + price > most + 1e-12:
            raise CostCap(
                f"one more call would take the request over {most:g} USD",
                where="policy.caps.cost",
                hint="name a cheaper model as a fallback `on: [cost_cap]`, or raise the cap",
            )
        run.quoted += price

    # --- one call

    async def _call(self, run: Run, turn: Turn) -> Answer:
        """One call at its target, and what its end says of the target."""
        attempt, record = turn.attempt, run.record
        provider = run.providers.get(attempt.provider)
        if provider is None:
            raise NotFound(f"no provider “{attempt.provider}”", where="providers", code="unknown_provider")
        self.targets.enter(run, turn)
        if not record.attempts and turn.target.model != run.rendered.resolved.model:
            record.upstream_hash = bytes_hash(turn.rendered.upstream(attempt.model))
        record.attempts.append(attempt)
        if attempt.n != len(record.attempts):  # a hedge was quicker
            attempt.n = len(record.attempts)
        end: BaseException | None = _GIVEN_UP  # whatever else ends a call says nothing of its target
        try:
            answer = await self.calls.make(run, turn, provider)
            end = None
        except (PilothouseError, asyncio.CancelledError) as error:
            end = error
            self.calls.broke(run, turn, error)
            raise
        finally:
            attempt.duration_ms = (self._clock.monotonic() - turn.began) * 1e3
            if end is not None or answer.flow is None:
                self.targets.leave(run, turn, end)
        if answer.flow is not None:
            self.targets.begun(run, turn)
            run.turn = turn
        return answer

    async def _hedged(self, run: Run, turn: Turn) -> Answer:
        """The call, and a second one where it is late. Only a request's first call is hedged."""
        rule = run.policy.hedge
        if rule is None or run.record.attempts:
            return await self._call(run, turn)
        after = hedge.due_s(rule, turn.target, stream=turn.rendered.stream)
        if after is None or after >= run.left():
            return await self._call(run, turn)
        model, turns = rule.model or turn.target.model, [turn]

        def second() -> hedge.Calling | None:
            target = self.targets.at(run.providers, model)
            if not self.targets.free(target, run.policy.breaker):
                return None
            try:
                other = self._turn(run, target, "hedge", turn.rendered)
            except CostCap:
                return None
            if not self.hedges.take(run.record.route):
                return None
            other.later = turn.later
            turns.append(other)
            return self._call(run, other)

        async def let(late: Answer) -> None:
            if late.flow is not None and late.attempt is not None:  # a whole answer that lost has said what it used
                await late.flow.close()
                lost = next(t for t in turns if t.attempt is late.attempt)
                late.attempt.cancelled, late.attempt.error_type = True, "cancelled"
                run.uncounted.append((late.attempt, lost.body, ""))
                self.targets.leave(run, lost, asyncio.CancelledError())

        answer = await hedge.race(self._tasks, self._call(run, turn), after, second, let)
        won = next((t for t in turns if t.attempt is answer.attempt), None)
        run.turn = won if answer.flow is not None else None
        return answer

    # --- streams

    def lasting(self, run: Run, answer: Answer) -> Flow:
        """The answer's stream; where policy says so, one that goes on elsewhere when it breaks off."""
        return self._streams.lasting(run, answer)

    def ended(self, run: Run, answer: Answer, seen: Completion, error: BaseException | None) -> None:
        """A stream is over, well or not: its attempt is filled in, and its target told."""
        self._streams.ended(run, answer, seen, error)


def _static_after(run: Run, step: Fallback) -> str | None:
    """The static answer that stands behind a step: what the client is told meanwhile."""
    steps = run.policy.fallback
    return next((s.static for s in steps[steps.index(step) + 1 :] if s.static is not None), None)
