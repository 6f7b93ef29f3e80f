"""The rules' evaluator, wired: metrics in, verbs out, alerts kept, owners told."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from pilothouse.domain.alert import Action, ActionResult, Alert, Rule
from pilothouse.domain.change import Actor
from pilothouse.domain.errors import NotFound, StateError
from pilothouse.domain.wires import SecretReader
from pilothouse.monitoring import defaults, machine, notify, watch
from pilothouse.monitoring.actions import Effect, Verbs, make_act
from pilothouse.monitoring.notify import Notice
from pilothouse.releases import pointer
from pilothouse.releases.move import Moved
from pilothouse.security.secrets import make_secret_reader
from pilothouse.server import readings, timing
from pilothouse.server.composition import Control
from pilothouse.server.hosts import Hosts
from pilothouse.server.verbs.releases import settled
from pilothouse.store.state import alerts, pointers

ACT_S = 10.0  # an action that takes longer has failed
T = TypeVar("T")
LIVE_ALERTS = 2_000  # newest instances that the evaluator looks at


async def evaluate(control: Control) -> None:
    """One tick over every rule in force. Runs in a thread: an action comes back to this loop to push the table.

    Of several hosts each tells what it has seen, and the one that leads judges all of it.
    """
    await control.load()
    if control.hosts is not None and not control.hosts.leads:
        if control.hosts.others:
            await asyncio.to_thread(_tell, control, control.hosts)
        return
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(_evaluate, control, loop)
    control.heartbeat_us = control.clock.now_us()


def _evaluate(control: Control, loop: asyncio.AbstractEventLoop) -> None:
    with control.state.read() as conn:
        rules = [_on_what_it_can_mend(conn, rule) for rule in _in_force(control, conn)]
        known = alerts.list_alerts(conn, limit=LIVE_ALERTS)
    secret = make_secret_reader(control.app_dir)
    tell = notify.make_notify(control.config.people, secret)

    def keep(alert: Alert) -> None:
        with control.state.write() as conn:
            alerts.put(conn, _with_answers(conn, alert))

    verbs = _verbs(control, loop, secret)
    metrics = readings.over_hosts(control, rules)
    watch.evaluate(rules, known, metrics, make_act(verbs), tell, control.clock.now_us(), keep)


def _tell(control: Control, hosts: Hosts) -> None:
    """Tell the leader what this host's telemetry says of every rule's metric."""
    with control.state.read() as conn:
        rules = [_on_what_it_can_mend(conn, rule) for rule in _in_force(control, conn)]
    readings.tell(control, hosts, rules)


def _in_force(control: Control, conn: Connection) -> list[Rule]:
    return list(defaults.effective(control.config, alerts.list_rules(conn)))


def _on_what_it_can_mend(conn: Connection, rule: Rule) -> Rule:
    """A rule that rolls back looks at the stable release alone, as it is now.

    A canary has its own watch, and what a release did that was taken back already must not take back a good one.
    """
    if not any(action.kind == "rollback" for action in rule.actions):
        return rule
    pointer = pointers.get(conn, rule.route, rule.env)
    live = {"canary": "false"} | ({"release": str(pointer.stable)} if pointer is not None else {})
    return msgspec.structs.replace(rule, labels=live | rule.labels)


def _with_answers(conn: Connection, alert: Alert) -> Alert:
    """The alert with what people said of it while the tick computed it."""
    try:
        return machine.with_answers(alert, alerts.get(conn, alert.id))
    except NotFound:
        return alert  # its first time in the store


def _verbs(control: Control, loop: asyncio.AbstractEventLoop, secret: SecretReader) -> Verbs:
    """The verbs as the actions call them: blocking, each on every worker when it returns."""

    def moved(reason: str, move: Callable[[Actor], Moved]) -> Effect:
        began, decided_us = control.clock.monotonic(), control.clock.now_us()
        done = move(Actor(type="rule", id=reason.partition(":")[0]))
        effect = _effect(_on(loop, settled(control, done, began)))
        _on(loop, timing.note(control, done, decided_us))
        return effect

    def rollback(route: str, env: str, to: int | None, reason: str) -> Effect:
        return moved(
            reason,
            lambda by: pointer.rollback(control.state, route, env, actor=by, reason=reason, clock=control.clock, to=to),
        )

    def pin_model(route: str, env: str, model: str, reason: str) -> Effect:
        return moved(
            reason,
            lambda by: pointer.pin_model(
                control.state, route, env, model, actor=by, reason=reason, clock=control.clock
            ),
        )

    def disable_route(route: str, env: str, reason: str) -> Effect:
        return moved(
            reason,
            lambda by: pointer.set_disabled(
                control.state, route, env, True, actor=by, reason=reason, clock=control.clock
            ),
        )

    def notify_url(url: str, text: str) -> ActionResult:
        return _notified(url, text, secret)

    return Verbs(rollback=rollback, pin_model=pin_model, disable_route=disable_route, notify=notify_url)


def _on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on control's loop from this thread."""
    try:
        return asyncio.run_coroutine_threadsafe(work, loop).result(ACT_S)
    except TimeoutError as error:
        raise StateError(f"the workers were not told within {ACT_S:.0f} s", hint="look at the pointer") from error


def _effect(done: dict[str, Any]) -> Effect:
    late = f"late: {', '.join(done['late'])}" if done["late"] else ""
    return Effect(
        from_release=done["from"],
        to_release=done["to"],
        workers=done["workers"],
        of=done["of"],
        ms=done["propagated_ms"],
        note=late or done["note"],
    )


def _notified(url: str, text: str, secret: SecretReader) -> ActionResult:
    """A `notify` action with a URL of its own."""
    rule, _, said = text.partition(":")
    notice = Notice(
        title=rule, text=said.strip(), alert="", rule=rule, route="", env="", state="firing", owner="",
        value=None, threshold=0.0, n=0, since_us=0,
    )  # fmt: skip
    told = notify.deliver([url], notice, secret)
    return ActionResult(action=Action(kind="notify", argument=url), ok=told.ok, message=told.message)
