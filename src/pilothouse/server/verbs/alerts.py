"""Rules and alerts: what is in force, saved only with owner and action; acknowledged, judged."""

import asyncio
from collections.abc import Callable
from typing import Any

from pilothouse.domain.alert import Alert, Rule
from pilothouse.domain.change import Actor, Change
from pilothouse.domain.errors import PilothouseError
from pilothouse.monitoring import defaults, machine, rules
from pilothouse.server.composition import Control
from pilothouse.store.state import alerts, changes
from pilothouse.telemetry.metrics import CATALOGUE


def in_force(control: Control) -> dict[str, Any]:
    """Every rule in force with where it comes from, and what is wrong with it (empty: nothing)."""
    with control.state.read() as conn:
        saved = alerts.list_rules(conn)
    own = {rule.name for rule in control.config.rules}
    kept = {rule.name for rule in saved}
    found = []
    for rule in defaults.effective(control.config, saved):
        origin = "saved" if rule.name in kept else "config" if rule.name in own else "default"
        found.append({"rule": rule, "from": origin, "error": fault(control, rule)})
    return {"rules": found}


def fault(control: Control, rule: Rule) -> str:
    """Why the rule could not be saved as it stands; empty where it could."""
    try:
        rules.validate(rule, control.config.people, CATALOGUE)
    except PilothouseError as error:
        return str(error)
    return ""


async def save(control: Control, rule: Rule, actor: Actor) -> dict[str, Any]:
    """Save a rule, replacing one of its name; Refused without an owner, a threshold or an action."""
    rules.validate(rule, control.config.people, CATALOGUE)
    control.route(rule.route)

    def put() -> None:
        with control.state.write() as conn:
            alerts.put_rule(conn, rule)
            change = Change(
                actor=actor,
                action="rule.save",
                object_type="rule",
                object_id=rule.name,
                route=rule.route,
                env=rule.env,
                detail={"metric": rule.metric, "op": rule.op, "threshold": rule.threshold, "owner": rule.owner},
            )
            changes.append(conn, change, control.clock)

    await asyncio.to_thread(put)
    return {"rule": rule, "from": "saved"}


def every(control: Control, states: tuple[str, ...] = (), route: str | None = None) -> list[Alert]:
    """Alerts, newest first."""
    with control.state.read() as conn:
        return alerts.list_alerts(conn, states=states, route=route)


async def acknowledge(control: Control, ident: str, actor: Actor) -> Alert:
    """Somebody has it; NotFound, or Refused where it does not fire."""
    return await _change(
        control,
        ident,
        actor,
        "alert.acknowledge",
        lambda one: machine.acknowledge(one, str(actor), control.clock.now_us()),
    )


async def answer(control: Control, ident: str, actionable: bool, actor: Actor) -> Alert:
    """Whether it was worth it; NotFound, or Refused where it never fired."""
    return await _change(control, ident, actor, "alert.answer", lambda one: machine.answer(one, actionable))


async def _change(control: Control, ident: str, actor: Actor, action: str, work: Callable[[Alert], Alert]) -> Alert:
    def put() -> Alert:
        with control.state.write() as conn:
            after = work(alerts.get(conn, ident))
            alerts.put(conn, after)
            change = Change(
                actor=actor,
                action=action,
                object_type="alert",
                object_id=ident,
                route=after.route,
                env=after.env,
                detail={"rule": after.rule, "state": after.state, "actionable": after.actionable},
            )
            changes.append(conn, change, control.clock)
            return after

    return await asyncio.to_thread(put)
