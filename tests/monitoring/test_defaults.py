from pathlib import Path

import msgspec
import pytest

from pilothouse.config.app import AppConfig, Person
from pilothouse.config.route import CheckOverride, RouteConfig
from pilothouse.domain.alert import Action
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.monitoring.defaults import NOTIFY, effective, expected, of_route
from pilothouse.monitoring.facts import facts
from pilothouse.monitoring.rules import validate
from pilothouse.telemetry.catalogue import CATALOGUE

PEOPLE = {"ana": Person(id="ana", name="Ana"), "ben": Person(id="ben", name="Ben")}
ROUTE = RouteConfig(
    name="r", app="", owner="ana", backup="ben", tier="high",
    manifest=Manifest(model=ModelRef("scripted", "m"), schema={"type": "object"}),
)  # fmt: skip


def app(*routes: RouteConfig, **rest: object) -> AppConfig:
    base = AppConfig(dir=Path(), providers={}, people=PEOPLE, routes={route.name: route for route in routes})
    return msgspec.structs.replace(base, **rest)


def test_every_default_is_a_rule_that_could_be_saved_over_a_metric_that_exists() -> None:
    rules = of_route(ROUTE)
    assert len({rule.name for rule in rules}) == len(rules) == 10
    for rule in rules:
        validate(rule, PEOPLE, CATALOGUE)
        assert rule.op in (">", "<")


def test_defaults_tell_the_owner_unless_the_route_names_an_action() -> None:
    assert {rule.actions for rule in of_route(ROUTE)} == {(NOTIFY,)}
    checks = {
        "T4.1": CheckOverride(fail=0.8, fallback="rollback"),
        "T9.1": CheckOverride(warn=1_500, fallback="pin_model local/small"),
        "T9.2": CheckOverride(fail=0.5, fallback="prose is not executable"),
    }
    rules = {rule.item: rule for rule in of_route(msgspec.structs.replace(ROUTE, checks=checks))}
    assert (rules["T4.1"].threshold, rules["T4.1"].actions) == (0.8, (Action("rollback"), NOTIFY))
    assert (rules["T9.1"].threshold, rules["T9.1"].actions) == (1_500, (Action("pin_model", "local/small"), NOTIFY))
    assert rules["T9.2"].actions == (NOTIFY,)


def test_a_route_without_owner_has_none_and_one_without_schema_has_fewer() -> None:
    assert of_route(msgspec.structs.replace(ROUTE, owner="")) == ()
    plain = msgspec.structs.replace(ROUTE, manifest=Manifest(model=ModelRef("scripted", "m")))
    assert {rule.item for rule in of_route(ROUTE)} - {rule.item for rule in of_route(plain)} == {"T4.1", "T4.2"}
    assert set(expected(plain)) - {rule.item for rule in of_route(plain)} == {"T7.1", "T9.6"}


def test_the_apps_own_rule_replaces_the_default_of_its_item() -> None:
    own = msgspec.structs.replace(of_route(ROUTE)[0], name="mine", threshold=0.5)
    found = effective(app(ROUTE, rules=(own,)))
    assert [rule.name for rule in found if rule.item == own.item] == ["mine"]
    assert len(found) == len(of_route(ROUTE))
    saved = msgspec.structs.replace(own, threshold=0.7)
    again = effective(app(ROUTE, rules=(own,)), [saved])
    assert [rule.threshold for rule in again if rule.name == "mine"] == [0.7]
    elsewhere = msgspec.structs.replace(own, name="dev", env="dev")
    assert len(effective(app(ROUTE), [elsewhere])) == len(of_route(ROUTE)) + 1


def test_what_the_review_learns_of_rules() -> None:
    rules = of_route(ROUTE)
    found = facts(rules, [], expected=expected(ROUTE), now_us=10_000_000, heartbeat_us=4_000_000)
    assert (found.rules, found.unowned, found.without_action, found.without_runbook) == (10, [], [], [])
    assert found.unwatched_items == ["T7.1", "T9.6"]
    assert len(found.notify_only) == 10
    assert found.heartbeat_age_s == pytest.approx(6.0)
    assert (found.median_ack_s, found.oldest_unacknowledged_s) == (None, None)
    assert facts((), (), now_us=1, heartbeat_us=None).heartbeat_age_s is None
