"""One request while its attempts happen, and one of its calls."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgspec

from pilothouse.domain.errors import PilothouseError
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Fallback, Policy
from pilothouse.domain.record import Attempt, AttemptKind, Record, Tokens
from pilothouse.domain.table import ProviderEntry
from pilothouse.gateway.balance import Target
from pilothouse.gateway.types import Answer, Rendered
from pilothouse.providers.openai import Completion

Accept = Callable[[Rendered, Record, bytes, Completion, str], tuple[bytes, Completion]]
Later = Callable[[Fallback, PilothouseError, str | None], Awaitable[Answer | None]]


def _unknown(*_: Any) -> None:
    return None


class Way(msgspec.Struct, gc=False):
    """A model to be asked, and as what. `rendered`: the request for it, where that is not the run's own."""

    model: ModelRef
    kind: AttemptKind
    step: Fallback | None = None
    rendered: Rendered | None = None
    trimmed: int = 0  # messages left out
    tries: int = 1


class Turn(msgspec.Struct, gc=False):
    """One upstream call on its way: to which target, with which request, and what is to be said of it at its end."""

    attempt: Attempt
    target: Target
    rendered: Rendered
    began: float  # Clock.monotonic
    later: int = 0  # calls that could still follow a timeout of this one
    probe: bool = False  # it is the one that a half-open breaker lets through
    fair: bool = True  # it has as long as policy gives a call; a hurried client's timeout is not the provider's fault
    body: bytes = b""  # as sent, where its tokens have to be counted


class Run(msgspec.Struct, gc=False):
    """One request's attempts while they happen. `deadline`, `begun_by` on the event loop's clock, `began` on the
    Clock's.

    `body`: `rendered` for the resolved model. `policy`: its release's. `accept`: a whole answer in a form as it may be
    delivered; raises InvalidOutput. `quote`: USD that one call of a model is expected to cost, None where
    nobody knows. `spendable`: USD that the request may use in all under its budgets, None for no bound. `stale`: the
    newest cached answer at most so old. `later`: what the steps `delayed` and `handoff` do (step, error, the static
    answer that follows), None where they cannot. `count`: tokens of an upstream body and an answer's text, estimated.
    """

    rendered: Rendered
    body: bytes
    policy: Policy
    record: Record
    providers: Mapping[str, ProviderEntry]
    loop: asyncio.AbstractEventLoop
    began: float
    deadline: float
    begun_by: float
    accept: Accept
    quote: Callable[[ModelRef], float | None] = _unknown
    spendable: Callable[[], float | None] = _unknown
    stale: Callable[[float], Awaitable[Answer | None]] | None = None
    later: Later | None = None
    count: Callable[[bytes, str], Tokens] | None = None
    patient: bool = False  # nobody waits for the answer: go on until the deadline
    # Kept by the attempts.
    steps: Iterator[Fallback] = iter(())
    quoted: float = 0.0  # USD that the calls so far are expected to cost
    reasked: bool = False
    resumed: bool = False  # a broken stream went on at the same model
    spliced: bool = False  # the stream watches its own silences
    called: bool = False  # whether any target's breaker let a call through
    opens_s: float | None = None  # until the first of the open breakers lets a probe through
    opens: Target | None = None
    turn: Turn | None = None  # the call whose stream the client is getting
    uncounted: list[tuple[Attempt, bytes, str]] = []  # used tokens that the provider did not report: body, text

    @property
    def idle_s(self) -> float:
        """Seconds that the client's stream may be silent."""
        timeout = self.policy.timeout
        return timeout.total if self.spliced else timeout.idle

    def left(self) -> float:
        """Seconds until the total timeout."""
        return self.deadline - self.loop.time()

    def window(self, turn: Turn, later: int | None) -> tuple[float, str]:
        """Seconds that the provider may be silent, and which timeout that is; whether the turn is a fair one.

        `later`: attempts that could still follow a whole answer's timeout; None for a stream.
        """
        timeout = self.policy.timeout
        now, window, total = self.loop.time(), timeout.first_token, timeout.total
        least = 0.9 * (window if window < total else total)  # noqa: FURB136 - `min` is slower
        if later is None:
            left = min(self.deadline, self.begun_by) - now
        else:
            left = self.deadline - now
            share = left / (1 + later)
            window = share if share > window else window  # noqa: FURB136 - `max` is slower
        window, which = (window, "first_token") if window < left else (left, "total")
        if window < least:
            turn.fair = False
        return window, which

    def note_open(self, target: Target, wait_s: float) -> None:
        """A breaker is open: remember the one that lets a probe through first."""
        if self.opens_s is None or wait_s < self.opens_s:
            self.opens, self.opens_s = target, wait_s
