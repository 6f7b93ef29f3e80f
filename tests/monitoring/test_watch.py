from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from pilothouse.domain.alert import Action, ActionResult, Alert, Rule
from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.errors import StoreError
from pilothouse.domain.wires import MetricPoint, MetricQuery
from pilothouse.monitoring.machine import acknowledge
from pilothouse.monitoring.notify import Delivery, Notice, Tried
from pilothouse.monitoring.watch import REOPEN_S, REPEAT_S, evaluate, observe
from pilothouse.store.state import alerts as kept_alerts
from pilothouse.store.state.engine import StateStore

ERRORS = Rule(
    name="errors", item="T9.2", metric="error.rate", route="r", threshold=0.05, min_n=10, keep_firing_s=0, owner="ana",
    actions=(Action("rollback"), Action("notify")), runbook="pilothouse rollback r",
)  # fmt: skip
SLOW = Rule(
    name="slow", metric="latency.p95", route="r", threshold=1_000, min_n=10, keep_firing_s=0, owner="ben",
    actions=(Action("pin_model", "local/small"),),
)  # fmt: skip


class Bridge:
    """What the server hands in: metrics to read, actions to take, people to tell; and what became of them."""

    def __init__(self) -> None:
        self.clock = FrozenClock()
        self.values: dict[str, tuple[float | None, int] | Exception] = {
            "error.rate": (0.0, 100),
            "latency.p95": (5.0, 100),
        }
        self.queries: list[MetricQuery] = []
        self.acted: list[tuple[str, str, str, str]] = []
        self.told: list[Notice] = []
        self.act_fails: Exception | str = ""
        self.notify_fails: Exception | str = ""
        self.alerts: list[Alert] = []

    def metrics(self, query: MetricQuery) -> list[MetricPoint]:
        self.queries.append(query)
        found = self.values[query.metric]
        if isinstance(found, Exception):
            raise found
        return [MetricPoint(value=found[0], n=found[1])]

    def act(self, action: Action, route: str, env: str, reason: str) -> ActionResult:
        self.acted.append((action.kind, route, env, reason))
        if isinstance(self.act_fails, Exception):
            raise self.act_fails
        said = self.act_fails or "rolled back r in prod from release 2 to 1 on 2 of 2 workers in 0.14 s"
        return ActionResult(action=action, ok=not self.act_fails, message=said)

    def notify(self, notice: Notice) -> Delivery:
        self.told.append(notice)
        if isinstance(self.notify_fails, Exception):
            raise self.notify_fails
        return Delivery(not self.notify_fails, (Tried("the log", not self.notify_fails, self.notify_fails),))

    def tick(self, *rules: Rule, after_s: float = 5) -> list[Alert]:
        self.clock.advance(after_s)
        self.alerts = evaluate(rules, self.alerts, self.metrics, self.act, self.notify, self.clock.now_us())
        return self.alerts


@pytest.fixture
def bridge() -> Bridge:
    return Bridge()


def names(alerts: Sequence[Alert]) -> list[tuple[str, str]]:
    return [(alert.rule, alert.state) for alert in alerts]


def test_the_metric_is_read_over_the_rules_window(bridge: Bridge) -> None:
    narrowed = msgspec.structs.replace(ERRORS, labels={"model": "m", "release": "3", "canary": "true"}, window_s=120)
    observe(narrowed, bridge.metrics, 500_000_000)
    assert bridge.queries == [
        MetricQuery(
            metric="error.rate", route="r", env="prod", model="m", release=3, canary=True,
            since_us=380_000_000, until_us=500_000_000,
        )
    ]  # fmt: skip


