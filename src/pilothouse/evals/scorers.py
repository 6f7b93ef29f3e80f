"""Scorers: deterministic judges of one output. Each says passed or not, and why.

A case's `target` is what a scorer compares with. Where several scorers need different ones, the target is an
object by scorer name: `{"contains": ["4000"], "regex": "\\\\bport\\\\b", "relevant": ["doc-1"]}`.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jsonschema_rs
import msgspec
import re2

from pilothouse.domain.errors import ConfigError
from pilothouse.domain.evaluation import Case, Score
from pilothouse.domain.hashing import content_hash
from pilothouse.domain.manifest import Manifest
from pilothouse.evals.citations import cited
from pilothouse.evals.refusals import declines

VERSION = 1  # part of a run's key: a scorer that judges differently makes another run
RELEVANT = "relevant"  # the key of a target that labels documents for retrieval, see `retrieval.py`


class Scorer(Protocol):
    """Judges one output of one case."""

    def __call__(self, case: Case, output: str) -> Score:
        """The word on `output`; raises where it cannot judge, which is an error of the case, never a fail."""
        ...


class _Missing(Exception):  # not of the error tree: turned into a ConfigError with the case's place
    """The case has no usable target for the scorer."""


Judge = Callable[[Case, str], tuple[bool, float, str]]


def target(case: Case, scorer: str) -> Any:
    """What `scorer` compares with on this case; None where the case says nothing to it."""
    if isinstance(case.target, dict) and case.target and all(key in _TARGETS for key in case.target):
        return case.target.get(scorer)
    return case.target


def _text(case: Case, scorer: str) -> str:
    value = target(case, scorer)
    if not isinstance(value, str) or not value:
        raise _Missing("a text")
    return value


def _exact(case: Case, output: str) -> tuple[bool, float, str]:
    """The output is the target, white space at the ends aside."""
    expected = _text(case, "exact").strip()
    passed = output.strip() == expected
    return passed, float(passed), "" if passed else f"expected {_short(expected)}, got {_short(output)}"


def _wanted(case: Case) -> list[list[str]]:
    value = target(case, "contains")
    items = value if isinstance(value, list) else [value]
    wanted = [one if isinstance(one, list) else [one] for one in items]
    if not wanted or any(not group or not all(isinstance(t, str) and t.strip() for t in group) for group in wanted):
        raise _Missing("a text, or a list of texts (a list within it: any one of those)")
    return wanted


def _contains(case: Case, output: str) -> tuple[bool, float, str]:
    """Every text of the target is in the output; letter case and runs of white space aside."""
    have, wanted = _folded(output), _wanted(case)
    missing = [group for group in wanted if not any(_folded(text) in have for text in group)]
    why = "" if not missing else "missing " + ", ".join(" or ".join(repr(text) for text in group) for group in missing)
    return not missing, 1 - len(missing) / len(wanted), why


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


_RE2 = re2.Options()
_RE2.log_errors = False


def _pattern(case: Case) -> Any:
    value = _text(case, "regex")
    try:
        return re2.compile(value, _RE2)
    except re2.error as error:
        raise _Missing(f"a regular expression in RE2's syntax ({_said(error)})") from error


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _regex(case: Case, output: str) -> tuple[bool, float, str]:
    """The pattern (RE2: linear time on any output) is found in the output."""
    passed = _pattern(case).search(output) is not None
    return passed, float(passed), "" if passed else f"no match of {_text(case, 'regex')}"


_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+−]?\.\d+")


def _expected_number(case: Case) -> tuple[float, float]:
    value = target(case, "numeric")
    value, tolerance = (value.get("value"), value.get("tolerance", 0)) if isinstance(value, dict) else (value, 0)
    return _finite(value), _finite(tolerance)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Missing('a number, or {"value": 3.2, "tolerance": 0.1}')
    return float(value)


def _numeric(case: Case, output: str) -> tuple[bool, float, str]:
    """The last number of the output is the target, within its absolute tolerance."""
    expected, tolerance = _expected_number(case)
    found = _NUMBER.findall(output)
    if not found:
        return False, 0.0, "no number in the output"
    number = float(found[-1].replace(",", "").replace("−", "-"))
    passed = abs(number - expected) <= tolerance or math.isclose(number, expected, rel_tol=1e-9)
    return passed, float(passed), "" if passed else f"expected {expected:g} ± {tolerance:g}, got {number:g}"


def _expected_fields(case: Case) -> dict[str, Any]:
    value = target(case, "fields")
    if not isinstance(value, dict) or not value:
        raise _Missing("an object of field names and values")
    return value


def _fields(case: Case, output: str) -> tuple[bool, float, str]:
    """The output is a JSON object that has every field of the target with an equal value; other fields are free."""
    expected = _expected_fields(case)
    try:
        value: Any = msgspec.json.decode(output)
    except msgspec.DecodeError as error:
        return False, 0.0, f"not JSON: {error}"
    if not isinstance(value, dict):
        return False, 0.0, "not a JSON object"
    wrong = [name for name, want in expected.items() if name not in value or not _equal(want, value[name])]
    said = (f"{name}: expected {_short(expected[name])}, got {_short(value.get(name, 'nothing'))}" for name in wrong)
    return not wrong, 1 - len(wrong) / len(expected), "; ".join(said)


def _equal(want: Any, got: Any) -> bool:
    """Equal as JSON: objects by the wanted keys, `true` is not 1."""
    if isinstance(want, dict):
        return isinstance(got, dict) and all(key in got and _equal(value, got[key]) for key, value in want.items())
    if isinstance(want, list):
        same = isinstance(got, list) and len(want) == len(got)
        return same and all(_equal(a, b) for a, b in zip(want, got, strict=True))
    return isinstance(want, bool) == isinstance(got, bool) and bool(want == got)


def _retrieved(case: Case) -> set[str]:
    ids = {str(document["id"]) for document in case.retrieved}
    if not ids:
        raise _Missing("documents in `retrieved`")
    return ids


def _cites_retrieved(case: Case, output: str) -> tuple[bool, float, str]:
    """At least one citation, and every cited document was retrieved."""
    known, ids = _retrieved(case), cited(output)
    if not ids:
        return False, 0.0, "no citation"
    strange = [one for one in ids if one not in known]
    why = "" if not strange else "cites what was not retrieved: " + ", ".join(strange)
    return not strange, 1 - len(strange) / len(ids), why


def _must_decline(case: Case) -> tuple[bool, list[str]]:
    value = target(case, "refuses")
    if isinstance(value, bool):
        return value, []
    if isinstance(value, list) and value and all(isinstance(text, str) and text.strip() for text in value):
        return True, value
    raise _Missing("true, false, or the list of phrases that count as declining")


def _refuses(case: Case, output: str) -> tuple[bool, float, str]:
    """The output declines to answer where the target is true, and answers where it is false."""
    must, phrases = _must_decline(case)
    have = _folded(output)
    declined = any(_folded(text) in have for text in phrases) if phrases else declines(output)
    passed = declined == must
    return passed, float(passed), "" if passed else ("answers what it must decline" if must else "declines to answer")


def _short(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else msgspec.json.encode(value).decode()
    return repr(text if len(text) <= 60 else text[:59] + "…") if isinstance(value, str) else text[:60]


def _schema(manifest: Manifest) -> Judge:
    if manifest.schema is None:
        raise ConfigError(
            "the scorer `schema` needs the route's schema", hint="give the route `schema:`, or leave the scorer out"
        )
    try:
        validator = jsonschema_rs.validator_for(manifest.schema)
    except ValueError as error:
        raise ConfigError(f"the route's schema is not a JSON Schema: {str(error).splitlines()[0]}") from error

    def judge(_: Case, output: str) -> tuple[bool, float, str]:
        """The output is JSON that meets the route's schema."""
        try:
            value = msgspec.json.decode(output)
        except msgspec.DecodeError as error:
            return False, 0.0, f"not JSON: {error}"
        for found in validator.iter_errors(value):
            path = "/".join(str(step) for step in found.instance_path)
            return False, 0.0, f"/{path}: {found.message}"
        return True, 1.0, ""

    return judge


