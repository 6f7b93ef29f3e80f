"""Flags evaluated: who gets what, and why."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.bucket import bucket
from pilothouse.domain.flag import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Flag,
    FlagEntry,
    FlagRule,
    FlagState,
    Not,
    Share,
    resolved,
)
from pilothouse.domain.flag_conditions import equal, meets, version
from pilothouse.domain.flag_evaluation import drawn, evaluate
from pilothouse.domain.flag_facts import DAY_US, FlagUse, facts_of

ON_OFF = {"on": True, "off": False}


def flag(**more: Any) -> FlagEntry:
    return FlagEntry(**{"key": "f", "type": "boolean", "variants": ON_OFF, "default": "off", "salt": "f"} | more)


def test_every_reason_has_its_case() -> None:
    rules = (FlagRule(when=Compare("plan", "==", "pro"), serve=(Share("on"),), name="paying"),)
    key = {"targetingKey": "u"}
    static = evaluate(flag(), {})
    assert (static.value, static.variant, static.reason) == (False, "off", "STATIC")
    assert evaluate(flag(rules=rules), {}).reason == "DEFAULT"
    met = evaluate(flag(rules=rules), {"plan": "pro"})
    assert (met.value, met.reason, met.rule) == (True, "TARGETING_MATCH", "paying")
    assert evaluate(flag(rollout=(Share("on", 0.5),)), key).reason == "SPLIT"
    gone = evaluate(flag(enabled=False), key)
    assert (gone.value, gone.variant, gone.reason) == (None, "", "DISABLED")
    assert evaluate(flag(enabled=False, off="off"), key).value is False
    lost = evaluate(flag(rollout=(Share("on", 0.5),)), {})
    assert (lost.reason, lost.error, lost.value) == ("ERROR", "TARGETING_KEY_MISSING", None)


def test_the_first_rule_that_is_met_counts_and_a_rule_may_draw_shares() -> None:
    rules = (
        FlagRule(when=Compare("a", "exists", True), serve=(Share("on", 0.3),)),
        FlagRule(when=Compare("b", "exists", True), serve=(Share("on"),)),
    )
    entry = flag(rules=rules)
    both = [evaluate(entry, {"targetingKey": f"u{i}", "a": 1, "b": 1}) for i in range(400)]
    assert {one.rule for one in both} == {"rule 1"} and {one.reason for one in both} == {"SPLIT"}
    assert 60 < sum(one.value for one in both) < 180
    assert evaluate(entry, {"b": 1}).value is True  # nothing is drawn: no key is needed


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_all_or_none_needs_no_key(share: float) -> None:
    assert evaluate(flag(rollout=(Share("on", share),)), {}).value is bool(share)


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_key_stays_on_its_side_and_a_growing_share_only_adds(salt: str, key: str, a: float, b: float) -> None:
    low, high = (drawn(salt, key, (Share("on", share),), "off") for share in sorted((a, b)))
    assert low == drawn(salt, key, (Share("on", min(a, b)),), "off")
    assert low == "off" or high == "on"
    assert 0.0 <= bucket(salt, key) < 1.0


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=4), st.text(max_size=8))
def test_shares_are_shares_of_keys(weights: list[float], salt: str) -> None:
    total, n = sum(weights) + 0.5, 2_000
    shares = tuple(Share(str(at), weight / total) for at, weight in enumerate(weights))
    got = [drawn(salt, f"user-{i}", shares, "rest") for i in range(n)]
    for one in (*shares, Share("rest", 0.5 / total)):
        error = math.sqrt(one.share * (1 - one.share) / n)
        assert abs(got.count(one.variant) / n - one.share) < 5.5 * error + 1e-9


def test_two_flags_draw_apart_and_one_salt_draws_together() -> None:
    keys = [f"u{i}" for i in range(500)]
    half = (Share("on", 0.5),)
    one, two, same = ([drawn(salt, key, half, "off") for key in keys] for salt in ("a", "b", "a"))
    assert one == same
    assert 150 < sum(x == y for x, y in zip(one, two, strict=True)) < 350


CONTEXT = {
    "targetingKey": "u", "plan": "pro", "age": 42, "ratio": 1.0, "beta": True, "email": "ana@example.org",
    "version": "2.10.0-rc.1", "tags": ["a", "b"], "company": {"size": 12, "name": "x"}, "dotted.name": "whole",
    "nothing": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("attribute", "op", "value", "met"),
    [
        ("plan", "==", "pro", True), ("plan", "==", "PRO", False), ("age", "==", 42.0, True),
        ("age", "==", "42", False), ("beta", "==", 1, False), ("beta", "==", True, True), ("nobody", "==", 1, False),
        ("plan", "!=", "free", True), ("nobody", "!=", "free", True), ("plan", "!=", "pro", False),
        ("plan", "in", ["free", "pro"], True), ("beta", "in", [1], False), ("nobody", "in", [1], False),
        ("plan", "not_in", ["free"], True), ("nobody", "not_in", ["free"], True),
        ("email", "starts_with", "ana@", True), ("age", "starts_with", "4", False),
        ("email", "ends_with", "@example.org", True), ("email", "contains", "@ex", True),
        ("tags", "contains", "b", True), ("tags", "contains", "c", False), ("age", "contains", "4", False),
        ("age", "<", 43, True), ("age", "<=", 42, True), ("age", ">", 42, False), ("age", ">=", 42, True),
        ("plan", ">", 1, False), ("beta", "<", 2, False), ("ratio", ">=", 1, True),
        ("version", "semver", ">=2.9.0", True), ("version", "semver", "<2.10.0", True),
        ("version", "semver", "==2.10.0-rc.1", True), ("plan", "semver", ">=1.0.0", False),
        ("email", "matches", r"^[a-z]+@example\.(org|com)$", True), ("age", "matches", "4", False),
        ("email", "exists", True, True), ("nobody", "exists", False, True), ("nothing", "exists", True, True),
        ("company.size", ">", 10, True), ("company.nobody", "==", 1, False), ("dotted.name", "==", "whole", True),
    ],
)  # fmt: skip
def test_a_comparison_holds_for_values_of_its_type_only(attribute: str, op: Any, value: Any, met: bool) -> None:
    assert meets(Compare(attribute, op, value), CONTEXT) is met


def test_versions_are_in_semvers_own_order() -> None:
    text = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
            "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]  # fmt: skip
    order = [version(one) for one in text]
    assert None not in order and order == sorted(order, key=lambda one: one or (0, 0, 0, 0, ()))
    assert len(set(order)) == len(order)
    assert version("1.0.0+build") == version("1.0.0")
    assert {version(one) for one in ("1.0", "1", "01.0.0", "1.0.0-01", "x", "")} == {None}


json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
leaves = st.builds(Compare, st.sampled_from(["a", "b", "a.b"]), st.sampled_from(["==", "!=", "exists"]), json)
conditions: st.SearchStrategy[Condition] = st.recursive(
    leaves,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(AllOf, st.lists(inner, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


@given(conditions, st.dictionaries(st.sampled_from(["a", "b", "c"]), json, max_size=3))
def test_conditions_follow_the_laws_of_logic_for_any_context(condition: Condition, context: dict[str, Any]) -> None:
    held = meets(condition, context)
    assert meets(Not(condition), context) is not held
    assert meets(AllOf((condition, condition)), context) is held
    assert meets(AnyOf((condition, Not(condition))), context)
    over_the_link = msgspec.json.decode(msgspec.json.encode(condition), type=Condition)
    assert meets(over_the_link, context) is held


@given(json, json)
def test_equality_is_what_equal_json_is(a: Any, b: Any) -> None:
    assert equal(a, a) and equal(a, b) == equal(b, a)


def test_what_was_set_at_run_time_holds_as_long_as_it_fits_the_files() -> None:
    declared = Flag(
        key="f", type="boolean", variants=ON_OFF, default={"dev": "on", "staging": "on", "prod": "off"},
        rollout={"prod": (Share("on", 0.1),)},
        rules=(FlagRule(when=Compare("x", "==", 1), serve=(Share("on"),), envs=("dev",)),),
    )  # fmt: skip
    assert resolved(declared, "dev").rules and not resolved(declared, "prod").rules
    assert resolved(declared, "prod").rollout == (Share("on", 0.1),)
    state = FlagState(enabled=False, default="on", rollout=())
    changed = resolved(declared, "prod", state)
    assert (changed.enabled, changed.default, changed.rollout) == (False, "on", ())
    gone = FlagState(
        default="third", rollout=(Share("third", 0.5),), rules=(FlagRule(when=AllOf(()), serve=(Share("third"),)),)
    )
    assert resolved(declared, "prod", gone) == resolved(declared, "prod")


def test_a_flag_that_nobody_looks_after_is_found_by_its_own_numbers() -> None:
    now = 400 * DAY_US
    declared = Flag(key="f", type="boolean", variants=ON_OFF, default=dict.fromkeys(("dev", "staging", "prod"), "off"),
                    owner="ana", expires="1971-01-30")  # fmt: skip
    entry = resolved(declared, "prod")

    def troubles(made: Flag, first: int, changed: int, *uses: FlagUse) -> list[str]:
        found = facts_of(made, entry, "prod", (first * DAY_US, changed * DAY_US), {u.variant: u for u in uses}, now)
        return [one.what for one in found.troubles]

    read = FlagUse(flag="f", env="prod", variant="off", n=1, last_us=399 * DAY_US)
    assert troubles(declared, 390, 390, read) == ["expired"]
    assert troubles(declared, 390, 390) == ["expired"]  # too young to be called unused
    assert troubles(declared, 300, 340, read) == ["expired"]  # 60 days are not over 60
    assert troubles(declared, 300, 339) == ["stale", "expired", "unused"]
    kept = msgspec.structs.replace(declared, permanent=True, owner="", expires="")
    assert troubles(kept, 300, 300, read) == ["unowned"]
