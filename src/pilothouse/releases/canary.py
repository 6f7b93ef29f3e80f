"""The canary's watch: looks at the running canaries, decides, and takes a bad one back in the same transaction."""

from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
from sqlalchemy import Connection

from pilothouse.config.app import AppConfig, RouteConfig
from pilothouse.config.canary import CanaryPolicy
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.clock import Clock
from pilothouse.domain.errors import Refused
from pilothouse.domain.release import CanaryLook, CanaryRun, Pointer
from pilothouse.releases import pointer as verbs
from pilothouse.releases import reopened
from pilothouse.releases.arms import Counts, Seen
from pilothouse.releases.decision import Decision, decide
from pilothouse.releases.guardrail import Guardrail
from pilothouse.releases.move import Moved
from pilothouse.releases.shown import Questions, Show, questions
from pilothouse.store.state import canaries, canary_pairs, changes, pointers
from pilothouse.store.state.engine import StateStore

ACTOR = Actor(type="policy", id="canary")
LOOK_US = 5_000_000  # between two looks that are kept, where the decision stays the same
INCONCLUSIVE = "canary.inconclusive"


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a running canary. `moved`: what was done about it; the table must then reach the workers. `news`: a
    sentence that its owner has not heard yet; empty where there is none."""

    run: CanaryRun
    decision: Decision
    moved: Moved | None = None
    news: str = ""


def watch(
    store: StateStore,
    show: Show,
    clock: Clock,
    *,
    config: AppConfig | None = None,
    policy: CanaryPolicy | None = None,
) -> tuple[Watched, ...]:
    """One look at every running canary; call it every second.

    A canary whose guardrail trips is rolled back by `policy:canary`, with the times of detection, decision and
    flip. With `auto` it steps to the next share, and, where `config` names the route and nothing stands in
    the way, is promoted after the last; without, those are recommendations in its run. The policy is `policy`, or
    else the route's own. `show` answers all questions of a look at once.
    """
    look = _Watch(store, show, clock, config, policy)
    with store.read() as conn:
        running = [(run, pointers.get(conn, run.route, run.env)) for run in canaries.running(conn)]
    looks = [look.at(run, pointer) for run, pointer in running if pointer is not None]
    return tuple(one for one in looks if one is not None)


@dataclass(frozen=True)
class _Watch:
    store: StateStore
    show: Show
    clock: Clock
    config: AppConfig | None
    policy: CanaryPolicy | None

    def at(self, run: CanaryRun, pointer: Pointer) -> Watched | None:
        """Look, decide, act."""
        policy = self.policy or policy_of(self.config, run.route)
        seen, before = self._look(run, pointer.share, policy)
        detect_us = self.clock.now_us()
        decision = decide(seen, policy)
        decide_us = self.clock.now_us()
        news = _news(run, decision, seen, policy)
        evidence = _evidence(decision, before, [*run.evidence.get("told", []), *([decision.kind] if news else [])])
        auto = policy.auto and not decision.late
        acts = decision.kind == "abort" or (auto and decision.kind in ("step", "promote"))
        if not acts and (run.decision, run.evidence) == (decision.kind, evidence):
            return Watched(run=run, decision=decision)  # nothing new to write
        with self.store.write() as conn:
            now = pointers.get(conn, run.route, run.env)
            if now is None or now.canary != run.release or now.share != pointer.share:
                return None  # somebody moved it while we counted: the next look sees what is there
            canaries.decided(conn, run.id, decision.kind, evidence)
            self._keep(conn, run, seen, decision)
            if news and decision.kind == "inconclusive":
                changes.append(conn, _said(now, run, decision), self.clock)
            decision, moved = self._act(conn, now, decision, auto)
            if decision.kind == "abort":
                canaries.timed(conn, run.id, detect_us=detect_us, decide_us=decide_us, flip_us=self.clock.now_us())
        return Watched(run=run, decision=decision, moved=moved, news=news)

    def _route(self, route: str) -> RouteConfig | None:
        return self.config.routes.get(route) if self.config is not None else None

    def _look(self, run: CanaryRun, share: float, policy: CanaryPolicy) -> tuple[Seen, Counts]:
        """What there is to see, and what the stable release did before the canary."""
        with self.store.read() as conn:
            wanted = asked(conn, run, policy)
            pairs = canary_pairs.tally(conn, run.id)
            review = reopened.held(conn, run.route, run.env)
        shown = self.show(wanted)
        arms = shown.arms
        canary = msgspec.structs.replace(arms.canary, lost=pairs.lost, decided=pairs.lost + pairs.won)
        now_us = self.clock.now_us()
        seen = Seen(
            share=share,
            canary=canary,
            stable=arms.before + arms.beside,
            beside=arms.beside,
            canary_step=arms.canary_step,
            stable_step=arms.stable_step,
            step_s=(now_us - run.stepped_us) / 1_000_000,
            elapsed_s=(now_us - run.started_us) / 1_000_000,
            strata=shown.strata,
            limits=run.evidence.get("limits", {}),
            unasked=tuple(run.evidence.get("unasked", ())),
            splits=shown.splits,
            missing=shown.missing,
            fed_out=shown.fed_out,
            review=review,
        )
        return seen, arms.before

    def _keep(self, conn: Connection, run: CanaryRun, seen: Seen, decision: Decision) -> None:
        """Keep the look for those who draw the evidence over time; the same decision at most every few seconds."""
        now_us = self.clock.now_us()
        if decision.kind == run.decision and now_us - canaries.last_look_us(conn, run.id) < LOOK_US:
            return
        look = CanaryLook(
            ts_us=now_us,
            share=seen.share,
            decision=decision.kind,
            requests=seen.canary.requests,
            rails={rail.name: _drawn(rail) for rail in decision.guardrails},
        )
        canaries.looked(conn, run.id, look)

    def _act(self, conn: Connection, pointer: Pointer, decision: Decision, auto: bool) -> tuple[Decision, Moved | None]:
        route, env, why = pointer.route, pointer.env, decision.sentence
        match decision.kind:
            case "abort":
                return decision, verbs.rollback_in(conn, route, env, actor=ACTOR, reason=why, clock=self.clock)
            case "step":
                if not auto or decision.share is None:
                    return decision, None
                share = decision.share
                return decision, verbs.step_in(conn, pointer, share, actor=ACTOR, reason=why, clock=self.clock)
            case "promote":
                return self._promote(conn, pointer, decision) if auto else (decision, None)
            case "hold" | "no_data" | "inconclusive":
                return decision, None
            case _:
                assert_never(decision.kind)

    def _promote(self, conn: Connection, pointer: Pointer, decision: Decision) -> tuple[Decision, Moved | None]:
        route = self._route(pointer.route)
        if route is None or pointer.canary is None:
            return decision, None
        order = verbs.Promotion(env=pointer.env, release=pointer.canary, actor=ACTOR, reason=decision.sentence)
        try:
            return decision, verbs.promote_in(conn, route, order, self.clock)
        except Refused as refused:
            why = f"{decision.sentence}; not promoted: {refused.what}"
            return msgspec.structs.replace(decision, kind="hold", sentence=why), None


def asked(conn: Connection, run: CanaryRun, policy: CanaryPolicy) -> Questions:
    """What a look at `run` asks of telemetry, wherever that is."""
    return questions(run, canaries.tables(conn, run.id), policy)


def policy_of(config: AppConfig | None, route: str) -> CanaryPolicy:
    """The route's own policy, or the default where the files do not name it."""
    known = config.routes.get(route) if config is not None else None
    return known.canary if known is not None else CanaryPolicy()