def test_what_fires_acts_once_and_tells_its_owner_what_was_done(bridge: Bridge) -> None:
    assert names(bridge.tick(ERRORS, SLOW)) == [("errors", "inactive"), ("slow", "inactive")]
    bridge.values["error.rate"] = (0.4, 50)
    (alert, _) = bridge.tick(ERRORS, SLOW)
    for _ in range(5):
        (alert, _) = bridge.tick(ERRORS, SLOW)
    assert alert.state == "firing"
    assert bridge.acted == [
        ("rollback", "r", "prod", "errors: error.rate 0.4, fires > 0.05 (n = 50, last 5 min)"),
    ]
    assert alert.actions_taken == [
        "rollback: rolled back r in prod from release 2 to 1 on 2 of 2 workers in 0.14 s",
        "notify: ana, told by the log",
    ]
    (notice,) = bridge.told
    assert notice.title == "[r prod] errors fires"
    assert notice.text.splitlines() == [
        "error.rate 0.4, fires > 0.05 (n = 50, last 5 min)",
        "rollback: rolled back r in prod from release 2 to 1 on 2 of 2 workers in 0.14 s",
        "runbook: pilothouse rollback r",
    ]
    assert (notice.owner, notice.value, notice.threshold, notice.item, notice.alert) == (
        "ana",
        0.4,
        0.05,
        "T9.2",
        alert.id,
    )


def test_it_resolves_tells_so_and_acts_again_when_it_reopens(bridge: Bridge) -> None:
    bridge.values["error.rate"] = (0.4, 50)
    bridge.tick(ERRORS)
    bridge.values["error.rate"] = (0.0, 50)
    assert names(bridge.tick(ERRORS)) == [("errors", "resolved")]
    assert bridge.told[-1].title == "[r prod] resolved: errors"
    bridge.values["error.rate"] = (0.5, 50)
    (alert,) = bridge.tick(ERRORS)
    assert (alert.state, alert.times_fired, len(bridge.acted)) == ("firing", 2, 2)
    assert bridge.told[-1].title == "[r prod] errors fires again"


def test_an_hour_after_its_end_a_breach_is_another_incident(bridge: Bridge) -> None:
    bridge.values["error.rate"] = (0.4, 50)
    (first,) = bridge.tick(ERRORS)
    bridge.values["error.rate"] = (0.0, 50)
    bridge.tick(ERRORS)
    (calm,) = bridge.tick(ERRORS, after_s=REOPEN_S + 1)
    assert (calm.state, calm.id == first.id) == ("inactive", False)
    bridge.values["error.rate"] = (0.4, 50)
    bridge.alerts = [first, calm]  # as a store gives them: old instances too
    (second,) = bridge.tick(ERRORS)
    assert (second.id, second.times_fired) == (calm.id, 1)


def test_too_few_observations_are_no_data(bridge: Bridge) -> None:
    bridge.values["error.rate"] = (1.0, 9)
    bridge.values["latency.p95"] = (None, 0)
    assert names(bridge.tick(ERRORS, SLOW)) == [("errors", "no_data"), ("slow", "no_data")]
    assert bridge.acted == []


def test_a_failing_action_is_recorded_and_escalated_and_the_next_one_runs(bridge: Bridge) -> None:
    bridge.act_fails = "rollback of r in prod failed: nothing to go back to"
    bridge.values["error.rate"] = (0.4, 50)
    two = msgspec.structs.replace(ERRORS, actions=(Action("rollback"), Action("disable_route")))
    (alert,) = bridge.tick(two)
    assert [kind for kind, *_ in bridge.acted] == ["rollback", "disable_route"]
    assert alert.actions_taken[0] == "rollback: rollback of r in prod failed: nothing to go back to"
    assert bridge.told[0].title == "[r prod] errors fires; AN ACTION FAILED"


def test_an_action_that_breaks_is_recorded_too(bridge: Bridge) -> None:
    bridge.act_fails = RuntimeError("socket gone")
    bridge.notify_fails = RuntimeError("no network")
    bridge.values["error.rate"] = (0.4, 50)
    (alert,) = bridge.tick(ERRORS)
    assert alert.actions_taken == [
        "rollback: failed: RuntimeError: socket gone",
        "notify: ana, nobody was told: notify failed: RuntimeError: no network; it is in the log",
    ]


def test_one_rules_failure_stops_no_other(bridge: Bridge) -> None:
    bridge.values["error.rate"] = StoreError("telemetry is gone")
    bridge.values["latency.p95"] = (2_000.0, 50)
    broken, slow = bridge.tick(ERRORS, SLOW)
    assert (broken.state, broken.message) == ("no_data", "could not be evaluated: StoreError: telemetry is gone")
    assert slow.state == "firing"
    bridge.values["error.rate"] = (0.4, 50)
    bridge.tick(ERRORS, SLOW)
    bridge.values["error.rate"] = StoreError("telemetry is gone")
    broken, _ = bridge.tick(ERRORS, SLOW)
    assert broken.state == "firing"
    assert "could not be evaluated" in broken.message


