import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pilothouse.domain.alert import Action, Alert, Rule
from pilothouse.domain.errors import Refused
from pilothouse.monitoring.machine import (
    Observation,
    Transition,
    acknowledge,
    answer,
    begin,
    breaches,
    describe,
    retire,
    step,
    with_answers,
)

RULE = Rule(
    name="errors",
    metric="error.rate",
    route="r",
    op=">",
    threshold=0.05,
    window_s=600,
    for_s=60,
    keep_firing_s=120,
    min_n=20,
    owner="ana",
    actions=(Action("notify"),),
)
BAD, GOOD, FEW = Observation(0.2, 100), Observation(0.01, 100), Observation(1.0, 3)
S = 1_000_000


def walk(*seen: tuple[float, Observation], rule: Rule = RULE) -> list[Transition]:
    """The transitions of a fresh alert that sees these observations at these seconds."""
    alert, told = begin(rule, 0), []
    for at_s, observation in seen:
        told.append(step(alert, observation, rule, int(at_s * S)))
        alert = told[-1].alert
    return told


def states(*seen: tuple[float, Observation], rule: Rule = RULE) -> list[str]:
    return [one.alert.state for one in walk(*seen, rule=rule)]


def test_it_fires_only_after_holding_for_a_while() -> None:
    assert states((0, BAD), (30, BAD), (59, BAD), (60, BAD), (61, BAD)) == ["pending"] * 3 + ["firing"] * 2
    assert states((0, BAD), (30, GOOD), (60, BAD)) == ["pending", "inactive", "pending"]
    assert [one.fired for one in walk((0, BAD), (60, BAD), (61, BAD))] == [False, True, False]


def test_without_a_delay_it_fires_at_once() -> None:
    at_once = msgspec.structs.replace(RULE, for_s=0)
    (told,) = walk((5, BAD), rule=at_once)
    assert told.fired
    assert not told.reopened
    assert (told.alert.state, told.alert.fired_us, told.alert.since_us, told.alert.times_fired) == (
        "firing",
        5 * S,
        5 * S,
        1,
    )
    assert told.alert.message == "error.rate 0.2, fires > 0.05 (n = 100, last 10 min)"
    slow = msgspec.structs.replace(RULE, metric="latency.p95", threshold=22_500.0)
    seen = Observation(31_714.6, 100)
    assert describe(slow, seen) == "latency.p95 31715, fires > 22500 (n = 100, last 10 min)"


def test_it_keeps_firing_until_it_has_been_good_for_a_while() -> None:
    at_once = msgspec.structs.replace(RULE, for_s=0)
    told = walk((0, BAD), (60, GOOD), (100, BAD), (200, GOOD), (219, GOOD), (220, GOOD), rule=at_once)
    assert [one.alert.state for one in told] == ["firing"] * 5 + ["resolved"]
    assert [one.resolved for one in told] == [False] * 5 + [True]


def test_it_opens_again() -> None:
    at_once = msgspec.structs.replace(RULE, for_s=0, keep_firing_s=0)
    told = walk((0, BAD), (1, GOOD), (2, GOOD), (3, BAD), rule=at_once)
    assert [one.alert.state for one in told] == ["firing", "resolved", "resolved", "firing"]
    assert told[3].reopened
    assert told[3].alert.times_fired == 2
    assert told[3].alert.id == told[0].alert.id


def test_too_little_seen_is_no_data_and_never_ends_an_alert() -> None:
    at_once = msgspec.structs.replace(RULE, for_s=0, keep_firing_s=0)
    assert states((0, FEW), (1, GOOD), (2, FEW), (3, BAD), (4, FEW), (500, FEW), rule=at_once) == [
        "no_data", "inactive", "no_data", "firing", "firing", "firing",
    ]  # fmt: skip
    assert states((0, BAD), (1, FEW)) == ["pending", "no_data"]
    (told,) = walk((0, FEW))
    assert told.alert.value is None
    assert told.alert.message == "error.rate not known (n = 3, last 10 min; needs 20)"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_no_data(value: float | None) -> None:
    assert breaches(Observation(value, 100), RULE) is None
    assert "not known" in describe(RULE, Observation(value, 100))


