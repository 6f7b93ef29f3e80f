"""What the pages show and may do of plans, and of releases that are made on them. Times are µs since 1970."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.manifest import Manifest
from pilothouse.releases.edit import Draft, Edit


class PlanStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the plan: the same that the executor walks. `state`: done, ready, waiting or blocked."""

    kind: str  # check, gate, stage, canary, hold, promote
    text: str
    state: str = "ready"
    message: str = ""


class CarriedShown(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that control carries on, or did. `total` 0: no gate runs now."""

    release: int
    actor: str
    since_us: int
    done: int = 0
    total: int = 0
    stopped: bool = False
    ended: bool = False
    error: str = ""


class PlanShown(msgspec.Struct, frozen=True, kw_only=True):
    """A plan as it stands. `state`: of its first step that is not done. `revision`: of the pointer it was read from."""

    route: str
    env: str
    live: int | None
    to: int
    revision: int
    state: str
    steps: tuple[PlanStep, ...] = ()
    back_out: str = ""
    carried: CarriedShown | None = None


class ApplyAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Carry a plan on, as long as the pointer is the one that was looked at. `gate`: run it where it was not run."""

    route: str
    env: str
    release: int
    revision: int
    gate: bool = True


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a release is edited from. `base`: None for the app's files. `newest`: 0 where there is no release yet."""

    route: str
    base: int | None
    manifest: Manifest
    newest: int
    releases: tuple[tuple[int, str], ...] = ()  # number and notes, newest first
    stable: int | None = None  # what prod serves
    models: tuple[str, ...] = ()  # that the route is known to work with


@dataclass(frozen=True, kw_only=True)
class PlanPages:
    """The pages' way to plans. Readers are blocking; verbs return a sentence with its numbers."""

    plan: Callable[[str, int, str], PlanShown]  # route, release, environment
    start: Callable[[str, int | None], Awaitable[Start]]  # route, base (0: what fits best); NotFound, ConfigError
    draft: Callable[[str, Edit], Awaitable[Draft]]
    create: Callable[[str, Edit, str, Actor], Awaitable[tuple[int, str]]]  # notes, who: number and sentence
    apply: Callable[[ApplyAsk, Actor], Awaitable[str]]
    stop: Callable[[str, str], bool]  # route, environment: was there a plan to stop?