def test_what_nobody_acknowledged_is_said_again_and_what_somebody_has_is_not(bridge: Bridge) -> None:
    bridge.values["error.rate"] = (0.4, 50)
    bridge.tick(ERRORS)
    bridge.tick(ERRORS, after_s=REPEAT_S - 1)
    assert len(bridge.told) == 1
    (alert,) = bridge.tick(ERRORS, after_s=2)
    assert bridge.told[-1].title == "[r prod] still firing: errors"
    bridge.alerts = [acknowledge(alert, "ana", bridge.clock.now_us())]
    assert names(bridge.tick(ERRORS, after_s=2 * REPEAT_S)) == [("errors", "acknowledged")]
    assert len(bridge.told) == 2
    assert len(bridge.acted) == 1


def test_the_alert_of_a_removed_rule_ends(bridge: Bridge) -> None:
    bridge.values["error.rate"] = (0.4, 50)
    bridge.tick(ERRORS, SLOW)
    slow, gone = bridge.tick(SLOW)
    assert (slow.rule, gone.rule, gone.state, gone.message) == ("slow", "errors", "resolved", "its rule was removed")
    assert names(bridge.tick(SLOW)) == [("slow", "inactive")]


def test_actions_are_announced_to_the_store_before_they_run_and_never_repeated_after_a_crash(
    bridge: Bridge, tmp_path: Path
) -> None:
    store = StateStore(tmp_path / "state.db")

    def keep(alert: Alert) -> None:
        with store.write() as conn:
            kept_alerts.put(conn, alert)

    def dies(action: Action, route: str, env: str, reason: str) -> ActionResult:
        bridge.act(action, route, env, reason)
        raise KeyboardInterrupt  # control is killed while the pointer moves

    bridge.values["error.rate"] = (0.4, 50)
    with pytest.raises(KeyboardInterrupt):
        evaluate([ERRORS], [], bridge.metrics, dies, bridge.notify, bridge.clock.now_us(), keep)
    with store.read() as conn:
        (stored,) = kept_alerts.list_alerts(conn)
    assert (stored.state, stored.acting) == ("firing", True)
    (after,) = evaluate([ERRORS], [stored], bridge.metrics, bridge.act, bridge.notify, bridge.clock.now_us(), keep)
    assert len(bridge.acted) == 1
    assert (after.state, after.acting) == ("firing", False)
    assert after.actions_taken[0] == "actions were interrupted: their outcome is not known, none was repeated"
    assert bridge.told[0].title == "[r prod] errors fired; ITS ACTIONS WERE INTERRUPTED, look at the pointer"
    with store.read() as conn:
        assert kept_alerts.list_alerts(conn) == [after]
    store.close()


def test_a_store_that_cannot_be_written_prevents_the_action_and_is_said(bridge: Bridge) -> None:
    def keep(_: Alert) -> None:
        raise StoreError("disk full")

    bridge.values["error.rate"] = (0.4, 50)
    (alert,) = evaluate([ERRORS], [], bridge.metrics, bridge.act, bridge.notify, bridge.clock.now_us(), keep)
    assert bridge.acted == []
    assert alert.message.endswith("could not be stored: disk full")


def test_healthy_rules_cost_no_writes_and_what_changes_does(bridge: Bridge) -> None:
    kept: list[str] = []

    def tick() -> None:
        bridge.clock.advance(5)
        now = bridge.clock.now_us()
        bridge.alerts = evaluate(
            [ERRORS], bridge.alerts, bridge.metrics, bridge.act, bridge.notify, now, lambda one: kept.append(one.state)
        )

    for _ in range(3):
        tick()
    assert kept == ["inactive"]  # once, so that the instance is known
    bridge.values["error.rate"] = (0.4, 50)
    tick()
    tick()
    assert kept == ["inactive", "firing", "firing", "firing"]  # before its actions, after them, and as it goes on
    bridge.values["error.rate"] = (0.0, 50)
    for _ in range(3):
        tick()
    assert kept[4:] == ["resolved"]
