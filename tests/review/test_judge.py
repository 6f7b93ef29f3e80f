import gc
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.clock import FrozenClock
from pilothouse.domain.finding import Finding
from pilothouse.review.catalogue import BY_ID, ITEMS
from pilothouse.review.judge import (
    FLOOR,
    UNMEASURED,
    exit_code,
    is_ready,
    items_for,
    judge,
    review,
    review_route,
    score,
    scores,
    weight,
)
from pilothouse.store.state.waivers import Waiver

T_ITEMS = [item for item in ITEMS if item.id.startswith("T")]


def row(item_id, status="PASS", grade="M", value="x"):
    item = BY_ID[item_id]
    return Finding(id=item_id, title=item.title, layer=item.layer, status=status, value=value, grade=grade)


def rows(status="PASS", **others):
    return [row(item.id, others.get(item.id.replace(".", "_"), status)) for item in T_ITEMS]


def waiver(made, item, days, route="docs-answer"):
    return Waiver(item=item, route=route, until_us=int(made.NOW_US + days * made.DAY_US), reason="moving", by="ana")


def test_score_is_the_weighted_credit_of_what_applies():
    found = [row("T1.0"), row("T1.1", grade="C"), row("T2.1", grade="A"), row("T9.3", "WARN"), row("T9.1", "N/A")]
    assert score(found, ("T1", "T2", "T9")) == pytest.approx((1 + 0.8 + 0.5 + 2 * 0.5) / 5)
    assert score([row("T1.0", "N/A")], ("T1",)) is None


@pytest.mark.parametrize("status", ["NO_DATA", "STALE", "WAIVED", "FAIL"])
def test_what_is_not_known_is_worth_nothing(status):
    assert score([row("T1.0", status)], ("T1",)) == 0.0


def test_quality_security_and_money_weigh_more_than_infrastructure():
    assert weight("T3.2") == weight("T8.1") == weight("T7.1") == weight("T9.3") == 2 * weight("T6.1")
    assert weight("T10.1") == weight("T1.0") == 1.0


def test_ready_needs_every_score_and_no_fail_in_security():
    assert is_ready(rows(), 0.8)
    assert not is_ready(rows(T8_4="FAIL"), 0.8)
    assert is_ready(rows(T8_4="WARN"), 0.8)
    assert not is_ready(rows(T10_1="FAIL", T10_2="FAIL", T10_3="FAIL"), 0.8)  # 9 of 12
    assert is_ready(rows(T10_1="FAIL", T10_2="FAIL", T10_3="FAIL"), 0.7)


def test_a_score_on_the_floor_is_enough():
    found = [*rows(), row("T6.1", "FAIL"), row("T6.1", "FAIL"), row("T6.1", "FAIL")]
    assert scores(found)[2] == 0.8
    assert is_ready(found, 0.8)


STATUSES = st.sampled_from(["PASS", "WARN", "FAIL", "NO_DATA", "STALE", "WAIVED"])
GOODNESS = {"PASS": 2, "WARN": 1, "FAIL": 0, "NO_DATA": 0, "STALE": 0, "WAIVED": 0}


@given(
    st.lists(STATUSES, min_size=len(T_ITEMS), max_size=len(T_ITEMS)),
    st.integers(0, len(T_ITEMS) - 1),
    STATUSES,
    st.sampled_from(sorted(FLOOR.values())),
)
def test_readiness_is_monotone_in_the_findings(statuses, at, other, floor):
    found = [row(item.id, status) for item, status in zip(T_ITEMS, statuses, strict=True)]
    changed = [msgspec.structs.replace(f, status=other) if i == at else f for i, f in enumerate(found)]
    low, high = sorted((found, changed), key=lambda rows: (GOODNESS[rows[at].status], rows[at].status != "FAIL"))
    assert all(a <= b for a, b in zip(scores(low), scores(high), strict=True))
    assert is_ready(low, floor) <= is_ready(high, floor)


def test_the_whole_checklist_is_reviewed(made):
    route = review_route(made.evidence())
    assert {found.id for found in route.findings} == set(BY_ID)
    assert sum(route.counts.values()) == len(ITEMS)
    assert route.floor == 0.80
    assert not route.ready  # what nothing measures yet counts as nothing
    assert {f.id for f in route.findings if f.value == UNMEASURED} & {"T8.2", "T7.2", "V0"}


