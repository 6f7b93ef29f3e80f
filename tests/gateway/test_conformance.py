"""The JSON-Schema-Test-Suite: the validator answers as the specification says, and the watch is never early."""

import json
from pathlib import Path
from typing import Any

from pilothouse.domain.errors import ConfigError
from pilothouse.gateway.compiled import validator
from pilothouse.gateway.watch import Watch

SUITE = Path(__file__).parents[1] / "data" / "json-schema-test-suite" / "draft2020-12.json"
CASES = 1_208  # of 1,257; the others need schemas fetched from the network, which the gateway never does
REMOTE = 49


def groups() -> list[tuple[str, Any, list[dict[str, Any]]]]:
    suite = json.loads(SUITE.read_text())
    return [(f"{name}: {g['description']}", g["schema"], g["tests"]) for name, gs in suite.items() for g in gs]


def test_the_validator_conforms(capsys: Any) -> None:
    right, wrong, remote = 0, [], 0
    for name, schema, tests in groups():
        try:
            check = validator(schema, f"suite {name}")
        except ConfigError as error:
            assert "localhost:1234" in str(error), name  # the suite's own remote documents, and nothing else
            remote += len(tests)
            continue
        for test in tests:
            agrees = check.is_valid(test["data"]) == test["valid"]
            right += agrees
            wrong += [] if agrees else [f"{name}: {test['description']}"]
    with capsys.disabled():
        print(f"\nJSON-Schema-Test-Suite, draft 2020-12: {right}/{right + len(wrong)} right, {remote} need the network")
    assert (right, wrong, remote) == (CASES, [], REMOTE)


def test_the_watch_says_nothing_of_any_valid_instance() -> None:
    valid = early = invalid = 0
    for name, schema, tests in groups():
        for test in tests:
            text = json.dumps(test["data"])
            for lenient in (False, True):
                watch = Watch(schema, lenient=lenient)
                said = next((why for c in text + " " if (why := watch.feed(c))), None)
                assert not (test["valid"] and said), f"{name}: {test['description']}: {said}"
                invalid += not test["valid"] and not lenient
                early += bool(said) and not lenient
        valid += sum(test["valid"] for test in tests)
    assert valid > 600
    assert early > invalid / 4, f"{early} of {invalid} were seen early"  # most of the suite's keywords are left out
