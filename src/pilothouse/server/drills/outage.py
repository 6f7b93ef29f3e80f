"""A staged outage: the ways in which a provider fails, one after another, against what the live policy declares.

Expected is what the policy says in words, not what the gateway makes of it: the first fallback that is for the class of
error and can be had on a stage, else a typed error; never later than the deadline, never an invalid answer.
"""

import asyncio
import itertools
from collections.abc import Sequence

import msgspec

from pilothouse.domain.policy import NAMED_ONLY, ErrorClass, Fallback, Policy
from pilothouse.domain.record import Way
from pilothouse.providers.script import Match, Rule, Script
from pilothouse.server.composition import Control
from pilothouse.server.drills.say import Say
from pilothouse.server.drills.stage import PLAIN, Scene, Seen, staged

SLACK_S = 2.0  # over the deadline, for a busy machine
STAGED: tuple[Way, ...] = ("model", "trim", "static")  # the others need what only traffic has


class Fault(msgspec.Struct, frozen=True):
    """A way to fail. `classes`: what the gateway may call it."""

    name: str
    rule: Rule
    classes: tuple[ErrorClass, ...]


FAULTS = (
    Fault("429", Rule(status=429, retry_after=0.2), ("rate_limit",)),
    Fault("500", Rule(status=500), ("server_error",)),
    Fault("stall", Rule(fault="stall_head"), ("timeout",)),
    Fault("cut", Rule(fault="cut"), ("cut_stream", "connect_failed", "server_error")),
    Fault("drop", Rule(fault="drop"), ("connect_failed", "cut_stream", "server_error")),
    Fault("malformed", Rule(fault="malformed"), ("server_error", "invalid_output", "cut_stream")),
)
INVALID = Fault("invalid output", Rule(reply="this is no JSON at all"), ("invalid_output",))


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A fault and what became of it. `expected`: an outcome, or `failed: CLASS`."""

    fault: str
    expected: str
    outcome: str
    way: str
    error: str
    attempts: int
    ms: float
    ok: bool

    @property
    def sentence(self) -> str:
        """What came of it, in a line."""
        wrong = "" if self.ok else f", expected {self.expected}"
        return f"{self.fault}: {self.outcome} by {self.way or self.error or 'retry'} in {self.ms / 1e3:.1f} s{wrong}"


async def faults(control: Control, scene: Scene, say: Say) -> tuple[list[Tried], Tried | None]:
    """Every fault of the provider that the route's model is at, and output that misses the schema, all at once.

    None for the latter where the route has no schema. A stall takes as long as the release itself waits: a shorter wait
    would show another deadline than the one that callers get.
    """
    structured = scene.manifest.schema is not None
    of = [*FAULTS, INVALID] if structured else list(FAULTS)
    total = scene.manifest.policy.timeout.total
    say(f"{len(of)} faults at once; one that hangs takes as long as the policy waits, at most {total:g} s")
    count = itertools.count(1)

    async def one(fault: Fault) -> Tried:
        tried = await _try(control, scene, fault)
        say(f"{next(count)} of {len(of)}  {tried.sentence}")
        return tried

    tried = await asyncio.gather(*(one(fault) for fault in of))
    return tried[: len(FAULTS)], tried[-1] if structured else None


async def fallbacks(control: Control, scene: Scene, say: Say) -> dict[Way, Tried]:
    """Each way to give less than everything that a stage can show, with all that stands before it failing."""

    async def one(step: Fallback) -> Tried | None:
        tried = await _way(control, scene, step)
        if tried is not None:
            say(tried.sentence)
        return tried

    steps = [step for step in scene.manifest.policy.fallback if step.way in STAGED]
    ways = {step.way: step for step in reversed(steps)}  # the first of each
    tried = await asyncio.gather(*(one(step) for step in ways.values()))
    return {way: one for way, one in zip(ways, tried, strict=True) if one is not None}


async def _try(control: Control, scene: Scene, fault: Fault) -> Tried:
    provider = scene.manifest.model.provider
    async with staged(control, scene, {provider: Script(rules=[fault.rule])}) as stage:
        seen = await stage.ask()
    expected = declared(scene.manifest.policy, fault.classes, down={provider})
    return _judged(fault.name, expected, seen, scene)


def declared(policy: Policy, classes: Sequence[ErrorClass], down: set[str]) -> list[str]:
    """The outcomes that policy allows for errors of these classes while the providers in `down` are gone."""
    found = []
    for kind in classes:
        if kind == "invalid_output" and "fallback" not in policy.invalid:
            step = None
        else:
            step = next((one for one in policy.fallback if _is_for(one, kind) and _stands(one, down)), None)
        found.append(step.outcome if step is not None else f"failed: {kind}")
    return list(dict.fromkeys(found))


def _is_for(step: Fallback, kind: ErrorClass) -> bool:
    return step.way in STAGED and (kind in step.on or ("error" in step.on and kind not in NAMED_ONLY))


def _stands(step: Fallback, down: set[str]) -> bool:
    if step.way == "trim":
        return False  # the same model again
    return step.model is None or step.model.provider not in down


def _judged(name: str, expected: list[str], seen: Seen, scene: Scene) -> Tried:
    failed = [one.removeprefix("failed: ") for one in expected if one.startswith("failed: ")]
    right = seen.outcome in expected or (seen.outcome == "failed" and bool(failed) and bool(seen.error))
    in_time = seen.ms <= (scene.manifest.policy.timeout.total + SLACK_S) * 1e3
    return Tried(
        fault=name, expected=" or ".join(expected), outcome=seen.outcome, way=seen.way, error=seen.error,
        attempts=seen.attempts, ms=round(seen.ms, 1), ok=right and in_time and not seen.delivered_invalid,
    )  # fmt: skip


CAUSES: dict[ErrorClass, Rule] = {
    "error": Rule(status=500),
    "server_error": Rule(status=500),
    "rate_limit": Rule(status=429, retry_after=0.2),
    "timeout": Rule(fault="stall_head"),
    "connect_failed": Rule(fault="drop"),
    "cut_stream": Rule(fault="cut"),
    "invalid_output": INVALID.rule,
    "context_window": Rule(refuse="context_window"),
    "content_filter": Rule(refuse="content_filter"),
}


async def _way(control: Control, scene: Scene, step: Fallback) -> Tried | None:
    """The step alone, with what it is for happening before it; None where that cannot be staged."""
    structured = scene.manifest.schema is not None
    kind = next((kind for kind in step.on if kind in CAUSES and (structured or kind != "invalid_output")), None)
    if kind is None:
        return None
    cause, own = CAUSES[kind], scene.manifest.model
    rules = [cause]
    if step.model is not None and step.model.provider == own.provider:
        rules = [msgspec.structs.replace(scene.answer, match=Match(model=step.model.name)), cause]
    if step.trim is not None:  # the same model, which takes the shorter request
        rules = [msgspec.structs.replace(cause, times=_tries(scene.manifest.policy, kind)), scene.answer]
        scene = longer(scene, step.trim)
    policy = msgspec.structs.replace(scene.manifest.policy, fallback=(step,))
    manifest = msgspec.structs.replace(scene.manifest, policy=policy)
    alone = msgspec.structs.replace(scene, live=msgspec.structs.replace(scene.live, manifest=manifest))
    async with staged(control, alone, {own.provider: Script(rules=rules)}) as stage:
        seen = await stage.ask()
    return _judged(step.way, [step.outcome], seen, scene)


def _tries(policy: Policy, kind: ErrorClass) -> int:
    """How often the model is asked before a fallback is."""
    return max(1, policy.retry.attempts) if kind in policy.retry.on or kind == "error" else 1


def longer(scene: Scene, keep: int) -> Scene:
    """The scene's request as the end of a conversation of which something can be left out."""
    turns = [{"role": role, "content": PLAIN} for _ in range(keep + 1) for role in ("user", "assistant")]
    messages = scene.body.get("messages", [])
    systems = [one for one in messages if one.get("role") in ("system", "developer")]
    rest = [one for one in messages if one not in systems]
    return msgspec.structs.replace(scene, body=scene.body | {"messages": [*systems, *turns, *rest]})