def _news(run: CanaryRun, decision: Decision, seen: Seen, policy: CanaryPolicy) -> str:
    """The sentence, where its owner should hear it: an end, or that it stands still; each once."""
    if decision.kind in run.evidence.get("told", ()):
        return ""
    still = decision.kind == "no_data" or (decision.kind == "hold" and seen.fed_out != "")
    silent = still and seen.step_s >= policy.min_seconds
    return decision.sentence if silent or decision.kind in ("abort", "promote", "inconclusive") else ""


def _said(pointer: Pointer, run: CanaryRun, decision: Decision) -> Change:
    return Change(
        actor=ACTOR,
        action=INCONCLUSIVE,
        object_type="pointer",
        object_id=f"{pointer.route}@{pointer.env}",
        route=pointer.route,
        env=pointer.env,
        reason=decision.sentence,
        detail={"release": run.release, "share": pointer.share},
    )


def _evidence(decision: Decision, before: Counts, told: list[str]) -> dict[str, Any]:
    rails = [msgspec.to_builtins(rail) for rail in decision.guardrails]
    return {
        "sentence": decision.sentence,
        "healthy": decision.healthy,
        "mismatch_p": decision.mismatch_p,
        "guardrails": rails,
        "limits": decision.limits,
        "share": decision.share,
        "left_out": decision.left_out,
        "before": msgspec.to_builtins(before),
        "unasked": list(decision.unasked),
        "told": told,
    }


def _drawn(rail: Guardrail) -> list[float | None]:
    numbers = (rail.evidence, rail.threshold, rail.difference, rail.low, rail.high, rail.margin, float(rail.n))
    return [None if number is None else float(f"{number:.5g}") for number in numbers]


def record_last_bad(store: StateStore, canary_id: int, ts_us: int) -> None:
    """Note when the last request on an aborted release began: the server knows once every worker has acknowledged."""
    with store.write() as conn:
        canaries.last_bad(conn, canary_id, ts_us)
