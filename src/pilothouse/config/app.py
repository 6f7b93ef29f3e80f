"""pilothouse.yaml → AppConfig."""

from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from pilothouse.config.drift import DriftConfig, read_drift
from pilothouse.config.flags import read_flags
from pilothouse.config.limits import app_limits, counter_settings, rate
from pilothouse.config.parts import read
from pilothouse.config.policy import log_mode
from pilothouse.config.provider import ProviderConfig, absolute, read_provider, reference
from pilothouse.config.quantities import number, seconds, size_bytes, usd
from pilothouse.config.retention import RetentionConfig, read_retention
from pilothouse.config.route import CheckOverride, GateConfig, RouteConfig, read_route
from pilothouse.config.section import Section, flag, one_of, parse, text, whole, words
from pilothouse.config.store import StoreConfig, read_store
from pilothouse.domain.alert import Action, Rule
from pilothouse.domain.errors import ConfigError
from pilothouse.domain.flag import Flag
from pilothouse.domain.limit import Limit, Rate
from pilothouse.domain.policy import LogMode
from pilothouse.domain.table import CounterSettings

__all__ = [
    "AppConfig", "CheckOverride", "ExportConfig", "ForwardConfig", "GateConfig", "JournalConfig", "Person", "Price",
    "ProviderConfig", "RouteConfig", "load",
]  # fmt: skip

FILE = "pilothouse.yaml"
ACTIONS = ("rollback", "pin_model", "disable_route", "notify")


class Person(msgspec.Struct, frozen=True):
    """Who answers; `notify` are notification URLs, tried in order."""

    id: str
    name: str
    notify: tuple[str, ...] = ()


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """USD per million tokens, and how many tokens the model's context window holds."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None
    reasoning: float | None = None
    cache_write_1h: float | None = None
    input_audio: float | None = None
    output_audio: float | None = None
    context_window: int | None = None


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Durability against disk. Under `reserve_bytes` of free disk, payloads are dropped first, and counted."""

    fsync: Literal["always", "interval", "never"] = "interval"
    segment_bytes: int = 16 << 20
    reserve_bytes: int = 256 << 20


class ForwardConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A second backend that gets every request and span over OTLP/HTTP. Header values may be references."""

    endpoint: str  # …/v1/traces
    headers: dict[str, str] = {}
    content: bool = False  # prompts and answers too, as they are stored


class ExportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where each day's records go when the day (UTC) is over: a folder, or a URL that fsspec knows."""

    to: str
    format: Literal["parquet", "jsonl"] = "parquet"


class AppConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the app's files say."""

    dir: Path
    providers: dict[str, ProviderConfig]
    people: dict[str, Person]
    routes: dict[str, RouteConfig]
    rules: tuple[Rule, ...] = ()
    journal: JournalConfig = JournalConfig()
    forward: ForwardConfig | None = None
    export: ExportConfig | None = None
    retention: RetentionConfig = RetentionConfig()
    store: StoreConfig = StoreConfig()
    prices: dict[str, Price] = {}  # by `provider/model`
    limits: tuple[Limit, ...] = ()
    counters: CounterSettings = CounterSettings()
    spans_log: LogMode = "redacted"  # of apps' spans that name no route
    drift: DriftConfig = DriftConfig()
    flags: dict[str, Flag] = {}
    flag_rate: Rate | None = None  # how often a key may read flags, at each worker

    def route(self, name: str) -> RouteConfig:
        """The route of that name; ConfigError where the files have none."""
        if name not in self.routes:
            known = ", ".join(sorted(self.routes)) or "none"
            raise ConfigError(
                f"no route {name!r}", where=str(self.dir / FILE), hint=f"routes: {known}", code="unknown_route"
            )
        return self.routes[name]


def load(folder: Path) -> AppConfig:
    """Read `folder/pilothouse.yaml` and the files it names; raises ConfigError with file, line and a suggestion."""
    file = folder / FILE
    if not file.is_file():
        raise ConfigError(f"no {FILE}", where=str(folder), hint="write one with `pilothouse init`")
    top = parse(read(file, str(file)), file)
    providers = {name: read_provider(name, section) for name, section in top.sections("providers")}
    people = {name: _person(name, section) for name, section in top.sections("people")}
    routes = {name: read_route(name, section, people) for name, section in top.sections("routes")}
    prices = {name: _price(section) for name, section in top.sections("prices")}
    config = AppConfig(
        dir=folder,
        providers=providers,
        people=people,
        routes=routes,
        rules=_rules(top, routes, people),
        journal=_journal(top),
        forward=_forward(top),
        export=_export(top),
        retention=read_retention(top, routes),
        store=read_store(top),
        prices=prices,
        limits=app_limits(top),
        counters=counter_settings(top),
        spans_log=_spans_log(top),
        drift=read_drift(top),
        flags=read_flags(top, routes, people),
        flag_rate=top.maybe("flag_rate", rate),
    )
    top.close()
    _known_providers(config, top)
    _known_judges(config, top)
    return config


def _known_judges(config: AppConfig, top: Section) -> None:
    for route in config.routes.values():
        judge = route.canary.shadow.judge if route.canary.shadow is not None else ""
        if judge and judge not in config.routes:
            raise top.error(
                f"the canary of {route.name!r} is judged by {judge!r}, which is not in `routes`", top.node("routes"),
                hint=f"routes: {', '.join(sorted(config.routes))}",
            )  # fmt: skip


