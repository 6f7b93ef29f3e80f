"""Drills on a running product: what is promised is exercised, under traffic, and the review reads the evidence."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.domain.policy import Fallback, ModelRef, Policy
from pilothouse.server.drills.outage import declared
from pilothouse.server.drills.sample import sample

pytestmark = pytest.mark.process
SCHEMA = {
    "type": "object",
    "required": ["answer", "sure", "tags"],
    "properties": {
        "answer": {"type": "string", "minLength": 3},
        "sure": {"enum": ["yes", "no"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 2},
    },
    "$defs": {"tag": {"type": "string", "maxLength": 4}},
    "additionalProperties": False,
}
GOOD = '{"answer": "yes indeed", "sure": "yes", "tags": ["a", "b"]}'
SCRIPT = f"rules: [{{reply: '{GOOD}'}}]\n"
ROUTE = """    schema: schemas/answer.json
    policy:
      timeout: {connect: 1s, first_token: 1s, idle: 1s, total: 6s}
      retry: {attempts: 2, backoff: 10ms}
      invalid: [repair, fallback, error]
      fallback:
        - {model: other/big-2026-01-01}
        - {trim: 2, on: [context_window]}
        - {static: "We can't answer right now.", outcome: escalated}
    alternates: [other/big-2026-01-01]
