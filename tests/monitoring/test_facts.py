from pilothouse.domain.alert import Action, Alert, Rule
from pilothouse.monitoring.facts import facts

RULES = [
    Rule(name="whole", item="T9.2", metric="m", route="r", threshold=1, owner="ana", actions=(Action("rollback"),),
         runbook="x"),
    Rule(name="orphan", metric="m", route="r", threshold=1, owner="", actions=()),
]  # fmt: skip
S = 1_000_000


def alert(name: str, state: str, **rest: object) -> Alert:
    return Alert(
        id=name, rule=name, route="r", env="prod", state=state, since_us=0, times_fired=int("fired_us" in rest), **rest
    )  # type: ignore[arg-type]


def test_alerts_are_counted_by_what_became_of_them() -> None:
    alerts = [
        alert("whole", "firing", fired_us=10 * S, actions_taken=["rollback: rollback of r in prod failed: none"]),
        alert("a", "acknowledged", fired_us=20 * S, acknowledged_us=30 * S, actionable=True),
        alert("b", "resolved", fired_us=1 * S, acknowledged_us=41 * S, actionable=False),
        alert("c", "resolved", fired_us=1 * S),
        alert("orphan", "no_data"),
        alert("removed", "no_data"),
    ]
    found = facts(RULES, alerts, expected=("T9.1", "T9.2"), now_us=100 * S, heartbeat_us=99 * S)
    assert (found.rules, found.unowned, found.without_action, found.without_runbook) == (
        2, ["orphan"], ["orphan"], ["orphan"],
    )  # fmt: skip
    assert (found.watched_items, found.unwatched_items) == (["T9.2"], ["T9.1"])
    assert (found.firing, found.unacknowledged, found.oldest_unacknowledged_s) == (2, 1, 90.0)
    assert (found.acknowledged, found.median_ack_s) == (2, 25.0)
    assert (found.answered, found.actionable) == (2, 1)
    assert found.no_data == ["orphan"]
    assert found.failed_actions == ["whole: rollback: rollback of r in prod failed: none"]
    assert found.notify_only == []
