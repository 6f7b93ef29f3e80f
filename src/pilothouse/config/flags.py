"""`flags` of pilothouse.yaml → Flag; and rules given at run time, in the same words."""

import datetime
import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from pilothouse.config.quantities import share
from pilothouse.config.section import Section, flag, one_of, plain, text, words
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.flag import (
    FLAG_KINDS,
    FLAG_TYPES,
    OFF,
    ON,
    AllOf,
    AnyOf,
    Compare,
    Condition,
    Flag,
    FlagRule,
    FlagType,
    Flow,
    Not,
    Selects,
    Share,
)
from pilothouse.domain.flag_conditions import is_number, pattern, version_range
from pilothouse.domain.manifest import PARTS
from pilothouse.domain.table import ENVIRONMENTS

T = TypeVar("T")
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
BOOLEAN: dict[str, Any] = {ON: True, OFF: False}
OPS = (
    "==", "!=", "in", "not_in", "starts_with", "ends_with", "contains", "<", "<=", ">", ">=", "semver", "matches",
    "exists",
)  # fmt: skip
DEPTH = 20  # conditions within conditions
_SECRET_HEADERS = ("headers.authorization", "headers.x-api-key", "headers.api-key", "headers.cookie")


def read_flags(top: Section, routes: Mapping[str, Any], people: Mapping[str, Any]) -> dict[str, Flag]:
    """Every flag, by key; raises ConfigError with file and line."""
    found = {}
    for key, section in top.sections("flags"):
        if not KEY.fullmatch(key):
            raise section.error(f"{key!r} is no flag's key", hint="letters, digits, dots, dashes and underscores")
        found[key] = _flag(key, section, routes, people)
    return found


def _flag(key: str, section: Section, routes: Mapping[str, Any], people: Mapping[str, Any]) -> Flag:
    kind: FlagType = section.take("type", one_of(*FLAG_TYPES), "boolean")
    flow = _flow(section, routes)
    variants = _variants(section, kind)
    names = tuple(variants)
    if kind == "boolean" and set(variants) == set(BOOLEAN):
        fallback = ON if flow is not None else OFF
    else:
        fallback = ""
    made = Flag(
        key=key,
        type=kind,
        variants=variants,
        default=_default(section, names, fallback),
        enabled=_by_env(section, "enabled", lambda inner, at: inner.need(at, flag)),
        rollout=_by_env(section, "rollout", lambda inner, at: _shares(inner, at, names)),
        rules=_rules(section, names),
        off=_variant(section, "off", names, OFF if flow is not None else ""),
        kind="flow" if flow is not None else section.take("kind", one_of(*FLAG_KINDS), "release"),
        salt=section.take("salt", text, ""),
        owner=_owner(section, people),
        tags=section.take("tags", words(), ()),
        description=section.take("description", text, ""),
        expires=section.take("expires", _date, ""),
        permanent=section.take("permanent", flag, flow is not None),
        selects=_selects(section, routes, kind, variants),
        flow=flow,
    )
    _whole(section, made)
    section.close()
    return made


def _whole(section: Section, made: Flag) -> None:
    """What must fit together."""
    if made.kind == "flow" and made.flow is None:
        raise section.error("a flag of kind flow says what it switches", hint="add `flow: {route: NAME}`")
    if made.flow is not None and (made.type != "boolean" or set(made.variants) != set(BOOLEAN)):
        raise section.error("a flow's flag is boolean: on or off", hint="leave `type` and `variants` out")
    if made.flow is not None and made.selects is not None:
        raise section.error("a flag is either a flow's switch or selects a release", hint="make two flags")


def _variants(section: Section, kind: FlagType) -> dict[str, Any]:
    inner = section.section("variants")
    if inner is None:
        if kind == "boolean":
            return BOOLEAN
        raise section.error("'variants' is missing", hint="add `variants: {name: value, …}`")
    found = {}
    for name in inner.names():
        if name in ENVIRONMENTS:
            raise inner.error(f"a variant cannot be named {name!r}: that is an environment", inner.node(name))
        found[name] = inner.need(name, lambda value: typed(kind, value))
    if not found:
        raise section.error("there is no variant", section.node("variants"))
    return found


