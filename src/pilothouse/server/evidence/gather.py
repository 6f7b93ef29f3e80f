"""Everything together: one Evidence for each route in an environment."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import Connection, select

from pilothouse.config.route import RouteConfig
from pilothouse.domain.alert import Rule
from pilothouse.domain.alert_facts import AlertFacts
from pilothouse.domain.facts import RouteFacts, TelemetryFacts
from pilothouse.domain.flag_facts import FlagFacts
from pilothouse.domain.hashing import bytes_hash
from pilothouse.domain.release_facts import ReleaseFacts
from pilothouse.domain.security_facts import PlaintextFact, ReconstructSample, SecurityFacts
from pilothouse.evals import facts as eval_facts
from pilothouse.monitoring import defaults
from pilothouse.monitoring import facts as alert_facts
from pilothouse.releases import facts as release_facts
from pilothouse.review.evidence import WINDOW_S, Evidence
from pilothouse.server import alternates, callers
from pilothouse.server.composition import Control
from pilothouse.server.evidence import reconstruct, rescan, security, triggers, windows
from pilothouse.server.views import flags
from pilothouse.store.state import alerts, drills, waivers
from pilothouse.store.state.tables import parts
from pilothouse.telemetry import evidence as telemetry_facts


class _Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What all routes have in common."""

    env: str
    now_us: int
    registry: frozenset[str]
    facts: dict[int, TelemetryFacts]  # window in s → facts
    reconstructed: Mapping[str, ReconstructSample]
    plaintext: list[PlaintextFact]
    files: int
    rules: tuple[Rule, ...]
    flags: tuple[FlagFacts, ...]


def gather(control: Control, env: str, routes: list[RouteConfig]) -> list[Evidence]:
    """Evidence on each of `routes` in `env`, measured now; raises StoreError where something cannot be read."""
    now = control.clock.now_us()
    windows = {WINDOW_S[route.tier] for route in routes}
    longest = max(windows, default=WINDOW_S["standard"])
    files = security.files_of(control)
    with control.state.read() as conn:
        registry = _registry(conn)
        shared = _Shared(
            env=env,
            now_us=now,
            registry=registry,
            facts={
                s: telemetry_facts.gather(control.telemetry, control.clock, now - s * 1_000_000, now) for s in windows
            },
            reconstructed=reconstruct.samples(
                control, [route.name for route in routes], env, now - longest * 1_000_000, registry
            ),
            plaintext=security.plaintext(control, files),
            files=len(files),
            rules=defaults.effective(control.config, alerts.list_rules(conn)),
            flags=flags.facts(control, env),
        )
        facts = _security(control, conn, shared, longest)
        return [_evidence(control, conn, route, shared, facts) for route in routes]


def _registry(conn: Connection) -> frozenset[str]:
    """Addresses of the parts whose content still hashes to them."""
    stored = conn.execute(select(parts.c.hash, parts.c.content))
    return frozenset(address for address, content in stored if bytes_hash(content.encode()) == address)


def _security(control: Control, conn: Connection, shared: _Shared, window_s: int) -> SecurityFacts:
    """The part of security's facts that is the same for every route."""
    return SecurityFacts(
        secrets=list(security.secrets(control, conn).values()),
        plaintext=shared.plaintext,
        files_scanned=shared.files,
        keys=security.keys_of(control, conn, shared.now_us - window_s * 1_000_000),
        audit=security.log_of(conn),
    )


def _evidence(
    control: Control, conn: Connection, route: RouteConfig, shared: _Shared, common: SecurityFacts
) -> Evidence:
    telemetry = shared.facts[WINDOW_S[route.tier]]
    facts = telemetry.route(route.name, shared.env)
    mine = [one for one in telemetry.routes if one.env == shared.env]
    scans = drills.list_drills(conn, route.name, shared.env, rescan.KIND)
    release = _releases(control, route, shared.env)
    own = msgspec.structs.replace(
        common,
        secrets=[secret for secret in common.secrets or [] if secret.name in _providers(route)],
        leaks=rescan.of_drill(scans[0]) if scans else None,
    )
    made = Evidence(
        env=shared.env,
        now_us=shared.now_us,
        config=route,
        people=control.config.people,
        facts=facts,
        losses=telemetry.losses,
        total_spend=_spend(mine),
        spending_routes=sum(one.cost.spend > 0 for one in mine),
        windows=windows.windows(control.config, facts.contexts if facts else ()),
        system_tokens=windows.system_tokens(route.manifest),
        registry=shared.registry,
        release=release,
        evals=eval_facts.read(conn, route, _live(release)),
        alerts=_alert_facts(control, conn, route, shared),
        rules=tuple(rule for rule in shared.rules if (rule.route, rule.env) == (route.name, shared.env)),
        security=own,
        reconstruct=shared.reconstructed.get(route.name),
        drills=tuple(drills.list_drills(conn, route.name)),
        flags=tuple(flag for flag in shared.flags if flag.route in ("", route.name)),
        waivers=tuple(waivers.active(conn, shared.now_us)),
        triggers=triggers.facts(control, conn, route, shared.env, shared.rules, shared.now_us),
    )
    return triggers.with_renewed(control, made)


def _releases(control: Control, route: RouteConfig, env: str) -> ReleaseFacts:
    """What the releases room knows, and what telemetry adds: whether callers would survive the way back."""
    found = release_facts.gather(control.state, control.config, route.name, env, control.clock)
    known = tuple(alternates.of_route(control, route, env))
    target = found.rollback.target
    back = callers.broken(control, route.name, env, target) if found.rollback.ok and target is not None else ()
    return msgspec.structs.replace(found, alternates=known, way_back_breaks=back)


def _alert_facts(control: Control, conn: Connection, route: RouteConfig, shared: _Shared) -> AlertFacts:
    return alert_facts.facts(
        [rule for rule in shared.rules if (rule.route, rule.env) == (route.name, shared.env)],
        [alert for alert in alerts.list_alerts(conn, route=route.name) if alert.env == shared.env],
        expected=defaults.expected(route),
        now_us=shared.now_us,
        heartbeat_us=control.watched_us,
    )


def _live(release: ReleaseFacts) -> int | None:
    return release.current.number if release.current is not None else None


def _providers(route: RouteConfig) -> set[str]:
    models = [route.manifest.model, *route.alternates]
    models += [step.model for step in route.manifest.policy.fallback if step.model is not None]
    return {model.provider for model in models}


def _spend(mine: list[RouteFacts]) -> float | None:
    """USD of all routes in the environment; None where no request has a price."""
    return sum(one.cost.spend for one in mine) if any(one.cost.priced for one in mine) else None
