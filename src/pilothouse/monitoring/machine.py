"""The alert's state machine: pure, so that every path can be tested.

    inactive ──▶ pending ──for──▶ firing ──▶ acknowledged
        ▲           │                │             │
        └───────────┘                └──keep_firing──▶ resolved ──▶ (reopened: pending or firing)

`no_data` stands beside inactive and pending: too little was seen to judge. What fires goes on firing without data:
silence is no proof of health.
"""

import math
import operator
from collections.abc import Callable

import msgspec

from pilothouse.domain.alert import Alert, AlertState, Rule
from pilothouse.domain.errors import Refused
from pilothouse.domain.ids import uuid7

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
FIRING: tuple[AlertState, ...] = ("firing", "acknowledged")


class Observation(msgspec.Struct, frozen=True):
    """A rule's metric over its window; None where there is no value. `note`: how it came about over several hosts."""

    value: float | None
    n: int
    note: str = ""


class Transition(msgspec.Struct, frozen=True):
    """The alert after an observation; `fired`: it began to fire now, `reopened`: again; `resolved`: it ended now."""

    alert: Alert
    fired: bool = False
    reopened: bool = False
    resolved: bool = False


def begin(rule: Rule, now_us: int) -> Alert:
    """A new instance of `rule`, before its first observation."""
    return Alert(
        id=uuid7(now_us),
        rule=rule.name,
        route=rule.route,
        env=rule.env,
        state="inactive",
        since_us=now_us,
        threshold=rule.threshold,
        owner=rule.owner,
    )


def breaches(observation: Observation, rule: Rule) -> bool | None:
    """Whether the rule's condition holds; None where fewer than `min_n` were observed, or no finite value."""
    value = observation.value
    if value is None or not math.isfinite(value) or observation.n < rule.min_n:
        return None
    return _COMPARE[rule.op](value, rule.threshold)


def step(alert: Alert, observation: Observation, rule: Rule, now_us: int) -> Transition:
    """The alert after `observation`; the one given is left as it was."""
    holds = breaches(observation, rule)
    seen = msgspec.structs.replace(
        alert,
        value=observation.value if holds is not None else None,
        n=observation.n,
        threshold=rule.threshold,
        owner=rule.owner,
        message=describe(rule, observation),
        breached_us=now_us if holds else alert.breached_us,
    )
    if alert.state in FIRING:
        return _while_firing(seen, holds, rule, now_us)
    return _while_quiet(seen, holds, rule, now_us)


def _while_firing(alert: Alert, holds: bool | None, rule: Rule, now_us: int) -> Transition:
    over = holds is False and now_us - alert.breached_us >= rule.keep_firing_s * 1_000_000
    return Transition(_in("resolved", alert, now_us), resolved=True) if over else Transition(alert)


def _while_quiet(alert: Alert, holds: bool | None, rule: Rule, now_us: int) -> Transition:
    if not holds:
        calm: AlertState = "resolved" if alert.times_fired else "inactive"
        return Transition(_in("no_data" if holds is None and not alert.times_fired else calm, alert, now_us))
    waited = now_us - alert.since_us if alert.state == "pending" else 0
    if waited < rule.for_s * 1_000_000:
        return Transition(_in("pending", alert, now_us))
    fired = msgspec.structs.replace(
        _in("firing", alert, now_us),
        fired_us=now_us,
        times_fired=alert.times_fired + 1,
        acknowledged_by="",
        acknowledged_us=0,
        notified_us=0,
        actionable=None,
    )
    return Transition(fired, fired=True, reopened=alert.times_fired > 0)


def _in(state: AlertState, alert: Alert, now_us: int) -> Alert:
    if alert.state == state:
        return alert
    return msgspec.structs.replace(alert, state=state, since_us=now_us)


def acknowledge(alert: Alert, person: str, now_us: int) -> Alert:
    """Somebody has it: no more reminders. Refused unless it fires."""
    if alert.state != "firing":
        raise Refused(f"the alert of {alert.rule!r} is {alert.state}", hint="only a firing alert can be acknowledged")
    acknowledged = msgspec.structs.replace(alert, acknowledged_by=person, acknowledged_us=now_us)
    return _in("acknowledged", acknowledged, now_us)


def answer(alert: Alert, actionable: bool) -> Alert:
    """Note whether the alert was worth it, from which a rule's precision is known. Refused where it never fired."""
    if not alert.times_fired:
        raise Refused(f"the alert of {alert.rule!r} has not fired", hint="there is nothing to judge yet")
    return msgspec.structs.replace(alert, actionable=actionable)


def with_answers(alert: Alert, stored: Alert) -> Alert:
    """`alert`, computed from an older copy of `stored`, with what people said of it meanwhile.

    Whoever stores an alert that a tick has computed reads the stored one in the same transaction and keeps this.
    """
    if alert.id != stored.id or alert.fired_us != stored.fired_us:
        return alert  # it has begun to fire again since: what was said is of the time before
    answered = msgspec.structs.replace(alert, actionable=stored.actionable)
    if alert.state != "firing" or stored.state != "acknowledged":
        return answered
    return msgspec.structs.replace(
        answered,
        state="acknowledged",
        since_us=stored.since_us,
        acknowledged_by=stored.acknowledged_by,
        acknowledged_us=stored.acknowledged_us,
    )


def retire(alert: Alert, now_us: int) -> Alert:
    """An alert whose rule is gone."""
    return msgspec.structs.replace(_in("resolved", alert, now_us), message="its rule was removed", acting=False)


def describe(rule: Rule, observation: Observation) -> str:
    """The observation as a sentence with its numbers."""
    window = f"n = {observation.n}, last {_span(rule.window_s)}"
    window += f"; {observation.note}" if observation.note else ""
    if observation.value is None or breaches(observation, rule) is None:
        return f"{rule.metric} not known ({window}; needs {rule.min_n})"
    return f"{rule.metric} {_figure(observation.value)}, fires {rule.op} {_figure(rule.threshold)} ({window})"


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 9_999.5 else f"{value:.0f}"


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