SCORERS: dict[str, Callable[[Manifest], Judge]] = {
    "exact": lambda _: _exact,
    "contains": lambda _: _contains,
    "regex": lambda _: _regex,
    "schema": _schema,
    "numeric": lambda _: _numeric,
    "fields": lambda _: _fields,
    "cites_retrieved": lambda _: _cites_retrieved,
    "refuses": lambda _: _refuses,
}
_TARGETS = frozenset((*SCORERS, RELEVANT))
_NEEDS: Mapping[str, Callable[[Case], object]] = {
    "exact": lambda case: _text(case, "exact"),
    "contains": _wanted,
    "regex": _pattern,
    "numeric": _expected_number,
    "fields": _expected_fields,
    "cites_retrieved": _retrieved,
    "refuses": _must_decline,
}


def names(case: Case, route: Iterable[str]) -> tuple[str, ...]:
    """The scorers that judge a case: its own, or the route's."""
    return tuple(case.scorers) or tuple(route)


def build(
    route: Iterable[str], cases: Iterable[Case], manifest: Manifest, at: Callable[[str], str]
) -> dict[str, Scorer]:
    """Every scorer that these cases need, ready to judge outputs of this manifest.

    Raises ConfigError, before any call is made, for an unknown scorer, for a case that none judges and for one
    without the target that a scorer compares with. `at` gives the `file:line` of a case id.
    """
    default = tuple(route)
    judges: dict[str, Judge] = {}
    for case in cases:
        chosen = names(case, default)
        if not chosen:
            raise ConfigError(
                f"no scorer judges the case {case.id!r}", where=at(case.id), hint="name the route's scorers"
            )
        for name in chosen:
            if name not in judges:
                judges[name] = _make(name, manifest, at(case.id))
            try:
                if (needed := _NEEDS.get(name)) is not None:
                    needed(case)
            except _Missing as needs:
                raise ConfigError(
                    f"the scorer `{name}` has nothing to compare with on the case {case.id!r}",
                    where=at(case.id),
                    hint=f"it needs {needs}; or name the case's own `scorers`",
                ) from needs
    return {name: _scorer(name, judge) for name, judge in judges.items()}


def _make(name: str, manifest: Manifest, where: str) -> Judge:
    if name not in SCORERS:
        raise ConfigError(f"there is no scorer {name!r}", where=where, hint=f"there are {', '.join(SCORERS)}")
    return SCORERS[name](manifest)


def _scorer(name: str, judge: Judge) -> Scorer:
    def score(case: Case, output: str) -> Score:
        passed, value, why = judge(case, output)
        return Score(scorer=name, passed=passed, value=value, why=why)

    return score


def fingerprint(route: Iterable[str]) -> str:
    """What makes two runs' judgements comparable: the scorers' names and this module's version."""
    return content_hash({"scorers": list(route), "version": VERSION})
