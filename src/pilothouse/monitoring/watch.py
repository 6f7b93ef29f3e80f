"""One tick of the evaluator: every rule's metric is read, its alert steps, what fires acts and tells its owner."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from pilothouse.domain.alert import Action, ActionResult, Alert, Rule
from pilothouse.domain.errors import StoreError
from pilothouse.domain.wires import Act, MetricQuery, Metrics
from pilothouse.monitoring import machine
from pilothouse.monitoring.machine import FIRING, Observation
from pilothouse.monitoring.notify import Delivery, Notice, Notify, Tried

REOPEN_S = 3_600  # a breach within an hour of the end is the same incident again
NOTE = "note"  # the label of an answer with what is to be said of it
QUIET = ("inactive", "resolved")
REPEAT_S = 4 * 3_600  # an alert that nobody has acknowledged is said again

Keep = Callable[[Alert], None]


def evaluate(
    rules: Sequence[Rule],
    alerts: Iterable[Alert],
    metrics: Metrics,
    act: Act,
    notify: Notify,
    now_us: int,
    keep: Keep = lambda _: None,
) -> list[Alert]:
    """The alerts after this tick: the current instance of every rule, and those whose rule is gone, resolved.

    Actions run once when an alert begins to fire, and again when it reopens. `keep` stores an alert; it is called
    before the actions begin and after they end, so that a crash between the two repeats none of them: the next tick
    says that their outcome is not known. It is not called for a rule that is as healthy as it was.
    One rule's failure is its own alert's message and stops no other.
    """
    current = _current(alerts)
    names = {rule.name for rule in rules}
    ended = [
        machine.retire(alert, now_us)
        for name, alert in current.items()
        if name not in names and alert.state != "resolved"
    ]
    tick = _Tick(metrics, act, notify, now_us, keep)
    return [*(_evaluate(rule, current.get(rule.name), tick) for rule in rules), *(_kept(one, tick) for one in ended)]


class _Tick(msgspec.Struct, frozen=True):
    metrics: Metrics
    act: Act
    notify: Notify
    now_us: int
    keep: Keep


def _current(alerts: Iterable[Alert]) -> dict[str, Alert]:
    """The newest instance of each rule: ids sort by time."""
    newest: dict[str, Alert] = {}
    for alert in alerts:
        if alert.rule not in newest or alert.id > newest[alert.rule].id:
            newest[alert.rule] = alert
    return newest


def _evaluate(rule: Rule, before: Alert | None, tick: _Tick) -> Alert:
    fresh = before is None or _over(before, tick.now_us)
    if before is None or fresh:
        before = machine.begin(rule, tick.now_us)
    try:
        after = _step(rule, before, tick)
    except Exception as error:  # noqa: BLE001  # background loop: recorded in the rule's own alert, the others go on
        after = _failed(before, error, tick.now_us)
    if not fresh and after.state == before.state and after.state in QUIET:
        return after  # a hundred healthy rules need no hundred writes a tick
    return _kept(after, tick)


def _kept(alert: Alert, tick: _Tick) -> Alert:
    """Stored; where that fails, the alert says so and the next rule has its turn."""
    try:
        tick.keep(alert)
    except StoreError as error:
        return msgspec.structs.replace(alert, message=f"{alert.message}; could not be stored: {error}")
    return alert


def _over(alert: Alert, now_us: int) -> bool:
    return alert.state == "resolved" and now_us - alert.since_us > REOPEN_S * 1_000_000


def _failed(alert: Alert, error: Exception, now_us: int) -> Alert:
    """What cannot be evaluated is not known; what fires goes on firing."""
    message = f"could not be evaluated: {type(error).__name__}: {error}"
    if alert.state in (*FIRING, "no_data"):
        return msgspec.structs.replace(alert, message=message)
    return msgspec.structs.replace(alert, state="no_data", since_us=now_us, value=None, message=message)


def _step(rule: Rule, before: Alert, tick: _Tick) -> Alert:
    alert = _interrupted(rule, before, tick) if before.acting else before
    moved = machine.step(alert, observe(rule, tick.metrics, tick.now_us), rule, tick.now_us)
    if moved.fired:
        return _fire(rule, moved.alert, moved.reopened, tick)
    if moved.resolved:
        _tell(rule, moved.alert, f"resolved: {rule.name}", tick)
    elif moved.alert.state == "firing" and tick.now_us - moved.alert.notified_us >= REPEAT_S * 1_000_000:
        return _told(rule, moved.alert, f"still firing: {rule.name}", tick)
    return moved.alert


def observe(rule: Rule, metrics: Metrics, now_us: int) -> Observation:
    """The rule's metric over its window, up to now."""
    points = metrics(question(rule, now_us))
    if not points:
        return Observation(None, 0)
    return Observation(points[0].value, points[0].n, points[0].labels.get(NOTE, ""))


