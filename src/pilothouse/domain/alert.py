"""Rules, alerts and the actions that answer them."""

from typing import Literal

import msgspec

AlertState = Literal["inactive", "pending", "firing", "acknowledged", "resolved", "no_data"]
ActionKind = Literal["rollback", "pin_model", "disable_route", "notify"]


class Action(msgspec.Struct, frozen=True):
    """An executable fallback. `argument`: model for `pin_model`, URL for `notify`, release for `rollback`."""

    kind: ActionKind
    argument: str = ""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Watches a metric over a window; cannot exist without owner, threshold and action.

    Fires while `metric op threshold` holds on at least `min_n` observations for `for_s` seconds.
    """

    name: str
    item: str = ""  # checklist id it watches, if any
    metric: str
    route: str
    env: str = "prod"
    op: Literal[">", "<", ">=", "<="] = ">"
    threshold: float
    window_s: int = 300
    for_s: int = 0
    min_n: int = 20
    owner: str
    actions: tuple[Action, ...]
    runbook: str = ""
    keep_firing_s: int = 60
    labels: dict[str, str] = {}


class Alert(msgspec.Struct, kw_only=True):
    """An instance of a rule's state machine. `since_us`: when its present state began; 0 in other times is never."""

    id: str
    rule: str
    route: str
    env: str
    state: AlertState
    since_us: int
    value: float | None = None
    n: int = 0
    threshold: float = 0.0
    owner: str = ""
    actions_taken: list[str] = []
    acknowledged_by: str = ""
    actionable: bool | None = None
    message: str = ""
    breached_us: int = 0  # when the condition was last seen to hold
    fired_us: int = 0  # when it last began to fire
    times_fired: int = 0
    acknowledged_us: int = 0
    notified_us: int = 0  # when its owner was last told
    acting: bool = False  # its actions have begun and their results are not in: set before, cleared after


class ActionResult(msgspec.Struct, frozen=True):
    """What an action did, in one sentence with its numbers."""

    action: Action
    ok: bool
    message: str
    detail: dict[str, str | int | float] = {}
