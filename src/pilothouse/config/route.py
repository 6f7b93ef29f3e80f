"""A route's section of pilothouse.yaml → its manifest, gate and checks."""

from pathlib import Path
from typing import Any

import msgspec

from pilothouse.config import parts
from pilothouse.config.canary import CanaryPolicy, read_canary
from pilothouse.config.policy import read_policy
from pilothouse.config.quantities import number, seconds, share
from pilothouse.config.section import Section, one_of, text, whole, words
from pilothouse.domain.manifest import Manifest
from pilothouse.domain.model_ref import ModelRef
from pilothouse.domain.table import Tier

SCORERS = (
    "exact", "contains", "regex", "schema", "numeric", "fields", "cites_retrieved", "refuses",
)  # fmt: skip


class GateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a release must pass. `margin`: the largest drop in pass rate that is tolerated, a share."""

    dataset: Path
    scorers: tuple[str, ...]
    margin: float = 0.03
    floor: float = 0.0  # absolute lower bound for a first release; 0: none
    concurrency: int = 2
    case_timeout_s: float = 120.0


class CheckOverride(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds and fallback of a checklist item for this route; None keeps the checklist's own."""

    warn: float | None = None
    fail: float | None = None
    fallback: str | None = None


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One LLM use of the app: who answers for it and what shapes its output."""

    name: str
    app: str
    owner: str
    backup: str
    tier: Tier
    manifest: Manifest
    files: dict[str, str] = {}  # part → file of the app, for evidence and secret scans
    gate: GateConfig | None = None
    checks: dict[str, CheckOverride] = {}
    alternates: tuple[ModelRef, ...] = ()  # models this route may be switched to
    canary: CanaryPolicy = CanaryPolicy()


def read_route(name: str, section: Section, people: dict[str, Any]) -> RouteConfig:
    """The route `name`; raises ConfigError with file and line."""
    files = {key: str(section.maybe(key, text)) for key in ("prompt", "system", "tools", "schema") if key in section}
    manifest = Manifest(
        model=_model(section),
        prompt=parts.file_part(section, "prompt", parts.template),
        system=parts.file_part(section, "system", parts.template),
        params=section.take("params", _mapping, {}),
        tools=parts.file_part(section, "tools", parts.tools),
        schema=parts.file_part(section, "schema", parts.schema),
        index=parts.index(section),
        policy=read_policy(section),
    )
    route = RouteConfig(
        name=name,
        app=section.take("app", text, ""),
        owner=_person(section, "owner", people),
        backup=_person(section, "backup", people),
        tier=section.take("tier", one_of("high", "standard", "lite"), "standard"),
        manifest=manifest,
        files=files,
        gate=_gate(section),
        checks=_checks(section),
        alternates=section.take("alternates", _models, ()),
        canary=read_canary(section),
    )
    section.close()
    return route


def _person(section: Section, key: str, people: dict[str, Any]) -> str:
    name = section.take(key, text, "")
    if name and name not in people:
        known = ", ".join(sorted(people)) or "nobody yet"
        raise section.error(f"{key}: {name!r} is not in `people`", section.node(key), hint=f"people has {known}")
    return name


def _model(section: Section) -> ModelRef:
    ref = section.need("model", text)
    model = ModelRef.parse(ref)
    if not model.provider or not model.name:
        raise section.error(f"model: {ref!r} is not `provider/model`", section.node("model"))
    return model


def _models(value: Any) -> tuple[ModelRef, ...]:
    return tuple(ModelRef.parse(name) for name in words()(value))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("must hold keys and values")
    return value


def _gate(section: Section) -> GateConfig | None:
    gate = section.section("gate")
    if gate is None:
        return None
    name = gate.need("dataset", text)
    dataset = gate.file.parent / name
    if not dataset.is_file():
        raise gate.error(f"dataset: there is no file {name}", gate.node("dataset"))
    base = GateConfig(dataset=dataset, scorers=())
    result = GateConfig(
        dataset=dataset,
        scorers=gate.need("scorers", words(*SCORERS)),
        margin=gate.take("margin", share, base.margin),
        floor=gate.take("floor", share, base.floor),
        concurrency=max(1, gate.take("concurrency", whole, base.concurrency)),
        case_timeout_s=gate.take("case_timeout", seconds, base.case_timeout_s),
    )
    gate.close()
    return result


def _checks(section: Section) -> dict[str, CheckOverride]:
    checks = {}
    for item, override in section.sections("checks"):
        checks[item] = CheckOverride(
            warn=override.maybe("warn", number),
            fail=override.maybe("fail", number),
            fallback=override.maybe("fallback", text),
        )
        override.close()
    return checks