def test_the_lighter_profile_keeps_its_own_items(made):
    route = review_route(made.evidence(config=made.config(tier="lite")))
    assert len(items_for("lite")) == sum(item.lite for item in ITEMS)
    assert {found.id for found in route.findings} == {item.id for item in ITEMS if item.lite}
    assert "G8" not in {found.id for found in route.findings}
    assert route.floor == 0.50
    assert route.ready


def test_worst_first_and_security_before_all(made):
    evidence = made.evidence(
        security=made.inside(made.security(), "audit", ok=False),
        facts=made.inside(made.facts(), "cost", mean=0.0013),
        config=made.config(backup=""),
    )
    order = [found.id for found in review_route(evidence).findings]
    assert order[0] == "T8.4"
    assert order.index("G1") < order.index("T7.1") < order.index("T8.2") < order.index("T8.1")


def test_a_waiver_hides_nothing_and_is_worth_nothing(made):
    late = made.release(rollback=made.DryRun(ok=False, reason="no release before"))
    evidence = made.evidence(release=late, waivers=(waiver(made, "T10.1", 6),))
    found = judge(evidence, BY_ID["T10.1"])
    assert found.status == "WAIVED"
    assert found.detail == "until 2026-11-29, was FAIL: moving (Ana)"
    assert score([found], ("T10",)) == 0.0


@pytest.mark.parametrize("days", [-1, 0, 31])
def test_a_waiver_that_is_over_or_too_long_does_not_count(made, days):
    late = made.release(rollback=made.DryRun(ok=False))
    found = judge(made.evidence(release=late, waivers=(waiver(made, "T10.1", days),)), BY_ID["T10.1"])
    assert found.status == "FAIL"
    assert ("30 days at most" in found.detail) == (days == 31)


def test_a_waiver_of_another_route_or_of_what_is_right_changes_nothing(made):
    late = made.release(rollback=made.DryRun(ok=False))
    other = waiver(made, "T10.1", 6, route="another")
    assert judge(made.evidence(release=late, waivers=(other,)), BY_ID["T10.1"]).status == "FAIL"
    assert judge(made.evidence(waivers=(waiver(made, "T10.1", 6),)), BY_ID["T10.1"]).status == "PASS"


def test_a_waived_security_item_no_longer_blocks(made):
    bad = made.inside(made.security(), "audit", ok=False)
    lite = made.config(tier="lite")
    assert not review_route(made.evidence(config=lite, security=bad)).ready
    assert review_route(made.evidence(config=lite, security=bad, waivers=(waiver(made, "T8.4", 6),))).ready


def test_the_gate_line_says_why(made):
    route = review_route(made.evidence(security=made.inside(made.security(), "audit", ok=False)))
    gate = next(found for found in route.findings if found.id == "G6")
    assert (gate.status, gate.detail) == ("FAIL", "from 0.80; 1 FAIL in security")


def bare(made, name="bare", **change):
    return made.evidence(config=made.config(name=name), facts=None, release=None, evals=None, alerts=None, rules=(),
                         security=None, reconstruct=None, registry=None, drills=(), **change)  # fmt: skip


def test_the_worst_route_comes_first(made):
    lite = made.evidence(config=made.config(name="lite", tier="lite"))
    leaky = made.evidence(config=made.config(name="leaky"), security=made.inside(made.security(), "audit", ok=False))
    result = review([lite, made.evidence(), bare(made), leaky], FrozenClock(made.NOW_US))
    assert [route.route for route in result.routes] == ["leaky", "bare", "docs-answer", "lite"]
    assert not result.ready


def test_exit_codes(made):
    clock = FrozenClock(made.NOW_US)
    lite = made.config(tier="lite")
    ready = made.evidence(config=lite)
    failing = made.evidence(config=lite, security=made.inside(made.security(), "audit", ok=False))
    assert exit_code(review([ready], clock)) == 0
    assert exit_code(review([failing], clock)) == 1
    assert exit_code(review([bare(made)], clock)) == 3
    assert exit_code(review([ready, bare(made)], clock)) == 3
    assert exit_code(review([failing, bare(made)], clock)) == 1


def test_ten_routes_are_little_work(made):
    """Counted in Python calls, which the machine's load does not change: 10 ms or so where this was written."""
    evidences = [made.evidence(config=made.config(name=f"route-{i}")) for i in range(10)]
    review(evidences, FrozenClock(made.NOW_US))  # what is made but once
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    gc.disable()  # what earlier tests left would call its finalizers
    sys.setprofile(count)
    try:
        review(evidences, FrozenClock(made.NOW_US))
    finally:
        sys.setprofile(before)
        gc.enable()
    assert calls < 60_000
