"""The canary's watch: looks at the running canaries, decides, and takes a bad one back in the same transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import AppConfig
from pilothouse.domain.change import Actor
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Refused
from pilothouse.domain.release import CanaryRun, Pointer
from pilothouse.releases import pointer as verbs
from pilothouse.releases.guardrail import CanaryPolicy, Counts, Decision, Seen, decide
from pilothouse.releases.move import Moved
from pilothouse.store.state import canaries, pointers
from pilothouse.store.state.engine import StateStore

__all__ = ["Arm", "CanaryPolicy", "CountArm", "Counts", "Decision", "Watched", "record_last_bad", "watch"]

ACTOR = Actor(type="policy", id="canary")


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """A question to telemetry: the requests of `release` since `since_us`, on the canary's side or the stable one's."""

    route: str
    env: str
    release: int
    canary: bool
    since_us: int


CountArm = Callable[[Arm], Counts]


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a running canary. `moved`: what was done about it; the table must then reach the workers."""

    run: CanaryRun
    decision: Decision
    moved: Moved | None = None


def watch(
    store: StateStore,
    counts: CountArm,
    clock: Clock,
    *,
    config: AppConfig | None = None,
    policy: CanaryPolicy = CanaryPolicy(),  # noqa: B008  # immutable
) -> tuple[Watched, ...]:
    """One look at every running canary; call it every second.

    A canary whose guardrail trips is rolled back by `policy:canary`, with the times of detection, decision and
    flip. With `policy.auto` it steps to the next share, and, where `config` names the route and nothing stands in
    the way, is promoted after the last; without, those are recommendations in its run.
    """
    look = _Watch(store, counts, clock, config, policy)
    with store.read() as conn:
        running = [(run, pointers.get(conn, run.route, run.env)) for run in canaries.running(conn)]
    looks = [look.at(run, pointer) for run, pointer in running if pointer is not None]
    return tuple(one for one in looks if one is not None)


@dataclass(frozen=True)
class _Watch:
    store: StateStore
    counts: CountArm
    clock: Clock
    config: AppConfig | None
    policy: CanaryPolicy

    def at(self, run: CanaryRun, pointer: Pointer) -> Watched | None:
        """Look, decide, act."""
        seen = self._look(run, pointer.share)
        detect_us = self.clock.now_us()
        decision = decide(seen, self.policy)
        decide_us = self.clock.now_us()
        evidence = _evidence(decision)
        acts = decision.kind == "abort" or (self.policy.auto and decision.kind in ("step", "promote"))
        if not acts and (run.decision, run.evidence) == (decision.kind, evidence):
            return Watched(run=run, decision=decision)  # nothing new to write
        with self.store.write() as conn:
            now = pointers.get(conn, run.route, run.env)
            if now is None or now.canary != run.release or now.share != pointer.share:
                return None  # somebody moved it while we counted: the next look sees what is there
            canaries.decided(conn, run.id, decision.kind, evidence)
            decision, moved = self._act(conn, now, decision)
            if decision.kind == "abort":
                canaries.timed(conn, run.id, detect_us=detect_us, decide_us=decide_us, flip_us=self.clock.now_us())
        return Watched(run=run, decision=decision, moved=moved)

    def _look(self, run: CanaryRun, share: float) -> Seen:
        def ask(canary: bool, since_us: int) -> Counts:
            release = run.release if canary else run.baseline
            return self.counts(Arm(route=run.route, env=run.env, release=release, canary=canary, since_us=since_us))

        since_start = ask(True, run.started_us)
        return Seen(
            share=share,
            canary=since_start,
            stable=ask(False, run.started_us - int(self.policy.baseline_window_s * 1_000_000)),
            canary_step=ask(True, run.stepped_us) if run.stepped_us != run.started_us else since_start,
            stable_step=ask(False, run.stepped_us),
            step_s=(self.clock.now_us() - run.stepped_us) / 1_000_000,
            limits=run.evidence.get("limits", {}),
        )

    def _act(self, conn: Connection, pointer: Pointer, decision: Decision) -> tuple[Decision, Moved | None]:
        route, env, why = pointer.route, pointer.env, decision.sentence
        match decision.kind:
            case "abort":
                return decision, verbs.rollback_in(conn, route, env, actor=ACTOR, reason=why, clock=self.clock)
            case "step":
                if not self.policy.auto or decision.share is None:
                    return decision, None
                share = decision.share
                return decision, verbs.step_in(conn, pointer, share, actor=ACTOR, reason=why, clock=self.clock)
            case "promote":
                return self._promote(conn, pointer, decision)
            case "hold" | "no_data":
                return decision, None
            case _:
                assert_never(decision.kind)

    def _promote(self, conn: Connection, pointer: Pointer, decision: Decision) -> tuple[Decision, Moved | None]:
        route = self.config.routes.get(pointer.route) if self.config is not None else None
        if not self.policy.auto or route is None or pointer.canary is None:
            return decision, None
        order = verbs.Promotion(env=pointer.env, release=pointer.canary, actor=ACTOR, reason=decision.sentence)
        try:
            return decision, verbs.promote_in(conn, route, order, self.clock)
        except Refused as refused:
            why = f"{decision.sentence}; not promoted: {refused.what}"
            return msgspec.structs.replace(decision, kind="hold", sentence=why), None


def _evidence(decision: Decision) -> dict[str, Any]:
    rails = [msgspec.to_builtins(rail) for rail in decision.guardrails]
    return {
        "sentence": decision.sentence,
        "healthy": decision.healthy,
        "mismatch_p": decision.mismatch_p,
        "guardrails": rails,
        "limits": decision.limits,
        "share": decision.share,
    }


def record_last_bad(store: StateStore, canary_id: int, ts_us: int) -> None:
    """Note when the last request on an aborted release began: the server knows once every worker has acknowledged."""
    with store.write() as conn:
        canaries.last_bad(conn, canary_id, ts_us)