@pytest.mark.parametrize(("op", "at"), [(">", False), ("<", False), (">=", True), ("<=", True)])
def test_comparisons(op: str, at: bool) -> None:
    compared = msgspec.structs.replace(RULE, op=op)
    assert breaches(Observation(RULE.threshold, 20), compared) is at
    assert breaches(Observation(RULE.threshold + 1, 20), compared) is (">" in op)
    assert breaches(Observation(RULE.threshold - 1, 20), compared) is ("<" in op)


def test_people_acknowledge_what_fires_and_answer_what_fired() -> None:
    fresh = begin(RULE, 0)
    with pytest.raises(Refused, match="is inactive"):
        acknowledge(fresh, "ana", 1)
    with pytest.raises(Refused, match="has not fired"):
        answer(fresh, True)
    firing = walk((0, BAD), (60, BAD))[-1].alert
    has_it = acknowledge(firing, "ana", 90 * S)
    assert (has_it.state, has_it.acknowledged_by, has_it.acknowledged_us) == ("acknowledged", "ana", 90 * S)
    assert step(has_it, BAD, RULE, 95 * S).alert.state == "acknowledged"
    assert step(has_it, GOOD, RULE, 180 * S).resolved
    assert answer(has_it, False).actionable is False
    with pytest.raises(Refused, match="is acknowledged"):
        acknowledge(has_it, "ben", 91 * S)


def test_what_people_say_during_a_tick_is_not_lost() -> None:
    firing = walk((0, BAD), (60, BAD))[-1].alert
    stored = answer(acknowledge(firing, "ana", 61 * S), True)
    computed = step(firing, BAD, RULE, 65 * S).alert  # from the copy that the tick had read before
    merged = with_answers(computed, stored)
    assert (merged.state, merged.acknowledged_by, merged.acknowledged_us) == ("acknowledged", "ana", 61 * S)
    assert (merged.actionable, merged.since_us, merged.breached_us) == (True, 61 * S, 65 * S)
    over = step(firing, GOOD, RULE, 180 * S).alert
    assert (with_answers(over, stored).state, with_answers(over, stored).actionable) == ("resolved", True)
    again = msgspec.structs.replace(computed, fired_us=300 * S)
    assert with_answers(again, stored) == again


def test_an_alert_without_its_rule_ends() -> None:
    gone = retire(walk((0, BAD), (60, BAD))[-1].alert, 70 * S)
    assert (gone.state, gone.message) == ("resolved", "its rule was removed")


@given(st.sampled_from([0, 1, 45, 60, 90, 3_600, 86_400, 90_000]))
def test_spans_read_well(seconds: int) -> None:
    said = describe(msgspec.structs.replace(RULE, window_s=max(1, seconds)), BAD)
    assert said.endswith((" s)", " min)", " h)", " d)"))


class AlertLife(RuleBasedStateMachine):
    """Any sequence of observations, waits and acknowledgements, against what an alert promises."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.alert: Alert = begin(RULE, 0)
        self.fired = 0
        self.last_breach: int | None = None
        self.holding_since: int | None = None

    @rule(seconds=st.integers(1, 200), seen=st.sampled_from([BAD, GOOD, FEW]))
    def observe(self, seconds: int, seen: Observation) -> None:
        self.now += seconds * S
        before = self.alert
        told = step(before, seen, RULE, self.now)
        self.alert = told.alert
        if seen is BAD:
            self.last_breach = self.now
            self.holding_since = self.now if self.holding_since is None else self.holding_since
        else:
            self.holding_since = None
        if told.fired:
            self.fired += 1
            assert before.state not in ("firing", "acknowledged")
            assert self.holding_since is not None
            assert self.now - self.holding_since >= RULE.for_s * S
            assert told.reopened == (self.fired > 1)
        if told.resolved:
            assert seen is GOOD
            assert self.last_breach is not None
            assert self.now - self.last_breach >= RULE.keep_firing_s * S
        if before.state in ("firing", "acknowledged"):
            assert self.alert.state in (before.state, "resolved")

    @precondition(lambda self: self.alert.state == "firing")
    @rule()
    def acknowledge(self) -> None:
        self.alert = acknowledge(self.alert, "ana", self.now)

    @invariant()
    def counts_agree(self) -> None:
        assert self.alert.times_fired == self.fired
        assert self.alert.since_us <= self.now
        assert (self.alert.state == "acknowledged") <= bool(self.alert.acknowledged_by)
        if self.alert.state in ("inactive", "no_data"):
            assert self.fired == 0


TestAlertLife = AlertLife.TestCase
