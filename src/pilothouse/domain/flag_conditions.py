"""Whether a context meets a condition of a flag's rule.

An attribute that is not there meets nothing but `!=`, `not_in`, `exists: false` and `not`. Values of different types
are never equal, and never in order: `"1"` is not 1, and true is not 1.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never

import re2

from pilothouse.domain.flag import AllOf, AnyOf, Compare, Condition, Not

_MISSING: Final = object()
_SEMVER = re.compile(
    r"v?(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z.-]+)?",
    re.ASCII,
)
_SEMVER_RANGE = re.compile(r"\s*(==|!=|<=|>=|<|>)\s*(\S+)\s*")
_KEPT = 1_024
Version = tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
}


def meets(condition: Condition, context: Mapping[str, Any]) -> bool:
    """Whether `context` meets `condition`."""
    match condition:
        case Compare():
            return _compare(condition, context)
        case AllOf():
            return all(meets(one, context) for one in condition.of)
        case AnyOf():
            return any(meets(one, context) for one in condition.of)
        case Not():
            return not meets(condition.of, context)
        case _:
            assert_never(condition)


def _compare(condition: Compare, context: Mapping[str, Any]) -> bool:
    found, op, value = attribute(context, condition.attribute), condition.op, condition.value
    if op == "exists":
        return (found is not _MISSING) == bool(value)
    if op in ("!=", "not_in"):
        return found is _MISSING or not (equal(found, value) if op == "!=" else _among(found, value))
    return found is not _MISSING and _MEETS[op](found, value)


def attribute(context: Mapping[str, Any], path: str) -> Any:
    """The value at `path`: of an attribute of exactly that name, or of names with dots between, one in another."""
    if path in context:
        return context[path]
    if "." not in path:
        return _MISSING
    found: Any = context
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return _MISSING
        found = found[name]
    return found


def equal(a: Any, b: Any) -> bool:
    """Equality as JSON has it: 1 and 1.0 are equal, 1 and true are not, at any depth."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(value, b[name]) for name, value in a.items())
    return bool(a == b)


def _among(found: Any, values: Any) -> bool:
    return any(equal(found, one) for one in values)


def _contains(found: Any, value: Any) -> bool:
    """A text within a text, or a value in a list."""
    if isinstance(found, str):
        return isinstance(value, str) and value in found
    return isinstance(found, list) and _among(value, found)


def is_number(value: Any) -> bool:
    """Whether it is a JSON number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_order(op: str) -> Callable[[Any, Any], bool]:
    compare = _ORDER[op]
    return lambda found, value: is_number(found) and is_number(value) and compare(found, value)


def _semver(found: Any, value: Any) -> bool:
    if not isinstance(found, str) or (own := version(found)) is None:
        return False
    op, other = version_range(value)
    return _ORDER[op](own, other)


@functools.lru_cache(maxsize=_KEPT)
def version_range(text: str) -> tuple[str, Version]:
    """`>=2.1.0` → (`>=`, the version); raises ValueError."""
    found = _SEMVER_RANGE.fullmatch(text)
    other = version(found[2]) if found else None
    if found is None or other is None:
        raise ValueError(f"{text!r} is no comparison of versions such as >=2.1.0")
    return found[1], other


@functools.lru_cache(maxsize=_KEPT)
def version(text: str) -> Version | None:
    """A semantic version in its order of precedence (SemVer 2.0, section 11); None where the text is none.

    Identifiers of a pre-release: numbers before words, and any pre-release before the version itself.
    """
    found = _SEMVER.fullmatch(text)
    if found is None:
        return None
    before = found[4]
    names = before.split(".") if before else []
    if any(name.isdigit() and name != "0" and name.startswith("0") for name in names):
        return None
    order = tuple((0, int(name), "") if name.isdigit() else (1, 0, name) for name in names)
    return int(found[1]), int(found[2]), int(found[3]), 0 if names else 1, order


@functools.lru_cache(maxsize=_KEPT)
def pattern(text: str) -> Any:
    """An RE2, whose time is linear in the text; raises ValueError."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise ValueError(f"{text!r} is no regular expression that RE2 knows: {said}") from error


_MEETS: dict[str, Callable[[Any, Any], bool]] = {
    "==": equal,
    "in": _among,
    "starts_with": lambda found, value: isinstance(found, str) and found.startswith(value),
    "ends_with": lambda found, value: isinstance(found, str) and found.endswith(value),
    "contains": _contains,
    "semver": _semver,
    "matches": lambda found, value: isinstance(found, str) and pattern(value).search(found) is not None,
    **{op: _in_order(op) for op in ("<", "<=", ">", ">=")},
}
