"""A flag and a context → a value, and why: a pure function, in OpenFeature's words."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pilothouse.domain.bucket import bucket
from pilothouse.domain.flag import FlagEntry, Share
from pilothouse.domain.flag_conditions import meets

Reason = Literal["STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED", "ERROR"]
ErrorCode = Literal[
    "", "FLAG_NOT_FOUND", "PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "TYPE_MISMATCH", "GENERAL"
]
KEY = "targetingKey"


class Evaluation(msgspec.Struct, frozen=True):
    """What a flag is for a context. `value` None: the default of the app's code. `rule`: the one that was met."""

    key: str
    reason: Reason
    value: Any = None
    variant: str = ""
    error: ErrorCode = ""
    detail: str = ""
    rule: str = ""


def evaluate(flag: FlagEntry, context: Mapping[str, Any]) -> Evaluation:
    """The flag's value for `context`; an error where a share has to be drawn and there is no targeting key."""
    if not flag.enabled:
        return Evaluation(
            flag.key, "DISABLED", flag.variants.get(flag.off), flag.off if flag.off in flag.variants else ""
        )
    for number, rule in enumerate(flag.rules, 1):
        if meets(rule.when, context):
            name = rule.name or f"rule {number}"
            if len(rule.serve) == 1 and rule.serve[0].share >= 1.0:
                variant = rule.serve[0].variant
                return Evaluation(flag.key, "TARGETING_MATCH", flag.variants[variant], variant, rule=name)
            return _split(flag, rule.serve, context, name)
    if flag.rollout:
        return _split(flag, flag.rollout, context, "")
    reason: Reason = "DEFAULT" if flag.rules else "STATIC"
    return Evaluation(flag.key, reason, flag.variants[flag.default], flag.default)


def _split(flag: FlagEntry, shares: tuple[Share, ...], context: Mapping[str, Any], rule: str) -> Evaluation:
    variant = _without_key(flag, shares)
    if variant is None:
        key = context.get(KEY)
        if not isinstance(key, str) or not key:
            said = f"the flag {flag.key!r} is drawn by share: the context needs a targetingKey"
            return Evaluation(flag.key, "ERROR", error="TARGETING_KEY_MISSING", detail=said, rule=rule)
        variant = drawn(flag.salt, key, shares, flag.default)
    return Evaluation(flag.key, "SPLIT", flag.variants[variant], variant, rule=rule)


def _without_key(flag: FlagEntry, shares: tuple[Share, ...]) -> str | None:
    """The variant that everybody gets, where one has all of them."""
    if len(shares) == 1 and shares[0].share >= 1.0:
        return shares[0].variant
    return flag.default if all(one.share <= 0.0 for one in shares) else None


def drawn(salt: str, key: str, shares: tuple[Share, ...], rest: str) -> str:
    """The variant of `key`: the same always, and a share that grows only takes from those behind it."""
    point, upto = bucket(salt, key), 0.0
    for one in shares:
        upto += one.share
        if point < upto:
            return one.variant
    return shares[-1].variant if upto >= 1.0 - 1e-9 else rest
