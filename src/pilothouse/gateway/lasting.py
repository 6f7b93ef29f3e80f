"""Streams from their first token to their end: where a broken one goes on, and what is noted of each."""

import asyncio
from collections.abc import Awaitable, Callable

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import ClientGone, CutStream, PilothouseError
from pilothouse.gateway.calls import read_from
from pilothouse.gateway.run import Run, Turn, Way
from pilothouse.gateway.splice import Splice, can_go_on, continued
from pilothouse.gateway.steps import FAILURES, again, matching
from pilothouse.gateway.targets import Targets
from pilothouse.gateway.types import Answer
from pilothouse.providers.openai import Completion
from pilothouse.providers.wire import Flow


class Streams:
    """The streams of a worker. `ask`: how another model is called."""

    def __init__(self, targets: Targets, clock: Clock, ask: Callable[[Run, Way], Awaitable[Answer]]) -> None:
        self._targets = targets
        self._clock = clock
        self._ask = ask

    def lasting(self, run: Run, answer: Answer) -> Flow:
        """The answer's stream; where policy says so, one that goes on elsewhere when it breaks off."""
        if answer.flow is None or run.turn is None:
            raise AssertionError("only a stream that has begun lasts")
        if run.policy.cut == "continue" and answer.form == "chat" and can_go_on(run.turn.rendered):
            answer.flow = Splice(answer.flow, run.policy.timeout.idle, lambda cut: self._go_on(run, answer, cut))
            run.spliced = True
        return answer.flow

    def ended(self, run: Run, answer: Answer, seen: Completion, error: BaseException | None) -> None:
        """A stream is over, well or not: fill in its attempt and the record's `stream_end`, and tell its target."""
        turn, flow, record = run.turn, answer.flow, run.record
        run.turn = None
        if turn is not None:
            self._note(run, turn, flow.part.completion() if isinstance(flow, Splice) else seen, error)
        if error is not None:
            record.stream_end = "error"
        elif any(a.kind == "continue" and a.delivered for a in record.attempts):
            record.stream_end = "continued"
        elif any(a.status == 200 and a.error_type == "cut_stream" for a in record.attempts):
            record.stream_end = "restarted"
        else:
            record.stream_end = "complete"

    async def _go_on(self, run: Run, answer: Answer, cut: Splice) -> Flow | None:
        """A stream that goes on with the answer from where it broke; None where there is none."""
        turn = run.turn
        if cut.error is None or turn is None:
            return None
        rendered = continued(turn.rendered, cut.text)
        if rendered is None:
            return None
        await self._over(run, turn, cut)
        while run.left() > 0:
            steps = matching(run.steps, cut.error, run.policy, {"cut_stream"})
            step = next((s for s in steps if s.model is not None), None)
            if step is None and (run.resumed or not again(run.policy, CutStream(""), 0)):
                return None
            run.resumed = run.resumed or step is None
            model = turn.target.model if step is None or step.model is None else step.model
            try:
                more = await self._ask(run, Way(model, "continue", step, rendered))
            except FAILURES:
                continue  # its attempts say why
            answer.attempt = more.attempt
            if more.attempt is not None:
                more.attempt.delivered = True
            if step is not None:
                run.record.outcome, run.record.way = step.outcome, step.way
            return more.flow
        return None

    async def _over(self, run: Run, turn: Turn, cut: Splice) -> None:
        """A part of a spliced stream is over."""
        part, attempt = cut.part.completion(), turn.attempt
        run.turn = None
        self._note(run, turn, part, cut.error)
        if attempt.tokens is None and run.count is not None:
            attempt.tokens = await asyncio.to_thread(run.count, turn.body, part.text)
        if attempt.tokens is not None:
            cut.used(attempt.tokens)

    def _note(self, run: Run, turn: Turn, part: Completion, error: BaseException | None) -> None:
        attempt = turn.attempt
        attempt.delivered = True
        read_from(attempt, part)
        attempt.duration_ms = (self._clock.monotonic() - turn.began) * 1e3
        if isinstance(error, PilothouseError) and not isinstance(error, ClientGone):
            attempt.error_type = error.kind
        elif error is not None:
            attempt.error_type, attempt.cancelled = "cancelled", True  # not the provider's doing
        if attempt.tokens is None:
            run.uncounted.append((attempt, turn.body, part.text))
        self._targets.leave(run, turn, error)