def typed(kind: FlagType, value: Any) -> Any:
    """`value` as this type has it; TypeError. A whole number is a float's value too."""
    good = {
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "float": is_number(value),
        "object": isinstance(value, dict),
    }[kind]
    if not good:
        raise TypeError(f"{value!r} is not of type {kind}")
    if kind == "object":
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"not JSON: {error}") from error
    return float(value) if kind == "float" else value


# --- variants by name: as written, since YAML reads `on` and `off` as true and false


def _name(section: Section, key: str, names: tuple[str, ...]) -> str:
    section.take(key, lambda _: None, None)
    node = section.node(key)
    given = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    if given not in names:
        near = difflib.get_close_matches(given, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"variants: {', '.join(names)}"
        raise section.error(f"{key}: there is no variant {given!r}", node, hint=hint)
    return given


def _variant(section: Section, key: str, names: tuple[str, ...], fallback: str) -> str:
    return _name(section, key, names) if section.take(key, lambda _: True, False) else fallback


def _default(section: Section, names: tuple[str, ...], fallback: str) -> dict[str, str]:
    if "default" not in section:
        section.take("default", lambda _: None, None)
        if not fallback:
            raise section.error("'default' is missing", hint=f"add `default: {names[0]}`")
        return dict.fromkeys(ENVIRONMENTS, fallback)
    found = _by_env(section, "default", lambda inner, at: _name(inner, at, names))
    if missing := [env for env in ENVIRONMENTS if env not in found]:
        raise section.error(f"default: nothing is said of {missing[0]}", section.node("default"))
    return found


def _by_env(section: Section, key: str, read: Callable[[Section, str], T]) -> dict[str, T]:
    """One value for every environment, or a value for each that is named."""
    if not section.take(key, lambda _: True, False):
        return {}
    node = section.node(key)
    if isinstance(node, yaml.MappingNode) and all(str(name.value) in ENVIRONMENTS for name, _ in node.value):
        inner = Section(node, section.file, f"{section.path}.{key}")
        return {env: read(inner, env) for env in inner.names()}
    return dict.fromkeys(ENVIRONMENTS, read(section, key))


def _shares(section: Section, key: str, names: tuple[str, ...]) -> tuple[Share, ...]:
    """A variant, or variants with their shares; together at most all."""
    section.take(key, lambda _: None, None)
    node = section.node(key)
    if not isinstance(node, yaml.MappingNode):
        return (Share(_name(section, key, names)),)
    inner = Section(node, section.file, f"{section.path}.{key}")
    found = []
    for name in inner.names():
        if name not in names:
            raise inner.error(f"there is no variant {name!r}", inner.node(name), hint=f"variants: {', '.join(names)}")
        part = inner.need(name, share)
        if not 0.0 <= part <= 1.0:
            raise inner.error(f"{name}: a share lies between 0 and 100 %", inner.node(name))
        found.append(Share(name, part))
    if sum(one.share for one in found) > 1.0 + 1e-9:
        raise section.error(f"{key}: the shares are more than 100 % together", node)
    return tuple(found)


# --- rules


def rules_of(rules: list[Any] | str, made: Flag, where: str) -> tuple[FlagRule, ...]:
    """Rules for `made`, as plain values or as YAML, a list or under `rules:`; raises ConfigError."""
    given = rules if isinstance(rules, str) else msgspec.json.encode(rules).decode()
    try:
        node = yaml.compose(given, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"the rules are not YAML: {error}", where=where) from error
    if isinstance(node, yaml.SequenceNode):
        key = yaml.ScalarNode("tag:yaml.org,2002:str", "rules", node.start_mark, node.start_mark)
        node = yaml.MappingNode("tag:yaml.org,2002:map", [(key, node)], node.start_mark, node.end_mark)
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("the rules are no list", where=where, hint="write them as in pilothouse.yaml")
    section = Section(node, Path(where), "")
    found = _rules(section, tuple(made.variants))
    section.close()
    return found


def _rules(section: Section, names: tuple[str, ...]) -> tuple[FlagRule, ...]:
    found = []
    for item in section.items("rules"):
        if not isinstance(item, Section):
            raise section.error("each rule holds `when` and `serve`", section.node("rules"))
        if "serve" not in item:
            raise item.error("'serve' is missing", hint=f"add `serve: {names[0]}`")
        found.append(
            FlagRule(
                when=_when(item, "when"),
                serve=_shares(item, "serve", names),
                name=item.take("name", text, ""),
                envs=item.take("env", words(*ENVIRONMENTS), ()),
            )
        )
        item.close()
    return tuple(found)


def _when(section: Section, key: str) -> Condition:
    if not section.take(key, lambda _: True, False):
        raise section.error(f"{key!r} is missing", hint=f"add `{key}: {{attribute: value}}`")
    return _condition(section, section.node(key), 0)


def _condition(section: Section, node: yaml.Node, depth: int) -> Condition:
    """A mapping: each of its entries must hold. `all`, `any` and `not` hold conditions, other keys are attributes."""
    if depth > DEPTH:
        raise section.error(f"conditions are nested over {DEPTH} deep", node)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise section.error("a condition names attributes and their values", node, hint="such as {plan: pro}")
    found: list[Condition] = []
    for name, value in node.value:
        match str(name.value):
            case "all":
                found.append(AllOf(_list(section, value, depth)))
            case "any":
                found.append(AnyOf(_list(section, value, depth)))
            case "not":
                found.append(Not(_condition(section, value, depth + 1)))
            case attribute:
                found += _attribute(section, attribute, value)
    return found[0] if len(found) == 1 else AllOf(tuple(found))


def _list(section: Section, node: yaml.Node, depth: int) -> tuple[Condition, ...]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise section.error("`all` and `any` hold a list of conditions", node)
    return tuple(_condition(section, one, depth + 1) for one in node.value)


def _attribute(section: Section, attribute: str, node: yaml.Node) -> list[Condition]:
    if attribute.lower() in _SECRET_HEADERS:
        raise section.error(f"{attribute}: a credential is nothing to target by", node, hint="`key` is the key's id")
    if not isinstance(node, yaml.MappingNode):
        return [_compare(section, attribute, "==", node)]
    return [_compare(section, attribute, str(op.value), value) for op, value in node.value]


def _compare(section: Section, attribute: str, op: str, node: yaml.Node) -> Compare:
    if op not in OPS:
        near = difflib.get_close_matches(op, OPS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"comparisons: {', '.join(OPS)}"
        raise section.error(f"{attribute}: there is no comparison {op!r}", node, hint=hint)
    value = plain(node)
    try:
        _check(op, value)
        return Compare(attribute, one_of(*OPS)(op), value)
    except (TypeError, ValueError) as error:
        raise section.error(f"{attribute}: {op}: {error}", node) from error


def _check(op: str, value: Any) -> None:
    """What is wrong with a comparison's value, as TypeError or ValueError."""
    if op in ("in", "not_in") and not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    if op in ("starts_with", "ends_with", "semver", "matches"):
        text(value)
    if op in ("<", "<=", ">", ">=") and not is_number(value):
        raise TypeError(f"{value!r} is not a number; versions are compared by `semver`")
    if op == "exists":
        flag(value)
    if op == "semver":
        version_range(value)
    if op == "matches":
        pattern(value)
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"not JSON: {error}") from error
    if isinstance(value, datetime.date):
        raise TypeError("YAML reads this as a date: put it in quotes")


# --- what a flag is about


def _owner(section: Section, people: Mapping[str, Any]) -> str:
    name = section.take("owner", text, "")
    if name and name not in people:
        known = ", ".join(sorted(people)) or "nobody yet"
        raise section.error(f"owner: {name!r} is not in `people`", section.node("owner"), hint=f"people has {known}")
    return name


def _date(value: Any) -> str:
    """A day; YAML has read it as a date where it stands without quotes."""
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ValueError(f"{value!r} is not a day such as 2027-03-01") from error


def _flow(section: Section, routes: Mapping[str, Any]) -> Flow | None:
    inner = section.section("flow")
    if inner is None:
        return None
    flow = Flow(
        route=inner.need("route", one_of(*routes)),
        when=_when(inner, "when") if inner.take("when", lambda _: True, False) else None,
    )
    inner.close()
    return flow


def _selects(
    section: Section, routes: Mapping[str, Any], kind: FlagType, variants: Mapping[str, Any]
) -> Selects | None:
    inner = section.section("selects")
    if inner is None:
        return None
    made = Selects(route=inner.need("route", one_of(*routes)), part=inner.take("part", one_of(*PARTS), ""))
    inner.close()
    if kind != "integer" or any(value < 0 for value in variants.values()):
        raise section.error(
            "a flag that selects a release has type integer",
            section.node("selects"),
            hint="its values are release numbers; 0 stands for what is live",
        )
    return made
