import math
from typing import Any

import msgspec
import pytest

from pilothouse.config.app import Person
from pilothouse.domain.alert import Action, Rule
from pilothouse.domain.errors import Refused
from pilothouse.monitoring.rules import validate

PEOPLE = {"ana": Person(id="ana", name="Ana")}
METRICS = ("error.rate", "schema.valid_first")
RULE = Rule(
    name="errors", metric="error.rate", route="r", threshold=0.05, owner="ana",
    actions=(Action("rollback"), Action("notify")),
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"owner": ""}, "has no owner.*one of ana"),
        ({"owner": "zoe"}, "not in `people`: 'zoe'"),
        ({"actions": ()}, "has no action"),
        ({"threshold": math.nan}, "has no threshold"),
        ({"metric": "schema.valid_frist"}, "did you mean 'schema.valid_first'"),
        ({"metric": "zzz"}, "does not exist.*error.rate, schema"),
        ({"metric": ""}, "has no metric"),
        ({"route": " "}, "has no route"),
        ({"name": ""}, "has no name"),
        ({"actions": (Action("pin_model", "gpt"),)}, "pins no model"),
        ({"actions": (Action("rollback", "last"),)}, "rolls back to 'last'"),
        ({"actions": (Action("notify", "ana"),)}, "notifies 'ana'"),
        ({"window_s": 0}, "looks at no time"),
        ({"for_s": -1}, "negative duration"),
        ({"min_n": 0}, "without an observation"),
        ({"labels": {"release": "x"}}, "narrowed by release='x'"),
        ({"labels": {"colour": "red"}}, "narrowed by colour"),
    ],
)
def test_a_rule_that_nobody_answers_for_or_that_does_nothing_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused, match=said):
        validate(msgspec.structs.replace(RULE, **change), PEOPLE, METRICS)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"actions": (Action("rollback", "12"), Action("pin_model", "local/a/b"), Action("disable_route"))},
        {"actions": (Action("notify", "slack://a/b/c"),)},
        {"labels": {"model": "gpt", "release": "3", "canary": "true"}},
    ],
)
def test_a_whole_rule_is_accepted(change: dict[str, Any]) -> None:
    validate(msgspec.structs.replace(RULE, **change), PEOPLE, METRICS)
