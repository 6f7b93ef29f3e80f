"""What the flags' pages show and may do. Times are µs since 1970; `evaluations` and uses are of the last 90 days."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pilothouse.domain.change import Actor
from pilothouse.domain.flag_facts import FlagTrouble, FlagUse


class FlagRow(msgspec.Struct, frozen=True, kw_only=True):
    """A flag in one environment."""

    key: str
    type: str
    kind: str
    env: str
    said: str  # what it does now, in one clause
    enabled: bool = True
    owner: str = ""
    tags: tuple[str, ...] = ()
    description: str = ""
    expires: str = ""
    route: str = ""
    changed_us: int = 0
    changed_here: bool = False  # it is not as the files declare it
    revision: int = 0
    evaluations: int = 0
    last_us: int | None = None
    off_us: int | None = None
    troubles: tuple[FlagTrouble, ...] = ()


class RuleShown(msgspec.Struct, frozen=True):
    """A rule as people read it."""

    name: str
    when: str
    serve: str


class FlagBoard(msgspec.Struct, frozen=True, kw_only=True):
    """One flag in one environment. `series`: variant → evaluations per bucket over [`since_us`, `until_us`)."""

    row: FlagRow
    variants: dict[str, Any]
    default: str
    rollout: dict[str, float]
    rules: tuple[RuleShown, ...]
    uses: tuple[FlagUse, ...]
    problems: dict[str, str] = {}  # variant → why the release that it names is not served
    others: tuple[FlagRow, ...] = ()  # the same flag in the other environments
    part: str = ""  # of a release that it selects; `release`: all of it
    off: str = ""
    since_us: int = 0
    until_us: int = 0
    bucket_s: int = 10_800
    series: dict[str, tuple[int, ...]] = {}
    history: tuple[dict[str, Any], ...] = ()


class FlagAsk(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked of a flag: `enable`, `disable`, `set`, `rollout` or `reset`."""

    key: str
    env: str
    what: str
    variant: str = ""
    share: float = 0.0
    reason: str = ""
    revision: int | None = None


@dataclass(frozen=True, kw_only=True)
class FlagPages:
    """The pages' way to flags. Readers are blocking; `change` returns a sentence with its numbers."""

    rows: Callable[[str], tuple[FlagRow, ...]]  # environment
    board: Callable[[str, str], FlagBoard]  # flag, environment; raises NotFound
    change: Callable[[FlagAsk, Actor], Awaitable[str]]
