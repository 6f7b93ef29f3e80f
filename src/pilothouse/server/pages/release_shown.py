"""What the releases page shows of a canary's evidence and of drills. Times are µs since 1970, shares 0 … 1."""

import msgspec

from pilothouse.domain.release import CanaryLook
from pilothouse.releases.guardrail import Guardrail


class CanaryShown(msgspec.Struct, frozen=True, kw_only=True):
    """A canary run and how its evidence grew. `rails`: as last judged; `looks`: the same over time, oldest first."""

    id: int
    env: str
    release: int
    baseline: int
    state: str  # running, promoted, aborted, superseded
    started_us: int
    ended_us: int | None = None
    decision: str = ""
    sentence: str = ""  # the last decision with its numbers
    steps: tuple[tuple[int, float], ...] = ()  # (when it began, share)
    looks: tuple[CanaryLook, ...] = ()
    rails: tuple[Guardrail, ...] = ()
    t_detect_us: int | None = None
    t_decide_us: int | None = None
    t_flip_us: int | None = None
    t_last_bad_us: int | None = None


class DrillShown(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of drill and its newest evidence; `ts_us` None: never practised. `detail`: ms unless its name says so."""

    kind: str  # as the command names it
    command: str
    env: str = ""
    ts_us: int | None = None
    ok: bool = False
    detail: dict[str, str | int | float | bool | None] = {}
