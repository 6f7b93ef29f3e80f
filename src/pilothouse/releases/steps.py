"""The steps of a plan, and how each reads in one line."""

from typing import Any, Literal, assert_never

import msgspec

from pilothouse.domain.callers import Incompatible
from pilothouse.releases.guardrail import percent

State = Literal["done", "ready", "waiting", "blocked"]


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Items that are measured before anything moves. `incompatible`: what callers may not survive [T10.1]."""

    items: tuple[str, ...] = ("CR.1", "T1.3", "T10.1", "CR.6")
    incompatible: tuple[Incompatible, ...] = ()
    callers: int | None = None  # requests of callers that it was compared with; None: nobody has looked


class Gate(msgspec.Struct, frozen=True, tag="gate"):
    """An eval of `n` cases against the stable release. `detects`: the smallest drop seen with 80 % power, given that a
    share `discordance` of the cases changes; cost and time as of the last run, None where there was none."""

    n: int
    margin: float
    detects: float
    discordance: float
    cost_usd: float | None = None
    seconds: float | None = None
    baseline: int | None = None


class Stage(msgspec.Struct, frozen=True, tag="stage"):
    """The release becomes the stable one of an environment that comes before."""

    env: str
    release: int


class Canary(msgspec.Struct, frozen=True, tag="canary"):
    """A share of sessions, until enough requests and seconds have gone by without harm."""

    share: float
    min_requests: int
    min_seconds: float


class Hold(msgspec.Struct, frozen=True, tag="hold"):
    """The canary stays at its last share for so long, although it has seen enough."""

    share: float
    seconds: float


class Promote(msgspec.Struct, frozen=True, tag="promote"):
    """The release becomes the stable one."""

    release: int


Step = Check | Gate | Stage | Canary | Hold | Promote


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """A step now. `blocked`: it cannot be done as things are; `waiting`: it is under way; `ready`: it comes next.

    `evidence`: the numbers that the message rests on.
    """

    step: Step
    state: State
    message: str
    evidence: dict[str, Any] = {}


def describe(step: Step) -> str:
    """A step in one line, as the terminal and the page show it."""
    match step:
        case Check():
            return "check " + " ".join(step.items)
        case Gate():
            return _gate(step)
        case Stage(env, release):
            return f"stage release {release} in {env}"
        case Canary(0.0, requests):
            return f"shadow, at least {requests} requests asked of it too, whose answers nobody gets"
        case Canary(share, requests, seconds):
            return f"canary {percent(share)}, at least {seconds / 60:.3g} min and {requests} requests"
        case Hold(share, seconds):
            return f"hold {percent(share)} for {seconds / 60:.3g} min"
        case Promote(release):
            return f"promote release {release}"
        case _:
            assert_never(step)


def _gate(step: Gate) -> str:
    cost = "cost unknown" if step.cost_usd is None else f"about {step.cost_usd:.2f} USD"
    took = "" if step.seconds is None else f", {step.seconds / 60:.0f} min"
    seen = f"detects ≥ {step.detects * 100:.1f} pp at 80 % power"
    return f"gate {step.n} cases, margin {step.margin * 100:.3g} pp, {seen}, {cost}{took}"
