"""Which target a call goes to, whether its breaker lets the call through, and what the call's end says of it."""

import random
from collections.abc import Mapping
from pathlib import Path

from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import (
    CircuitOpen,
    GuardrailBlocked,
    InvalidOutput,
    Rejected,
    UpstreamError,
    UpstreamTimeout,
)
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.policy import Breaker
from pilothouse.domain.table import ProviderEntry
from pilothouse.gateway.balance import Target, choose
from pilothouse.gateway.breaker import CLOSED, PROBE, Breakers
from pilothouse.gateway.run import Run, Turn, Way

TARGETS_MAX = 4096  # raw models are the clients' to name


class Targets:
    """The targets of a worker. `shared`: the file in which the host's workers keep their breakers."""

    def __init__(self, clock: Clock, rng: random.Random, shared: Path | None = None) -> None:
        self.breakers = Breakers(clock, shared)
        self._random = rng
        self._known: dict[tuple[str, str, str], Target] = {}

    def at(self, providers: Mapping[str, ProviderEntry], model: ModelRef) -> Target:
        """The target that a model is."""
        provider = providers.get(model.provider)
        key = (model.provider, model.name, provider.key if provider is not None else "")
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= TARGETS_MAX:
                self._known.clear()
                self.breakers.forget()
            found = self._known[key] = Target(model, self.breakers.circuit(f"{model} {key[2]}"))
        return found

    def pick(self, run: Run, way: Way, failed: set[int]) -> Target:
        """Where the next call goes; raises CircuitOpen where every breaker is open. `failed`: targets by their id."""
        balance, rule = run.policy.balance, run.policy.breaker
        if not balance.over:
            target = self.at(run.providers, way.model)
            wait = self.breakers.wait_s(target.circuit, rule)
            if wait > PROBE:
                run.note_open(target, wait)
                raise open_error(target, wait)
            return target
        targets = self._deployments(run, way, failed)
        waits = [self.breakers.wait_s(t.circuit, rule) for t in targets]
        ready = [t for t, wait in zip(targets, waits, strict=True) if wait <= PROBE]
        if not ready:
            soonest = min(range(len(targets)), key=waits.__getitem__)
            run.note_open(targets[soonest], waits[soonest])
            raise open_error(targets[soonest], waits[soonest])
        if len(ready) == 1:
            return ready[0]
        at = {one.model: one for one in balance.over}
        return choose(balance, [(at[t.model], t) for t in ready], self._random)

    def another(self, run: Run, way: Way, failed: set[int]) -> bool:
        """Whether the next try can go to a target that has not failed."""
        rule = run.policy.breaker
        return any(
            id(t) not in failed and self.breakers.wait_s(t.circuit, rule) <= PROBE
            for t in self._deployments(run, way, failed)
        )

    def free(self, target: Target, rule: Breaker) -> bool:
        """Whether its breaker is closed."""
        return self.breakers.wait_s(target.circuit, rule) == CLOSED

    def _deployments(self, run: Run, way: Way, failed: set[int]) -> list[Target]:
        """The deployments of the primary model that have not failed this request, else all; of others, the one."""
        over = run.policy.balance.over
        if not over or way.step is not None or way.kind == "continue" or run.rendered.resolved.pinned:
            return [self.at(run.providers, way.model)]
        targets = [self.at(run.providers, one.model) for one in over]
        return [t for t in targets if id(t) not in failed] or targets

    # --- around a call

    def enter(self, run: Run, turn: Turn) -> None:
        """A call is about to be made; raises CircuitOpen."""
        target, rule = turn.target, run.policy.breaker
        wait = self.breakers.wait_s(target.circuit, rule)
        if wait == PROBE:
            wait = self.breakers.enter(target.circuit, rule, max(run.left(), 1.0))
        if wait > PROBE:
            run.note_open(target, wait)
            raise open_error(target, wait)
        if wait == PROBE:
            turn.probe = True
        target.pending += 1
        run.called = True

    def begun(self, run: Run, turn: Turn) -> None:
        """A stream has its first token."""
        if turn.probe:
            self.breakers.begun(turn.target.circuit, run.policy.breaker)
            turn.probe = False
        turn.target.answered((turn.attempt.ttft_ms or 0.0) / 1e3, stream=True)

    def leave(self, run: Run, turn: Turn, error: BaseException | None) -> None:
        """A call is over: what its end says of the target."""
        target, rule = turn.target, run.policy.breaker
        target.pending -= 1
        if error is None or isinstance(error, InvalidOutput | GuardrailBlocked):
            if not turn.rendered.stream:
                target.answered(turn.attempt.duration_ms / 1e3, stream=False)
            self.breakers.succeeded(target.circuit, rule, probe=turn.probe)
        elif not isinstance(error, UpstreamError) or _ours(error, turn):
            self.breakers.neither(target.circuit, probe=turn.probe)
        elif isinstance(error, Rejected) and error.kind != "upstream_credentials":
            self.breakers.succeeded(target.circuit, rule, probe=turn.probe)  # it answers: the request was wrong
        else:
            target.failed(turn.attempt.duration_ms / 1e3)
            self.breakers.failed(target.circuit, rule, error.retry_after_s, probe=turn.probe)


def _ours(error: UpstreamError, turn: Turn) -> bool:
    """A timeout that says nothing of the provider: the client was in a hurry, or the answer was long."""
    return isinstance(error, UpstreamTimeout) and (
        not turn.fair or (error.kind == "timeout_total" and turn.attempt.ttft_ms is not None)
    )


def open_error(target: Target, wait: float, *, every: bool = False) -> CircuitOpen:
    """The error of a target that is not called, or of a request for which there is none but such."""
    what = f"{target.model} failed too often and is left alone for {wait:.1f} s"
    return CircuitOpen(
        f"every model of the route failed too often: {what}" if every else what,
        where="policy.breaker",
        hint="wait for the time in Retry-After, or add a static fallback to the route",
        retry_after_s=wait,
    )
