"""What monitoring knows of a route's rules and alerts, read for the review (T9.7)."""

from collections.abc import Collection, Sequence
from statistics import median

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
    watched = {rule.item for rule in rules if rule.item}
    names = {rule.name for rule in rules}
    fired = [alert for alert in alerts if alert.times_fired]
    open_ = [alert for alert in fired if alert.state in FIRING]
    waiting = [alert for alert in open_ if alert.state == "firing"]
    acknowledged = [alert for alert in fired if alert.acknowledged_us]
    answered = [alert for alert in fired if alert.actionable is not None]
    return AlertFacts(
        rules=len(rules),
        unowned=[rule.name for rule in rules if not rule.owner],
        without_action=[rule.name for rule in rules if not rule.actions],
        without_runbook=[rule.name for rule in rules if not rule.runbook],
        notify_only=[rule.name for rule in rules if rule.actions and all(one.kind == "notify" for one in rule.actions)],
        watched_items=sorted(watched),
        unwatched_items=sorted(set(expected) - watched),
        firing=len(open_),
        unacknowledged=len(waiting),
        oldest_unacknowledged_s=max(((now_us - alert.fired_us) / 1e6 for alert in waiting), default=None),
        median_ack_s=(
            median((alert.acknowledged_us - alert.fired_us) / 1e6 for alert in acknowledged) if acknowledged else None
        ),
        acknowledged=len(acknowledged),
        answered=len(answered),
        actionable=sum(alert.actionable is True for alert in answered),
        heartbeat_age_s=(now_us - heartbeat_us) / 1e6 if heartbeat_us is not None else None,
        no_data=sorted({alert.rule for alert in alerts if alert.state == "no_data" and alert.rule in names}),
        failed_actions=[
            f"{alert.rule}: {said}"
            for alert in open_
            for said in alert.actions_taken
            if any(w in said for w in _FAILED)
        ],
    )
