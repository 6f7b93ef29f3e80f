"""What monitoring knows of a route's rules and alerts, read for the review (T9.7)."""

from collections.abc import Collection, Sequence
from statistics import median

import msgspec

from pilothouse.domain.alert import Alert, Rule
from pilothouse.domain.alert_facts import AlertFacts
from pilothouse.monitoring.machine import FIRING

_FAILED = (" failed", "interrupted", "nobody was told")


def facts(
    rules: Sequence[Rule],
    alerts: Sequence[Alert],
    *,
    expected: Collection[str] = (),
    now_us: int,
    heartbeat_us: int | None,
) -> AlertFacts:
    """`rules` and `alerts` of what is reviewed; `expected`: checklist ids that should have a rule.

    `heartbeat_us`: when the evaluator last ran to its end, None where it never did.
    """
    found = AlertFacts(
        rules=len(rules),
        heartbeat_age_s=(now_us - heartbeat_us) / 1e6 if heartbeat_us is not None else None,
    )
    return _alerts(_rules(found, rules, expected), rules, alerts, now_us)


def _rules(found: AlertFacts, rules: Sequence[Rule], expected: Collection[str]) -> AlertFacts:
    watched = {rule.item for rule in rules} - {""}
    return msgspec.structs.replace(
        found,
        unowned=[rule.name for rule in rules if not rule.owner],
        without_action=[rule.name for rule in rules if not rule.actions],
        without_runbook=[rule.name for rule in rules if not rule.runbook],
        notify_only=[rule.name for rule in rules if {action.kind for action in rule.actions} == {"notify"}],
        watched_items=sorted(watched),
        unwatched_items=sorted(set(expected) - watched),
    )


def _alerts(found: AlertFacts, rules: Sequence[Rule], alerts: Sequence[Alert], now_us: int) -> AlertFacts:
    names = {rule.name for rule in rules}
    fired = [alert for alert in alerts if alert.times_fired]
    said_of = [alert.actionable for alert in fired]
    return msgspec.structs.replace(
        _waiting(found, fired, now_us),
        answered=len(said_of) - said_of.count(None),
        actionable=said_of.count(True),
        no_data=sorted({alert.rule for alert in alerts if alert.state == "no_data"} & names),
        failed_actions=[
            f"{alert.rule}: {said}"
            for alert in fired
            for said in alert.actions_taken
            if alert.state in FIRING and _went_wrong(said)
        ],
    )


def _waiting(found: AlertFacts, fired: Sequence[Alert], now_us: int) -> AlertFacts:
    """How long alerts wait, or waited, for somebody to have them."""
    waiting = [now_us - alert.fired_us for alert in fired if alert.state == "firing"]
    acks = [alert.acknowledged_us - alert.fired_us for alert in fired if alert.acknowledged_us]
    return msgspec.structs.replace(
        found,
        firing=sum(alert.state in FIRING for alert in fired),
        unacknowledged=len(waiting),
        oldest_unacknowledged_s=max(waiting) / 1e6 if waiting else None,
        median_ack_s=median(acks) / 1e6 if acks else None,
        acknowledged=len(acks),
    )


def _went_wrong(said: str) -> bool:
    return any(word in said for word in _FAILED)