"""


@pytest.fixture(scope="module")
def one(shared_running: Any, shared_app: Callable[..., Path]) -> Any:
    app = shared_app(script=SCRIPT, route=ROUTE)
    (app / "schemas").mkdir()
    (app / "schemas" / "answer.json").write_text(json.dumps(SCHEMA))
    config = app / "pilothouse.yaml"
    other = "providers:\n  other: {kind: scripted, script: script.yaml}\n"
    config.write_text(config.read_text().replace("providers:\n", other))
    product = shared_running(app, workers=2)
    product.release()
    product.release(env="staging")
    key = product.key()
    assert product.chat(key, "answer", "hello")[0] == 200
    product.eventually(lambda: product.get("/traces.json?route=answer")["traces"])
    product.test_key = key
    return product


@contextmanager
def traffic(one: Any) -> Iterator[list[tuple[int, str]]]:
    """Two clients that go on asking: status and release of each answer."""
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            status, headers, _ = one.chat(one.test_key, "answer", "hello")
            seen.append((status, headers.get("x-pilothouse-release", "")))

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def drill(one: Any, kind: str, *words: str) -> dict[str, Any]:
    return dict(one.verb("drill", kind, "answer", *words))


def finding(one: Any, item: str) -> dict[str, Any]:
    items = one.get("/review.json?route=answer")["routes"][0]["items"]
    return dict(next(found for found in items if found["id"] == item))


def test_a_rollback_is_practised_in_production_under_traffic(one: Any) -> None:
    with traffic(one) as seen:
        one.eventually(lambda: len(seen) > 5)
        found = drill(one, "rollback")
    assert found["ok"], found
    detail = found["evidence"][0]["detail"]
    assert (detail["from"], detail["twin"], detail["workers"], detail["late"]) == (1, -1, 2, "")
    assert detail["requests_on_twin"] > 0
    assert {status for status, _ in seen} == {200}
    order = [release for release, _ in itertools.groupby(release for _, release in seen)]
    assert {"1", "-1"} == set(order)
    board = one.get("/releases.json")["routes"][0]
    pointers = board["pointers"]
    practised = next(kind for kind in board["drills"] if kind["kind"] == "rollback")
    assert practised["ok"] and practised["detail"]["propagated_ms"] == detail["propagated_ms"]
    assert {pointer["env"]: pointer["stable"] for pointer in pointers}["prod"] == 1
    history = one.verb("release", "history", "answer")
    assert [release["release"] for release in history["releases"]] == [1], "a twin is in no list"
    assert one.verb("audit", "verify")["ok"] is True
    one.eventually(lambda: "last drill" in finding(one, "T10.1")["detail"] or finding(one, "T10.1")["status"] == "FAIL")


def test_a_drill_says_how_it_goes(one: Any) -> None:
    told = one.cli("drill", "provider-outage", "answer").stdout.splitlines()
    assert told[0].endswith("provider-outage of answer in prod …") and "7 faults at once" in told[1]
    counted = [line.split() for line in told if " of 7 " in line]
    assert [int(words[0]) for words in counted] == list(range(1, 8))
    named = {line.partition(" of 7  ")[2].partition(":")[0] for line in told if " of 7 " in line}
    assert named == {"429", "500", "stall", "cut", "drop", "malformed", "invalid output"}
    flipped = one.cli("drill", "rollback", "answer").stdout
    assert "at the twin, on 2 of 2 workers" in flipped and "back again, on 2 of 2 workers" in flipped


def test_a_staged_outage_is_handled_as_the_policy_declares(one: Any) -> None:
    found = drill(one, "provider-outage")
    kinds = {entry["kind"]: entry for entry in found["evidence"]}
    assert kinds["faults"]["ok"], kinds["faults"]
    assert (kinds["faults"]["detail"]["handled"], kinds["faults"]["detail"]["of"]) == (6, 6)
    assert kinds["faults"]["detail"]["stall"].startswith("fallback by model")
    assert kinds["invalid_output"]["ok"]
    assert kinds["invalid_output"]["detail"]["way"] == "model"
    assert finding(one, "CR.3")["status"] != "NO_DATA"
    assert finding(one, "T4.5")["status"] == "PASS"
    listed = one.get("/traces.json?route=answer")["traces"]
    assert all(row["source"] == "edge" for row in listed), "an exercise is no traffic"


def test_each_way_to_give_less_is_exercised(one: Any) -> None:
    found = drill(one, "fallback")
    ways = {entry["detail"]["way"]: entry for entry in found["evidence"]}
    assert set(ways) == {"model", "trim", "static"}
    assert all(entry["ok"] for entry in ways.values()), ways
    assert "3 of 3 ways exercised" in finding(one, "T6.6")["value"]


def test_the_other_model_answers_and_outside_prod_is_switched_to(one: Any) -> None:
    found = drill(one, "model-switch", "--env", "staging")
    detail = found["evidence"][0]["detail"]
    assert (found["ok"], detail["answered"], detail["asked"]) == (True, 3, 3)
    assert detail["propagated_ms"] > 0
    assert drill(one, "model-switch")["ok"]
    assert finding(one, "T10.2")["status"] == "PASS"
    assert one.chat(one.test_key, "answer", "hello")[0] == 200


def test_a_switched_off_route_is_refused_and_comes_back(one: Any) -> None:
    assert drill(one, "kill-switch", "--env", "staging")["ok"]
    assert drill(one, "kill-switch")["ok"]
    assert finding(one, "T10.3")["status"] == "PASS"


def test_the_state_is_backed_up_and_restored_beside_itself(one: Any) -> None:
    detail = drill(one, "restore")["evidence"][0]["detail"]
    assert (detail["problem"], detail["tables"] > 10, detail["changes"] > 0) == ("", True, True)


def test_the_runbook_has_the_ids_of_now(one: Any) -> None:
    text = one.verb("runbook", "answer")["markdown"]
    assert "Live: release 1" in text
    assert "pilothouse model switch answer other/big-2026-01-01" in text
    assert "pilothouse route disable answer" in text
    assert "1. on error: other/big-2026-01-01, outcome fallback" in text


def test_an_unknown_drill_and_a_route_that_is_not_live_are_refused(one: Any) -> None:
    done = one.cli("drill", "rollback", "answer", "--env", "dev")
    assert (done.returncode, "not live" in done.stderr) == (2, True)


@given(
    st.recursive(
        st.sampled_from(
            [
                {"type": "string"},
                {"type": "string", "minLength": 9},
                {"type": "integer", "minimum": 7},
                {"type": ["number", "null"]},
                {"enum": ["a", 2]},
                {"const": None},
                {"type": "boolean"},
                {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]},
            ]
        ),
        lambda inner: st.one_of(
            st.builds(lambda one: {"type": "array", "items": one, "minItems": 2}, inner),
            st.builds(
                lambda one, two: {"type": "object", "properties": {"a": one, "b": two}, "required": ["a", "b"]},
                inner,
                inner,
            ),
        ),
        max_leaves=6,
    )
)
def test_a_sample_meets_its_schema(schema: dict[str, Any]) -> None:
    assert jsonschema_rs.is_valid(schema, sample(schema))


def test_what_a_policy_declares_is_read_from_its_words() -> None:
    model = Fallback(model=ModelRef("b", "m"), on=("timeout",))
    static = Fallback(static="sorry", on=("error",), outcome="escalated")
    policy = Policy(fallback=(model, static))
    assert declared(policy, ["timeout"], down={"a"}) == ["fallback"]
    assert declared(policy, ["timeout"], down={"b"}) == ["escalated"]
    assert declared(policy, ["server_error"], down={"a"}) == ["escalated"]
    assert declared(policy, ["context_window"], down={"a"}) == ["failed: context_window"]
    assert declared(policy, ["invalid_output"], down={"a"}) == ["failed: invalid_output"]
