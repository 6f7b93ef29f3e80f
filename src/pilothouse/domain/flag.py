"""Flags: typed switches of an app, declared in its files, whose state is changed while it runs.

Flag (pilothouse.yaml) + FlagState (what was changed at run time, per environment) → FlagEntry (in the table)
"""

from typing import Any, Literal

import msgspec

FlagType = Literal["boolean", "string", "integer", "float", "object"]
FLAG_TYPES: tuple[FlagType, ...] = ("boolean", "string", "integer", "float", "object")
FlagKind = Literal["release", "experiment", "operational", "flow"]
FLAG_KINDS: tuple[FlagKind, ...] = ("release", "experiment", "operational", "flow")
Op = Literal[
    "==", "!=", "in", "not_in", "starts_with", "ends_with", "contains", "<", "<=", ">", ">=", "semver", "matches",
    "exists",
]  # fmt: skip
OFF, ON = "off", "on"  # variants of a boolean flag that declares none


class Compare(msgspec.Struct, frozen=True, tag="is"):
    """One attribute of the context against a value. `semver`: a comparison such as `>=2.1.0`; `matches`: an RE2."""

    attribute: str  # a name, or a path of names with dots between
    op: Op
    value: Any


class AllOf(msgspec.Struct, frozen=True, tag="all"):
    """Every one holds; of none: it holds."""

    of: tuple["Condition", ...]


class AnyOf(msgspec.Struct, frozen=True, tag="any"):
    """At least one holds."""

    of: tuple["Condition", ...]


class Not(msgspec.Struct, frozen=True, tag="not"):
    """It does not hold."""

    of: "Condition"


Condition = Compare | AllOf | AnyOf | Not


class Share(msgspec.Struct, frozen=True):
    """A variant and the share of keys, 0 … 1, that get it."""

    variant: str
    share: float = 1.0


class FlagRule(msgspec.Struct, frozen=True, kw_only=True):
    """Who meets `when` gets `serve`: one variant, or several by share; what they leave over gets the default."""

    when: Condition
    serve: tuple[Share, ...]
    name: str = ""
    envs: tuple[str, ...] = ()  # empty: in every environment


class Selects(msgspec.Struct, frozen=True):
    """The flag's value is the number of a release of `route`: of all of it, or of one part. 0: nothing is chosen."""

    route: str
    part: str = ""  # of the 8; empty: the whole release


class Flow(msgspec.Struct, frozen=True):
    """A use of `route` that can be switched off: the requests that meet `when`, or all of them."""

    route: str
    when: Condition | None = None


class Flag(msgspec.Struct, frozen=True, kw_only=True):
    """A flag as the app's files declare it; what depends on the environment is by its name."""

    key: str
    type: FlagType
    variants: dict[str, Any]
    default: dict[str, str]  # environment → variant
    enabled: dict[str, bool] = {}  # environment → whether it is evaluated; left out: it is
    rollout: dict[str, tuple[Share, ...]] = {}  # environment → shares of those that no rule meets
    rules: tuple[FlagRule, ...] = ()
    off: str = ""  # what a disabled flag gives; empty: the default of the app's code
    kind: FlagKind = "release"
    salt: str = ""  # empty: the key
    owner: str = ""
    tags: tuple[str, ...] = ()
    description: str = ""
    expires: str = ""  # a date, after which it should be gone; it is evaluated all the same
    permanent: bool = False  # meant to stay: never stale
    selects: Selects | None = None
    flow: Flow | None = None


class FlagState(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed at run time, in one environment; None: as declared."""

    enabled: bool | None = None
    default: str | None = None
    rollout: tuple[Share, ...] | None = None
    rules: tuple[FlagRule, ...] | None = None
    reason: str = ""  # of the last change


class FlagEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A flag in one environment, resolved: what a worker needs to evaluate it."""

    key: str
    type: FlagType
    variants: dict[str, Any]
    default: str
    rollout: tuple[Share, ...] = ()
    rules: tuple[FlagRule, ...] = ()
    enabled: bool = True
    off: str = ""
    salt: str = ""
    selects: Selects | None = None
    flow: Flow | None = None
    reason: str = ""  # why it is as it is: of the last change, for a flow that is off


def resolved(flag: Flag, env: str, state: FlagState = FlagState()) -> FlagEntry:  # noqa: B008  # frozen
    """The flag in `env`, with what of `state` still fits it: variants may be gone since it was set."""
    known = flag.variants.keys()
    own = tuple(rule for rule in flag.rules if not rule.envs or env in rule.envs)
    rules = own if state.rules is None or not _fits(state.rules, known) else state.rules
    default = state.default if state.default in known else flag.default[env]
    rollout = state.rollout
    if rollout is None or any(one.variant not in known for one in rollout):
        rollout = flag.rollout.get(env, ())
    enabled = flag.enabled.get(env, True) if state.enabled is None else state.enabled
    return FlagEntry(
        key=flag.key,
        type=flag.type,
        variants=flag.variants,
        default=default if default is not None else flag.default[env],
        rollout=rollout,
        rules=rules,
        enabled=enabled,
        off=flag.off,
        salt=flag.salt or flag.key,
        selects=flag.selects,
        flow=flag.flow,
        reason=state.reason,
    )


def _fits(rules: tuple[FlagRule, ...], known: Any) -> bool:
    return all(share.variant in known for rule in rules for share in rule.serve)