def _known_providers(config: AppConfig, top: Section) -> None:
    for route in config.routes.values():
        models = [route.manifest.model, *route.alternates]
        policy = route.manifest.policy
        models += [step.model for step in policy.fallback if step.model is not None]
        models += [one.model for one in policy.balance.over]
        models += [policy.hedge.model] if policy.hedge is not None and policy.hedge.model is not None else []
        for model in models:
            if model.provider not in config.providers:
                known = ", ".join(sorted(config.providers)) or "none"
                raise top.error(
                    f"route {route.name!r} uses the provider {model.provider!r}, which is not in `providers`",
                    top.node("routes"),
                    hint=f"providers: {known}",
                )


def _person(name: str, section: Section) -> Person:
    person = Person(id=name, name=section.take("name", text, name), notify=section.take("notify", words(), ()))
    section.close()
    return person


def _price(section: Section) -> Price:
    price = Price(
        input=section.need("input", usd),
        output=section.need("output", usd),
        cache_read=section.maybe("cache_read", usd),
        cache_write=section.maybe("cache_write", usd),
        reasoning=section.maybe("reasoning", usd),
        cache_write_1h=section.maybe("cache_write_1h", usd),
        input_audio=section.maybe("input_audio", usd),
        output_audio=section.maybe("output_audio", usd),
        context_window=section.maybe("context_window", whole),
    )
    section.close()
    return price


def _journal(top: Section) -> JournalConfig:
    section = top.section("journal")
    base = JournalConfig()
    if section is None:
        return base
    result = JournalConfig(
        fsync=section.take("fsync", one_of("always", "interval", "never"), base.fsync),
        segment_bytes=section.take("segment", size_bytes, base.segment_bytes),
        reserve_bytes=section.take("reserve", size_bytes, base.reserve_bytes),
    )
    section.close()
    return result


def _forward(top: Section) -> ForwardConfig | None:
    section = top.section("forward")
    if section is None:
        return None
    endpoint = section.need("endpoint", text).rstrip("/")
    if not endpoint.startswith(("http://", "https://")):
        raise section.error("endpoint is not an http:// or https:// address", section.node("endpoint"))
    result = ForwardConfig(
        endpoint=endpoint if endpoint.endswith("/v1/traces") else endpoint + "/v1/traces",
        headers=_headers(section),
        content=section.take("content", flag, False),
    )
    section.close()
    return result


def _export(top: Section) -> ExportConfig | None:
    section = top.section("export")
    if section is None:
        return None
    to = section.need("to", text)
    result = ExportConfig(
        to=to if "://" in to else str((top.file.parent / to).absolute()),
        format=section.take("format", one_of("parquet", "jsonl"), "parquet"),
    )
    section.close()
    return result


def _spans_log(top: Section) -> LogMode:
    section = top.section("spans")
    if section is None:
        return "redacted"
    mode: LogMode = log_mode(section)
    section.close()
    return mode


def _headers(section: Section) -> dict[str, str]:
    """What goes along with each call; what may be a secret is named by reference, never written here."""
    headers = section.section("headers")
    if headers is None:
        return {}
    found = {}
    for name in headers.names():
        secret = any(word in name.lower() for word in ("auth", "key", "token", "secret", "cookie"))
        found[name.lower()] = absolute(headers.need(name, reference if secret else text), section.file.parent)
    return found


def _rules(top: Section, routes: dict[str, RouteConfig], people: dict[str, Person]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for item in top.items("rules"):
        if not isinstance(item, Section):
            raise top.error("each rule holds keys and values", top.node("rules"))
        rules.append(_rule(item, routes, people))
    return tuple(rules)


def _rule(section: Section, routes: dict[str, RouteConfig], people: dict[str, Person]) -> Rule:
    rule = Rule(
        name=section.need("name", text),
        item=section.take("item", text, ""),
        metric=section.need("metric", text),
        route=section.need("route", one_of(*routes)),
        env=section.take("env", one_of("dev", "staging", "prod"), "prod"),
        op=section.take("op", one_of(">", "<", ">=", "<="), ">"),
        threshold=section.need("threshold", number),
        window_s=int(section.take("window", seconds, 300.0)),
        for_s=int(section.take("for", seconds, 0.0)),
        min_n=section.take("min_n", whole, 20),
        owner=section.need("owner", one_of(*people)),
        actions=_actions(section),
        runbook=section.take("runbook", text, ""),
    )
    section.close()
    return rule


def _actions(section: Section) -> tuple[Action, ...]:
    actions: list[Action] = []
    check = one_of(*ACTIONS)
    for item in section.items("actions"):
        if isinstance(item, Section):
            kind = next((name for name in ACTIONS if name in item), None)
            if kind is None:
                raise item.error(f"an action is one of {', '.join(ACTIONS)}")
            actions.append(Action(kind=check(kind), argument=item.take(kind, text, "")))
            item.close()
        else:
            actions.append(_plain_action(section, check, item))
    if not actions:
        raise section.error("a rule without an action cannot be saved", hint=f"actions: [{ACTIONS[0]}]")
    return tuple(actions)


def _plain_action(section: Section, check: Any, item: tuple[Any, yaml.Node]) -> Action:
    try:
        return Action(kind=check(item[0]))
    except ValueError as error:
        raise section.error(str(error), item[1]) from error
