from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.config.route import SCORERS as CONFIGURABLE
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.evaluation import Case, Score
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.evals import scorers
from pilothouse.evals.citations import cited
from pilothouse.evals.refusals import declines

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
MANIFEST = Manifest(model=ModelRef("scripted", "m"), schema=SCHEMA)


def judged(name: str, output: str, **case: Any) -> Score:
    one = Case(id="c1", input="q", **case)
    return scorers.build([name], [one], MANIFEST, lambda case_id: f"cases.jsonl:{case_id}")[name](one, output)


def test_the_config_names_exactly_these_scorers() -> None:
    assert tuple(scorers.SCORERS) == CONFIGURABLE


@pytest.mark.parametrize(
    ("name", "target", "output", "passed"),
    [
        ("exact", "yes", " yes\n", True),
        ("exact", "yes", "Yes", False),
        ("contains", "Port 4000", "it is  port\n4000.", True),
        ("contains", ["4000", "4001"], "4000 only", False),
        ("contains", ["4000", ["loopback", "127.0.0.1"]], "127.0.0.1:4000", True),
        ("contains", {"contains": "4000", "relevant": ["d"]}, "4000", True),
        ("regex", r"\b4\d{3}\b", "port 4318", True),
        ("regex", r"^4\d{3}$", "port 4318", False),
        ("schema", None, '{"n": 3}', True),
        ("schema", None, '{"n": "3"}', False),
        ("schema", None, "three", False),
        ("numeric", 42, "It is 42.", True),
        ("numeric", 1234.5, "between 7 and 1,234.5", True),
        ("numeric", -3, "−3 degrees", True),
        ("numeric", {"value": 3.14, "tolerance": 0.01}, "3.149", True),
        ("numeric", {"value": 3.14, "tolerance": 0.01}, "3.2", False),
        ("numeric", 1, "none", False),
        ("fields", {"a": 1, "b": {"c": [1, 2]}}, '{"a": 1, "b": {"c": [1, 2], "d": 0}, "e": 5}', True),
        ("fields", {"a": 1}, '{"a": true}', False),
        ("fields", {"a": 1}, '{"b": 1}', False),
        ("fields", {"a": None}, '{"b": 1}', False),
        ("fields", {"a": 1}, "[1]", False),
        ("fields", {"a": 1}, "a: 1", False),
        ("fields", {"a": [1]}, '{"a": [1, 2]}', False),
        ("refuses", True, "I don’t know.", True),
        ("refuses", True, "Port 4000.", False),
        ("refuses", False, "Port 4000.", True),
        ("refuses", False, "That is not covered in the documentation.", False),
        ("refuses", ["ask a person"], "Please  ask a PERSON.", True),
        ("refuses", ["ask a person"], "I don't know.", False),
    ],
)
def test_judgements(name: str, target: Any, output: str, passed: bool) -> None:
    score = judged(name, output, target=target)
    assert score.passed is passed
    assert score.scorer == name
    assert bool(score.why) is not passed
    assert (score.value == 1.0) is passed


def test_part_marks_and_reasons() -> None:
    score = judged("contains", "a b", target=["a", "b", "c", ["d", "e"]])
    assert (score.value, score.why) == (0.5, "missing 'c', 'd' or 'e'")
    assert judged("fields", '{"a": 2}', target={"a": 1}).why == "a: expected 1, got 2"
    assert judged("schema", '{"n": "3"}').why == '/n: "3" is not of type "integer"'


DOCUMENTS = [{"id": "house#processes", "text": "…"}, {"id": "index", "text": "…"}]


@pytest.mark.parametrize(
    ("output", "passed"),
    [
        ("Three [house#processes].", True),
        ("Three [house#processes, index].", True),
        ("Three [house#processes][index].", True),
        ("Three.", False),
        ("Three [house#stores].", False),
        ("Three [index] [1].", False),
        ('{"answer": "three", "citations": ["index"]}', True),
        ('{"answer": "three [index]", "numbers": [1, 2]}', True),
        ("Install `pilothouse[local]` or row[0], see [the docs](http://x) - [x] done.", False),
    ],
)
def test_citations_must_have_been_retrieved(output: str, passed: bool) -> None:
    assert judged("cites_retrieved", output, retrieved=DOCUMENTS).passed is passed


def test_citations_in_order_and_once() -> None:
    assert cited("[b] and [a; b] but not [a whole sentence here] ```[c]```") == ["b", "a"]


@given(st.text())
def test_no_output_breaks_a_scorer(output: str) -> None:
    case = Case(id="c", input="q", retrieved=DOCUMENTS)
    targets = {"exact": "x", "contains": "x", "regex": "x", "numeric": 1, "fields": {"a": 1}, "refuses": True}
    ready = scorers.build(["schema", "cites_retrieved"], [case], MANIFEST, str)
    for name, target in targets.items():
        keyed = Case(id="c", input="q", target={name: target})
        ready |= scorers.build([name], [keyed], MANIFEST, str)
        assert 0.0 <= ready[name](keyed, output).value <= 1.0
    for name in ("schema", "cites_retrieved"):
        assert 0.0 <= ready[name](case, output).value <= 1.0


@pytest.mark.parametrize(
    ("name", "case", "said"),
    [
        ("contains", {}, "`contains` has nothing to compare with.*needs a text"),
        ("contains", {"target": ["a", " "]}, "nothing to compare with"),
        ("exact", {"target": {"contains": "a"}}, "`exact` has nothing"),
        ("regex", {"target": "("}, "RE2's syntax"),
        ("numeric", {"target": True}, "needs a number"),
        ("numeric", {"target": {"value": 1, "tolerance": "x"}}, "needs a number"),
        ("fields", {"target": "a"}, "field names and values"),
        ("cites_retrieved", {}, "documents in `retrieved`"),
        ("refuses", {"target": "no"}, "true, false"),
        ("exact", {"target": "a", "scorers": ["nope"]}, "no scorer 'nope'.*exact, contains"),
    ],
)
def test_a_case_that_cannot_be_judged_is_named_before_any_call(name: str, case: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        judged(name, "out", **case)
    assert caught.value.where == "cases.jsonl:c1"


def test_a_route_without_a_schema_has_no_schema_scorer() -> None:
    bare = Manifest(model=ModelRef("scripted", "m"))
    case = Case(id="c", input="q")
    with pytest.raises(ConfigError, match="needs the route's schema"):
        scorers.build(["schema"], [case], bare, str)
    with pytest.raises(ConfigError, match="not a JSON Schema"):
        broken = Manifest(model=ModelRef("scripted", "m"), schema={"type": "nope"})
        scorers.build(["schema"], [case], broken, str)
    with pytest.raises(ConfigError, match="no scorer judges"):
        scorers.build([], [case], bare, str)


def test_a_case_may_be_judged_by_fewer() -> None:
    case = Case(id="c", input="q", target=True, scorers=["refuses"])
    assert set(scorers.build(["schema", "contains"], [case], MANIFEST, str)) == {"refuses"}


@pytest.mark.parametrize(
    ("said", "declined"),
    [
        ("I don't know.", True),
        ("We do not have that information.", True),
        ("The documents do not mention a price.", True),
        ("That isn't covered here.", True),
        ("It cannot be answered from these documents.", True),
        ("I'm unable to find it.", True),
        ("I'm sorry, but I can't help with that.", True),
        ("There is no information on that.", True),
        ("The edge opens no database.", False),
        ("A rollback drops no request; it does not help to wait.", False),
        ("Use port 4000, not 4001.", False),
    ],
)
def test_declining(said: str, declined: bool) -> None:
    assert declines(said) is declined