def question(rule: Rule, now_us: int) -> MetricQuery:
    """What a rule asks of telemetry."""
    return MetricQuery(
        metric=rule.metric,
        route=rule.route,
        env=rule.env,
        model=rule.labels.get("model", ""),
        release=int(rule.labels["release"]) if "release" in rule.labels else None,
        canary={"true": True, "false": False}[rule.labels["canary"]] if "canary" in rule.labels else None,
        since_us=now_us - rule.window_s * 1_000_000,
        until_us=now_us,
    )


def _fire(rule: Rule, alert: Alert, reopened: bool, tick: _Tick) -> Alert:
    tick.keep(msgspec.structs.replace(alert, acting=True))
    results = [_acted(action, rule, alert, tick) for action in rule.actions if not _is_for_owner(action)]
    said = [f"{result.action.kind}: {result.message}" for result in results]
    alert = msgspec.structs.replace(alert, actions_taken=[*alert.actions_taken, *said])
    word = "fires again" if reopened else "fires"
    failed = "" if all(result.ok for result in results) else "; AN ACTION FAILED"
    return _told(rule, alert, f"{rule.name} {word}{failed}", tick)


def _is_for_owner(action: Action) -> bool:
    """`notify` without a URL: the owner is told anyhow, after the other actions, with what they did."""
    return action.kind == "notify" and not action.argument


def _acted(action: Action, rule: Rule, alert: Alert, tick: _Tick) -> ActionResult:
    try:
        return tick.act(action, rule.route, rule.env, f"{rule.name}: {alert.message}")
    except Exception as error:  # noqa: BLE001  # background loop: a failed action is recorded, escalated, the next one runs
        return ActionResult(action=action, ok=False, message=f"failed: {type(error).__name__}: {error}")


def _interrupted(rule: Rule, alert: Alert, tick: _Tick) -> Alert:
    """Control ended while the actions ran. None is repeated: a second rollback would go one release too far."""
    said = [*alert.actions_taken, "actions were interrupted: their outcome is not known, none was repeated"]
    alert = msgspec.structs.replace(alert, acting=False, actions_taken=said)
    return _told(rule, alert, f"{rule.name} fired; ITS ACTIONS WERE INTERRUPTED, look at the pointer", tick)


def _told(rule: Rule, alert: Alert, title: str, tick: _Tick) -> Alert:
    delivery = _tell(rule, alert, title, tick)
    said = [*alert.actions_taken, f"notify: {rule.owner}, {delivery.message}"]
    return msgspec.structs.replace(alert, notified_us=tick.now_us, actions_taken=said)


def _tell(rule: Rule, alert: Alert, title: str, tick: _Tick) -> Delivery:
    try:
        return tick.notify(_notice(rule, alert, title))
    except Exception as error:  # noqa: BLE001  # background loop: recorded in the alert like any other failed delivery
        return Delivery(False, (Tried("notify", False, f"{type(error).__name__}: {error}"),))


def _notice(rule: Rule, alert: Alert, title: str) -> Notice:
    lines = [alert.message, *alert.actions_taken]
    if rule.runbook:
        lines.append(f"runbook: {rule.runbook}")
    return Notice(
        title=f"[{rule.route} {rule.env}] {title}",
        text="\n".join(lines),
        alert=alert.id,
        rule=rule.name,
        route=rule.route,
        env=rule.env,
        state=alert.state,
        owner=rule.owner,
        value=alert.value,
        threshold=rule.threshold,
        n=alert.n,
        since_us=alert.since_us,
        actions_taken=tuple(alert.actions_taken),
        item=rule.item,
        runbook=rule.runbook,
    )
