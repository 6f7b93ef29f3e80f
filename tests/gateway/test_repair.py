"""The repair of outputs: a corpus with one right answer or none, and properties over any text."""

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import json_repair
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.gateway.extract import Found, find
from pilothouse.gateway.repair import NOT_JSON, decode

CORPUS = [json.loads(line) for line in (Path(__file__).parent / "corpus" / "repair.jsonl").read_text().splitlines()]
INPUTS = 400  # for each of the fuzzing properties; 96,000 in all were tried at first, with no failure

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
wholes = st.dictionaries(st.text(), values, max_size=4) | st.lists(values, max_size=4)
scraps = st.sampled_from(
    [
        *"{}[]\",:'\\\n `tfnTFN0159-+.eE/*“”",
        "true",
        "None",
        "NaN",
        "```json\n",
        "```",
        "<think>",
        "</think>",
        "//",
        "/*",
        "*/",
        '"a"',
        "'b'",
        "Here: ",
        "{}",
        "1,",
    ]
)


def repaired(text: str, *, close: bool = True, kinds: str = "{[") -> Found:
    """As `validate` does it: what is JSON as it stands is not repaired."""
    value = decode(text)
    if value is not NOT_JSON:
        fits = kinds == "{[" or text.strip()[0] in kinds  # where it does not, its schema refuses it
        return Found(text, value, stages=("exact",)) if fits else Found(error="another kind")
    return find(text, close=close, kinds=kinds)


def judged(case: dict[str, Any], made: bool, value: Any) -> str:
    """right, refused (no value), or wrong: a value that nobody meant."""
    if not made:
        return "refused"
    same = "want" in case and json.dumps(value, sort_keys=True) == json.dumps(case["want"], sort_keys=True)
    return "right" if same else "wrong"


def test_the_corpus_has_no_silent_error(capsys: pytest.CaptureFixture[str]) -> None:
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    for case in CORPUS:
        found = repaired(case["text"], close=case.get("close", True), kinds=case.get("kinds", "{["))
        verdict = judged(case, bool(found.text), found.value)
        expected = "right" if "want" in case and not case.get("refused") else "refused"
        assert verdict == expected, f"{case['class']}: {case['text']!r} → {found}"
        assert not found.text or json.loads(found.text) == found.value
        assert found.text or found.error
        ours[verdict] += 1
        try:
            other = json_repair.loads(case["text"])
        except (ValueError, RecursionError):
            other = ""
        theirs[judged(case, other != "", other)] += 1
    with capsys.disabled():
        print(f"\nrepair corpus, {len(CORPUS)} outputs: {dict(ours)}; json-repair on the same: {dict(theirs)}")
    assert len(CORPUS) >= 60
    assert ours["wrong"] == 0


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can't help with that.", "I cannot do this.", "As an AI model, I can't."]
)
def test_a_refusal_in_words_is_a_refusal(text: str) -> None:
    assert find(text, close=True).refused


@pytest.mark.parametrize("text", ["Ann is 31.", "Sorry state of affairs: {", "{'I cannot': 1"])
def test_other_words_are_not(text: str) -> None:
    assert not find(text, close=False).refused


@given(values)
def test_valid_json_is_never_touched(value: Any) -> None:
    text = json.dumps(value)
    assert decode(text) == value and repaired(text).text == text


@given(
    wholes, st.sampled_from(["{}", "Here you are:\n{}\nBye", "```json\n{}\n```", "<think>a {{b}}</think>\n{}", "\n{} "])
)
def test_what_stands_around_a_value_does_not_change_it(value: Any, around: str) -> None:
    found = repaired(around.replace("{}", json.dumps(value)))
    assert json.loads(found.text) == value


@given(wholes)
def test_python_literals_are_read_exactly_or_not_at_all(value: Any) -> None:
    found = repaired(repr(value))
    assert not found.text or json.loads(found.text) == value


@settings(max_examples=INPUTS)
@given(wholes, st.data())
def test_a_truncated_value_is_never_closed(value: Any, data: st.DataObject) -> None:
    """Whatever is cut off a value, no other value comes out where the model did not say that it was done."""
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    assert not repaired(cut, close=False).text


@settings(max_examples=INPUTS)
@given(wholes, st.data())
def test_a_closed_value_holds_what_was_said_and_nothing_else(value: Any, data: st.DataObject) -> None:
    """Closing adds brackets only: the text that was there is the beginning of the JSON that comes out."""
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    found = repaired(cut, close=True)
    if found.text:
        assert found.repairs == ("closers",)
        assert found.text.startswith(cut.rstrip()) and not found.text[len(cut.rstrip()) :].strip("]} ")


@settings(max_examples=INPUTS)
@given(wholes, st.integers(0, 10_000), st.integers(0, 3), st.lists(scraps, max_size=2))
def test_a_mutated_value_is_told_from_the_original_by_its_repairs(
    value: Any, at: int, cut: int, put: list[str]
) -> None:
    """Some characters replaced: JSON comes out untouched, or what comes out lists what was done to get it."""
    text = json.dumps(value)
    at %= len(text)
    mutated = text[:at] + "".join(put) + text[at + cut :]
    found = repaired(mutated)
    if not found.text:
        return
    assert json.loads(found.text) == found.value
    assert found.repairs or found.text == mutated
    assert strings(found.text) <= inside(mutated)


def strings(text: str) -> set[str]:
    """The plain strings of a JSON text."""
    out: set[str] = set()
    todo = [json.loads(text)]
    while todo:
        node = todo.pop()
        if isinstance(node, str) and node.isascii() and node.isalnum():
            out.add(node)
        todo += [*node.keys(), *node.values()] if isinstance(node, dict) else node if isinstance(node, list) else []
    return out


class inside:  # noqa: N801  # reads as a word: strings(x) <= inside(y)
    """The set of everything that is written in a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __ge__(self, words: set[str]) -> bool:
        return all(word in self._text for word in words)


@settings(max_examples=INPUTS * 2)
@given(st.lists(scraps, max_size=24), st.booleans(), st.sampled_from(["{[", "{", "["]))
def test_any_text_is_json_afterwards_or_has_an_error(parts: list[str], close: bool, kinds: str) -> None:
    text = "".join(parts)
    found = find(text, close=close, kinds=kinds)
    if found.text:
        assert json.loads(found.text) == found.value and not found.error
        assert strings(found.text) <= inside(text)
        if found.text != text and not {"closers", "think_tags", "fence", "prose", "extra_closers"} & set(found.repairs):
            same_as_python(text, found)
    else:
        assert found.error and found.value is NOT_JSON


def same_as_python(text: str, found: Found) -> None:
    """Python's own reader, where it can read the text at all, sees the same value."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return
    if isinstance(value, dict | list):
        assert value == json.loads(found.text), found


@settings(max_examples=INPUTS)
@given(st.text(max_size=80))
def test_any_words_are_taken(text: str) -> None:
    found = find(text, close=True)
    assert bool(found.text) != bool(found.error)


@pytest.mark.parametrize("text", ["[" * 50_000, "{'" * 50_000, "' " * 50_000, '{"a":' * 40_000, "x" * (1 << 19) + "{}"])
def test_no_output_makes_a_repair_take_long(text: str) -> None:
    assert find(text, close=True).text == ""
